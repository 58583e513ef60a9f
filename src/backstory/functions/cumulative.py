"""Running sums and products along one axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backstory.core import apply, as_tensor
from backstory.ops import TABLE

if TYPE_CHECKING:
    from backstory.tensor import Tensor

__all__ = ["cumprod", "cumsum"]


def cumsum(x: Any, dim: int, *, dtype: Any = None) -> Tensor:
    """The sums up to each entry along ``dim``; an entry receives the gradients of all from it on.

    Integers and bools sum as int64.

    >>> cumsum([1.0, 2.0, 3.0], 0)
    tensor([1., 3., 6.])
    """
    if dtype is not None:
        return cumsum(as_tensor(x).to(dtype), dim).to(dtype)
    return apply(TABLE["cumsum"], x, axis=dim)


def cumprod(x: Any, dim: int, *, dtype: Any = None) -> Tensor:
    """The products up to each entry along ``dim``, with exact gradients also where factors are zero.

    Integers and bools multiply as int64.

    >>> cumprod([1.0, 2.0, 3.0], 0)
    tensor([1., 2., 6.])
    """
    if dtype is not None:
        return cumprod(as_tensor(x).to(dtype), dim).to(dtype)
    return apply(TABLE["cumprod"], x, axis=dim)
