"""Exponentials, logarithms, trigonometric and hyperbolic functions, and the error function.

Integers become floats of the default dtype; outside of a function's domain the value is NaN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backstory.core import apply
from backstory.ops import TABLE

if TYPE_CHECKING:
    from backstory.tensor import Tensor

__all__ = [
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "cos",
    "cosh",
    "erf",
    "erfc",
    "exp",
    "exp2",
    "expm1",
    "log",
    "log1p",
    "log2",
    "log10",
    "logaddexp",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
]


def exp(x: Any) -> Tensor:
    """eˣ, entry by entry; its local derivative is eˣ.

    >>> exp(0.0)
    tensor(1.)
    """
    return apply(TABLE["exp"], x)


def exp2(x: Any) -> Tensor:
    """2ˣ; its local derivative is 2ˣ ln 2."""
    return apply(TABLE["exp2"], x)


def expm1(x: Any) -> Tensor:
    """eˣ − 1, to the last digit also near 0; its local derivative is eˣ."""
    return apply(TABLE["expm1"], x)


def log(x: Any) -> Tensor:
    """ln x, entry by entry; its local derivative is 1/x. ln 0 is −inf, of a negative number NaN."""
    return apply(TABLE["log"], x)


def log1p(x: Any) -> Tensor:
    """ln(1 + x), to the last digit also near 0; its local derivative is 1/(1 + x)."""
    return apply(TABLE["log1p"], x)


def log2(x: Any) -> Tensor:
    """The logarithm to base 2; its local derivative is 1/(x ln 2)."""
    return apply(TABLE["log2"], x)


def log10(x: Any) -> Tensor:
    """The logarithm to base 10; its local derivative is 1/(x ln 10)."""
    return apply(TABLE["log10"], x)


def logaddexp(x: Any, y: Any) -> Tensor:
    """ln(eˣ + eʸ) without overflow; the local derivatives are the shares of eˣ and eʸ.

    >>> logaddexp(1000.0, 1000.0)
    tensor(1000.6932)
    """
    return apply(TABLE["logaddexp"], x, y)


def sqrt(x: Any) -> Tensor:
    """√x, entry by entry; its local derivative is 1/(2√x)."""
    return apply(TABLE["sqrt"], x)


def sin(x: Any) -> Tensor:
    """sin x; its local derivative is cos x."""
    return apply(TABLE["sin"], x)


def cos(x: Any) -> Tensor:
    """cos x; its local derivative is −sin x."""
    return apply(TABLE["cos"], x)


def tan(x: Any) -> Tensor:
    """tan x; its local derivative is 1 + tan² x."""
    return apply(TABLE["tan"], x)


def asin(x: Any) -> Tensor:
    """arcsin x; its local derivative is 1/√(1 − x²)."""
    return apply(TABLE["asin"], x)


def acos(x: Any) -> Tensor:
    """arccos x; its local derivative is −1/√(1 − x²)."""
    return apply(TABLE["acos"], x)


def atan(x: Any) -> Tensor:
    """arctan x; its local derivative is 1/(1 + x²)."""
    return apply(TABLE["atan"], x)


def atan2(y: Any, x: Any) -> Tensor:
    """The angle of the point (x, y), from −π to π; its derivatives are x and −y over x² + y², 0 at (0, 0).

    >>> atan2(1.0, -1.0)
    tensor(2.3562)
    """
    return apply(TABLE["atan2"], y, x)


def sinh(x: Any) -> Tensor:
    """sinh x; its local derivative is cosh x."""
    return apply(TABLE["sinh"], x)


def cosh(x: Any) -> Tensor:
    """cosh x; its local derivative is sinh x."""
    return apply(TABLE["cosh"], x)


def tanh(x: Any) -> Tensor:
    """tanh x, entry by entry; its local derivative is 1 − tanh² x."""
    return apply(TABLE["tanh"], x)


def asinh(x: Any) -> Tensor:
    """arsinh x; its local derivative is 1/√(x² + 1)."""
    return apply(TABLE["asinh"], x)


def acosh(x: Any) -> Tensor:
    """arcosh x; its local derivative is 1/√(x² − 1)."""
    return apply(TABLE["acosh"], x)


def atanh(x: Any) -> Tensor:
    """artanh x; its local derivative is 1/(1 − x²)."""
    return apply(TABLE["atanh"], x)


def erf(x: Any) -> Tensor:
    """2/√π ∫₀ˣ exp(−t²) dt; its local derivative is 2/√π · exp(−x²).

    >>> erf([0.0, 1.0])
    tensor([0.    , 0.8427])
    """
    return apply(TABLE["erf"], x)


def erfc(x: Any) -> Tensor:
    """1 − erf(x), without loss of digits for large x; its local derivative is −2/√π · exp(−x²)."""
    return apply(TABLE["erfc"], x)
