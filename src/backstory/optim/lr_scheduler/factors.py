"""Schedules that are a factor of the epoch: by steps, by a power, by a line, by any function."""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence

from backstory.errors import ArgumentError
from backstory.optim.lr_scheduler.schedule import Schedule, checked_optimizer
from backstory.optim.optimizer import Optimizer

__all__ = ["ConstantLR", "ExponentialLR", "LambdaLR", "LinearLR", "MultiStepLR", "StepLR"]


class LambdaLR(Schedule):
    """lr(t) = lr₀·λ(t), with one function λ for all groups or one for each.

    >>> import backstory
    >>> optimizer = backstory.optim.SGD([backstory.ones(1)], lr=8.0)
    >>> schedule = LambdaLR(optimizer, lambda epoch: 1 / (1 + epoch))
    >>> schedule.step()
    >>> schedule.get_last_lr()
    [4.0]
    """

    not_saved = ("optimizer", "lr_lambdas")

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        groups = len(checked_optimizer("LambdaLR", optimizer).param_groups)
        self.lr_lambdas = list(lr_lambda) if isinstance(lr_lambda, Sequence) else [lr_lambda] * groups
        if len(self.lr_lambdas) != groups or not all(map(callable, self.lr_lambdas)):
            raise ArgumentError(
                f"LambdaLR received {lr_lambda!r} for {groups} parameter groups",
                why="it calls a function of the epoch per group",
                instead="LambdaLR(optimizer, lambda epoch: 0.95**epoch)",
            )
        super().__init__(optimizer, last_epoch)

    def rate(self, number: int, epoch: int) -> float:
        """lr₀·λ(t)."""
        return self.base_lrs[number] * self.lr_lambdas[number](epoch)


