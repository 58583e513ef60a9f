"""Arithmetic of each entry alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backstory.core import apply, as_tensor
from backstory.errors import ArgumentError, DtypeError
from backstory.ops import TABLE

if TYPE_CHECKING:
    from backstory.tensor import Tensor

__all__ = [
    "abs",
    "absolute",
    "add",
    "addcdiv",
    "addcmul",
    "ceil",
    "div",
    "divide",
    "floor",
    "floor_divide",
    "fmod",
    "frac",
    "hypot",
    "lerp",
    "mul",
    "multiply",
    "neg",
    "negative",
    "positive",
    "pow",
    "reciprocal",
    "remainder",
    "round",
    "rsqrt",
    "sgn",
    "sign",
    "square",
    "sub",
    "subtract",
    "true_divide",
    "trunc",
]


def add(x: Any, y: Any, *, alpha: float = 1) -> Tensor:
    """x + alpha · y; each receives the upstream gradient, ``y`` times alpha.

    >>> add([1.0, 2.0], 10.0)
    tensor([11., 12.])
    """
    return apply(TABLE["add"], x, y if alpha == 1 else mul(y, alpha))


def sub(x: Any, y: Any, *, alpha: float = 1) -> Tensor:
    """x − alpha · y; ``y`` receives the negative upstream gradient, times alpha."""
    return apply(TABLE["sub"], x, y if alpha == 1 else mul(y, alpha))


def mul(x: Any, y: Any) -> Tensor:
    """x · y; each receives the upstream gradient times the other."""
    return apply(TABLE["mul"], x, y)


def div(x: Any, y: Any, *, rounding_mode: str | None = None) -> Tensor:
    """x / y, a float also of integers; rounded towards zero (``"trunc"``) or down (``"floor"``) if asked.

    The local derivatives are 1/y and −x/y²; of a rounded quotient 0.

    >>> div([7, -7], 2), div([7, -7], 2, rounding_mode="trunc"), div([7, -7], 2, rounding_mode="floor")
    (tensor([ 3.5, -3.5]), tensor([ 3, -3]), tensor([ 3, -4]))
    """
    if rounding_mode is None:
        return apply(TABLE["div"], x, y)
    if rounding_mode == "floor":
        return floor_divide(x, y)
    if rounding_mode != "trunc":
        raise ArgumentError(
            f"div(rounding_mode={rounding_mode!r})",
            why="a quotient is kept, rounded towards zero or rounded down",
            instead="rounding_mode=None, 'trunc' or 'floor'",
        )
    x = as_tensor(x)
    floats = x.dtype.kind == "f" or isinstance(y, float) or as_tensor(y).dtype.kind == "f"
    return trunc(div(x, y)) if floats else floor_divide(x - fmod(x, y), y)


def floor_divide(x: Any, y: Any) -> Tensor:
    """⌊x / y⌋, rounded down; its derivative is 0."""
    return apply(TABLE["floor_divide"], x, y)


def neg(x: Any) -> Tensor:
    """−x; its local derivative is −1."""
    return apply(TABLE["neg"], x)


def positive(x: Any) -> Tensor:
    """``x`` itself, which must not be of bools."""
    x = as_tensor(x)
    if x.dtype.kind == "b":
        raise DtypeError("positive() on a tensor of bool", why="truth has no sign", instead="x.to(int)")
    return x


def pow(x: Any, exponent: Any) -> Tensor:
    """x to the power of ``exponent``; the local derivatives are e·x^(e−1) and x^e·ln x.

    The first is 0 where e is 0, the second where x is 0 and e ≥ 0.

    >>> pow([1.0, 2.0, 3.0], 2)
    tensor([1., 4., 9.])
    """
    return apply(TABLE["pow"], x, exponent)


def square(x: Any) -> Tensor:
    """x²; its local derivative is 2x."""
    return apply(TABLE["pow"], x, 2)


def abs(x: Any) -> Tensor:
    """|x|; its local derivative is the sign of x, 0 at 0.

    >>> abs([-2.0, 0.5])
    tensor([2. , 0.5])
    """
    return apply(TABLE["abs"], x)


def sign(x: Any) -> Tensor:
    """−1, 0 or 1; its derivative is 0."""
    return apply(TABLE["sign"], x)


def rsqrt(x: Any) -> Tensor:
    """1/√x; its local derivative is −1/(2x√x)."""
    return apply(TABLE["rsqrt"], x)


def reciprocal(x: Any) -> Tensor:
    """1/x; its local derivative is −1/x²."""
    return apply(TABLE["reciprocal"], x)


def floor(x: Any) -> Tensor:
    """The largest integer that is not larger; its derivative is 0."""
    return apply(TABLE["floor"], x)


def ceil(x: Any) -> Tensor:
    """The smallest integer that is not smaller; its derivative is 0."""
    return apply(TABLE["ceil"], x)


def round(x: Any, *, decimals: int = 0) -> Tensor:
    """To the nearest number of so many decimals, of two equally near to the even one; its derivative is 0.

    >>> round([0.5, 1.5, 2.345]), round([2.345], decimals=2)
    (tensor([0., 2., 2.]), tensor([2.34]))
    """
    return apply(TABLE["round"], x, decimals=decimals) if decimals else apply(TABLE["round"], x)


def trunc(x: Any) -> Tensor:
    """The integer part, towards zero; its derivative is 0."""
    return apply(TABLE["trunc"], x)


def frac(x: Any) -> Tensor:
    """x − trunc(x); its local derivative is 1."""
    x = as_tensor(x)
    return x - trunc(x)


def fmod(x: Any, y: Any) -> Tensor:
    """x − y·trunc(x/y): the remainder with the sign of ``x``. Its derivatives: 1 and −trunc(x/y).

    >>> fmod([-5.0, 5.0], 3.0)
    tensor([-2.,  2.])
    """
    return apply(TABLE["fmod"], x, y)


def remainder(x: Any, y: Any) -> Tensor:
    """x − y·⌊x/y⌋: the remainder with the sign of ``y``, as Python's ``%``. Its derivatives: 1 and −⌊x/y⌋.

    >>> remainder([-5.0, 5.0], 3.0)
    tensor([1., 2.])
    """
    return apply(TABLE["remainder"], x, y)


def hypot(x: Any, y: Any) -> Tensor:
    """√(x² + y²) without overflow; the local derivatives are x and y over it."""
    return apply(TABLE["hypot"], x, y)


def lerp(x: Any, end: Any, weight: Any) -> Tensor:
    """x + weight · (end − x), which meets both ends exactly.

    >>> lerp([0.0, 10.0], [1.0, 20.0], 0.25)
    tensor([ 0.25, 12.5 ])
    """
    return apply(TABLE["lerp"], x, end, weight)


def addcmul(x: Any, first: Any, second: Any, *, value: float = 1) -> Tensor:
    """x + value · first · second."""
    return add(x, mul(first, second), alpha=value)


def addcdiv(x: Any, first: Any, second: Any, *, value: float = 1) -> Tensor:
    """x + value · first / second, of floats."""
    if as_tensor(first).dtype.kind != "f" and as_tensor(second).dtype.kind != "f":
        raise DtypeError(
            "addcdiv received two tensors of integers",
            why="whether their quotient is rounded is not said",
            instead="x + value * (first / second), or first // second",
        )
    return add(x, div(first, second), alpha=value)


absolute, negative, subtract, multiply, divide, true_divide, sgn = abs, neg, sub, mul, div, div, sign
