"""What linear layers compute."""

from __future__ import annotations

from backstory.ops import TABLE
from backstory.tensor import Tensor, apply, as_tensor

__all__ = ["linear"]


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x Wᵀ + b for x (…, in), W (out, in), b (out,): PyTorch's layout.

    dX = G·W, dW = Gᵀ·x, db = Σ G over the samples, where G is the upstream gradient.
    """
    if bias is None:
        return apply(TABLE["linear"], as_tensor(x), weight)
    return apply(TABLE["linear"], as_tensor(x), weight, bias)
