"""Timing: what is compared runs in turn, and what counts is the median of the ratios within the rounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median
from time import perf_counter
from typing import Any

__all__ = ["ratios"]

BLOCK = 2e-4  # seconds that one reading takes at least, so that the clock itself does not count
FEWEST = 5


def ratios(functions: Mapping[str, Callable[[], Any]], reference: str, seconds: float) -> dict[str, float]:
    """The time of each function in that of ``reference``, read in turn (A B C A B C …).

    The rounds go on for about ``seconds`` a function. A ratio is taken within each round, so that a machine
    that gets busy slows both of its parts.

    >>> ratios({"a": lambda: 1, "b": lambda: 2}, "a", 1e-4)["a"]
    1.0
    """
    calls = {name: _calls(function) for name, function in functions.items()}
    found: dict[str, list[float]] = {name: [] for name in functions}
    start, rounds = perf_counter(), 0
    while rounds < FEWEST or perf_counter() - start < seconds * len(functions):
        times = {name: _seconds(function, calls[name]) for name, function in functions.items()}
        for name, time in times.items():
            found[name].append(time / times[reference])
        rounds += 1
    return {name: median(values) for name, values in found.items()}


def _seconds(function: Callable[[], Any], calls: int) -> float:
    before = perf_counter()
    for _ in range(calls):
        function()
    return (perf_counter() - before) / calls


def _calls(function: Callable[[], Any]) -> int:
    """How many calls make a block; they also warm up."""
    count = 1
    while True:
        before = perf_counter()
        for _ in range(count):
            function()
        if perf_counter() - before >= BLOCK:
            return count
        count *= 2
