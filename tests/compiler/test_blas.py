"""Products in tables, against NumPy's own."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from backstory.compiler import blas
from backstory.compiler.blas import Matrix, Product, multiply, one_thread
from backstory.compiler.table import Table
from backstory.compiler.workers import Pool
from backstory.errors import DtypeError

pytestmark = pytest.mark.skipif(not blas.available(), reason="NumPy is not built with OpenBLAS")


def matrix(rows: int, columns: int, dtype: str, layout: str) -> np.ndarray:
    """Random entries in rows, in columns, or in every second column of something wider."""
    values = np.random.default_rng(rows * columns).standard_normal((rows, columns)).astype(dtype)
    if layout == "columns":
        return np.asfortranarray(values)
    if layout == "wide":
        wider = np.empty((rows, columns + 3), dtype)
        wider[:, :columns] = values
        return wider[:, :columns]
    return values


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "layouts", list(itertools.product(["rows", "columns", "wide"], repeat=3)), ids="-".join
)
@pytest.mark.parametrize("shape", [(5, 7, 3), (1, 1, 1), (1, 6, 4), (6, 1, 4), (33, 70, 20)])
def test_a_product_is_numpys(dtype, layouts, shape):
    rows, columns, inner = shape
    a = matrix(rows, inner, dtype, layouts[0])
    b = matrix(inner, columns, dtype, layouts[1])
    c = matrix(rows, columns, dtype, layouts[2])
    expected = 0.5 * (a @ b) + 2.0 * c
    product = Product(rows, columns, inner, Matrix.of(a), Matrix.of(b), Matrix.of(c), 0.5, 2.0)
    table = Table()
    table.add(multiply(dtype), product.words())
    table.run()
    np.testing.assert_allclose(c, expected, rtol=1e-5 if dtype == "float32" else 1e-12, atol=1e-5)


def test_what_was_in_the_result_is_not_read():
    a, c = np.ones((2, 2)), np.full((2, 2), np.nan)
    table = Table()
    table.add(multiply("float64"), Product(2, 2, 2, Matrix.of(a), Matrix.of(a), Matrix.of(c)).words())
    table.run()
    assert c.tolist() == [[2.0, 2.0], [2.0, 2.0]]


@pytest.mark.parametrize("shape", [(100, 30, 20), (30, 100, 20), (16, 16, 4), (2, 1, 3), (257, 64, 10)])
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_parts_of_a_product_make_the_whole(shape, parts):
    rows, columns, inner = shape
    a, b = matrix(rows, inner, "float32", "rows"), matrix(inner, columns, "float32", "columns")
    c = np.zeros((rows, columns), np.float32)
    split = Product(rows, columns, inner, Matrix.of(a), Matrix.of(b), Matrix.of(c)).split(parts, 4)
    assert 1 <= len(split) <= parts
    pool = Pool(1)
    table = Table(pool)
    table.add_parts([(multiply("float32"), part.words()) for part in split])
    for _ in range(20):
        c[:] = np.nan
        table.run()
        np.testing.assert_allclose(c, a @ b, rtol=1e-5, atol=1e-5)
    pool.stop()


def threads() -> list[int]:
    return [x["num_threads"] for x in threadpool_info() if "numpy" in x["filepath"]]


def test_blas_has_one_thread_within_and_as_many_as_before_afterwards():
    before = threads()
    with one_thread():
        assert threads() == [1] * len(before)
    assert threads() == before
    table = Table()
    a = np.ones((2, 2))
    table.add(multiply("float64"), Product(2, 2, 2, Matrix.of(a), Matrix.of(a), Matrix.of(a.copy())).words())
    table.run()
    assert threads() == before


def test_other_dtypes_and_layouts_are_refused():
    with pytest.raises(DtypeError, match="int64"):
        multiply("int64")
    with pytest.raises(DtypeError, match="neither its rows nor its columns"):
        Matrix.of(np.zeros((4, 4))[::2, ::2])
