"""Matrix products in tables: which matrices, and in how many parts.

The kernel is the engine's own (:mod:`backstory.compiler.tiles`). A library's would bring threads of its own,
and pools of threads that take turns cost a hundred times what a product does; so a large product uses the
cores as parts of one entry, which the engine's workers take (:meth:`Product.split`).
"""

from __future__ import annotations

import itertools
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from backstory.compiler.cache import object_of
from backstory.compiler.native import host, load, object_code
from backstory.compiler.tiles import Tiles
from backstory.errors import DtypeError

__all__ = ["ADDRESSES", "DTYPES", "Factor", "Matrix", "Product", "multiply"]

DTYPES = {np.dtype("float32"): "float", np.dtype("float64"): "double"}
ADDRESSES = (4, 8, 12, 15)
"""The words of a block that hold the addresses of a, b, c and d."""
# About how many nanoseconds a vector is multiplied and added in.
_VECTOR = 0.17


@cache
def _tiles(dtype: np.dtype) -> Tiles:
    return Tiles.of(DTYPES[dtype], host()[2])


@cache
def _loaded(dtype: np.dtype) -> int:
    text = _tiles(dtype).module
    [address] = load(object_of(f"product {dtype}", text, lambda: object_code(text)), ["product"])
    return address


def multiply(dtype: Any) -> int:
    """The address of the kernel of matrix products in this dtype; its words are :meth:`Product.words`."""
    dtype = np.dtype(dtype)
    if dtype not in DTYPES:
        raise DtypeError(
            f"a matrix product of {dtype}",
            why="the kernel multiplies float32 and float64",
            instead="NumPy's matmul, between tables",
        )
    return _loaded(dtype)


