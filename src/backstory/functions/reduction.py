"""Functions that reduce axes: sums, means, products, variances, norms, truth.

``dim`` is an axis, a tuple of axes, or ``None`` for all; ``keepdim`` leaves each of them as 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from backstory.core import apply, as_tensor
from backstory.errors import ArgumentError
from backstory.indexing import axes
from backstory.ops import TABLE

if TYPE_CHECKING:
    from backstory.tensor import Tensor

__all__ = [
    "all",
    "any",
    "count_nonzero",
    "dist",
    "logsumexp",
    "mean",
    "nanmean",
    "nansum",
    "norm",
    "prod",
    "std",
    "std_mean",
    "sum",
    "var",
    "var_mean",
    "vector_norm",
]


def sum(x: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """Σ x over ``dim`` (all axes by default); each term receives the whole upstream gradient.

    Integers and bools sum as int64.
    """
    if dtype is not None:
        return sum(as_tensor(x).to(dtype), dim, keepdim).to(dtype)
    return apply(TABLE["sum"], x, axis=axes(dim), keepdims=keepdim)


def mean(x: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """Σ x / n over ``dim`` (all axes by default); each term receives 1/n of the upstream gradient.

    Only floats have means: of integers it raises a :class:`~backstory.errors.DtypeError`.
    """
    x = x if dtype is None else as_tensor(x).to(dtype)
    return apply(TABLE["mean"], x, axis=axes(dim), keepdims=keepdim)


def nansum(x: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """Σ x over ``dim`` where NaN counts as 0."""
    x = as_tensor(x)
    nan = apply(TABLE["isnan"], x)
    return sum(apply(TABLE["where"], nan, 0, x), dim, keepdim, dtype=dtype)


def nanmean(x: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The mean over ``dim`` of what is not NaN."""
    x = as_tensor(x)
    count = sum(~apply(TABLE["isnan"], x.detach()), dim, keepdim)
    return nansum(x, dim, keepdim, dtype=dtype) / count


def prod(x: Any, dim: int | None = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """Π x over one axis or all; the local derivative of a factor is the product of the others.

    That is exact also where factors are zero. Integers and bools multiply as int64.

    >>> import backstory
    >>> x = backstory.tensor([0.0, 2.0, 3.0], requires_grad=True)
    >>> prod(x).backward()
    >>> x.grad
    tensor([6., 0., 0.])
    """
    if dtype is not None:
        return prod(as_tensor(x).to(dtype), dim, keepdim).to(dtype)
    return apply(TABLE["prod"], x, axis=dim, keepdims=keepdim)


def _spread(name: str, x: Any, dim: Any, unbiased: Any, keepdim: bool, correction: Any) -> Tensor:
    if isinstance(dim, bool):  # var(x, unbiased)
        dim, unbiased = None, dim
    if correction is None:
        correction = 1 if unbiased is None else int(unbiased)
    elif unbiased is not None:
        raise ArgumentError(
            f"{name}(unbiased={unbiased}, correction={correction})",
            why="both say what is taken from the number of entries",
            instead=f"correction={correction} alone",
        )
    return apply(TABLE[name], x, axis=axes(dim), correction=correction, keepdims=keepdim)


def var(
    x: Any, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: Any = None
) -> Tensor:
    """Σ (x − mean)² / (n − correction) over ``dim``; the local derivative is 2 (x − mean) / (n − correction).

    ``correction`` is 1 unless given; ``unbiased=False`` means 0.

    >>> var([1.0, 2.0, 3.0, 4.0]), var([1.0, 2.0, 3.0, 4.0], correction=0)
    (tensor(1.6667), tensor(1.25))
    """
    return _spread("var", x, dim, unbiased, keepdim, correction)


def std(
    x: Any, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: Any = None
) -> Tensor:
    """The root of :func:`var`; its derivative is 0 where nothing deviates."""
    return _spread("std", x, dim, unbiased, keepdim, correction)


def var_mean(
    x: Any, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: Any = None
) -> tuple[Tensor, Tensor]:
    """:func:`var` and :func:`mean`."""
    found = var(x, dim, unbiased, keepdim, correction=correction)
    return found, mean(x, None if isinstance(dim, bool) else dim, keepdim)


def std_mean(
    x: Any, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: Any = None
) -> tuple[Tensor, Tensor]:
    """:func:`std` and :func:`mean`."""
    found = std(x, dim, unbiased, keepdim, correction=correction)
    return found, mean(x, None if isinstance(dim, bool) else dim, keepdim)


def logsumexp(x: Any, dim: Any, keepdim: bool = False) -> Tensor:
    """ln Σ eˣ over ``dim``, computed without overflow; its local derivative is softmax(x).

    >>> logsumexp([1000.0, 1000.0], 0)
    tensor(1000.6932)
    """
    return apply(TABLE["logsumexp"], x, axis=axes(dim), keepdims=keepdim)


def vector_norm(
    x: Any, ord: float = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """(Σ |x|^p)^(1/p) over ``dim``, of the flattened tensor by default; its derivative at 0 is 0.

    ``ord`` is p: any number, ``inf`` for max |x|, ``-inf`` for min |x|, 0 for the count of what is not 0.

    >>> vector_norm([3.0, 4.0]), vector_norm([3.0, -4.0], float("inf"))
    (tensor(5.), tensor(4.))
    """
    x = as_tensor(x) if dtype is None else as_tensor(x).to(dtype)
    return apply(TABLE["vector_norm"], x, order=float(ord), axis=axes(dim), keepdims=keepdim)


def norm(x: Any, p: Any = "fro", dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """:func:`vector_norm` in PyTorch's older words; ``"fro"`` is p = 2 over all axes that are named."""
    if p == "nuc" or not (p is None or p == "fro" or isinstance(p, (int, float))):
        raise ArgumentError(
            f"norm(p={p!r})", why="there is no such norm of vectors", instead="'fro', a number, inf or -inf"
        )
    order = 2.0 if p is None or p == "fro" else float(p)
    return vector_norm(x, order, dim, keepdim, dtype=dtype)


def dist(x: Any, y: Any, p: float = 2) -> Tensor:
    """The p-norm of x − y; its derivative where they are equal is 0."""
    return vector_norm(as_tensor(x) - y, p)


def any(x: Any, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Whether an entry over ``dim`` is neither 0 nor false.

    >>> any([0.0, 2.0]), any([[True, False], [False, False]], dim=1)
    (tensor(True), tensor([ True, False]))
    """
    return _truth("any", x, dim, keepdim)


def all(x: Any, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Whether every entry over ``dim`` is neither 0 nor false."""
    return _truth("all", x, dim, keepdim)


def _truth(name: str, x: Any, dim: Any, keepdim: bool) -> Tensor:
    x = as_tensor(x)
    found = apply(TABLE[name], x, axis=axes(dim), keepdims=keepdim)
    return found.to(x.dtype) if x.dtype == np.uint8 else found  # as PyTorch, of whose bools uint8 was one


def count_nonzero(x: Any, dim: Any = None) -> Tensor:
    """How many entries over ``dim`` are not 0."""
    return sum(as_tensor(x).detach() != 0, dim)
