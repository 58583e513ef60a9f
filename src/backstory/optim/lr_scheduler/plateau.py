"""ReduceLROnPlateau: lowers the rate when a number gets no better."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from backstory.errors import ArgumentError
from backstory.optim.lr_scheduler.schedule import LRScheduler, checked_optimizer, per_group
from backstory.optim.optimizer import Optimizer

__all__ = ["ReduceLROnPlateau"]


class ReduceLROnPlateau(LRScheduler):
    """Multiplies the rate by ``factor`` when a metric has not improved for more than ``patience`` epochs.

    ``step(metric)`` tells it. Better is smaller (``mode="min"``) or larger (``"max"``) than the best by more
    than ``threshold``, a share of it (``threshold_mode="rel"``) or a difference (``"abs"``). After a change
    the next ``cooldown`` epochs do not count. The rate falls to ``min_lr`` at most, and not at all by less
    than ``eps``.

    >>> import backstory
    >>> optimizer = backstory.optim.SGD([backstory.ones(1)], lr=8.0)
    >>> schedule = ReduceLROnPlateau(optimizer, factor=0.5, patience=1)
    >>> for loss in (3.0, 3.0, 3.0):
    ...     schedule.step(loss)
    >>> schedule.get_last_lr()
    [4.0]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0.0,
        eps: float = 1e-8,
    ) -> None:
        self.optimizer = checked_optimizer("ReduceLROnPlateau", optimizer)
        if mode not in ("min", "max") or threshold_mode not in ("rel", "abs") or not 0 <= factor < 1:
            raise ArgumentError(
                f"ReduceLROnPlateau(mode={mode!r}, threshold_mode={threshold_mode!r}, factor={factor})",
                why='modes are "min" or "max", and "rel" or "abs"; a factor of 1 or more would not lower',
                instead='mode="min", threshold_mode="rel", factor=0.1',
            )
        self.mode, self.factor, self.patience = mode, factor, patience
        self.threshold, self.threshold_mode = threshold, threshold_mode
        self.cooldown, self.eps = cooldown, eps
        self.min_lrs = per_group("min_lr", optimizer, min_lr)
        self.best = math.inf if mode == "min" else -math.inf
        self.cooldown_counter = self.num_bad_epochs = self.last_epoch = 0

    def step(self, metrics: Any) -> None:
        """Hear of one epoch's number (NaN is no improvement), and lower the rates if it is time."""
        value = float(metrics)
        self.last_epoch += 1
        if self._is_better(value):
            self.best, self.num_bad_epochs = value, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
            for group, least in zip(self.optimizer.param_groups, self.min_lrs, strict=True):
                lower = max(group["lr"] * self.factor, least)
                if group["lr"] - lower > self.eps:
                    group["lr"] = lower

    def _is_better(self, value: float) -> bool:
        sign = -1 if self.mode == "min" else 1
        if self.threshold_mode == "rel":
            return sign * value > sign * self.best * (1 + sign * self.threshold)
        return sign * value > sign * self.best + self.threshold
