"""Optimizers, in PyTorch's names and defaults."""

from __future__ import annotations

from backstory.optim.adam import Adam
from backstory.optim.optimizer import Optimizer
from backstory.optim.sgd import SGD

__all__ = ["SGD", "Adam", "Optimizer"]
