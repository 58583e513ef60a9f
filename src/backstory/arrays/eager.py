"""NumPy under the standard's names, as eager mode uses it.

The functions are NumPy's own. Where NumPy's public function spends longer in Python than a small
array takes to compute, the ufunc or the method behind it stands here instead.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy import (
    abs,
    acos,
    acosh,
    arange,
    argmax,
    argmin,
    asarray,
    asin,
    asinh,
    atan,
    atan2,
    atanh,
    broadcast_to,
    ceil,
    concatenate,
    cos,
    cosh,
    exp,
    expm1,
    eye,
    floor,
    full_like,
    hypot,
    isdtype,
    isfinite,
    isinf,
    isnan,
    log,
    log1p,
    log2,
    log10,
    logaddexp,
    logical_not,
    maximum,
    minimum,
    ones_like,
    remainder,
    roll,
    sign,
    sin,
    sinh,
    sqrt,
    tan,
    tanh,
    tril,
    triu,
    trunc,
    where,
    zeros,
    zeros_like,
)

from backstory.arrays.random import default_generator

__all__ = [
    "abs",
    "acos",
    "acosh",
    "all",
    "any",
    "arange",
    "argmax",
    "argmin",
    "argsort",
    "asarray",
    "asin",
    "asinh",
    "assume",
    "astype",
    "atan",
    "atan2",
    "atanh",
    "bool",
    "broadcast_to",
    "ceil",
    "concat",
    "cos",
    "cosh",
    "cumulative_prod",
    "cumulative_sum",
    "draw",
    "exp",
    "expm1",
    "eye",
    "flip",
    "floor",
    "full_like",
    "hypot",
    "isdtype",
    "isfinite",
    "isinf",
    "isnan",
    "linalg",
    "log",
    "log1p",
    "log2",
    "log10",
    "logaddexp",
    "logical_not",
    "matmul",
    "matrix_transpose",
    "max",
    "maximum",
    "min",
    "minimum",
    "ones_like",
    "permute_dims",
    "prod",
    "remainder",
    "reshape",
    "roll",
    "round",
    "sign",
    "sin",
    "sinh",
    "sqrt",
    "sum",
    "take",
    "tan",
    "tanh",
    "tril",
    "triu",
    "trunc",
    "where",
    "zeros",
    "zeros_like",
]

concat = concatenate
bool = np.dtype("bool")  # a dtype is compared with another faster than with a scalar type

_add: Any = np.add.reduce
_multiply: Any = np.multiply.reduce
_maximum: Any = np.maximum.reduce
_minimum: Any = np.minimum.reduce
_or: Any = np.logical_or.reduce
_and: Any = np.logical_and.reduce
_matmul = np.matmul
_einsum = np.einsum
_UNSIGNED = {size: np.dtype(f"u{size}") for size in (1, 2, 4, 8)}
_FLOATS = (np.dtype("float32"), np.dtype("float64"))


@lru_cache(maxsize=64)
def _ones(count: int, dtype: Any) -> Any:
    """A vector of ones that is never written to."""
    ones = np.ones(count, dtype)
    ones.flags.writeable = False
    return ones


def sum(x: Any, axis: Any = None, keepdims: Any = False) -> Any:
    """Σ x over ``axis``."""
    if axis == 0 and not keepdims and x.ndim == 2 and x.dtype in _FLOATS:
        # BLAS adds rows as NumPy does, one after the other, in a third of the time.
        return _ones(len(x), x.dtype).dot(x)
    return _add(x, axis, None, None, keepdims)


def matmul(x: Any, y: Any) -> Any:
    """The product of the last two axes."""
    if x.ndim == 2 and y.ndim == 2:
        return x.dot(y)
    if x.ndim > 1 and y.ndim > 1 and x.shape[-1] == 1 and x.dtype == y.dtype and y.shape[-2] == 1:
        # Outer products, many small ones: BLAS would be called for each.
        return _einsum("...i,...j->...ij", x[..., 0], y[..., 0, :])
    return _matmul(x, y)


def max(x: Any, axis: Any = None, keepdims: Any = False) -> Any:
    """The largest entry over ``axis``."""
    return _maximum(x, axis, None, None, keepdims)


def min(x: Any, axis: Any = None, keepdims: Any = False) -> Any:
    """The smallest entry over ``axis``."""
    return _minimum(x, axis, None, None, keepdims)


def prod(x: Any, axis: Any = None, keepdims: Any = False) -> Any:
    """Π x over ``axis``."""
    return _multiply(x, axis, None, None, keepdims)


def any(x: Any, axis: Any = None, keepdims: Any = False) -> Any:
    """Whether an entry over ``axis`` is not 0."""
    return _or(x, axis, None, None, keepdims)


def all(x: Any, axis: Any = None, keepdims: Any = False) -> Any:
    """Whether every entry over ``axis`` is not 0."""
    return _and(x, axis, None, None, keepdims)


def cumulative_sum(x: Any, axis: Any) -> Any:
    """The sums up to each entry along ``axis``."""
    return x.cumsum(axis)


def cumulative_prod(x: Any, axis: Any) -> Any:
    """The products up to each entry along ``axis``."""
    return x.cumprod(axis)


def round(x: Any) -> Any:
    """To the nearest integer, of two equally near to the even one."""
    return np.rint(x) if x.dtype.kind == "f" else x.copy()


def astype(x: Any, dtype: Any) -> Any:
    """A copy with its entries converted to ``dtype``."""
    return x.astype(dtype)


def reshape(x: Any, shape: Any) -> Any:
    """The same entries in another shape."""
    return x.reshape(shape)


def permute_dims(x: Any, axes: Any) -> Any:
    """The axes in another order."""
    return x.transpose(axes)


def matrix_transpose(x: Any) -> Any:
    """The last two axes swapped."""
    return x.mT


def take(x: Any, indices: Any, axis: Any) -> Any:
    """The slices of ``x`` along ``axis`` that a vector of integers names."""
    return x.take(indices, axis)


def flip(x: Any, axis: Any) -> Any:
    """The entries in reverse order along ``axis``, in memory of their own."""
    return np.flip(x, axis).copy()


def argsort(x: Any, axis: Any = -1, descending: Any = False, stable: Any = True) -> Any:
    """The order that sorts ``x``, equals as they stood; NaN counts as the largest."""
    if not x.shape:  # NumPy answers with a vector
        return argsort(x.reshape(1), axis, descending).reshape(())
    if not descending:
        return x.argsort(axis, kind="stable")
    order = np.flip(np.flip(x, axis).argsort(axis, kind="stable"), axis)
    return x.shape[axis] - 1 - order


def draw(generator: Any, function: Any) -> Any:
    """``function(stream)`` of a generator's NumPy stream; of this thread's own for ``None``."""
    return function((generator or default_generator()).numpy)


def assume(x: Any, low: Any, high: Any, test: Any) -> Any:
    """Whether low ≤ x ≤ high everywhere; where not, ``test(x)`` may raise why that is wrong."""
    if x.dtype.kind == "f":
        kept = not x.size or (x.min() >= low and x.max() <= high)
    elif low == 0:
        # Seen as unsigned a negative number is huge, so one maximum finds both kinds.
        kept = not x.size or _maximum(x.view(_UNSIGNED[x.itemsize]), None) <= high
    else:
        kept = not x.size or (_minimum(x, None) >= low and _maximum(x, None) <= high)
    if not kept:
        test(x)
    return kept


class linalg:
    """The standard's linear algebra."""

    inv = staticmethod(np.linalg.inv)
    solve = staticmethod(np.linalg.solve)

    @staticmethod
    def diagonal(x: Any, offset: Any = 0) -> Any:
        """The diagonal of the last two axes: a view, and as writable as ``x``."""
        found = x.diagonal(offset, -2, -1)
        found.flags.writeable = x.flags.writeable
        return found
