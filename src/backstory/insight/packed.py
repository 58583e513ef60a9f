"""How steps are stored: several in one row, since fast trainings make more of them than databases do rows.

A row of ``steps`` holds steps that were measured alike, and a row of ``gates`` what one site did in them.
Arrays are stored as their bytes: the steps' numbers as int64, losses, rates and norms as float64, one line
per step; open gates as unsigned integers as short as the samples allow. Norms of weights are there for those
steps alone that :func:`weighed` names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "GATES",
    "STEPS",
    "StepStatistics",
    "Steps",
    "Stretch",
    "gates_of",
    "losses_of",
    "norms_of",
    "rates_of",
    "rows",
    "steps_of",
    "weighed",
]

STEPS = "INSERT OR REPLACE INTO steps VALUES (?,?,?,?,?,?,?,?)"
GATES = "INSERT OR REPLACE INTO gates VALUES (?,?,?,?,?)"
# Weights move by a thousandth or so per step: their norms need not be taken anew at every one.
WEIGHTS_EVERY = 8

Row = tuple[Any, ...]


def weighed(step: Any) -> Any:
    """Whether the norms of the weights are taken at a step that is measured; also of an array of steps."""
    return step % WEIGHTS_EVERY == 1


class StepStatistics(NamedTuple):
    """One step: the loss, squared norms per parameter, and per site the samples and open counts.

    Norms are ``None`` and ``opened`` is empty at a step that was not measured. ``rates`` are the
    learning rates of the parameter groups.
    """

    step: int
    loss: float | None
    backwards: int
    rates: tuple[float, ...]
    gradients: Sequence[float] | None
    changes: Sequence[float] | None
    weights: Sequence[float] | None
    opened: Mapping[int, Sequence[Any]]

    def non_finite(self) -> tuple[int, float] | None:
        """The step and its loss, if that is NaN or infinite."""
        return None if self.loss is None or math.isfinite(self.loss) else (self.step, self.loss)

    def whole(self) -> Steps:
        """The same as a stretch of one step."""

        def line(entries: Any) -> Any:
            return None if entries is None else np.array([entries], np.float64)

        return Steps(
            np.array([self.step]),
            line(np.nan if self.loss is None else self.loss),
            self.backwards,
            line(self.rates),
            line(self.gradients),
            line(self.changes),
            line(self.weights),
            {index: (samples, counts[None]) for index, (samples, counts) in self.opened.items()},
        )


class Steps(NamedTuple):
    """The same of several steps: everything but ``backwards`` and the samples has one line per step.

    ``weights`` has one per step that is :func:`weighed`.
    """

    numbers: np.ndarray
    losses: np.ndarray
    backwards: int
    rates: np.ndarray
    gradients: np.ndarray | None
    changes: np.ndarray | None
    weights: np.ndarray | None
    opened: Mapping[int, tuple[int, np.ndarray]]


class Stretch(NamedTuple):
    """Several steps, of which only numbers and losses are read yet; ``whole()`` gives everything."""

    numbers: np.ndarray
    losses: np.ndarray
    whole: Callable[[], Steps]

    def non_finite(self) -> tuple[int, float] | None:
        """The first step whose loss is NaN or infinite, and that loss."""
        found = np.flatnonzero(~np.isfinite(self.losses))
        return (int(self.numbers[found[0]]), float(self.losses[found[0]])) if len(found) else None


def rows(entry: StepStatistics | Stretch) -> list[tuple[str, Row]]:
    """The rows of the store for a step, or for several."""
    found = entry.whole()
    step, numbers = int(found.numbers[0]), found.numbers.astype(np.int64).tobytes()
    norms = map(_norms, (found.gradients, found.changes, found.weights))
    losses, rates = found.losses.astype(np.float64).tobytes(), found.rates.tobytes()
    made: list[tuple[str, Row]] = [(STEPS, (step, numbers, losses, found.backwards, rates, *norms))]
    for index, (samples, counts) in found.opened.items():
        packed = counts.astype(np.min_scalar_type(int(samples))).tobytes()
        made.append((GATES, (step, index, samples, numbers, packed)))
    return made


def _norms(squares: np.ndarray | None) -> bytes | None:
    if squares is None:
        return None
    with np.errstate(all="ignore"):
        return np.sqrt(squares).tobytes()


# Reading. What is read from ``steps`` begins with the numbers.


def steps_of(found: Sequence[Row]) -> np.ndarray:
    """The numbers of all steps, in order."""
    return np.sort(_joined([_numbers(row) for row in found], np.int64))


def losses_of(found: Sequence[Row]) -> np.ndarray:
    """From rows (numbers, losses) the losses, in the order of their steps."""
    order = np.argsort(_joined([_numbers(row) for row in found], np.int64), kind="stable")
    return _joined([np.frombuffer(row[1]) for row in found], np.float64)[order]


def rates_of(found: Sequence[Row]) -> np.ndarray:
    """From rows (numbers, rates) the rates, (steps, groups); NaN before a group was added."""
    places, count = _places(found)
    tables = [np.frombuffer(row[1]).reshape(len(place), -1) for row, place in zip(found, places, strict=True)]
    rates = np.full((count, max((table.shape[1] for table in tables), default=0)), np.nan)
    for place, table in zip(places, tables, strict=True):
        rates[place, : table.shape[1]] = table
    return rates


def norms_of(found: Sequence[Row], parameters: int) -> np.ndarray:
    """From rows (numbers, gradients, changes, weights) all norms, (steps, 3, parameters).

    NaN at a step that was not measured; the weights' norms stand for the steps up to the next.
    """
    places, count = _places(found)
    table = np.full((count, 3, parameters), np.nan)
    for place, (numbers, *parts) in zip(places, found, strict=True):
        at = (place, place, place[weighed(np.frombuffer(numbers, np.int64))])
        for kind, (part, lines) in enumerate(zip(parts, at, strict=True)):
            if part is not None:
                table[lines, kind] = np.frombuffer(part).reshape(len(lines), parameters)
    taken = ~np.isnan(table[:, 2]).all(axis=1) if parameters else np.zeros(count, bool)
    last = np.maximum.accumulate(np.where(taken, np.arange(count), -1))
    table[last >= 0, 2] = table[last[last >= 0], 2]
    return table


def gates_of(found: Sequence[Row], units: int) -> tuple[np.ndarray, np.ndarray]:
    """From rows (numbers, samples, open) of one site the steps, and the shares of open gates of each."""
    places, count = _places(found)
    numbers, shares = np.empty(count, np.int64), np.empty((count, units))
    for place, (steps, samples, packed) in zip(places, found, strict=True):
        counts = np.frombuffer(packed, np.min_scalar_type(samples)).reshape(len(place), units)
        numbers[place], shares[place] = np.frombuffer(steps, np.int64), counts / max(samples, 1)
    return numbers, shares


def _numbers(row: Row) -> np.ndarray:
    return np.frombuffer(row[0], np.int64)


def _places(found: Sequence[Row]) -> tuple[list[np.ndarray], int]:
    """For every row the places of its steps among all, and how many steps there are."""
    numbers = [_numbers(row) for row in found]
    order = np.argsort(_joined(numbers, np.int64), kind="stable")
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    ends = np.cumsum([len(one) for one in numbers])
    return np.split(places, ends[:-1]) if found else [], len(order)


def _joined(parts: Sequence[np.ndarray], dtype: Any) -> np.ndarray:
    return np.concatenate(parts) if parts else np.empty(0, dtype)
