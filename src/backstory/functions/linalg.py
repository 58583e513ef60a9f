"""Matrix products."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backstory.core import apply, as_tensor
from backstory.errors import ShapeError
from backstory.ops import TABLE

if TYPE_CHECKING:
    from backstory.tensor import Tensor

__all__ = ["matmul"]


def matmul(x: Any, y: Any) -> Tensor:
    """The matrix product X Y with PyTorch's rules: vectors are rows on the left, columns on the right.

    >>> matmul([[1.0, 2.0]], [3.0, 4.0])
    tensor([11.])
    """
    x, y = as_tensor(x), as_tensor(y)
    if x.ndim == 0 or y.ndim == 0:
        raise ShapeError(
            f"matmul received shapes {x.shape} and {y.shape}",
            why="a scalar has no axis to sum over",
            instead="x * y",
        )
    row, column = x.ndim == 1, y.ndim == 1
    if row or column:
        x = x.reshape(1, -1) if row else x
        y = y.reshape(-1, 1) if column else y
        product = apply(TABLE["matmul"], x, y)
        lead = product.shape[:-2]
        kept = () if row and column else (product.shape[-1:] if row else product.shape[-2:-1])
        return product.reshape(lead + kept)
    return apply(TABLE["matmul"], x, y)
