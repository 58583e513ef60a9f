"""The larger and the smaller of two, choosing by a condition, comparisons and truth."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from backstory.core import apply, as_tensor, tensor
from backstory.errors import ArgumentError, DtypeError, ShapeError
from backstory.functions.arithmetic import abs
from backstory.functions.reduction import all
from backstory.ops import TABLE

if TYPE_CHECKING:
    from backstory.tensor import Tensor

__all__ = [
    "allclose",
    "clamp",
    "clamp_max",
    "clamp_min",
    "clip",
    "eq",
    "equal",
    "fmax",
    "fmin",
    "ge",
    "greater",
    "greater_equal",
    "gt",
    "isclose",
    "isfinite",
    "isinf",
    "isnan",
    "isneginf",
    "isposinf",
    "le",
    "less",
    "less_equal",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "lt",
    "masked_fill",
    "maximum",
    "minimum",
    "nan_to_num",
    "ne",
    "not_equal",
    "where",
]


def maximum(x: Any, y: Any) -> Tensor:
    """The larger of two, entry by entry. Where they are equal each takes half of the gradient."""
    return apply(TABLE["maximum"], x, y)


def minimum(x: Any, y: Any) -> Tensor:
    """The smaller of two, entry by entry. Where they are equal each takes half of the gradient."""
    return apply(TABLE["minimum"], x, y)


def fmax(x: Any, y: Any) -> Tensor:
    """The larger of two, where a number counts more than NaN. Of equals the first takes the gradient."""
    x, y = as_tensor(x), as_tensor(y)
    return where((x >= y) | isnan(y), x, y)


def fmin(x: Any, y: Any) -> Tensor:
    """The smaller of two, where a number counts more than NaN. Of equals the first takes the gradient."""
    x, y = as_tensor(x), as_tensor(y)
    return where((x <= y) | isnan(y), x, y)


def clamp(x: Any, min: Any = None, max: Any = None) -> Tensor:
    """min(max(x, ``min``), ``max``), either a number, a tensor or ``None`` for no bound.

    The gradient goes to x between the bounds, both included, else to the bound.

    >>> clamp([-1.0, 0.5, 2.0], 0.0, 1.0)
    tensor([0. , 0.5, 1. ])
    """
    if min is None and max is None:
        raise ArgumentError("clamp() without bounds", why="one of them must be given", instead="min=0.0")
    return apply(TABLE["clamp"], x, min, max)


def clamp_min(x: Any, min: Any) -> Tensor:
    """max(x, ``min``)"""
    return clamp(x, min)


def clamp_max(x: Any, max: Any) -> Tensor:
    """min(x, ``max``)"""
    return clamp(x, None, max)


def _checked_condition(name: str, condition: Any) -> Tensor:
    condition = as_tensor(condition)
    if condition.dtype.kind != "b":
        raise DtypeError(
            f"{name} received a condition of {condition.dtype}",
            why="a condition is true or false",
            instead="condition != 0",
        )
    return condition


def where(condition: Any, x: Any, y: Any) -> Tensor:
    """``x`` where the condition holds, else ``y``; the gradient goes to the one chosen.

    >>> where([True, False], 1.0, 2.0)
    tensor([1., 2.])
    """
    condition = _checked_condition("where", condition)
    # Of two scalars one becomes a tensor, so that they meet as two values anywhere do.
    both = isinstance(x, (bool, int, float)) and isinstance(y, (bool, int, float))
    return apply(TABLE["where"], condition, x, as_tensor(y) if both else y)


def masked_fill(x: Any, mask: Any, value: Any) -> Tensor:
    """``x`` with ``value``, a number or a 0-d tensor, where the mask is true; no gradient there.

    >>> masked_fill([1.0, 2.0], [True, False], 0.0)
    tensor([0., 2.])
    """
    x, mask = as_tensor(x), _checked_condition("masked_fill", mask)
    value = value if isinstance(value, (bool, int, float)) else as_tensor(value)
    if not isinstance(value, (bool, int, float)) and value.ndim:
        raise ShapeError(
            f"masked_fill received a value of shape {value.shape}",
            why="one value fills every place",
            instead="backstory.where(mask, value, x)",
        )
    if isinstance(value, (bool, int, float)):
        value = _as_entry(value, x.dtype)
    return apply(TABLE["where"], mask, value.to(x.dtype), x)


def _as_entry(value: float, dtype: np.dtype) -> Tensor:
    """A number as a 0-d tensor of ``dtype``; a float loses its digits in a tensor of integers."""
    if dtype.kind in "iu" and not np.iinfo(dtype).min <= value <= np.iinfo(dtype).max:
        raise DtypeError(
            f"masked_fill of a tensor of {dtype} with {value!r}",
            why="the result has the dtype of the tensor, which does not reach that far",
            instead="x.to(dtype).masked_fill(mask, value)",
        )
    return tensor(value, dtype)


def nan_to_num(x: Any, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Tensor:
    """``x`` with numbers in place of NaN and infinities; the largest and smallest float unless named.

    >>> nan_to_num([float("nan"), float("inf"), 1.0], posinf=9.0)
    tensor([0., 9., 1.])
    """
    x = as_tensor(x)
    if x.dtype.kind != "f":
        return x.clone()
    limits = np.finfo(x.dtype)
    above, below = (limits.max if posinf is None else posinf), (limits.min if neginf is None else neginf)
    numbers = [as_tensor(np.asarray(value, x.dtype)) for value in (nan, above, below)]
    replaced = where(isnan(x), numbers[0], where(x > 0, *numbers[1:]))
    return where(isfinite(x), x, replaced)


def isnan(x: Any) -> Tensor:
    """True where NaN stands."""
    return apply(TABLE["isnan"], x)


def isinf(x: Any) -> Tensor:
    """True where inf or −inf stands."""
    return apply(TABLE["isinf"], x)


def isposinf(x: Any) -> Tensor:
    """True where inf stands."""
    return as_tensor(x) == math.inf


def isneginf(x: Any) -> Tensor:
    """True where −inf stands."""
    return as_tensor(x) == -math.inf


def isfinite(x: Any) -> Tensor:
    """True where neither NaN nor an infinity stands."""
    return apply(TABLE["isfinite"], x)


def eq(x: Any, y: Any) -> Tensor:
    """x = y, entry by entry; NaN equals nothing."""
    return apply(TABLE["eq"], x, y)


def ne(x: Any, y: Any) -> Tensor:
    """x ≠ y, entry by entry."""
    return apply(TABLE["ne"], x, y)


def lt(x: Any, y: Any) -> Tensor:
    """x < y, entry by entry."""
    return apply(TABLE["lt"], x, y)


def le(x: Any, y: Any) -> Tensor:
    """x ≤ y, entry by entry."""
    return apply(TABLE["le"], x, y)


def gt(x: Any, y: Any) -> Tensor:
    """x > y, entry by entry."""
    return apply(TABLE["gt"], x, y)


def ge(x: Any, y: Any) -> Tensor:
    """x ≥ y, entry by entry."""
    return apply(TABLE["ge"], x, y)


def logical_not(x: Any) -> Tensor:
    """True where ``x`` is 0 or false."""
    return apply(TABLE["logical_not"], x)


def logical_and(x: Any, y: Any) -> Tensor:
    """True where neither is 0 or false."""
    return apply(TABLE["logical_and"], x, y)


def logical_or(x: Any, y: Any) -> Tensor:
    """True where one is neither 0 nor false."""
    return apply(TABLE["logical_or"], x, y)


def logical_xor(x: Any, y: Any) -> Tensor:
    """True where exactly one is neither 0 nor false."""
    return apply(TABLE["logical_xor"], x, y)


def isclose(x: Any, y: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    """|x − y| ≤ atol + rtol · |y|, entry by entry, of two tensors of one dtype.

    >>> isclose([1.0, 2.0], [1.0 + 1e-7, 2.1])
    tensor([ True, False])
    """
    x, y = as_tensor(x).detach(), as_tensor(y).detach()
    if x.dtype != y.dtype:
        raise DtypeError(
            f"isclose received dtypes {x.dtype} and {y.dtype}",
            why="closeness is measured in one dtype",
            instead="y.to(x.dtype)",
        )
    if rtol < 0 or atol < 0:
        raise ArgumentError(
            f"isclose(rtol={rtol}, atol={atol})",
            why="a distance is never negative",
            instead="tolerances of 0 or more",
        )
    found = x == y
    if equal_nan:
        found = found | (isnan(x) & isnan(y))
    if x.dtype.kind == "b":
        return found
    return found | ((abs(x - y) <= atol + abs(rtol * y)) & isfinite(x) & isfinite(y))


def allclose(x: Any, y: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Whether :func:`isclose` holds for every entry."""
    return bool(all(isclose(x, y, rtol, atol, equal_nan)))


def equal(x: Any, y: Any) -> bool:
    """Whether two tensors have the same shape and the same entries.

    >>> equal([1, 2], [1, 2]), equal([1, 2], [[1, 2]])
    (True, False)
    """
    x, y = as_tensor(x), as_tensor(y)
    return x.shape == y.shape and bool(all(x == y))


clip = clamp
less, less_equal, greater, greater_equal, not_equal = lt, le, gt, ge, ne
