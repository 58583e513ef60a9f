"""What compiled steps have noted in their logs, read as statistics of many steps at once.

Squared norms of float32 are taken twice, of the entries as they are and times 2⁶⁴, each time in float32: so
they reach down to the smallest numbers though no entry is converted. Norms above 10¹⁹ are infinite.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from backstory.insight.packed import Steps, Stretch, weighed

if TYPE_CHECKING:
    from backstory.compiler.log import Log, Rows

__all__ = ["Logs", "Mode", "may_wait", "traced_square", "whole_square"]

_SCALE = 2.0**64
_LEAST = 1e-30  # squares below are read from what was scaled


class Mode(NamedTuple):
    """What of a step is computed: gates and norms, and what an update is made of."""

    measuring: bool
    seen: bool


def traced_square(xp: Any, x: Any) -> Any:
    """The squared 2-norm of a symbol, as :func:`whole_square` reads it."""
    if x.dtype == np.float64:
        return xp.sum(x * x)
    x = xp.astype(x, np.float32)
    scaled = x * _SCALE
    return xp.sum(x * x), xp.sum(scaled * scaled)


def whole_square(found: Any) -> Any:
    """The squares that :func:`traced_square` has taken, of one step or of many, in float64."""
    if not isinstance(found, tuple):
        return found
    plain, scaled = (np.asarray(x, np.float64) for x in found)
    return np.where(plain < _LEAST, scaled / _SCALE**2, plain)


def may_wait(events: Sequence[tuple[Any, ...]]) -> bool:
    """Whether a program's events are those of one whole step: nothing from before it, and nothing after."""
    names = [name for name, *_ in events]
    heard = [first for name, first, *_ in events if name == "add_losses"]
    return heard[:1] == [True] and names.count("computed_step") == 1 and names[-1] == "computed_step"


class Logs:
    """The logs of one training: a row per step, of whichever program ran."""

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = optimizer
        self._logs: list[Log] = []
        self._last: Log | None = None
        self._left: list[Stretch] = []
        self._rates: list[float] = [math.nan]

    def row(self, log: Log, step: int) -> bool:
        """Count the row of a step; whether it is time to take all that there are."""
        row = log.reached[0]
        groups = self._optimizer.param_groups
        if (
            len(groups) > 1
            or groups[0]["lr"] != self._rates[0]
            or log is not self._last
            or row != log.count + 1
        ):
            row = self._turn(log, row, step, [group["lr"] for group in groups])
        log.count = row
        return row >= log.limit

    def _turn(self, log: Log, row: int, step: int, rates: list[float]) -> int:
        """The row may be one of another log, of another step than the next, or of other learning rates."""
        if row == log.count:  # the log was full
            self._left += self.taken()
            self.clear()
            log.append()
            row = log.reached[0]
        if log is not self._last or row != log.count + 1:
            log.count_from(row - 1, step)
        if rates != self._rates:
            self._rates = rates
        log.note(self._rates)
        if log not in self._logs:
            self._logs.append(log)
        self._last = log
        return log.count + 1

    def pause(self) -> None:
        """The next row does not follow the last: a step in between has none, or steps are counted anew."""
        self._last = None

    def hurry(self) -> None:
        """Have all taken at the next step."""
        for log in list(self._logs):
            log.limit = 0

    def taken(self) -> list[Stretch]:
        """Everything that nobody has taken yet."""
        left, self._left = self._left, []
        found = (log.take() for log in list(self._logs))
        return left + [_stretch(rows) for rows in found if rows is not None]

    def clear(self) -> None:
        """Begin anew, when all is taken."""
        for log in self._logs:
            log.rewind()
        self._logs, self._last = [], None


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
    for name, *values in rows.events:
        if name == "opened":
            index, samples, counts = values
            before, seen = opened.get(index, (0, 0))
            opened[index] = (before + samples, seen + rows.column(counts))
        elif name == "computed_step":
            gradients, changes, weights = (None if x is None else _squares(rows, x) for x in values[0])
    if weights is not None:  # a second program, for the steps that need them, would cost more
        weights = weights[weighed(rows.numbers)]
    rows.release()
    return Steps(rows.numbers, losses, backwards, _rates(rows), gradients, changes, weights, opened)


def _squares(rows: Rows, part: Sequence[Any]) -> np.ndarray:
    """The squared norms of every parameter in every row."""
    found = np.zeros((len(rows.numbers), len(part)))
    single = [i for i, x in enumerate(part) if not isinstance(x, (tuple, float))]
    double = [i for i, x in enumerate(part) if isinstance(x, tuple)]
    if single:
        found[:, single] = rows.columns([part[i] for i in single])
    if double:
        plain, scaled = (rows.columns([part[i][half] for i in double]) for half in (0, 1))
        found[:, double] = whole_square((plain, scaled))
    return found


def _rates(rows: Rows) -> np.ndarray:
    """The learning rates of the groups in every row."""
    rates = np.empty((len(rows.numbers), len(rows.notes[0][1])))
    for row, what in rows.notes:
        rates[row:] = what
    return rates
