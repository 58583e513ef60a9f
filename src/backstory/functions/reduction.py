"""Functions that reduce axes: sums, means, extrema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from backstory.core import apply, as_tensor
from backstory.indexing import axes
from backstory.ops import TABLE

if TYPE_CHECKING:
    from backstory.tensor import Tensor

__all__ = ["argmax", "logsumexp", "max", "mean", "sum"]


class MaxResult(NamedTuple):
    """What ``max(dim)`` returns: the values and where they stood."""

    values: Tensor
    indices: Tensor


def sum(x: Any, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Σ x over ``dim`` (all axes by default); each term receives the whole upstream gradient.

    Integers and bools sum as int64.
    """
    return apply(TABLE["sum"], x, axis=axes(dim), keepdims=keepdim)


def mean(x: Any, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Σ x / n over ``dim`` (all axes by default); each term receives 1/n of the upstream gradient.

    Only floats have means: of integers it raises a :class:`~backstory.errors.DtypeError`.
    """
    return apply(TABLE["mean"], x, axis=axes(dim), keepdims=keepdim)


def max(x: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """The largest entry; with ``dim`` a pair (values, indices), the first of equals.

    The gradient of ``max()`` is shared evenly between equal maxima; with ``dim`` the first has it.
    """
    if dim is None:
        return apply(TABLE["max"], x)
    x = as_tensor(x)
    values = apply(TABLE["max"], x, axis=dim, keepdims=keepdim, first=True)
    return MaxResult(values, argmax(x, dim, keepdim))


def argmax(x: Any, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Where the largest entry stands, the first of equals; of the flattened tensor by default."""
    return apply(TABLE["argmax"], x, axis=dim, keepdims=keepdim)


def logsumexp(x: Any, dim: Any, keepdim: bool = False) -> Tensor:
    """ln Σ eˣ over ``dim``, computed without overflow; its local derivative is softmax(x).

    >>> logsumexp([1000.0, 1000.0], 0)
    tensor(1000.6932)
    """
    return apply(TABLE["logsumexp"], x, axis=axes(dim), keepdims=keepdim)
