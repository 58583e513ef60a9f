"""The goals of the compiled step, each beside what this run found."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from measure import grid, number
from networks import Figures, Found
from peers import PEERS
from roofline import Roofline

__all__ = ["Goal", "goals", "of_empty", "of_watching", "table"]

OURS, EAGER = "backstory-compile", "backstory"

# How many times faster than PyTorch eager and than the best other library.
FASTER = {"W1": (25.0, 1.9), "W2": (11.0, 1.7), "W3": (1.3, 1.0), "W4": (1.5, 1.0), "W5": (None, 1.0)}
ROOFLINE = {"W3": 1.1, "W4": 1.1, "W5": 1.1}
FIRST_CALLS = ("W1", "W2", "W3", "W4")
COLD, CACHED = 3.0, 0.3
EMPTY = 5.0


@dataclass(frozen=True)
class Goal:
    """A goal and what was found; the figure is to be at least (or at most) the bound."""

    what: str
    bound: float
    found: float
    at_least: bool = False
    unit: str = ""

    @property
    def reached(self) -> bool:
        return self.found >= self.bound if self.at_least else self.found <= self.bound

    def cells(self) -> list[str]:
        """Bound, figure, verdict."""
        sign = "≥" if self.at_least else "≤"
        verdict = "reached" if self.reached else "**not reached**"
        return [f"{sign} {self.bound:g}{self.unit}", f"{number(self.found)}{self.unit}", verdict]


def goals(name: str, found: Found, roofline: Roofline | None) -> Iterator[Goal]:
    """Every goal about one network that this run can judge, with the most threads."""
    medians = {peer: statistics.median(figures) for peer, figures in found.best.items() if figures}
    if OURS in medians:
        yield from _speed(name, medians, roofline)
        yield from _first_call(name, found)
        yield from _memory(name, found)


def of_empty(times: Figures) -> Iterator[Goal]:
    """The goal of what a call costs."""
    if times.get(OURS):
        yield Goal("near-empty step", EMPTY, statistics.median(times[OURS]), unit=" µs")


def of_watching(costs: Mapping[str, float], most: Mapping[str, float]) -> Iterator[Goal]:
    """The goals of what a recorder in the step costs, in percent."""
    for name, cost in costs.items():
        yield Goal(f"{name}: a step watched, longer by", most[name], cost, unit=" %")


def _speed(name: str, medians: dict[str, float], roofline: Roofline | None) -> Iterator[Goal]:
    ours = medians[OURS]
    over_torch, over_best = FASTER.get(name, (None, None))
    if over_torch is not None and "torch" in medians:
        yield Goal(f"{name}: times faster than PyTorch", over_torch, medians["torch"] / ours, at_least=True)
    libraries = {peer: time for peer, time in medians.items() if PEERS[peer].library}
    if over_best is not None and libraries:
        best = min(libraries, key=lambda peer: libraries[peer])
        what = f"{name}: times faster than the best library, {PEERS[best].label}"
        yield Goal(what, over_best, libraries[best] / ours, at_least=True)
    if name in ROOFLINE and "numpy" in medians:
        what = f"{name}: times faster than NumPy by hand"
        yield Goal(what, 1.0, medians["numpy"] / ours, at_least=True)
    if name in ROOFLINE and roofline is not None:
        what = f"{name}: step in rooflines"
        yield Goal(what, ROOFLINE[name], ours / statistics.median(roofline.total))


def _first_call(name: str, found: Found) -> Iterator[Goal]:
    for what, bound, figures in (("cold", COLD, found.cold), ("from the cache", CACHED, found.cached)):
        if name in FIRST_CALLS and figures.get(OURS):
            yield Goal(f"{name}: first call {what}", bound, statistics.median(figures[OURS]), unit=" s")


def _memory(name: str, found: Found) -> Iterator[Goal]:
    for what, figures in (("the process", found.process), ("arrays", found.arrays)):
        if figures.get(OURS) and figures.get(EAGER):
            ratio = statistics.median(figures[OURS]) / statistics.median(figures[EAGER])
            yield Goal(f"{name}: peak memory of {what} in steps, in eager's", 1.0, ratio)


def table(found: Sequence[Goal]) -> str:
    """The Markdown table of goals."""
    return grid("goal", ["wanted", "found", ""], {goal.what: goal.cells() for goal in found})