class Factor(Schedule):
    """lr(t) = lr₀·f(t); it multiplies the rate that it finds by f(t)/f(t − 1), so others may act beside it.

    Where f is 0 it remembers what the rate would be without it, and goes on from that.
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        self._without: list[float | None] = [None] * len(
            checked_optimizer(type(self).__name__, optimizer).param_groups
        )
        super().__init__(optimizer, last_epoch)

    @abstractmethod
    def factor(self, epoch: int) -> float:
        """f(t)."""

    def ratio(self, epoch: int, was: float, now: float) -> float:
        """f(t)/f(t − 1); simpler in a subclass where both could be too small for a float."""
        return now / was

    def rate(self, number: int, epoch: int) -> float:
        """lr₀·f(t)."""
        factor, base = self.factor(epoch), self.base_lrs[number]
        self._without[number] = base if factor == 0 else None
        return base * factor

    def chained(self, number: int, epoch: int, lr: float) -> float:
        """lr·f(t)/f(t − 1)."""
        was = self.factor(epoch - 1) if epoch > 0 else 1.0
        now = self.factor(epoch)
        if now == was:
            return lr
        without = self._without[number] if epoch > 0 else None
        if now == 0:
            self._without[number] = lr / was
            return 0.0
        if was == 0 and without is not None:
            self._without[number] = None
            return without * now
        return lr * self.ratio(epoch, was, now)


class StepLR(Factor):
    """lr(t) = lr₀·γ^⌊t/n⌋: times ``gamma`` every n = ``step_size`` epochs.

    >>> import backstory
    >>> optimizer = backstory.optim.SGD([backstory.ones(1)], lr=8.0)
    >>> schedule = StepLR(optimizer, step_size=2, gamma=0.5)
    >>> for _ in range(4):
    ...     schedule.step()
    >>> schedule.get_last_lr()
    [2.0]
    """

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        _check_count("StepLR", "step_size", step_size, least=1)
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def factor(self, epoch: int) -> float:
        """γ^⌊t/n⌋."""
        return self.gamma ** (epoch // self.step_size)

    def ratio(self, epoch: int, was: float, now: float) -> float:
        """γ, once in n epochs."""
        return self.gamma


class MultiStepLR(Factor):
    """lr(t) = lr₀·γ^(number of ``milestones`` ≤ t).

    >>> import backstory
    >>> optimizer = backstory.optim.SGD([backstory.ones(1)], lr=8.0)
    >>> schedule = MultiStepLR(optimizer, milestones=[1, 3], gamma=0.5)
    >>> for _ in range(3):
    ...     schedule.step()
    >>> schedule.get_last_lr()
    [2.0]
    """

    def __init__(
        self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.milestones, self.gamma = sorted(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def factor(self, epoch: int) -> float:
        """γ^(number of milestones ≤ t)."""
        return self.gamma ** bisect_right(self.milestones, epoch)

    def ratio(self, epoch: int, was: float, now: float) -> float:
        """γ, as often as t is among the milestones."""
        return self.gamma ** self.milestones.count(epoch)


class ExponentialLR(Factor):
    """lr(t) = lr₀·γᵗ.

    >>> import backstory
    >>> optimizer = backstory.optim.SGD([backstory.ones(1)], lr=8.0)
    >>> schedule = ExponentialLR(optimizer, gamma=0.5)
    >>> schedule.step()
    >>> schedule.get_last_lr()
    [4.0]
    """

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def factor(self, epoch: int) -> float:
        """γᵗ."""
        return self.gamma**epoch

    def ratio(self, epoch: int, was: float, now: float) -> float:
        """γ."""
        return self.gamma


class ConstantLR(Factor):
    """lr(t) = lr₀·``factor`` for the first ``total_iters`` epochs, then lr₀.

    >>> import backstory
    >>> optimizer = backstory.optim.SGD([backstory.ones(1)], lr=8.0)
    >>> schedule = ConstantLR(optimizer, factor=0.25, total_iters=2)
    >>> first = schedule.get_last_lr()
    >>> for _ in range(2):
    ...     schedule.step()
    >>> first, schedule.get_last_lr()
    ([2.0], [8.0])
    """

    def __init__(
        self, optimizer: Optimizer, factor: float = 1 / 3, total_iters: int = 5, last_epoch: int = -1
    ) -> None:
        _check_share("ConstantLR", "factor", factor)
        _check_count("ConstantLR", "total_iters", total_iters, least=0)
        self.first_factor, self.total_iters = factor, total_iters
        super().__init__(optimizer, last_epoch)

    def factor(self, epoch: int) -> float:
        """The first factor, or 1."""
        return self.first_factor if epoch < self.total_iters else 1.0


class LinearLR(Factor):
    """lr(t) = lr₀·(a + (b − a)·min(t, n)/n): a line from a = ``start_factor`` to b = ``end_factor``.

    n is ``total_iters``. With ``start_factor=0`` it is a warm-up from nothing, which PyTorch lacks; while
    the rate is 0 other schedules that multiply it have no effect.

    >>> import backstory
    >>> optimizer = backstory.optim.SGD([backstory.ones(1)], lr=8.0)
    >>> schedule = LinearLR(optimizer, start_factor=0.0, total_iters=4)
    >>> first = schedule.get_last_lr()
    >>> schedule.step()
    >>> first, schedule.get_last_lr()
    ([0.0], [2.0])
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        _check_share("LinearLR", "start_factor", start_factor)
        _check_share("LinearLR", "end_factor", end_factor)
        _check_count("LinearLR", "total_iters", total_iters, least=1)
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer, last_epoch)

    def factor(self, epoch: int) -> float:
        """a + (b − a)·min(t, n)/n."""
        share = min(epoch, self.total_iters) / self.total_iters
        return self.start_factor + (self.end_factor - self.start_factor) * share


def _check_share(owner: str, name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ArgumentError(
            f"{owner}({name}={value})",
            why="it is the share of the full rate, from 0 to 1",
            instead=f"{name}=0.1",
        )


def _check_count(owner: str, name: str, value: int, least: int) -> None:
    if not isinstance(value, int) or value < least:
        raise ArgumentError(
            f"{owner}({name}={value})",
            why=f"it counts calls of step(), and is at least {least}",
            instead=f"{name}=10",
        )
