"""What compiled steps have noted in their logs, read as statistics of many steps at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from backstory.insight.packed import Steps, Stretch, weighed

if TYPE_CHECKING:
    from backstory.compiler.log import Log, Rows

__all__ = ["Logs", "Mode", "may_wait"]


class Mode(NamedTuple):
    """What of a step is computed: gates and norms, what an update is made of; and if it is told ``alone``."""

    measuring: bool
    seen: bool
    alone: bool


def may_wait(events: Sequence[tuple[Any, ...]]) -> bool:
    """Whether a program's events are those of one whole step: nothing from before it, and nothing after."""
    names = [name for name, *_ in events]
    heard = [first for name, first, *_ in events if name == "add_losses"]
    return heard[:1] == [True] and names.count("computed_step") == 1 and names[-1] == "computed_step"


class Logs:
    """The logs of one training: a row per step, of whichever program ran."""

    def __init__(self) -> None:
        self._logs: list[Log] = []
        self._left: list[Stretch] = []

    def add(self, log: Log) -> None:
        """A program appends rows to this log from now on."""
        self._logs.append(log)

    def drop(self, log: Log) -> None:
        """The program is no more."""
        rows = log.take()
        if rows is not None:
            self._left.append(_stretch(rows))
        self._logs.remove(log)

    def taken(self) -> list[Stretch]:
        """Everything that nobody has taken yet."""
        left, self._left = self._left, []
        found = (log.take() for log in list(self._logs))
        return left + [_stretch(rows) for rows in found if rows is not None]

    def clear(self) -> None:
        """Begin anew, where all is taken."""
        for log in self._logs:
            log.rewind()


def _stretch(rows: Rows) -> Stretch:
    losses, backwards = _losses(rows)
    return Stretch(rows.numbers, losses, partial(_whole, rows, losses, backwards))


def _losses(rows: Rows) -> tuple[np.ndarray, int]:
    """The loss of every row: the sum over the backward passes since the gradients were cleared."""
    total, count = np.zeros(len(rows.numbers)), 0
    for name, *values in rows.events:
        if name == "add_losses":
            first, losses = values
            if first:
                total, count = np.zeros(len(rows.numbers)), 0
            for loss in losses:
                total, count = total + rows.column(loss).astype(np.float64), count + 1
    return total, count


def _whole(rows: Rows, losses: np.ndarray, backwards: int) -> Steps:
    """Everything that the rows say."""
    opened: dict[int, tuple[int, np.ndarray]] = {}
    gradients, changes, weights = None, None, None
    rates = np.empty((len(rows.numbers), 0))
    for name, *values in rows.events:
        if name == "opened":
            index, samples, counts = values
            before, seen = opened.get(index, (0, 0))
            opened[index] = (before + samples, seen + rows.column(counts))
        elif name == "computed_step":
            gradients, changes, weights = (None if x is None else _columns(rows, x) for x in values[0])
            rates = _columns(rows, values[1])
    if weights is not None:  # a second program, for the steps that need them, would cost more
        weights = weights[weighed(rows.numbers)]
    rows.release()
    return Steps(rows.numbers, losses, backwards, rates, gradients, changes, weights, opened)


def _columns(rows: Rows, part: Sequence[Any]) -> np.ndarray:
    """Several numbers of every row, some of which may be the same in all: (rows, numbers)."""
    fields = [i for i, x in enumerate(part) if not isinstance(x, (int, float))]
    found = np.empty((len(rows.numbers), len(part)))
    found[:] = [0.0 if i in fields else x for i, x in enumerate(part)]
    if fields:
        found[:, fields] = rows.columns([part[i] for i in fields])
    return found
