"""Schedules of schedules: one after the other, or all together."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from backstory.errors import ArgumentError
from backstory.optim.lr_scheduler.schedule import LRScheduler, Schedule, checked_optimizer
from backstory.optim.optimizer import Optimizer

__all__ = ["ChainedScheduler", "SequentialLR"]


class _Group(LRScheduler):
    """Several schedules of one optimizer."""

    not_saved = ("optimizer", "schedulers")
    schedulers: list[Schedule]

    def state_dict(self) -> dict[str, Any]:
        """The states of all its schedules."""
        return {**super().state_dict(), "schedulers": [s.state_dict() for s in self.schedulers]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned, into schedules built in the same way."""
        states = state_dict.get("schedulers", ())
        if len(states) != len(self.schedulers):
            raise ArgumentError(
                f"{type(self).__name__}.load_state_dict() of {len(states)} schedules",
                why=f"this one has {len(self.schedulers)}",
                instead=f"what {type(self).__name__}.state_dict() returned",
            )
        super().load_state_dict({key: value for key, value in state_dict.items() if key != "schedulers"})
        for schedule, state in zip(self.schedulers, states, strict=True):
            schedule.load_state_dict(state)


class SequentialLR(_Group):
    """One schedule after the other: the next takes over at each of the ``milestones``, from its own epoch 0.

    >>> import backstory
    >>> from backstory.optim.lr_scheduler import ConstantLR, ExponentialLR, LinearLR
    >>> optimizer = backstory.optim.SGD([backstory.ones(1)], lr=8.0)
    >>> warm_up = LinearLR(optimizer, start_factor=0.0, total_iters=2)
    >>> schedule = SequentialLR(optimizer, [warm_up, ExponentialLR(optimizer, 0.5)], milestones=[2])
    >>> seen = []
    >>> for _ in range(5):
    ...     seen += schedule.get_last_lr()
    ...     schedule.step()
    >>> seen
    [0.0, 4.0, 8.0, 4.0, 2.0]
    """

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[Schedule], milestones: Sequence[int]
    ) -> None:
        self.optimizer = checked_optimizer("SequentialLR", optimizer)
        self.schedulers = _checked("SequentialLR", schedulers, optimizer)
        if len(milestones) != len(schedulers) - 1 or list(milestones) != sorted(milestones):
            raise ArgumentError(
                f"SequentialLR of {len(schedulers)} schedules with milestones {list(milestones)}",
                why="between each two stands one milestone, in rising order",
                instead="SequentialLR(optimizer, [first, second], milestones=[10])",
            )
        self.milestones = list(milestones)
        self.last_epoch = 0
        # Each has set its first rates when it was built; the sequence begins anew.
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        self.schedulers[bisect_right(self.milestones, 0)].start()

    def step(self) -> None:
        """Go on to the next epoch, and at a milestone to the next schedule."""
        epoch = self.last_epoch + 1
        number = bisect_right(self.milestones, epoch)
        if epoch in self.milestones:
            self.schedulers[number].restart()
        else:
            self.schedulers[number].step()
        self.last_epoch = epoch


class ChainedScheduler(_Group):
    """Steps several schedules together; those that multiply act on each other's rates.

    >>> import backstory
    >>> from backstory.optim.lr_scheduler import ConstantLR, ExponentialLR, LinearLR
    >>> optimizer = backstory.optim.SGD([backstory.ones(1)], lr=8.0)
    >>> schedule = ChainedScheduler([ConstantLR(optimizer, 0.5, 2), ExponentialLR(optimizer, 0.5)])
    >>> seen = []
    >>> for _ in range(4):
    ...     seen += schedule.get_last_lr()
    ...     schedule.step()
    >>> seen
    [4.0, 2.0, 2.0, 1.0]
    """

    def __init__(self, schedulers: Sequence[Schedule], optimizer: Optimizer | None = None) -> None:
        self.optimizer = optimizer or getattr(next(iter(schedulers), None), "optimizer", None)  # type: ignore[assignment]
        checked_optimizer("ChainedScheduler", self.optimizer)
        self.schedulers = _checked("ChainedScheduler", schedulers, self.optimizer)
        self.last_epoch = 0

    def step(self) -> None:
        """Step every schedule once, in their order."""
        self.last_epoch += 1
        for schedule in self.schedulers:
            schedule.step()


def _checked(name: str, schedulers: Sequence[Schedule], optimizer: Optimizer) -> list[Schedule]:
    """``schedulers`` if all can be stepped without a metric and belong to ``optimizer``."""
    for i, schedule in enumerate(schedulers):
        if not isinstance(schedule, Schedule):
            raise ArgumentError(
                f"{name} received {type(schedule).__name__} as number {i}",
                why="it steps schedules that follow from the epoch alone",
                instead="StepLR, LinearLR and the like; step ReduceLROnPlateau by itself",
            )
        if schedule.optimizer is not optimizer:
            raise ArgumentError(
                f"{name} received a {type(schedule).__name__} of another optimizer as number {i}",
                why="all its schedules set the rates of one optimizer",
                instead="schedules that are built with the same optimizer",
            )
    if not schedulers:
        raise ArgumentError(f"{name} of no schedules", why="it has nothing to step", instead="at least one")
    return list(schedulers)
