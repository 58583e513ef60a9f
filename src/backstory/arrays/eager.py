"""NumPy under the standard's names, as eager mode uses it.

The functions are NumPy's own. Where NumPy's public function spends longer in Python than a small
array takes to compute, the ufunc or the method behind it stands here instead.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import (
    arange,
    argmax,
    asarray,
    astype,
    bool,
    broadcast_to,
    exp,
    full_like,
    log,
    logical_not,
    matmul,
    maximum,
    ones_like,
    sqrt,
    tanh,
    where,
    zeros_like,
)

__all__ = [
    "arange",
    "argmax",
    "asarray",
    "astype",
    "bool",
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

_add, _maximum = np.add.reduce, np.maximum.reduce


def sum(x: Any, axis: Any = None, keepdims: Any = False) -> Any:
    """Σ x over ``axis``."""
    return _add(x, axis, None, None, keepdims)


def max(x: Any, axis: Any = None, keepdims: Any = False) -> Any:
    """The largest entry over ``axis``."""
    return _maximum(x, axis, None, None, keepdims)


def reshape(x: Any, shape: Any) -> Any:
    """The same entries in another shape."""
    return x.reshape(shape)


def permute_dims(x: Any, axes: Any) -> Any:
    """The axes in another order."""
    return x.transpose(axes)


def matrix_transpose(x: Any) -> Any:
    """The last two axes swapped."""
    return x.mT
