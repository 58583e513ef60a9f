"""More of the Array API standard's names, on the public functions: other words for the same.

The standard says ``axis`` and ``keepdims`` where PyTorch's dialect says ``dim`` and ``keepdim``, and its
variance divides by N − ``correction``, with 0 for a default.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from backstory.core import as_tensor
from backstory.functions import (
    arithmetic,
    comparison,
    creation,
    joining,
    linalg,
    order,
    reduction,
    selection,
    shape,
)
from backstory.tensor import Tensor

__all__ = [
    "add", "broadcast_arrays", "clip", "count_nonzero", "divide", "empty", "empty_like", "equal",
    "expand_dims", "floor_divide", "full", "greater", "greater_equal", "less", "less_equal", "linspace",
    "logical_and", "logical_or", "logical_xor", "mean", "meshgrid", "moveaxis", "multiply", "negative",
    "nonzero", "not_equal", "ones", "positive", "pow", "reciprocal", "repeat", "sort", "square", "squeeze",
    "stack", "std", "subtract", "take_along_axis", "tensordot", "tile", "unstack", "var", "vecdot",
]  # fmt: skip

add = arithmetic.add
subtract = arithmetic.sub
multiply = arithmetic.mul
divide = arithmetic.div
floor_divide = arithmetic.floor_divide
negative = arithmetic.neg
positive = arithmetic.positive
pow = arithmetic.pow
square = arithmetic.square
reciprocal = arithmetic.reciprocal
equal = comparison.eq
not_equal = comparison.ne
less = comparison.lt
less_equal = comparison.le
greater = comparison.gt
greater_equal = comparison.ge
logical_and = comparison.logical_and
logical_or = comparison.logical_or
logical_xor = comparison.logical_xor
clip = comparison.clamp
full = creation.full
empty_like = creation.empty_like
meshgrid = creation.meshgrid
broadcast_arrays = shape.broadcast_tensors
moveaxis = shape.movedim
tile = shape.tile


def ones(shape: Any, *, dtype: Any = None) -> Tensor:
    """Ones of a shape; a constant."""
    return creation.ones(shape, dtype=dtype)


def empty(shape: Any, *, dtype: Any = None) -> Tensor:
    """Memory of a shape, holding anything; a constant."""
    return creation.empty(shape, dtype=dtype)


def linspace(start: Any, stop: Any, num: int, *, dtype: Any = None) -> Tensor:
    """``num`` numbers from ``start`` to ``stop``, both included, equally far apart."""
    return creation.linspace(start, stop, num, dtype=dtype)


def mean(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Σx / N over ``axis``."""
    return reduction.mean(x, axis, keepdims)


def var(x: Any, axis: Any = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """Σ(x − mean)² / (N − ``correction``) over ``axis``."""
    return reduction.var(x, axis, correction=correction, keepdim=keepdims)


def std(x: Any, axis: Any = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """The square root of :func:`var`."""
    return reduction.std(x, axis, correction=correction, keepdim=keepdims)


def count_nonzero(x: Any, axis: Any = None) -> Tensor:
    """How many entries over ``axis`` are not 0."""
    return reduction.count_nonzero(x, axis)


def sort(x: Any, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The entries along ``axis`` in order."""
    return order.sort(x, axis, descending, stable).values


def squeeze(x: Any, axis: Any) -> Tensor:
    """Without the axes of length 1 that are named."""
    return shape.squeeze(x, axis)


def expand_dims(x: Any, axis: int = 0) -> Tensor:
    """With an axis of length 1 more."""
    return shape.unsqueeze(x, axis)


def repeat(x: Any, repeats: int, axis: int | None = None) -> Tensor:
    """Every entry along ``axis`` (of all, flat, without) ``repeats`` times."""
    x = shape.flatten(x) if axis is None else as_tensor(x)
    along = 0 if axis is None else axis % x.ndim
    return selection.index_select(x, along, as_tensor(np.repeat(np.arange(x.shape[along]), repeats)))


def stack(arrays: Sequence[Any], axis: int = 0) -> Tensor:
    """The arrays joined along a new axis."""
    return joining.stack(list(arrays), axis)


def unstack(x: Any, axis: int = 0) -> tuple[Tensor, ...]:
    """The slices of ``x`` along ``axis``."""
    return joining.unbind(x, axis)


def nonzero(x: Any) -> tuple[Tensor, ...]:
    """Per axis where the entries are that are not 0."""
    return selection.nonzero(x, as_tuple=True)


def take_along_axis(x: Any, indices: Any, axis: int = -1) -> Tensor:
    """The entries along ``axis`` that ``indices``, of as many axes as ``x``, name."""
    return selection.take_along_dim(x, indices, axis)


def tensordot(x: Any, y: Any, axes: Any = 2) -> Tensor:
    """Products summed over the last ``axes`` axes of ``x`` and the first of ``y``, or over pairs of axes."""
    return linalg.tensordot(x, y, axes)


def vecdot(x: Any, y: Any, axis: int = -1) -> Tensor:
    """Σ x·y over ``axis``."""
    return reduction.sum(arithmetic.mul(x, y), axis)
