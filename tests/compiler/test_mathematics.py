"""Elementary functions: right to the last places, honest about what is no number, in vectorised loops."""

from __future__ import annotations

import re

import mathematics  # the benchmark, which measures against mpmath
import numpy as np
import pytest

from backstory.arrays import eager, extras
from backstory.compiler.kernels import instructions, kernel
from backstory.compiler.mathematics import ARITIES, COMPOSED, LIBRARY, VECTORISED
from backstory.compiler.table import Table

DTYPES = ["float32", "float64"]
ULP = {"exp": 1.0, "expm1": 2.0, "log": 1.0, "log1p": 1.5, "tanh": 2.5, "sigmoid": 2.5, "erf": 2.5}
IN_NUMPY = {
    "abs": np.abs,
    "erf": lambda x: extras.erf(eager, x),
    "erfc": lambda x: extras.erfc(eager, x),
    "round": np.round,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}


def source(name: str, dtype: str) -> str:
    arguments = ", ".join(("x[i]", "y[i]")[: ARITIES[name]])
    return f"""
def {name}_of(block):
    x, y, z = array(block, 1, {dtype}), array(block, 2, {dtype}), array(block, 3, {dtype})
    for i in range(integer(block, 0)):
        z[i] = {name}({arguments})
"""


def computed(name: str, *inputs: np.ndarray) -> np.ndarray:
    x, y, z = inputs[0], inputs[-1], np.empty_like(inputs[0])
    table = Table()
    words = [x.size, *(a.ctypes.data for a in (x, y, z))]
    table.add(kernel(f"{name}_of", source(name, x.dtype.name)), words)
    table.run()
    return z


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ULP)
def test_the_error_is_at_most_a_few_units_in_the_last_place(name, dtype):
    x = mathematics.points(name, dtype, 150)
    assert mathematics.error_in_ulp(name, x, computed(name, x)) <= ULP[name]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [name for name in (*VECTORISED, *LIBRARY) if ARITIES[name] == 1])
def test_special_values_are_numpys(name, dtype):
    facts = np.finfo(dtype)
    values = [
        0.0,
        1.0,
        0.5,
        2.5,
        facts.smallest_subnormal,
        facts.tiny,
        facts.max,
        np.inf,
        88.8,
        104.5,
        710.0,
        746.0,
    ]
    x = np.array([*values, *(-v for v in values), np.nan], dtype)
    with np.errstate(all="ignore"):
        expected = IN_NUMPY.get(name) or getattr(np, name)
        expected = expected(x).astype(dtype)
    found = computed(name, x)
    ours = np.isfinite(expected) & (np.abs(expected) >= facts.tiny)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    a_number = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(found)[a_number], np.signbit(expected)[a_number])
    np.testing.assert_allclose(found[ours], expected[ours], rtol=4 * facts.eps)
    np.testing.assert_array_equal(found[np.isinf(expected)], expected[np.isinf(expected)])
    small = ~ours & np.isfinite(expected) & (name != "sigmoid")  # where exp(−x) overflows, ours does not
    np.testing.assert_allclose(found[small], expected[small], rtol=0, atol=2 * facts.smallest_subnormal)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sigmoid_far_below_zero_is_exp(dtype):
    x = np.linspace(-95 if dtype == "float32" else -740, -80, 50).astype(dtype)
    np.testing.assert_allclose(computed("sigmoid", x), np.exp(x), rtol=1e-6, atol=np.finfo(dtype).tiny * 1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [name for name in (*VECTORISED, *COMPOSED, *LIBRARY) if ARITIES[name] == 2])
def test_functions_of_two_numbers_are_numpys(name, dtype):
    values = np.array([-np.inf, -2.0, -0.0, 0.0, 0.5, 3.0, np.inf, np.nan], dtype)
    x, y = (a.ravel() for a in np.meshgrid(values, values))
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(x, y)
    np.testing.assert_allclose(computed(name, x, y), expected, rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", VECTORISED)
def test_loops_are_vectorised(name, dtype):
    text = instructions(f"{name}_of", source(name, dtype))
    assert not re.search(r"^\s(callq?|bl)\s", text, re.MULTILINE), "it calls something"
    assert re.search(r"[xyz]mm|\.4s|\.2d", text)
    packed = (
        r"\sv?(add|mul|div|sqrt|max|min|and|or|xor|cmp\w*|round|rndscale|fmadd\d+|blendv)p[sd]\s|\.4s|\.2d"
    )
    assert re.search(packed, text), "its loop is scalar"
