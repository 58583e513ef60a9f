"""The losses as modules."""

from __future__ import annotations

from typing import Any

from backstory.nn import functional
from backstory.nn.module import Module
from backstory.tensor import Tensor

__all__ = ["CrossEntropyLoss", "MSELoss"]


class CrossEntropyLoss(Module):
    """:func:`backstory.nn.functional.cross_entropy` as a module."""

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def forward(self, logits: Tensor, target: Any) -> Tensor:
        """The loss of logits (N, C) and labels (N,)."""
        return functional.cross_entropy(logits, target, self.reduction)


class MSELoss(Module):
    """:func:`backstory.nn.functional.mse_loss` as a module."""

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def forward(self, x: Tensor, target: Any) -> Tensor:
        """The loss of predictions and targets of one shape."""
        return functional.mse_loss(x, target, self.reduction)
