"""The base of every schedule: counts epochs, sets the rates, and can be saved and gone on with."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from backstory.errors import ArgumentError
from backstory.optim.optimizer import Optimizer

__all__ = ["LRScheduler", "Schedule", "checked_optimizer", "per_group"]


def checked_optimizer(name: str, optimizer: Any) -> Optimizer:
    """``optimizer`` if it is one, else an error that names the schedule."""
    if not isinstance(optimizer, Optimizer):
        raise ArgumentError(
            f"{name} received {type(optimizer).__name__} as its optimizer",
            why="it sets the rates of an optimizer of backstory.optim",
            instead=f"{name}(optimizer, …)",
        )
    return optimizer


def per_group(name: str, optimizer: Optimizer, value: float | Sequence[float]) -> list[float]:
    """``value`` for every parameter group: one number for all, or one for each."""
    count = len(optimizer.param_groups)
    if not isinstance(value, Sequence):
        return [value] * count
    if len(value) != count:
        raise ArgumentError(
            f"{name} of {len(value)} values",
            why=f"the optimizer has {count} parameter groups",
            instead="one number for all groups, or one for each",
        )
    return list(value)


class LRScheduler(ABC):
    """What all schedules share: the optimizer, the last rates, and a state of plain numbers."""

    #: What the state leaves out: it is given anew when the schedule is built.
    not_saved: tuple[str, ...] = ("optimizer",)

    optimizer: Optimizer
    last_epoch: int

    def get_last_lr(self) -> list[float]:
        """The present rate of every group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """All numbers that :meth:`load_state_dict` needs to go on; functions are not among them.

        The rates themselves are in the optimizer's ``state_dict``.
        """
        return {key: copy.deepcopy(value) for key, value in vars(self).items() if key not in self.not_saved}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned, into a schedule built in the same way."""
        own = vars(self).keys() - set(self.not_saved)
        missing, unexpected = sorted(own - state_dict.keys()), sorted(state_dict.keys() - own)
        if missing or unexpected:
            raise ArgumentError(
                f"{type(self).__name__}.load_state_dict(): missing {missing}, unexpected {unexpected}",
                why="it is not the state of such a schedule",
                instead=f"what {type(self).__name__}.state_dict() returned",
            )
        vars(self).update(copy.deepcopy(dict(state_dict)))


class Schedule(LRScheduler):
    """A schedule whose rates follow from the epoch (and, where it chains, from the rates it finds).

    Made with ``last_epoch=k`` it goes on at epoch k + 1 with the rates that the optimizer has.
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        self.optimizer = checked_optimizer(type(self).__name__, optimizer)
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise ArgumentError(
                    f"{type(self).__name__}(last_epoch={last_epoch}) of an optimizer without initial_lr in "
                    f"group {i}",
                    why="the first rate is needed to go on, and this optimizer never had a schedule",
                    instead="optimizer.load_state_dict(…) first, or last_epoch=-1",
                )
        self.base_lrs: list[float] = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch + 1
        if last_epoch == -1:
            self.start()
        else:
            self.resume()

    @abstractmethod
    def rate(self, number: int, epoch: int) -> float:
        """The rate of group ``number`` at ``epoch``, if nothing else changes it."""

    def chained(self, number: int, epoch: int, lr: float) -> float:
        """The rate at ``epoch`` going on from ``lr`` at the epoch before; the same unless it chains."""
        return self.rate(number, epoch)

    def step(self) -> None:
        """Go on to the next epoch and set its rates."""
        self.check_epoch(self.last_epoch + 1)
        self.last_epoch += 1
        self._set([self.chained(i, self.last_epoch, lr) for i, lr in enumerate(self.get_last_lr())])

    def start(self) -> None:
        """Set epoch 0, going on from the rates that the optimizer has."""
        self.last_epoch = 0
        self._set([self.chained(i, 0, lr) for i, lr in enumerate(self.get_last_lr())])

    def restart(self) -> None:
        """Set epoch 0 from the first rates, as where a sequence comes to this schedule."""
        self.last_epoch = 0
        self._set([self.rate(i, 0) for i in range(len(self.base_lrs))])

    def resume(self) -> None:
        """Go on in the middle: a schedule that chains leaves the rates as they are."""
        if type(self).chained is Schedule.chained:
            self._set([self.rate(i, self.last_epoch) for i in range(len(self.base_lrs))])

    def check_epoch(self, epoch: int) -> None:
        """Refuse an epoch that the schedule does not have."""

    def _set(self, rates: list[float]) -> None:
        for group, lr in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = lr
