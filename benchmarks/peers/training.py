"""What a peer gives: one training step to call, and what is needed to check it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from workloads import Workload

__all__ = [
    "BETA1",
    "BETA2",
    "EPSILON",
    "MOMENTUM",
    "NORM_EPSILON",
    "NORM_MOMENTUM",
    "Training",
    "from_moments",
]

MOMENTUM = 0.9
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
NORM_MOMENTUM, NORM_EPSILON = 0.1, 1e-5


@dataclass(frozen=True)
class Training:
    """A training that can be continued step by step.

    ``step`` runs forward, backward and optimizer, and returns the loss as the library gives it. ``number``
    reads a loss, and so waits for the step that made it. ``gradients`` are those of the first step, read
    right after it, in the order of ``Workload.weights()``. ``settle`` waits for what still goes on behind the
    steps, and ``close`` ends what the training has opened.
    """

    step: Callable[[], Any]
    gradients: Callable[[], list[np.ndarray]]
    number: Callable[[Any], float] = float
    settle: Callable[[], None] = lambda: None
    close: Callable[[], None] = lambda: None


def from_moments(workload: Workload, moments: Iterable[Any]) -> list[np.ndarray]:
    """The first gradients, from the optimizer's (first) moments after the first step.

    SGD's velocity is the gradient itself then, Adam's first moment ``1 − β₁`` of it.
    """
    share = 1 - BETA1 if workload.optimizer == "adam" else 1.0
    return [np.asarray(moment, np.float64) / share for moment in moments]
