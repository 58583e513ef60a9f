"""Products in tables, against NumPy's own."""

from __future__ import annotations

import ctypes
import itertools

import numpy as np
import pytest

from backstory.compiler.native import load, object_code
from backstory.compiler.products import Factor, Product, multiply
from backstory.compiler.table import Table
from backstory.compiler.tiles import DEPTH, PANELS, Tiles
from backstory.compiler.workers import Pool
from backstory.errors import DtypeError

LAYOUTS = ("rows", "columns", "wide", "strided", "backwards")


def matrix(shape: tuple[int, ...], dtype: str, layout: str) -> np.ndarray:
    """Random entries: in rows, in columns, as a part of wider rows, as every second entry, or in reverse."""
    values = np.random.default_rng(sum(shape)).standard_normal(shape).astype(dtype)
    if layout == "columns":
        return np.ascontiguousarray(values.swapaxes(-1, -2)).swapaxes(-1, -2)
    if layout in ("wide", "strided"):
        wider = np.full((*shape[:-1], 2 * shape[-1] + 3), np.nan, dtype)
        part = wider[..., : shape[-1]] if layout == "wide" else wider[..., : 2 * shape[-1] : 2]
        part[...] = values
        return part
    if layout == "backwards":
        return np.ascontiguousarray(values[..., ::-1, ::-1])[..., ::-1, ::-1]
    return values


def multiplied(
    a: np.ndarray,
    b: np.ndarray,
    c: np.ndarray,
    kernel: int,
    parts: int = 1,
    d: np.ndarray | None = None,
    clipped: bool = False,
) -> None:
    """a b + d, or the maximum of that and 0, into c."""
    table = Table()
    added = None if d is None else Factor.of(np.broadcast_to(d, c.shape))
    products = Product.all(Factor.of(a), Factor.of(b), Factor.of(c), c.dtype, parts, added, clipped)
    table.add_parts([(kernel, product.words()) for product in products])
    table.run()


def assert_product(c: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    """Every sum is right up to the rounding of its terms, in any order."""
    exact = a.astype(np.float64) @ b.astype(np.float64)
    terms = np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64)
    assert np.all(np.abs(c - exact) <= 4 * np.sqrt(a.shape[-1] + 4) * np.finfo(c.dtype).eps * terms)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layouts", list(itertools.product(LAYOUTS, LAYOUTS, LAYOUTS[:3])), ids="-".join)
@pytest.mark.parametrize("shape", [(5, 7, 3), (1, 1, 1), (1, 6, 4), (6, 1, 4), (33, 70, 20)])
def test_a_product_is_numpys(dtype, layouts, shape):
    rows, columns, inner = shape
    a = matrix((rows, inner), dtype, layouts[0])
    b = matrix((inner, columns), dtype, layouts[1])
    c = matrix((rows, columns), dtype, layouts[2])
    multiplied(a, b, c, multiply(dtype))
    assert_product(c, a, b)
    if layouts[2] == "wide":
        assert np.all(np.isnan(c.base[:, columns:]))


def sizes() -> list[tuple[str, Tiles]]:
    """The tiles of every kind of processor; LLVM splits vectors that this one does not have."""
    chosen = ("+sse2", "+avx,+fma", "+avx,+avx512f")
    return [(dtype, Tiles.of(kind, has)) for dtype, kind in KINDS.items() for has in chosen]


KINDS = {"float32": "float", "float64": "double"}


