"""Functions of each entry alone: arithmetic, exponentials, the smaller and the larger of two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backstory.core import apply
from backstory.ops import TABLE

if TYPE_CHECKING:
    from backstory.tensor import Tensor

__all__ = ["exp", "log", "maximum", "sqrt"]


def exp(x: Any) -> Tensor:
    """eˣ, entry by entry; its local derivative is eˣ.

    >>> exp(0.0)
    tensor(1.)
    """
    return apply(TABLE["exp"], x)


def log(x: Any) -> Tensor:
    """ln x, entry by entry; its local derivative is 1/x. ln 0 is −inf, of a negative number NaN."""
    return apply(TABLE["log"], x)


def sqrt(x: Any) -> Tensor:
    """√x, entry by entry; its local derivative is 1/(2√x)."""
    return apply(TABLE["sqrt"], x)


def maximum(x: Any, y: Any) -> Tensor:
    """The larger of two, entry by entry. Where they are equal each takes half of the gradient."""
    return apply(TABLE["maximum"], x, y)