class Factor(NamedTuple):
    """An array of matrices as it lies in memory. ``root`` is what the address counts from, if not from 0."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in entries
    address: int
    root: Any = None

    @classmethod
    def of(cls, array: np.ndarray) -> Factor:
        """An array in this process."""
        return cls(array.shape, tuple(s // array.itemsize for s in array.strides), array.ctypes.data)

    def as_row_of(self, shape: tuple[int, ...]) -> Factor:
        """A row as matrices of a shape, each of whose rows it is."""
        return self._replace(shape=shape, strides=(*(0 for _ in shape[1:]), self.strides[-1]))

    def steps(self, shape: tuple[int, ...]) -> list[int]:
        """How far each axis of the batch moves in it, where the whole batch has a shape."""
        own = [step if n > 1 else 0 for n, step in zip(self.shape[:-2], self.strides, strict=False)]
        return [0] * (len(shape) - len(own)) + own


class Matrix(NamedTuple):
    """A matrix in memory: where it begins, and how many entries further the next row and column begin.

    ``batch`` is how many entries further the next matrix of a batch begins.
    """

    address: int
    row: int
    column: int
    batch: int = 0
    root: Any = None

    @property
    def transposed(self) -> Matrix:
        """Its columns as rows."""
        return self._replace(row=self.column, column=self.row)

    def at(self, itemsize: int, entries: int) -> Matrix:
        """The matrix that begins so many entries further on."""
        return self._replace(address=self.address + entries * itemsize)


NOTHING = Matrix(0, 0, 0)
"""No matrix, in place of d."""


class Product(NamedTuple):
    """c ← a b, for a (rows, inner), b (inner, columns) and c (rows, columns), ``batch`` times.

    Unless it is :data:`NOTHING`, a matrix d is added; of a ``clipped`` product c is the maximum of that and
    0. ``inner`` is not 0, and the rows or the columns of c are contiguous, and with them those of d.

    >>> a, b = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(4, 3)
    >>> c = np.empty((2, 4))
    >>> [product] = Product.all(Factor.of(a), Factor.of(b.T), Factor.of(c), a.dtype)
    >>> from backstory.compiler.table import Table
    >>> table = Table()
    >>> block = table.add(multiply(np.float64), product.words())
    >>> table.run()
    >>> np.array_equal(c, a @ b.T)
    True
    """

    rows: int
    columns: int
    inner: int
    a: Matrix
    b: Matrix
    c: Matrix
    d: Matrix = NOTHING
    clipped: bool = False
    batch: int = 1

    @classmethod
    def all(
        cls,
        a: Factor,
        b: Factor,
        c: Factor,
        dtype: np.dtype,
        parts: int = 1,
        d: Factor | None = None,
        clipped: bool = False,
    ) -> list[Product]:
        """The products that make c from a, b and d, with broadcasting, in up to ``parts`` parts each.

        Axes of a batch that all go through in one step are one; of those that are left, the last is the
        batch of one product.
        """
        a, b, c, d = _of_two_axes(a, b, c, d or Factor(c.shape, (0,) * len(c.shape), 0))
        batch, factors = c.shape[:-2], (a, b, c, d)
        axes: list[tuple[int, tuple[int, ...]]] = []
        for n, *steps in zip(batch, *(x.steps(batch) for x in factors), strict=True):
            if n == 1:
                continue
            if axes and axes[-1][1] == tuple(n * step for step in steps):
                n *= axes.pop()[0]
            axes.append((n, tuple(steps)))
        n, steps = axes.pop() if axes else (1, (0, 0, 0, 0))
        found: list[Product] = []
        for place in itertools.product(*(range(m) for m, _ in axes)):
            left, right, result, added = (
                Matrix(x.address, x.strides[-2], x.strides[-1], steps[i], x.root).at(
                    dtype.itemsize, sum(j * far[i] for j, (_, far) in zip(place, axes, strict=True))
                )
                for i, x in enumerate(factors)
            )
            sizes = (c.shape[-2], c.shape[-1], a.shape[-1])
            found.append(cls(*sizes, left, right, result, added, clipped, n).oriented)
        return [part for whole in found for part in whole.split(parts, dtype)] if parts > 1 else found

    @property
    def transposed(self) -> Product:
        """The same product of the transposed matrices: cᵀ ← bᵀ aᵀ + dᵀ."""
        a, b, c, d = (x.transposed for x in (self.b, self.a, self.c, self.d))
        return self._replace(rows=self.columns, columns=self.rows, a=a, b=b, c=c, d=d)

    @property
    def oriented(self) -> Product:
        """The product or its transpose: the one that writes contiguous rows, the longer ones if both do."""
        in_rows = self.c.column == 1 or self.columns == 1
        in_columns = self.c.row == 1 or self.rows == 1
        return self.transposed if in_columns and (not in_rows or self.rows > self.columns) else self

    @property
    def matrices(self) -> tuple[Matrix, ...]:
        """The matrices, in the order of :data:`ADDRESSES`."""
        return self.a, self.b, self.c, self.d

    def words(self) -> list[int | float]:
        """The words of the kernel's block, if the product is ``oriented``."""
        a, b, c, d = self.matrices
        assert d == NOTHING or d.column == 1 or self.columns == 1, "d does not lie as c does"
        return [
            *(self.batch, self.rows, self.columns, self.inner),
            *(a.address, a.batch, a.row, a.column),
            *(b.address, b.batch, b.row, b.column),
            *(c.address, c.batch, c.row),
            *(d.address, d.batch, d.row, self.clipped),
        ]

    @property
    def work(self) -> int:
        """How many entries are multiplied."""
        return self.batch * self.rows * self.columns * self.inner

    def split(self, parts: int, dtype: np.dtype) -> list[Product]:
        """The product as up to so many that can run side by side: parts of the batch, or bands of c.

        Bands are rows, which those who read c go through in the same order, unless columns are shared more
        evenly: each band makes its own copies of the whole of b, or of its columns of it.
        """
        tiles = _tiles(dtype)
        if self.batch >= parts:
            bands = _bands(self.batch, 1, parts)
            return [self._replace(batch=n, **self._moved(dtype, i, "abcd", "batch")) for i, n in bands]
        found = [
            [self.band(axis, start, length, dtype) for start, length in _bands(count, step, parts)]
            for axis, (count, step) in enumerate(((self.rows, tiles.rows), (self.columns, tiles.width)))
        ]
        by_rows, by_columns = (max(part.cost(dtype) for part in bands) for bands in found)
        return found[by_columns < 0.9 * by_rows]

    def band(self, axis: int, start: int, length: int, dtype: np.dtype) -> Product:
        """So many rows (axis 0) or columns (axis 1) of c."""
        if axis == 0:
            return self._replace(rows=length, **self._moved(dtype, start, "acd", "row"))
        return self._replace(columns=length, **self._moved(dtype, start, "bcd", "column"))

    def cost(self, dtype: np.dtype) -> float:
        """About how many nanoseconds it takes."""
        return _VECTOR * self.batch * _tiles(dtype).cost(self.rows, self.columns, self.inner)

    def _moved(self, dtype: np.dtype, steps: int, names: str, axis: str) -> dict[str, Matrix]:
        """Some of the matrices, so many steps further along an axis."""
        matrices = {name: getattr(self, name) for name in names}
        return {name: x.at(dtype.itemsize, steps * getattr(x, axis)) for name, x in matrices.items()}


def _of_two_axes(a: Factor, b: Factor, c: Factor, d: Factor) -> tuple[Factor, Factor, Factor, Factor]:
    """A vector as one row on the left, as one column on the right; the result and d have that axis, too."""

    def with_axis(x: Factor, at: int) -> Factor:
        shape, strides = list(x.shape), list(x.strides)
        shape.insert(at, 1)
        strides.insert(at, 0)
        return x._replace(shape=tuple(shape), strides=tuple(strides))

    left, right = len(a.shape) == 1, len(b.shape) == 1
    if right:
        b, c, d = with_axis(b, 1), with_axis(c, len(c.shape)), with_axis(d, len(d.shape))
    if left:
        a, c, d = with_axis(a, 0), with_axis(c, len(c.shape) - 1), with_axis(d, len(d.shape) - 1)
    return a, b, c, d


def _bands(count: int, step: int, parts: int) -> list[tuple[int, int]]:
    """Up to so many bands of about equal size, as beginning and length, that begin at multiples of a step.

    >>> _bands(20, 6, 2)
    [(0, 12), (12, 8)]
    """
    steps = -(-count // step)
    bounds = [min(-(-steps * i // parts) * step, count) for i in range(parts + 1)]
    return [(start, stop - start) for start, stop in itertools.pairwise(bounds) if stop > start]
