"""Functions that move entries and change none."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from backstory.core import apply, as_tensor
from backstory.errors import ShapeError
from backstory.indexing import ints
from backstory.ops import TABLE

if TYPE_CHECKING:
    from backstory.tensor import Tensor

__all__ = ["broadcast_to", "flatten", "permute", "reshape", "transpose"]


def reshape(x: Any, *shape: Any) -> Tensor:
    """The same entries in another shape; one axis may be -1."""
    return apply(TABLE["reshape"], x, shape=ints(shape))


def flatten(x: Any, start_dim: int = 0) -> Tensor:
    """All axes from ``start_dim`` on folded into one."""
    x = as_tensor(x)
    return reshape(x, (*x.shape[:start_dim], math.prod(x.shape[start_dim:])))


def permute(x: Any, *dims: Any) -> Tensor:
    """The axes in another order."""
    return apply(TABLE["permute"], x, axes=ints(dims))


def transpose(x: Any, dim0: int, dim1: int) -> Tensor:
    """Two axes swapped."""
    x = as_tensor(x)
    axes = list(range(x.ndim))
    try:
        axes[dim0], axes[dim1] = axes[dim1], axes[dim0]
    except IndexError as error:
        raise ShapeError(
            f"transpose({dim0}, {dim1}) on a tensor of shape {x.shape}",
            why=f"it has {x.ndim} axes",
            instead=f"axes from {-x.ndim} to {x.ndim - 1}",
        ) from error
    return permute(x, axes)


def expand(x: Any, *shape: Any) -> Tensor:
    """Axes of length 1 repeated without copying; -1 keeps an axis."""
    x = as_tensor(x)
    wanted = ints(shape)
    own = (1,) * (len(wanted) - x.ndim) + x.shape
    # What does not fit is left for the operation to refuse.
    full = tuple(own[i] if n == -1 and i < len(own) else n for i, n in enumerate(wanted))
    return apply(TABLE["broadcast_to"], x, shape=full)


def broadcast_to(x: Any, shape: Any) -> Tensor:
    """``x`` with its axes of length 1 repeated to ``shape``, without copying."""
    return expand(x, shape)
