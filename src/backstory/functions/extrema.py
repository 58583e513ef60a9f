"""The largest, the smallest, and where they stand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from backstory.core import apply, as_tensor
from backstory.functions.comparison import maximum, minimum
from backstory.indexing import axes
from backstory.ops import TABLE

if TYPE_CHECKING:
    from backstory.tensor import Tensor

__all__ = ["amax", "amin", "aminmax", "argmax", "argmin", "max", "min"]


class Placed(NamedTuple):
    """Values, and where they stood along the axis."""

    values: Tensor
    indices: Tensor


class MinMax(NamedTuple):
    """The smallest and the largest."""

    min: Tensor
    max: Tensor


def max(x: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """The largest entry; with ``dim`` a pair (values, indices), the first of equals; of two tensors maximum.

    The gradient of ``max()`` is shared evenly between equal maxima; with ``dim`` the first has it.

    >>> max([1.0, 3.0, 3.0], dim=0).indices
    tensor(1)
    """
    return _extreme("max", x, dim, keepdim, maximum, argmax)


def min(x: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """The smallest entry; with ``dim`` a pair (values, indices), the first of equals; of two tensors minimum.

    The gradient of ``min()`` is shared evenly between equal minima; with ``dim`` the first has it.
    """
    return _extreme("min", x, dim, keepdim, minimum, argmin)


def _extreme(name: str, x: Any, dim: Any, keepdim: bool, of_two: Any, place: Any) -> Any:
    if dim is None:
        return apply(TABLE[name], x)
    if not isinstance(dim, int):
        return of_two(x, dim)
    values = apply(TABLE[name], x, axis=dim, keepdims=keepdim, first=True)
    return Placed(values, place(x, dim, keepdim))


def amax(x: Any, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The largest entry over ``dim``; equal maxima share its gradient evenly."""
    return _over("max", x, dim, keepdim)


def amin(x: Any, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The smallest entry over ``dim``; equal minima share its gradient evenly."""
    return _over("min", x, dim, keepdim)


def _over(name: str, x: Any, dim: Any, keepdim: bool) -> Tensor:
    x = as_tensor(x)
    every = tuple(range(x.ndim))  # said in full: a NaN of all entries is another matter than one of axes
    return apply(TABLE[name], x, axis=every if axes(dim) is None else axes(dim), keepdims=keepdim)


def aminmax(x: Any, *, dim: int | None = None, keepdim: bool = False) -> MinMax:
    """The smallest and the largest entry, of all or over one axis."""
    return MinMax(amin(x, dim, keepdim), amax(x, dim, keepdim))


def argmax(x: Any, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Where the largest entry stands, the first of equals; of the flattened tensor by default."""
    return apply(TABLE["argmax"], x, axis=dim, keepdims=keepdim)


def argmin(x: Any, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Where the smallest entry stands, the first of equals; of the flattened tensor by default."""
    return apply(TABLE["argmin"], x, axis=dim, keepdims=keepdim)
