"""Optimizers and learning-rate schedules, in PyTorch's names and defaults."""

from __future__ import annotations

from backstory.optim import lr_scheduler
from backstory.optim.adam import Adam, AdamW, NAdam
from backstory.optim.optimizer import Optimizer
from backstory.optim.rmsprop import Adagrad, RMSprop
from backstory.optim.sgd import SGD

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "NAdam", "Optimizer", "RMSprop", "lr_scheduler"]
