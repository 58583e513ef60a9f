"""Repeated and paired measurements: one value a seed, told as a median with its interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from backstory.insight.chance import SIGNIFICANT, median_interval, sign_test
from backstory.plots import Dots
from backstory.plots.canvas import in_words

__all__ = ["Sample", "dots", "over_seeds"]


@dataclass(frozen=True)
class Sample:
    """One value per seed; samples of equal length are paired by it.

    >>> sample = Sample((0.1, 0.2, 0.3, 0.4, 0.5, 0.6))
    >>> print(f"{sample:.0%}")
    35% (10%–60%)
    >>> sample.above(Sample((0.0,) * 6)), sample.above(Sample((0.35,) * 6))
    (True, False)
    """

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle value."""
        return median(self.values)

    @property
    def interval(self) -> tuple[float, float]:
        """Where the median lies with 95 % confidence."""
        return median_interval(self.values)

    def above(self, other: Sample) -> bool:
        """Whether more seeds than chance gives have the larger value here (sign test at 5 %)."""
        return sign_test(zip(other.values, self.values, strict=True)) <= SIGNIFICANT

    def holds(self, value: float) -> bool:
        """Whether the interval contains ``value``."""
        low, high = self.interval
        return low <= value <= high

    def minus(self, other: Sample) -> Sample:
        """The differences of the pairs."""
        return Sample(tuple(a - b for a, b in zip(self.values, other.values, strict=True)))

    def __format__(self, form: str) -> str:
        ends = " to " if form.startswith("+") else "–"
        middle, low, high = (in_words(value, form) for value in (self.median, *self.interval))
        return f"{middle} ({low}{ends}{high})"


def over_seeds(measure: Callable[[int], float], seeds: int | Sequence[int]) -> Sample:
    """``measure(seed)`` for every seed; NaN counts as infinite."""
    found = [float(measure(seed)) for seed in (range(seeds) if isinstance(seeds, int) else seeds)]
    return Sample(tuple(np.inf if np.isnan(value) else value for value in found))


def dots(title: str, samples: Mapping[str, Sample], **settings: Any) -> Dots:
    """The panel of some samples, a dot per seed."""
    return Dots(title, {name: sample.values for name, sample in samples.items()}, **settings)
