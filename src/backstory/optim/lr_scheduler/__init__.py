"""Learning-rate schedules, in PyTorch's names and defaults: the same rates, step for step.

A schedule is stepped after the optimizer. Those that multiply (StepLR, MultiStepLR, ExponentialLR,
ConstantLR, LinearLR, CosineAnnealingLR) go on from the rate that they find, so several of them on one
optimizer act together; the others set the rate.
"""

from __future__ import annotations

from backstory.optim.lr_scheduler.cosine import CosineAnnealingLR, CosineAnnealingWarmRestarts
from backstory.optim.lr_scheduler.cycles import CyclicLR, OneCycleLR
from backstory.optim.lr_scheduler.factors import (
    ConstantLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiStepLR,
    StepLR,
)
from backstory.optim.lr_scheduler.plateau import ReduceLROnPlateau
from backstory.optim.lr_scheduler.schedule import LRScheduler
from backstory.optim.lr_scheduler.sequence import ChainedScheduler, SequentialLR

__all__ = [
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "OneCycleLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
]