@pytest.mark.parametrize(
    ("dtype", "tiles"), sizes(), ids=lambda x: x if isinstance(x, str) else f"{x.lanes}x{x.rows}"
)
def test_every_size_of_tiles_and_every_remainder_is_right(dtype, tiles):
    [kernel] = load(object_code(tiles.module), ["product"])
    shapes = [(rows, tiles.width + 3, 9) for rows in range(1, 2 * tiles.rows + 2)]
    shapes += [(7, columns, 11) for columns in range(1, 2 * tiles.width + 2)]
    shapes += [(3, tiles.width, inner) for inner in (1, 2, 17, DEPTH - 1, DEPTH, DEPTH + 1, 3 * DEPTH - 5)]
    shapes += [
        (tiles.rows + 1, 2 * PANELS // (tiles.size * DEPTH) + 3, DEPTH)
    ]  # more than are kept at a time
    for (rows, columns, inner), layout in itertools.product(shapes, ("rows", "columns")):
        a, b = matrix((rows, inner), dtype, "rows"), matrix((inner, columns), dtype, layout)
        c = np.full((rows, columns), np.nan, dtype)
        multiplied(a, b, c, kernel)
        assert_product(c, a, b)


@pytest.mark.parametrize(
    ("dtype", "tiles"), sizes(), ids=lambda x: x if isinstance(x, str) else f"{x.lanes}x{x.rows}"
)
def test_a_left_side_whose_columns_are_far_apart_is_right(dtype, tiles):
    [kernel] = load(object_code(tiles.module), ["product"])
    stored = matrix((9, 64), dtype, "rows")
    for rows, columns in itertools.product(
        range(1, 3 * tiles.rows + 2), (4 * tiles.width, 5 * tiles.width - 1)
    ):
        a, b = stored[:, 64 - rows :].T, matrix((9, columns), dtype, "rows")
        c = np.full((rows, columns), np.nan, dtype)
        multiplied(a, b, c, kernel)
        assert_product(c, a, b)


@pytest.mark.parametrize(
    ("dtype", "tiles"), sizes(), ids=lambda x: x if isinstance(x, str) else f"{x.lanes}x{x.rows}"
)
def test_what_is_done_behind_a_product_is_the_same_to_the_last_bit_as_done_apart(dtype, tiles):
    [kernel] = load(object_code(tiles.module), ["product"])
    shapes = [(1, 1, 3), (3, 2 * tiles.width, 5), (2 * tiles.rows + 1, tiles.width + tiles.lanes + 1, 9)]
    shapes += [(5, tiles.lanes + 1, DEPTH + 1), (2, 2 * PANELS // (tiles.size * DEPTH) + 3, 2 * DEPTH)]
    for (rows, columns, inner), layout in itertools.product(shapes, LAYOUTS[:3]):
        a, b = matrix((rows, inner), dtype, "rows"), matrix((inner, columns), dtype, "rows")
        plain = matrix((rows, columns), dtype, layout)
        multiplied(a, b, plain, kernel)
        # One for all that lies together: a column where columns are contiguous, else a row.
        one = matrix((rows, 1) if layout == "columns" else (columns,), dtype, "rows")
        whole = matrix((rows, columns), dtype, layout)
        for d, clipped in itertools.product((None, one, whole), (False, True)):
            c = matrix((rows, columns), dtype, layout)
            multiplied(a, b, c, kernel, 1, d, clipped)
            expected = plain if d is None else plain + d
            assert np.array_equal(c, np.maximum(expected, 0) if clipped else expected)
            if layout == "wide":
                assert np.all(np.isnan(c.base[:, columns:]))


@pytest.mark.parametrize("shape", [(2, 3, 20, 30), (4, 60, 9), (70, 5)])
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_a_row_is_added_in_every_part_of_a_batch(shape, parts):
    a, b = matrix((*shape[:-1], 6), "float32", "rows"), matrix((6, shape[-1]), "float32", "columns")
    row, c = matrix(shape[-1:], "float32", "rows"), np.full(shape, np.nan, np.float32)
    plain = c.copy()
    multiplied(a, b, plain, multiply("float32"))
    multiplied(a, b, c, multiply("float32"), parts, row, clipped=True)
    assert np.array_equal(c, np.maximum(plain + row, 0))


def test_clipping_keeps_nan_and_gives_a_zero_without_sign():
    a, c = np.array([[np.nan], [-np.inf], [-1.0], [0.0], [np.inf]]), np.empty((5, 2))
    multiplied(a, np.array([[1.0, 1e-320]]), c, multiply("float64"), d=np.array([0.0, -0.0]), clipped=True)
    expected = [[np.nan] * 2, [0.0] * 2, [0.0] * 2, [0.0] * 2, [np.inf] * 2]
    assert np.array_equal(c, expected, equal_nan=True)
    assert not np.signbit(c[1:]).any()


BATCHES = [
    ((3,), (3,)),
    ((3,), ()),
    ((), (3,)),
    ((2, 3), (2, 3)),
    ((2, 3), (3,)),
    ((2, 1), (1, 4)),
    ((1, 3, 1), (2, 1, 2)),
]


@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize(("left", "right"), BATCHES)
def test_a_batch_is_broadcast(left, right, parts):
    a, b = matrix((*left, 5, 4), "float64", "columns"), matrix((*right, 4, 9), "float64", "rows")
    c = np.full((*np.broadcast_shapes(left, right), 5, 9), np.nan)
    multiplied(a, b, c, multiply("float64"), parts)
    assert_product(c, a, b)


def test_a_batch_whose_axes_were_exchanged():
    a = matrix((4, 2, 5, 3), "float32", "rows").swapaxes(1, 2)  # as heads of attention lie
    b = matrix((4, 2, 5, 3), "float32", "rows").swapaxes(1, 2).swapaxes(-1, -2)
    c = np.full((4, 5, 2, 2), np.nan, np.float32)
    assert len(Product.all(Factor.of(a), Factor.of(b), Factor.of(c), c.dtype)) == 4
    multiplied(a, b, c, multiply("float32"))
    assert_product(c, a, b)


@pytest.mark.parametrize(
    ("left", "right"), [((4,), (4, 3)), ((2, 5, 4), (4,)), ((4,), (2, 4, 3)), ((4,), (4,))]
)
def test_a_vector_is_a_row_on_the_left_and_a_column_on_the_right(left, right):
    a, b = np.arange(np.prod(left), dtype=float).reshape(left), np.ones(right)
    c = np.full(np.matmul(a, b).shape, np.nan)
    multiplied(a, b, c, multiply("float64"))
    assert np.array_equal(c, np.matmul(a, b))


def test_what_was_in_the_result_is_not_read_and_nan_and_infinity_are_multiplied():
    a, c = np.array([[np.inf, 1.0], [np.nan, 2.0]]), np.full((2, 2), np.nan)
    multiplied(a, np.ones((2, 2)), c, multiply("float64"))
    assert np.array_equal(c, [[np.inf, np.inf], [np.nan, np.nan]], equal_nan=True)
    multiplied(a, np.zeros((2, 2)), c, multiply("float64"))
    assert np.all(np.isnan(c))


@pytest.mark.parametrize("shape", [(100, 30, 20), (30, 100, 20), (16, 16, 4), (2, 1, 3), (257, 64, 10)])
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_parts_of_a_product_make_the_whole_to_the_last_bit(shape, parts):
    rows, columns, inner = shape
    a, b = matrix((rows, inner), "float32", "rows"), matrix((inner, columns), "float32", "columns")
    whole = np.empty((rows, columns), np.float32)
    multiplied(a, b, whole, multiply("float32"))
    c = np.zeros((rows, columns), np.float32)
    split = Product.all(Factor.of(a), Factor.of(b), Factor.of(c), c.dtype, parts)
    assert 1 <= len(split) <= parts
    pool = Pool(1)
    table = Table(pool)
    table.add_parts([(multiply("float32"), part.words()) for part in split])
    for _ in range(20):
        c[:] = np.nan
        table.run()
        assert np.array_equal(c, whole)
    pool.stop()


def test_other_dtypes_are_refused():
    with pytest.raises(DtypeError, match="int64"):
        multiply("int64")


def test_a_kernel_is_a_function_of_c():
    a, c = np.eye(3), np.zeros((3, 3))
    [product] = Product.all(Factor.of(a), Factor.of(a), Factor.of(c), a.dtype)
    block = np.array(product.words(), np.int64)
    ctypes.CFUNCTYPE(None, ctypes.c_int64)(multiply("float64"))(block.ctypes.data)
    assert np.array_equal(c, a)
