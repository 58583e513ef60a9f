"""Optimizers and learning-rate schedules, in PyTorch's names and defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backstory.lazy import named
from backstory.optim.adam import Adam, AdamW, NAdam
from backstory.optim.optimizer import Optimizer
from backstory.optim.rmsprop import Adagrad, RMSprop
from backstory.optim.sgd import SGD

if TYPE_CHECKING:
    from backstory.optim import lr_scheduler

_LAZY = {"lr_scheduler": ""}


def __getattr__(name: str) -> Any:
    return named(__name__, _LAZY, name)


__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "NAdam", "Optimizer", "RMSprop", "lr_scheduler"]
