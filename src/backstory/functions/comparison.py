"""Comparisons, truth, and choosing between two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backstory.core import apply, as_tensor
from backstory.errors import DtypeError
from backstory.ops import TABLE

if TYPE_CHECKING:
    from backstory.tensor import Tensor

__all__ = ["where"]


def where(condition: Any, x: Any, y: Any) -> Tensor:
    """``x`` where the condition holds, else ``y``; the gradient goes to the one chosen.

    >>> where([True, False], 1.0, 2.0)
    tensor([1., 2.])
    """
    condition = as_tensor(condition)
    if condition.dtype.kind != "b":
        raise DtypeError(
            f"where received a condition of {condition.dtype}",
            why="a condition is true or false",
            instead="condition != 0",
        )
    # Of two scalars one becomes a tensor, so that they meet as two values anywhere do.
    both = isinstance(x, (bool, int, float)) and isinstance(y, (bool, int, float))
    return apply(TABLE["where"], condition, x, as_tensor(y) if both else y)
