"""Kernels: the words that they are written in, and the code that becomes of them."""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys

import numpy as np
import pytest

from backstory.compiler.kernels import instructions, kernel
from backstory.compiler.native import load, object_code
from backstory.compiler.table import Table

DTYPES = {
    "float32": "float32", "float64": "float64", "int64": "int64", "int32": "int32", "int16": "int16",
    "int8": "int8", "uint8": "uint8", "bool8": "bool",
}  # fmt: skip


def run(name: str, source: str, *words: int | float | np.ndarray) -> None:
    table = Table()
    table.add(kernel(name, source), [x.ctypes.data if isinstance(x, np.ndarray) else x for x in words])
    table.run()


def test_objects_that_define_the_same_name_are_each_their_own():
    codes = [object_code(f"define i64 @same() {{ ret i64 {i} }}") for i in range(3)]
    found = [load(code, ["same"])[0] for code in codes]
    assert [ctypes.CFUNCTYPE(ctypes.c_int64)(one)() for one in found] == [0, 1, 2]


@pytest.mark.parametrize("value", [0, 1, -1, 2**31 - 1, -(2**31)])
def test_a_word_is_read_as_an_integer_of_32_bits(value):
    y = np.zeros(1, np.int32)
    source = """
def narrow(block):
    y = array(block, 1, int32)
    y[0] = integer32(block, 0)
"""
    run("narrow", source, value, y)
    assert y[0] == value


@pytest.mark.parametrize("word", DTYPES)
def test_arrays_of_every_dtype_are_read_and_written(word):
    x = np.array([0, 1, 0, 3, 5]).astype(DTYPES[word])
    y = np.zeros_like(x)
    source = f"""
def copy(block):
    x, y = array(block, 1, {word}), array(block, 2, {word})
    for i in range(integer(block, 0)):
        y[i] = x[i]
"""
    run("copy", source, 5, x, y)
    np.testing.assert_array_equal(y, x)


def test_memory_at_computed_addresses():
    parts = [np.arange(3.0), np.arange(5.0)]
    source = """
def sweep(block):
    for j in range(integer(block, 0)):
        x = array_at(integer(block, 1 + 2 * j), 1, float64)
        for i in range(integer(block, 2 + 2 * j)):
            x[i] = x[i] + 1.0
"""
    run("sweep", source, 2, parts[0], 3, parts[1], 5)
    assert [x.tolist() for x in parts] == [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0, 5.0]]


def test_choices_and_tests_of_floats():
    x = np.array([-1.0, np.nan, np.inf, -np.inf, 0.5], np.float32)
    y = np.zeros((4, 5), np.float32)
    source = """
def look(block):
    x, y = array(block, 0, float32), array(block, 1, float32)
    for i in range(5):
        y[i] = where(isnan(x[i]), float32(7.0), x[i])
        y[5 + i] = where(isinf(x[i]), float32(1.0), float32(0.0))
        y[10 + i] = where(isfinite(x[i]), float32(1.0), float32(0.0))
        y[15 + i] = maximum(x[i], float32(0.0))
"""
    run("look", source, x, y)
    np.testing.assert_array_equal(y[0], np.where(np.isnan(x), np.float32(7), x))
    np.testing.assert_array_equal(y[1:3], [np.isinf(x), np.isfinite(x)])
    np.testing.assert_array_equal(y[3], np.maximum(x, 0))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bounds_on_both_sides_beside_a_function_that_takes_the_size_itself(dtype):
    """LLVM makes |x| <= c of them while Numba is at it, and so declares what the function declares too."""
    x = np.linspace(-1, 1, 9).astype(dtype)
    y = np.zeros_like(x)
    source = f"""
def bounded(block):
    x, y = array(block, 0, {dtype}), array(block, 1, {dtype})
    for i in range(9):
        inside = ({dtype}(-0.5) <= x[i]) & (x[i] <= {dtype}(0.5))
        y[i] = where(inside, tanh(x[i]), {dtype}(0.0))
"""
    run("bounded", source, x, y)
    np.testing.assert_allclose(y, np.where(np.abs(x) <= 0.5, np.tanh(x), 0), rtol=1e-6)


def test_extremes_of_integers():
    x = np.array([-3, 0, 9])
    y = np.zeros((2, 3), np.int64)
    source = """
def extremes(block):
    x, y = array(block, 0, int64), array(block, 1, int64)
    for i in range(3):
        y[i] = maximum(x[i], 1)
        y[3 + i] = minimum(x[i], 1)
"""
    run("extremes", source, x, y)
    np.testing.assert_array_equal(y, [np.maximum(x, 1), np.minimum(x, 1)])


def test_several_arrays_vectorise_without_checks_of_overlap():
    source = """
def adam(block):
    n, rate = integer(block, 0), float32(number(block, 1))
    p, g = array(block, 2, float32), array(block, 3, float32)
    m, v = array(block, 4, float32), array(block, 5, float32)
    for i in range(n):
        m[i] = float32(0.9) * m[i] + float32(0.1) * g[i]
        v[i] = float32(0.999) * v[i] + float32(0.001) * g[i] * g[i]
        p[i] = p[i] - rate * m[i] / (sqrt(v[i]) + float32(1e-8))
"""
    packed = re.findall(r"\tv?(?:sqrtps|divps|fsqrt\t|fdiv\t)", instructions("adam", source))
    assert packed, "the loop is not vectorised"


def test_a_free_sum_vectorises_and_any_other_keeps_its_order():
    source = """
def total(block):
    x, y = array(block, 1, float32), array(block, 2, float32)
    s = float32(0.0)
    for i in range(integer(block, 0)):
        s = {}
    y[0] = s
"""
    free, ordered = source.format("accumulate(s, x[i])"), source.format("s + x[i]")
    x = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    sums = np.zeros(2, np.float32)
    run("total", free, 1000, x, sums[:1])
    run("total", ordered, 1000, x, sums[1:])
    assert sums[1] == np.cumsum(x)[-1]
    np.testing.assert_allclose(sums[0], x.sum(dtype=np.float64), rtol=1e-5, atol=1e-5)
    assert "addps" in instructions("total", free)
    assert "addps" not in instructions("total", ordered)


def test_an_error_shows_the_kernel():
    with pytest.raises(Exception, match="no_such_word") as caught:
        kernel("wrong", "def wrong(block):\n    no_such_word(block)\n")
    assert "def wrong(block)" in caught.value.__notes__[0]


@pytest.mark.parametrize("missing", ["llvmlite", "numba"])
def test_without_numba_the_error_names_the_extra(monkeypatch, tmp_path, missing):
    monkeypatch.setenv("BACKSTORY_CACHE", str(tmp_path))
    program = f"""
import sys
sys.modules[{missing!r}] = None
from backstory.compiler.kernels import kernel
from backstory.errors import MissingExtraError
try:
    kernel("nothing", "def nothing(block):\\n    pass\\n")
except MissingExtraError as error:
    print(error.instead)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "pip install 'backstory[compile]'"
