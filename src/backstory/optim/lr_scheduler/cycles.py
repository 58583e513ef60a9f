"""Schedules that raise and lower the rate, and the momentum against it: CyclicLR and OneCycleLR."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from backstory.errors import ArgumentError
from backstory.optim.lr_scheduler.schedule import Schedule, checked_optimizer, per_group
from backstory.optim.optimizer import Optimizer

__all__ = ["CyclicLR", "OneCycleLR"]


class Cycle(Schedule):
    """A schedule that may turn the momentum (``momentum``, or β₁ of ``betas``) as well."""

    cycle_momentum: bool
    base_momentums: list[float]
    max_momentums: list[float]

    @abstractmethod
    def momentum(self, number: int, epoch: int) -> float:
        """The momentum of group ``number`` at ``epoch``."""

    def _prepare_momentum(self, cycle: bool, base: Any, largest: Any) -> None:
        self.cycle_momentum = cycle
        if cycle and not {"momentum", "betas"} & self.optimizer.defaults.keys():
            name = type(self).__name__
            raise ArgumentError(
                f"{name} of {type(self.optimizer).__name__} with cycle_momentum=True",
                why="this optimizer has no momentum to turn",
                instead=f"{name}(…, cycle_momentum=False)",
            )
        self.base_momentums = per_group("base_momentum", self.optimizer, base)
        self.max_momentums = per_group("max_momentum", self.optimizer, largest)

    def _set(self, rates: list[float]) -> None:
        super()._set(rates)
        if not self.cycle_momentum:
            return
        for i, group in enumerate(self.optimizer.param_groups):
            momentum = self.momentum(i, self.last_epoch)
            if "betas" in group:
                group["betas"] = (momentum, *group["betas"][1:])
            else:
                group["momentum"] = momentum


class CyclicLR(Cycle):
    """lr(t) = base + (max − base)·h(t)·s: a triangle h up in ``step_size_up`` steps and down, scaled by s.

    s is 1 in ``mode="triangular"``, halved with every cycle in ``"triangular2"``, γᵗ in ``"exp_range"``, or
    ``scale_fn`` of the cycle's number (from 1) or of t, as ``scale_mode`` says: ``"cycle"`` or
    ``"iterations"``. The momentum goes from ``max_momentum`` to ``base_momentum`` as the rate goes up. Smith
    2017 (arXiv:1506.01186).

    >>> import backstory
    >>> optimizer = backstory.optim.SGD([backstory.ones(1)], lr=1.0, momentum=0.9)
    >>> schedule = CyclicLR(optimizer, base_lr=1.0, max_lr=3.0, step_size_up=2)
    >>> schedule.step()
    >>> schedule.get_last_lr(), round(optimizer.param_groups[0]["momentum"], 9)
    ([2.0], 0.85)
    """

    not_saved = ("optimizer", "scale_fn")

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | Sequence[float],
        max_lr: float | Sequence[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[int], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.8,
        max_momentum: float | Sequence[float] = 0.9,
        last_epoch: int = -1,
    ) -> None:
        self.optimizer = checked_optimizer("CyclicLR", optimizer)
        if scale_fn is None and mode not in ("triangular", "triangular2", "exp_range"):
            raise ArgumentError(
                f"CyclicLR(mode={mode!r})",
                why="there is no such mode",
                instead='mode="triangular", "triangular2" or "exp_range", or a scale_fn',
            )
        self._lowest = per_group("base_lr", optimizer, base_lr)
        self._highest = per_group("max_lr", optimizer, max_lr)
        self._prepare_momentum(cycle_momentum, base_momentum, max_momentum)
        down = step_size_up if step_size_down is None else step_size_down
        self.total_size, self.up_share = step_size_up + down, step_size_up / (step_size_up + down)
        self.mode, self.gamma, self.scale_fn, self.scale_mode = mode, gamma, scale_fn, scale_mode
        if last_epoch == -1:
            for group, lr in zip(optimizer.param_groups, self._lowest, strict=True):
                group["lr"] = lr
        super().__init__(optimizer, last_epoch)

    def height(self, epoch: int) -> float:
        """Where t stands on its way up and down, from 0 to 1, scaled."""
        cycle = epoch // self.total_size + 1
        x = epoch / self.total_size - (cycle - 1)
        height = x / self.up_share if x <= self.up_share else (1 - x) / (1 - self.up_share)
        if self.scale_fn is not None:
            return height * self.scale_fn(cycle if self.scale_mode == "cycle" else epoch)
        scales = {"triangular": 1.0, "triangular2": 0.5 ** (cycle - 1), "exp_range": self.gamma**epoch}
        return height * scales[self.mode]

    def rate(self, number: int, epoch: int) -> float:
        """From the lowest to the highest rate."""
        return self._lowest[number] + (self._highest[number] - self._lowest[number]) * self.height(epoch)

    def momentum(self, number: int, epoch: int) -> float:
        """From the largest momentum to the smallest."""
        span = self.max_momentums[number] - self.base_momentums[number]
        return self.max_momentums[number] - span * self.height(epoch)


class OneCycleLR(Cycle):
    """One cycle over all steps: from max/``div_factor`` up to ``max_lr``, and down to a small fraction of it.

    The way up takes the share ``pct_start``; the end is the start divided by ``final_div_factor``. With
    ``three_phase`` the way down leads to the start first. ``anneal_strategy`` is ``"cos"`` or ``"linear"``.
    The momentum goes against the rate, between ``max_momentum`` and ``base_momentum``. It is stepped after
    every batch, ``total_steps`` = ``epochs`` × ``steps_per_epoch`` times. Smith & Topin 2018
    (arXiv:1708.07120).

    >>> import backstory
    >>> optimizer = backstory.optim.SGD([backstory.ones(1)], lr=1.0, momentum=0.9)
    >>> schedule = OneCycleLR(optimizer, max_lr=5.0, total_steps=10)
    >>> first = schedule.get_last_lr()
    >>> for _ in range(2):
    ...     schedule.step()
    >>> first, schedule.get_last_lr(), optimizer.param_groups[0]["momentum"]
    ([0.2], [5.0], 0.85)
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.85,
        max_momentum: float | Sequence[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        self.optimizer = checked_optimizer("OneCycleLR", optimizer)
        self.total_steps = _total(total_steps, epochs, steps_per_epoch)
        if anneal_strategy not in ("cos", "linear") or not 0 <= pct_start <= 1:
            raise ArgumentError(
                f"OneCycleLR(anneal_strategy={anneal_strategy!r}, pct_start={pct_start})",
                why='the way is "cos" or "linear", and the share of the way up lies between 0 and 1',
                instead='anneal_strategy="cos", pct_start=0.3',
            )
        self.anneal_strategy = anneal_strategy
        top = per_group("max_lr", optimizer, max_lr)
        start = [lr / div_factor for lr in top]
        end = [lr / final_div_factor for lr in start]
        self._prepare_momentum(cycle_momentum, base_momentum, max_momentum)
        # The corners of the way: at which step, with which rates, and whether the momentum is low.
        up, last = pct_start * self.total_steps - 1, self.total_steps - 1
        self._corners: list[tuple[float, list[float], bool]] = [(0.0, start, False), (up, top, True)]
        if three_phase:
            self._corners.append((2 * pct_start * self.total_steps - 2, start, False))
        self._corners.append((last, end, False))
        if last_epoch == -1:
            for group, lr in zip(optimizer.param_groups, start, strict=True):
                group["initial_lr"] = lr
        super().__init__(optimizer, last_epoch)

    def check_epoch(self, epoch: int) -> None:
        """Refuse a step behind the end."""
        if epoch > self.total_steps:
            raise ArgumentError(
                f"OneCycleLR of {self.total_steps} steps was stepped {epoch} times",
                why="the cycle is over, and the rate would rise again",
                instead="total_steps=epochs * batches per epoch, with step() after every batch",
            )

    def _between(self, epoch: int) -> tuple[int, float]:
        """The number of the corner ahead, and the share of the way to it, after its form."""
        last = len(self._corners) - 1
        ahead = next((i for i in range(1, last) if epoch <= self._corners[i][0]), last)
        start, end = self._corners[ahead - 1][0], self._corners[ahead][0]
        share = (epoch - start) / (end - start) if end != start else 1.0
        return ahead, share if self.anneal_strategy == "linear" else (1 - math.cos(math.pi * share)) / 2

    def rate(self, number: int, epoch: int) -> float:
        """On the way from corner to corner."""
        ahead, share = self._between(epoch)
        start, end = self._corners[ahead - 1][1][number], self._corners[ahead][1][number]
        return start + (end - start) * share

    def momentum(self, number: int, epoch: int) -> float:
        """On the way from corner to corner."""
        ahead, share = self._between(epoch)
        low, high = self.base_momentums[number], self.max_momentums[number]
        start, end = (low if self._corners[i][2] else high for i in (ahead - 1, ahead))
        return start + (end - start) * share


def _total(total_steps: int | None, epochs: int | None, steps_per_epoch: int | None) -> int:
    if total_steps is None and epochs is not None and steps_per_epoch is not None:
        total_steps = epochs * steps_per_epoch
    if not isinstance(total_steps, int) or total_steps < 1:
        raise ArgumentError(
            f"OneCycleLR(total_steps={total_steps}, epochs={epochs}, steps_per_epoch={steps_per_epoch})",
            why="the cycle must know how many steps it has",
            instead="total_steps=1000, or epochs=10 and steps_per_epoch=100",
        )
    return total_steps
