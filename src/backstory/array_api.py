"""The tensors' own array namespace: rules that run on it record a graph of themselves.

That is how derivatives have derivatives: ``create_graph=True`` runs the vjp rules here instead of on
NumPy. The names are the Array API standard's (``axis``, ``keepdims``), as far as the rules use them.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from backstory.ops import TABLE
from backstory.tensor import Tensor, apply, as_tensor

__all__ = [
    "arange",
    "argmax",
    "asarray",
    "astype",
    "broadcast_to",
    "exp",
    "full_like",
    "log",
    "logical_not",
    "matmul",
    "matrix_transpose",
    "max",
    "maximum",
    "ones_like",
    "permute_dims",
    "reshape",
    "sqrt",
    "sum",
    "tanh",
    "where",
    "zeros_like",
]

bool = np.dtype("bool")


def _value(x: Any) -> Any:
    """A tensor, or the Python scalar itself, which stays weak."""
    return x if isinstance(x, (Tensor, float, int)) else as_tensor(x)


def _unary(name: str) -> Any:
    def function(x: Any) -> Tensor:
        return apply(TABLE[name], as_tensor(x))

    function.__name__ = name
    function.__doc__ = f"The operation ``{name}`` of the table."
    return function


exp, log, sqrt, tanh, logical_not = (_unary(n) for n in ("exp", "log", "sqrt", "tanh", "logical_not"))


def maximum(x: Any, y: Any) -> Tensor:
    """The larger of two, entry by entry."""
    return apply(TABLE["maximum"], _value(x), _value(y))


def where(condition: Any, x: Any, y: Any) -> Tensor:
    """``x`` where the condition holds, else ``y``."""
    return apply(TABLE["where"], as_tensor(condition), _value(x), _value(y))


def matmul(x: Any, y: Any) -> Tensor:
    """The matrix product of the last two axes."""
    return as_tensor(x).matmul(y)


def sum(x: Any, axis: Any = None, keepdims: Any = False) -> Tensor:
    """Σ x over ``axis``."""
    return apply(TABLE["sum"], as_tensor(x), axis=axis, keepdims=keepdims)


def max(x: Any, axis: Any = None, keepdims: Any = False) -> Tensor:
    """The largest entry over ``axis``."""
    return apply(TABLE["max"], as_tensor(x), axis=axis, keepdims=keepdims)


def argmax(x: Any, axis: Any = None, keepdims: Any = False) -> Tensor:
    """Where the largest entry stands."""
    return apply(TABLE["argmax"], as_tensor(x), axis=axis, keepdims=keepdims)


def reshape(x: Any, shape: tuple[int, ...]) -> Tensor:
    """The same entries in another shape."""
    return apply(TABLE["reshape"], as_tensor(x), shape=shape)


def permute_dims(x: Any, axes: tuple[int, ...]) -> Tensor:
    """The axes in another order."""
    return apply(TABLE["permute"], as_tensor(x), axes=axes)


def matrix_transpose(x: Any) -> Tensor:
    """The last two axes swapped."""
    return as_tensor(x).mT


def broadcast_to(x: Any, shape: tuple[int, ...]) -> Tensor:
    """Axes repeated to ``shape`` without copying."""
    return apply(TABLE["broadcast_to"], as_tensor(x), shape=shape)


def astype(x: Any, dtype: Any) -> Tensor:
    """The entries converted to ``dtype``."""
    return as_tensor(x).to(dtype)


def asarray(x: Any, copy: Any = None) -> Tensor:
    """A tensor of ``x``, with its own memory if ``copy``."""
    return apply(TABLE["clone"], as_tensor(x)) if copy else as_tensor(x)


def zeros_like(x: Any) -> Tensor:
    """Zeros of the shape and dtype of ``x``."""
    return full_like(x, 0)


def ones_like(x: Any) -> Tensor:
    """Ones of the shape and dtype of ``x``."""
    return full_like(x, 1)


def full_like(x: Any, value: Any) -> Tensor:
    """``value`` everywhere, in the shape and dtype of ``x``; a constant."""
    x = as_tensor(x)
    return as_tensor(np.full(x.shape, value, x.dtype))


def arange(stop: int) -> Tensor:
    """0, 1, …, stop − 1."""
    return as_tensor(np.arange(stop))


def _scatter(values: Any, index: Any, shape: tuple[int, ...]) -> Tensor:
    return apply(TABLE["scatter"], as_tensor(values), index=index, shape=shape)


backstory_extras = SimpleNamespace(scatter=_scatter)
