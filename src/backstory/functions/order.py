"""Sorting, the largest k, the middle, and what is there at all."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from backstory.core import apply, as_tensor, plain
from backstory.errors import ArgumentError, BoundsError
from backstory.functions.extrema import Placed, argmax
from backstory.functions.reduction import any
from backstory.ops import TABLE

if TYPE_CHECKING:
    from backstory.tensor import Tensor

__all__ = ["argsort", "kthvalue", "median", "msort", "sort", "topk", "unique"]


def _chosen(x: Tensor, indices: Tensor, dim: int) -> Tensor:
    """The entries of ``x`` that ``indices`` names along ``dim``."""
    if not x.shape:
        return x.clone()
    dim %= x.ndim
    last = (*(a for a in range(x.ndim) if a != dim), dim)
    back = (*range(dim), x.ndim - 1, *range(dim, x.ndim - 1))
    moved, count = indices.permute(last), x.shape[dim]
    rows = np.arange(math.prod(moved.shape[:-1])).reshape((*moved.shape[:-1], 1)) * count
    places = (moved + as_tensor(rows)).reshape(-1)
    flat = x.permute(last).reshape(-1)
    chosen = apply(TABLE["take"], flat, places, axis=0, length=flat.shape[0])
    return chosen.reshape(moved.shape).permute(back)


def argsort(x: Any, dim: int = -1, descending: bool = False, stable: bool = False) -> Tensor:
    """The order that sorts ``x`` along ``dim``; equals stay as they stood, and NaN counts as the largest.

    >>> argsort([3.0, 1.0, 2.0])
    tensor([1, 2, 0])
    """
    x = as_tensor(x)
    if not x.shape:
        return argmax(x.detach(), dim)
    return apply(TABLE["argsort"], x, axis=dim, descending=descending)


def sort(x: Any, dim: int = -1, descending: bool = False, stable: bool = False) -> Placed:
    """The entries in order along ``dim``, and where each stood; gradients go back to where they stood.

    Equals stay as they stood (whether ``stable`` or not), and NaN counts as the largest.

    >>> sort([3.0, 1.0, 2.0]).values, sort([3.0, 1.0, 2.0], descending=True).indices
    (tensor([1., 2., 3.]), tensor([0, 2, 1]))
    """
    x = as_tensor(x)
    indices = argsort(x, dim, descending)
    return Placed(_chosen(x, indices, dim), indices)


def msort(x: Any) -> Tensor:
    """The entries in order along the first axis."""
    return sort(x, 0).values


def topk(x: Any, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Placed:
    """The ``k`` largest (or smallest) entries along ``dim``, best first, and where they stood.

    >>> topk([3.0, 1.0, 2.0], 2).values
    tensor([3., 2.])
    """
    x = as_tensor(x)
    indices = _ranked("topk", x, k, dim, largest, slice(k))
    return Placed(_chosen(x, indices, dim), indices)


def kthvalue(x: Any, k: int, dim: int = -1, keepdim: bool = False) -> Placed:
    """The ``k``-th smallest entry along ``dim``, counted from 1, and where it stood."""
    x = as_tensor(x)
    if k < 1:
        raise _out_of_range("kthvalue", x, k, dim)
    indices = _ranked("kthvalue", x, k, dim, False, slice(k - 1, k))
    return _single(x, indices, dim, keepdim)


def _ranked(name: str, x: Tensor, k: int, dim: int, largest: bool, ranks: slice) -> Tensor:
    order = argsort(x, dim, descending=largest)
    if not 0 <= k <= (x.shape[dim] if x.shape else 1):
        raise _out_of_range(name, x, k, dim)
    return order[(slice(None),) * (dim % x.ndim) + (ranks,)] if x.shape else order


def _out_of_range(name: str, x: Tensor, k: int, dim: int) -> BoundsError:
    return BoundsError(
        f"{name}(k={k}, dim={dim}) on a tensor of shape {x.shape}",
        why="there are not that many entries on the axis",
        instead="k up to the length of the axis",
    )


def _single(x: Tensor, indices: Tensor, dim: int, keepdim: bool) -> Placed:
    """What a single index along ``dim`` chooses, without the axis unless it is kept."""
    values = _chosen(x, indices, dim)
    if keepdim or not x.shape:
        return Placed(values, indices)
    dim %= x.ndim
    shape = (*x.shape[:dim], *x.shape[dim + 1 :])
    return Placed(values.reshape(shape), indices.reshape(shape))


def median(x: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """The middle entry, of two the smaller; with ``dim`` a pair (values, indices). NaN if one entry is.

    The gradient of ``median()`` is shared evenly between equal entries.

    >>> median([3.0, 1.0, 2.0, 4.0])
    tensor(2.)
    """
    x = as_tensor(x)
    if dim is None:
        return apply(TABLE["median"], x)
    length = x.shape[dim] if x.shape and -x.ndim <= dim < x.ndim else 1
    middle = (length + 1) // 2
    order = _ranked("median", x, middle, dim, False, slice(middle - 1, middle))
    if length == 0:
        raise _out_of_range("median", x, 1, dim)
    if x.shape and x.dtype.kind == "f":
        nan = apply(TABLE["isnan"], x)
        first = apply(TABLE["argmax"], nan, axis=dim, keepdims=True)
        order = apply(TABLE["where"], any(nan, dim, keepdim=True), first, order)
    return _single(x, order, dim, keepdim)


def unique(
    x: Any,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """The different entries (or slices along ``dim``) in order, without gradient.

    With ``return_inverse`` also which of them stands at each place, with ``return_counts`` how often.

    >>> unique([3, 1, 3], return_counts=True)
    (tensor([1, 3]), tensor([1, 2]))
    """
    array = plain(as_tensor(x))
    if dim is not None and array.shape and 0 in array.shape and array.shape[dim] != 0:
        raise ArgumentError(
            f"unique(dim={dim}) on a tensor of shape {array.shape}",
            why="slices without entries are all alike",
            instead="a tensor with entries",
        )
    found = np.unique(
        array, return_inverse=return_inverse, return_counts=return_counts, axis=dim, equal_nan=False
    )
    if not isinstance(found, tuple):
        return as_tensor(found)
    parts = [as_tensor(np.asarray(part)) for part in found]
    if return_inverse:
        parts[1] = parts[1].reshape(-1) if dim is not None else parts[1].reshape(array.shape)
    return tuple(parts)
