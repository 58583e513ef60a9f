"""Functions that choose entries by slices, indices and masks. Indices are integers, and have no gradient."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from backstory.core import apply, as_tensor, entries
from backstory.errors import ArgumentError, BoundsError, DtypeError, ShapeError
from backstory.functions.comparison import where
from backstory.functions.shape import broadcast_shape, broadcast_to, expand, reshape
from backstory.graph import context
from backstory.indexing import ints, one_axis
from backstory.ops import TABLE

if TYPE_CHECKING:
    from backstory.tensor import Tensor

__all__ = [
    "argwhere",
    "gather",
    "index_select",
    "masked_select",
    "narrow",
    "nonzero",
    "select",
    "take",
    "take_along_dim",
]


# Slices: views


def select(x: Any, dim: int, index: int) -> Tensor:
    """The slice at ``index`` along ``dim``, without that axis: a view.

    >>> select([[1, 2], [3, 4]], 1, -1)
    tensor([2, 4])
    """
    x = as_tensor(x)
    axis = _real_axis("select", x, dim)
    return apply(TABLE["getitem"], x, index=(*(slice(None),) * axis, int(index)))


def narrow(x: Any, dim: int, start: int, length: int) -> Tensor:
    """``length`` slices from ``start`` on along ``dim``: a view.

    >>> narrow([1, 2, 3, 4], 0, 1, 2)
    tensor([2, 3])
    """
    x = as_tensor(x)
    axis = _real_axis("narrow", x, dim)
    size, (start, length) = x.shape[axis], ints((start, length))
    first = start + size if start < 0 else start
    if length < 0 or not 0 <= first <= size - length:
        raise BoundsError(
            f"narrow(dim={dim}, start={start}, length={length}) of a tensor of shape {x.shape}",
            why=f"the axis has {size} entries",
            instead="a start and a length within the axis",
        )
    return apply(TABLE["getitem"], x, index=(*(slice(None),) * axis, slice(first, first + length)))


def _real_axis(name: str, x: Tensor, dim: int) -> int:
    if x.ndim == 0:
        raise BoundsError(
            f"{name} of a number", why="it has no axis", instead="a tensor of at least one axis"
        )
    return one_axis(name, x, dim)


# Entries by index


def index_select(x: Any, dim: int, index: Any) -> Tensor:
    """The slices along ``dim`` that the vector ``index`` names; one named twice sums both gradients.

    >>> index_select([[1, 2], [3, 4]], 0, [1, 1])
    tensor([[3, 4],
            [3, 4]])
    """
    x = as_tensor(x)
    if x.ndim == 0:
        return reshape(index_select(reshape(x, 1), dim, index), ())
    axis = one_axis("index_select", x, dim)
    return apply(TABLE["take"], x, vector("index_select", x, axis, index), axis=axis, length=x.shape[axis])


def vector(name: str, x: Tensor, axis: int, index: Any) -> Tensor:
    """The index as a vector of valid places on ``axis``."""
    index = _places(name, index, x.shape[axis])
    if index.ndim > 1:
        raise ShapeError(
            f"{name} received an index of shape {index.shape}",
            why="it names slices along one axis",
            instead="a vector of integers; gather() or take_along_dim() for more axes",
        )
    return reshape(index, -1)


def _places(name: str, index: Any, length: int, least: int = 0) -> Tensor:
    """An index of integers from ``least`` to length - 1."""
    index = as_tensor(index)
    if index.dtype.kind not in "iu":
        if index.numel() == 0:
            return as_tensor(np.empty(index.shape, np.int64))
        raise DtypeError(
            f"{name} received an index of {index.dtype}",
            why="a place is an integer",
            instead="index.to(backstory.int64), or x[mask] for a mask of bools",
        )
    if index.level == 0:
        context().xp.assume(entries(index), least, length - 1, partial(_refuse_places, name, length, least))
    return index


def _refuse_places(name: str, length: int, least: int, index: Any) -> None:
    """Raise for an index that names no place."""
    low, high = int(index.min()), int(index.max())
    raise BoundsError(
        f"{name} received the index {low if low < least else high}",
        why=f"the axis has {length} entries",
        instead=f"integers from {least} to {length - 1}",
    )


def gather(x: Any, dim: int, index: Any) -> Tensor:
    """out[i, j] = x[index[i, j], j] for ``dim=0``, x[i, index[i, j]] for ``dim=1``, and so on.

    >>> gather([[1, 2], [3, 4]], 1, [[1], [0]])
    tensor([[2],
            [3]])
    """
    x, index = as_tensor(x), as_tensor(index)
    axis = one_axis("gather", x, dim)
    index = aligned("gather", index, x.shape, axis)
    if index.ndim == 0 or x.ndim == 0 or not index.numel():
        return reshape(index_select(reshape(x, -1), 0, reshape(index, -1)), index.shape)
    return entries_at(x, flat_places(index, x.shape, axis), index.shape)


def aligned(name: str, index: Tensor, shape: tuple[int, ...], axis: int) -> Tensor:
    """An index with an axis for each of ``shape``, no longer than it but along ``axis``."""
    index = _places(name, index, shape[axis] if shape else 1)
    ranks = max(index.ndim, 1) == max(len(shape), 1)
    if index.numel() == 0:
        return index
    if not ranks or any(n > m for i, (n, m) in enumerate(zip(index.shape, shape, strict=False)) if i != axis):
        raise ShapeError(
            f"{name} along axis {axis} received an index of shape {index.shape} for shape {shape}",
            why="each place of the index names one entry of the line through it along that axis",
            instead="an index with as many axes, and no longer than the tensor on the other axes",
        )
    return index


def flat_places(index: Any, shape: tuple[int, ...], axis: int) -> Any:
    """The places that an index along ``axis`` names, counted in the flattened tensor, as a vector."""
    strides = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    others = np.zeros((), np.int64)
    for i, length in enumerate(index.shape):
        others = others[..., None]
        if i != axis:
            others = others + np.arange(length) * strides[i]
    if index.level:  # inside a transform: the same in tensors
        return reshape(index * strides[axis] + as_tensor(others), -1)
    return as_tensor((entries(index).astype(np.int64) * strides[axis] + others).reshape(-1))


def entries_at(x: Tensor, places: Any, shape: tuple[int, ...]) -> Tensor:
    """The entries of ``x`` at places counted in the flattened tensor."""
    row = reshape(x, -1)
    return reshape(apply(TABLE["take"], row, places, axis=0, length=x.numel()), shape)


def take(x: Any, index: Any) -> Tensor:
    """The entries at ``index`` of the flattened tensor, in the shape of the index; -1 is the last.

    >>> take([[1, 2], [3, 4]], [[0, -1]])
    tensor([[1, 4]])
    """
    x = as_tensor(x)
    index = _places("take", index, x.numel(), -x.numel())
    return entries_at(x, reshape(_from_front(index, x.numel()), -1), index.shape)


def _from_front(index: Tensor, length: int) -> Tensor:
    """An index in which -1 is the last place, counted from the front."""
    return where(index < 0, index + length, index)


def take_along_dim(x: Any, indices: Any, dim: int | None = None) -> Tensor:
    """:func:`gather` after broadcasting; without ``dim`` the entries of the flattened tensor.

    >>> x = [[3, 1], [2, 5]]
    >>> take_along_dim(x, [[1, 0], [0, 1]], 1)
    tensor([[1, 3],
            [2, 5]])
    """
    x, indices = as_tensor(x), as_tensor(indices)
    if dim is None:
        return take(x, reshape(indices, -1))
    axis = one_axis("take_along_dim", x, dim)
    if x.ndim != indices.ndim:
        raise ShapeError(
            f"take_along_dim received shapes {x.shape} and {indices.shape}",
            why="the indices have as many axes as the tensor",
            instead="indices.unsqueeze(...)",
        )
    length = x.shape[axis] if x.ndim else 1
    indices = _from_front(_places("take_along_dim", indices, length, -length), length)
    around = broadcast_shape("take_along_dim", _without(x.shape, axis), _without(indices.shape, axis))
    whole = (*around[:axis], x.shape[axis], *around[axis + 1 :])
    return gather(
        broadcast_to(x, whole),
        axis,
        broadcast_to(indices, (*around[:axis], indices.shape[axis], *around[axis + 1 :])),
    )


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return (*shape[:axis], 1, *shape[axis + 1 :])


def masked_select(x: Any, mask: Any) -> Tensor:
    """The entries where ``mask`` holds, as a vector.

    >>> masked_select([1, 2, 3], [True, False, True])
    tensor([1, 3])
    """
    x, mask = as_tensor(x), as_tensor(mask)
    if mask.dtype.kind != "b":
        raise DtypeError(
            f"masked_select received a mask of {mask.dtype}",
            why="a mask is true or false",
            instead="mask != 0",
        )
    shape = broadcast_shape("masked_select", x.shape, mask.shape)
    places = np.flatnonzero(np.broadcast_to(values_of("masked_select", mask), shape))
    return entries_at(expand(x, shape), as_tensor(places), places.shape)


def values_of(name: str, x: Tensor) -> np.ndarray:
    """The entries themselves, on which the shape of a result depends."""
    if x.level:
        raise ArgumentError(
            f"{name} inside a transform",
            why="the shape of its result depends on values, which differ from sample to sample",
            instead="backstory.where(mask, x, 0)",
        )
    return entries(x)


def nonzero(x: Any, as_tuple: bool = False) -> Any:
    """Where ``x`` is not 0: one row of places per entry (N, ndim), or with ``as_tuple`` one vector per axis.

    >>> nonzero([[0, 1], [2, 0]])
    tensor([[0, 1],
            [1, 0]])
    """
    values = values_of("nonzero", as_tensor(x))
    if as_tuple:
        return tuple(as_tensor(places) for places in np.atleast_1d(values).nonzero())
    return as_tensor(np.argwhere(values).astype(np.int64))


def argwhere(x: Any) -> Tensor:
    """:func:`nonzero`, one row per entry."""
    return nonzero(x)
