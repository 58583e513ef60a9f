"""Functions that put or add entries at indices. What they read back is in ``selection.py``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from backstory.core import apply, as_tensor, wrap
from backstory.errors import ArgumentError, DtypeError, ShapeError
from backstory.functions.comparison import where
from backstory.functions.linalg import scaled
from backstory.functions.selection import aligned, flat_places, values_of, vector
from backstory.functions.shape import reshape
from backstory.graph import context
from backstory.indexing import one_axis
from backstory.ops import TABLE

if TYPE_CHECKING:
    from backstory.tensor import Tensor

__all__ = ["index_add", "index_copy", "index_fill", "scatter", "scatter_add"]


def _put(values: Tensor, places: Any, shape: tuple[int, ...]) -> Tensor:
    """Zeros of ``shape`` to which ``values`` are added at places counted in the flattened tensor."""
    length = math.prod(shape)
    added = apply(TABLE["index_add"], reshape(values, -1), places, axis=0, length=length)
    return reshape(added, shape)


# Putting


def index_add(x: Any, dim: int, index: Any, source: Any, alpha: float = 1) -> Tensor:
    """``x`` with ``alpha`` times the k-th slice of ``source`` added to its slice ``index[k]`` along ``dim``.

    >>> index_add([0.0, 0.0], 0, [1, 1], [2.0, 3.0])
    tensor([0., 5.])
    """
    x, source = as_tensor(x), as_tensor(source)
    axis = one_axis("index_add", x, dim)
    added = _slices("index_add", x, axis, index, source)
    return x + scaled(added, alpha)


def _slices(name: str, x: Tensor, axis: int, index: Any, source: Tensor) -> Tensor:
    """Zeros like ``x`` to which the slices of ``source`` are added."""
    _same_dtype(name, x, source)
    if x.ndim == 0:
        x, source = reshape(x, 1), reshape(source, -1)
        return reshape(_slices(name, x, 0, index, source), ())
    index = vector(name, x, axis, index)
    source = reshape(source, 1) if source.ndim == 0 else source
    if source.shape != (*x.shape[:axis], index.shape[0], *x.shape[axis + 1 :]):
        raise ShapeError(
            f"{name} along axis {axis} of a tensor of shape {x.shape} received {index.shape[0]} places "
            f"and a source of shape {source.shape}",
            why="each slice of the source goes to one place",
            instead="a source of the shape of x, with one slice for each place",
        )
    return apply(TABLE["index_add"], source, index, axis=axis, length=x.shape[axis])


def _same_dtype(name: str, x: Tensor, source: Tensor) -> None:
    if x.dtype != source.dtype:
        raise DtypeError(
            f"{name} received {x.dtype} and a source of {source.dtype}",
            why="what is put into a tensor has its dtype",
            instead=f"source.to(backstory.{x.dtype})",
        )


def index_copy(x: Any, dim: int, index: Any, source: Any) -> Tensor:
    """``x`` with its slice ``index[k]`` along ``dim`` replaced by the k-th slice of ``source``."""
    x, source = as_tensor(x), as_tensor(source)
    axis = one_axis("index_copy", x, dim)
    placed = _slices("index_copy", x, axis, index, source)
    return where(_hit(x, axis, index), placed, x)


def index_fill(x: Any, dim: int, index: Any, value: Any) -> Tensor:
    """``x`` with ``value`` in the slices ``index`` along ``dim``."""
    x = as_tensor(x)
    axis = one_axis("index_fill", x, dim)
    if x.ndim == 0:
        return reshape(index_fill(reshape(x, 1), 0, index, value), ())
    return where(_hit(x, axis, vector("index_fill", x, axis, index)), value, x)


def _hit(x: Tensor, axis: int, index: Any) -> Tensor:
    """Where along ``axis`` an index points, in a shape that broadcasts with ``x``."""
    length = x.shape[axis] if x.ndim else 1
    index = reshape(as_tensor(index), -1)
    ones = as_tensor(np.ones(index.shape, np.int64))
    hit = apply(TABLE["index_add"], ones, index, axis=0, length=length) > 0
    return reshape(hit, [-1 if i == axis else 1 for i in range(x.ndim)])


def scatter_add(x: Any, dim: int, index: Any, src: Any) -> Tensor:
    """``x`` with src[i, j] added at [index[i, j], j] for ``dim=0``, and so on: what :func:`gather` reads.

    >>> scatter_add([0.0, 0.0, 0.0], 0, [0, 2, 0], [1.0, 2.0, 3.0])
    tensor([4., 0., 2.])
    """
    x, src = as_tensor(x), as_tensor(src)
    axis = one_axis("scatter_add", x, dim)
    values, places = _scattered("scatter_add", x, axis, index, src)
    return x + _put(values, places, x.shape)


def _scattered(name: str, x: Tensor, axis: int, index: Any, src: Tensor) -> tuple[Tensor, Any]:
    """The values that are put, and their places in the flattened ``x``."""
    index = aligned(name, as_tensor(index), x.shape, axis)
    _same_dtype(name, x, src)
    if index.numel() and (
        max(src.ndim, 1) != max(index.ndim, 1)
        or any(n > m for n, m in zip(index.shape, src.shape, strict=False))
    ):
        raise ShapeError(
            f"{name} received an index of shape {index.shape} and a source of shape {src.shape}",
            why="each place of the index takes the entry of the source at the same place",
            instead="a source at least as long as the index on every axis",
        )
    if index.ndim == 0 or x.ndim == 0 or not index.numel():
        return reshape(src, -1)[: index.numel()], reshape(index, -1)
    if src.ndim and src.shape != index.shape:
        src = src[tuple(slice(n) for n in index.shape)]
    return src, flat_places(index, x.shape, axis)


def scatter(
    x: Any, dim: int, index: Any, src: Any = None, *, value: Any = None, reduce: str | None = None
) -> Tensor:
    """``x`` with src[i, j] in place of [index[i, j], j] for ``dim=0``, and so on; ``src`` may be a number.

    Of several entries for one place the last stays, and only it has a gradient. ``reduce="add"`` adds
    instead, ``"multiply"`` multiplies.

    >>> scatter([1.0, 2.0, 3.0], 0, [2], 9.0)
    tensor([1., 2., 9.])
    """
    x, index = as_tensor(x), as_tensor(index)
    src = value if src is None else src
    if src is None or reduce not in (None, "add", "multiply"):
        raise ArgumentError(
            f"scatter(src={src}, reduce={reduce!r})",
            why="it puts values, and adds or multiplies them if told to",
            instead="src or value; reduce='add' or 'multiply'",
        )
    axis = one_axis("scatter", x, dim)
    if isinstance(src, (bool, int, float)):
        src = as_tensor(np.full(index.shape, src, x.dtype))
    src = as_tensor(src)
    values, places = _scattered("scatter", x, axis, index, src)
    if reduce == "add":
        return x + _put(values, places, x.shape)
    if reduce == "multiply":
        return _multiplied(x, values, places)
    xp, flat = context().xp, values_of("scatter", as_tensor(places))
    numbers, last = xp.arange(1, flat.size + 1), xp.zeros(x.numel(), dtype=np.int64)
    last[flat] = numbers
    seen = wrap(xp.reshape(last[flat] == numbers, values.shape), 0)
    placed = _put(where(seen, values, np.zeros((), values.dtype)), places, x.shape)
    return where(wrap(xp.reshape(last > 0, x.shape), 0), placed, x)


def _multiplied(x: Tensor, values: Tensor, places: Any) -> Tensor:
    """``x`` times every value put at each of its places: one factor after the other."""
    flat, row, values = values_of("scatter", as_tensor(places)), reshape(x, -1), reshape(values, -1)
    rest = np.arange(flat.size)
    while rest.size:  # as often as the most frequent place occurs
        _, first = np.unique(flat[rest], return_index=True)
        now = rest[first]
        factor = _put(values[now] - 1, as_tensor(flat[now]), row.shape) + 1
        row, rest = row * factor, np.delete(rest, first)
    return reshape(row, x.shape)
