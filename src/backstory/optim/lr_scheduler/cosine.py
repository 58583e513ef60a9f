"""Schedules that follow a cosine, once or with restarts."""

from __future__ import annotations

import math

from backstory.errors import ArgumentError
from backstory.optim.lr_scheduler.schedule import Schedule
from backstory.optim.optimizer import Optimizer

__all__ = ["CosineAnnealingLR", "CosineAnnealingWarmRestarts"]


class CosineAnnealingLR(Schedule):
    """lr(t) = η + (lr₀ − η)·(1 + cos(πt/T))/2, with η = ``eta_min`` and T = ``T_max``.

    It goes on from the rate that it finds, so others may act beside it; after T it rises again. Loshchilov &
    Hutter 2017 (arXiv:1608.03983), without the restarts.

    >>> import backstory
    >>> optimizer = backstory.optim.SGD([backstory.ones(1)], lr=8.0)
    >>> schedule = CosineAnnealingLR(optimizer, T_max=2)
    >>> schedule.step()
    >>> round(schedule.get_last_lr()[0], 9)
    4.0
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        _check_period("CosineAnnealingLR", "T_max", T_max)
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def _share(self, epoch: int) -> float:
        """(1 + cos(πt/T))/2."""
        return (1 + math.cos(math.pi * epoch / self.T_max)) / 2

    def rate(self, number: int, epoch: int) -> float:
        """η + (lr₀ − η)·(1 + cos(πt/T))/2."""
        return self.eta_min + (self.base_lrs[number] - self.eta_min) * self._share(epoch)

    def chained(self, number: int, epoch: int, lr: float) -> float:
        """η + (lr − η) times the ratio of the shares; where there is none, at the bottom, a step up."""
        if epoch == 0:
            return lr
        if (epoch - 1) % (2 * self.T_max) == self.T_max:
            return lr + (self.base_lrs[number] - self.eta_min) * (1 - self._share(1))
        return self.eta_min + (lr - self.eta_min) * (self._share(epoch) / self._share(epoch - 1))


class CosineAnnealingWarmRestarts(Schedule):
    """lr = η + (lr₀ − η)·(1 + cos(πt/Tᵢ))/2, t counted from the last restart; Tᵢ grows from T₀ by ``T_mult``.

    η is ``eta_min``. Loshchilov & Hutter 2017 (arXiv:1608.03983).

    >>> import backstory
    >>> optimizer = backstory.optim.SGD([backstory.ones(1)], lr=8.0)
    >>> schedule = CosineAnnealingWarmRestarts(optimizer, T_0=2)
    >>> schedule.step()
    >>> middle = round(schedule.get_last_lr()[0], 9)
    >>> schedule.step()
    >>> middle, schedule.get_last_lr()
    (4.0, [8.0])
    """

    def __init__(
        self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        _check_period("CosineAnnealingWarmRestarts", "T_0", T_0)
        _check_period("CosineAnnealingWarmRestarts", "T_mult", T_mult)
        self.T_0, self.T_mult, self.eta_min = T_0, T_mult, eta_min
        super().__init__(optimizer, last_epoch)

    def rate(self, number: int, epoch: int) -> float:
        """The cosine since the last restart."""
        since, period = epoch, self.T_0
        if self.T_mult == 1:
            since %= period
        while since >= period:
            since, period = since - period, period * self.T_mult
        share = (1 + math.cos(math.pi * since / period)) / 2
        return self.eta_min + (self.base_lrs[number] - self.eta_min) * share


def _check_period(owner: str, name: str, value: int) -> None:
    if not isinstance(value, int) or value < 1:
        raise ArgumentError(f"{owner}({name}={value})", why="it is a positive integer", instead=f"{name}=10")
