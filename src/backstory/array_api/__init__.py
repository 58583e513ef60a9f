"""The tensors' own array namespace: rules that run on it record a graph of themselves.

That is how derivatives have derivatives: ``create_graph=True`` runs the vjp rules here instead of on
NumPy. The names are the Array API standard's (``axis``, ``keepdims``): here those that the rules use, in
:mod:`backstory.array_api.standard` the others that tensors have an operation for.
"""

from __future__ import annotations

import builtins
from types import SimpleNamespace
from typing import Any

import numpy as np

from backstory.array_api.standard import (
    add,
    broadcast_arrays,
    clip,
    count_nonzero,
    divide,
    empty,
    empty_like,
    equal,
    expand_dims,
    floor_divide,
    full,
    greater,
    greater_equal,
    less,
    less_equal,
    linspace,
    logical_and,
    logical_or,
    logical_xor,
    mean,
    meshgrid,
    moveaxis,
    multiply,
    negative,
    nonzero,
    not_equal,
    ones,
    positive,
    pow,
    reciprocal,
    repeat,
    sort,
    square,
    squeeze,
    stack,
    std,
    subtract,
    take_along_axis,
    tensordot,
    tile,
    unstack,
    var,
    vecdot,
)
from backstory.ops import TABLE
from backstory.promotion import get_default_dtype
from backstory.tensor import Tensor, apply, as_tensor

__all__ = [
    "abs",
    "acos",
    "acosh",
    "add",
    "all",
    "any",
    "arange",
    "argmax",
    "argmin",
    "argsort",
    "asarray",
    "asin",
    "asinh",
    "astype",
    "atan",
    "atan2",
    "atanh",
    "broadcast_arrays",
    "broadcast_to",
    "ceil",
    "clip",
    "concat",
    "cos",
    "cosh",
    "count_nonzero",
    "cumulative_prod",
    "cumulative_sum",
    "divide",
    "empty",
    "empty_like",
    "equal",
    "exp",
    "expand_dims",
    "expm1",
    "eye",
    "flip",
    "floor",
    "floor_divide",
    "full",
    "full_like",
    "greater",
    "greater_equal",
    "hypot",
    "isdtype",
    "isfinite",
    "isinf",
    "isnan",
    "less",
    "less_equal",
    "linalg",
    "linspace",
    "log",
    "log1p",
    "log2",
    "log10",
    "logaddexp",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "matmul",
    "matrix_transpose",
    "max",
    "maximum",
    "mean",
    "meshgrid",
    "min",
    "minimum",
    "moveaxis",
    "multiply",
    "negative",
    "nonzero",
    "not_equal",
    "ones",
    "ones_like",
    "permute_dims",
    "positive",
    "pow",
    "prod",
    "reciprocal",
    "remainder",
    "repeat",
    "reshape",
    "roll",
    "round",
    "sign",
    "sin",
    "sinh",
    "sort",
    "sqrt",
    "square",
    "squeeze",
    "stack",
    "std",
    "subtract",
    "sum",
    "take",
    "take_along_axis",
    "tan",
    "tanh",
    "tensordot",
    "tile",
    "tril",
    "triu",
    "trunc",
    "unstack",
    "var",
    "vecdot",
    "where",
    "zeros",
    "zeros_like",
]

bool = np.dtype("bool")


def _elementwise(name: str) -> Any:
    def function(*values: Any) -> Tensor:
        return apply(TABLE[name], *values)

    function.__name__ = name
    function.__doc__ = f"The operation ``{name}`` of the table, entry by entry."
    return function


def _reduction(name: str) -> Any:
    def function(x: Any, axis: Any = None, keepdims: Any = False) -> Tensor:
        return apply(TABLE[name], x, axis=axis, keepdims=keepdims)

    function.__name__ = name
    function.__doc__ = f"The operation ``{name}`` of the table over ``axis``."
    return function


abs = _elementwise("abs")
acos = _elementwise("acos")
acosh = _elementwise("acosh")
asin = _elementwise("asin")
asinh = _elementwise("asinh")
atan = _elementwise("atan")
atan2 = _elementwise("atan2")
atanh = _elementwise("atanh")
ceil = _elementwise("ceil")
cos = _elementwise("cos")
cosh = _elementwise("cosh")
exp = _elementwise("exp")
expm1 = _elementwise("expm1")
floor = _elementwise("floor")
hypot = _elementwise("hypot")
isfinite = _elementwise("isfinite")
isinf = _elementwise("isinf")
isnan = _elementwise("isnan")
log = _elementwise("log")
log10 = _elementwise("log10")
log1p = _elementwise("log1p")
log2 = _elementwise("log2")
logaddexp = _elementwise("logaddexp")
logical_not = _elementwise("logical_not")
maximum = _elementwise("maximum")
minimum = _elementwise("minimum")
remainder = _elementwise("remainder")
round = _elementwise("round")
sign = _elementwise("sign")
sin = _elementwise("sin")
sinh = _elementwise("sinh")
sqrt = _elementwise("sqrt")
tan = _elementwise("tan")
tanh = _elementwise("tanh")
trunc = _elementwise("trunc")

all = _reduction("all")
any = _reduction("any")
argmax = _reduction("argmax")
argmin = _reduction("argmin")
max = _reduction("max")
min = _reduction("min")
prod = _reduction("prod")
sum = _reduction("sum")


def where(condition: Any, x: Any, y: Any) -> Tensor:
    """``x`` where the condition holds, else ``y``."""
    return apply(TABLE["where"], as_tensor(condition), x, y)


def matmul(x: Any, y: Any) -> Tensor:
    """The matrix product of the last two axes."""
    return as_tensor(x).matmul(y)


def cumulative_sum(x: Any, axis: int) -> Tensor:
    """The sums up to each entry along ``axis``."""
    return apply(TABLE["cumsum"], x, axis=axis)


def cumulative_prod(x: Any, axis: int) -> Tensor:
    """The products up to each entry along ``axis``."""
    return apply(TABLE["cumprod"], x, axis=axis)


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


def isdtype(dtype: Any, kind: Any) -> builtins.bool:
    """Whether ``dtype`` is of a kind that the standard names, such as ``"real floating"``."""
    return np.isdtype(dtype, kind)


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


def zeros(shape: Any, dtype: Any = None) -> Tensor:
    """Zeros of a shape; a constant."""
    return as_tensor(np.zeros(shape, dtype or get_default_dtype()))


def eye(n_rows: int, n_cols: Any = None, k: int = 0, dtype: Any = None) -> Tensor:
    """1 on the k-th diagonal and 0 elsewhere; a constant."""
    return as_tensor(np.eye(n_rows, n_cols, k, dtype or get_default_dtype()))


def concat(arrays: Any, axis: int = 0) -> Tensor:
    """The arrays joined along an axis."""
    arrays = tuple(map(as_tensor, arrays))
    return apply(TABLE["concat"], *arrays, axis=axis, sizes=tuple(x.shape[axis] for x in arrays))


def flip(x: Any, axis: Any = None) -> Tensor:
    """The entries in reverse order along the axes."""
    axes = tuple(range(as_tensor(x).ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    return apply(TABLE["flip"], x, axes=axes)


def roll(x: Any, shift: Any, axis: Any) -> Tensor:
    """The entries moved along the axes; what leaves at one end enters at the other."""
    pairs = (shift, axis) if isinstance(shift, tuple) else ((shift,), (axis,))
    return apply(TABLE["roll"], x, shifts=pairs[0], axes=pairs[1])


def take(x: Any, indices: Any, axis: int) -> Tensor:
    """The slices of ``x`` along ``axis`` that a vector of integers names."""
    x = as_tensor(x)
    return apply(TABLE["take"], x, as_tensor(indices), axis=axis, length=x.shape[axis])


def tril(x: Any, k: int = 0) -> Tensor:
    """The entries on and below the k-th diagonal, and 0 above."""
    return apply(TABLE["tril"], x, k=k)


def triu(x: Any, k: int = 0) -> Tensor:
    """The entries on and above the k-th diagonal, and 0 below."""
    return apply(TABLE["triu"], x, k=k)


def argsort(x: Any, axis: int = -1, descending: Any = False, stable: Any = True) -> Tensor:
    """The order that sorts ``x``, equals as they stood."""
    return apply(TABLE["argsort"], x, axis=axis, descending=descending)


linalg = SimpleNamespace(
    diagonal=lambda x, offset=0: apply(TABLE["diagonal"], x, offset=offset),
    inv=lambda x: apply(TABLE["inv"], x),
    solve=lambda a, b: apply(TABLE["solve"], a, b),
)


def _scatter(values: Any, index: Any, shape: tuple[int, ...]) -> Tensor:
    return apply(TABLE["put"], as_tensor(values), index=index, shape=shape)


def _add_slices(values: Any, index: Any, length: int, axis: int) -> Tensor:
    return apply(TABLE["index_add"], as_tensor(values), as_tensor(index), axis=axis, length=length)


def _unfold(x: Any, windows: Any) -> Tensor:
    return apply(TABLE["unfold"], x, windows=windows, size=tuple(x.shape[2:]))


def _fold(x: Any, size: Any, windows: Any) -> Tensor:
    return apply(TABLE["fold"], x, windows=windows, size=size)


backstory_extras = SimpleNamespace(
    unfold=_unfold,
    fold=_fold,
    scatter=_scatter,
    add_slices=_add_slices,
    erf=_elementwise("erf"),
    erfc=_elementwise("erfc"),
    fmod=_elementwise("fmod"),
)
