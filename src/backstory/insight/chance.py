"""What chance could have done: the sign test of pairs, and an interval for a median. No law is assumed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

__all__ = ["SIGNIFICANT", "median_interval", "sign_test"]

SIGNIFICANT = 0.05


def sign_test(pairs: Iterable[tuple[float, float]]) -> float:
    """One-sided: how likely so many second numbers would be the larger ones, were it a coin's throw.

    P(wins or more of n) for a fair coin; ties are left out, as usual.

    >>> sign_test([(0, 1)] * 5)
    0.03125
    """
    decided = [b > a for a, b in pairs if a != b]
    wins, n = sum(decided), len(decided)
    return sum(math.comb(n, k) for k in range(wins, n + 1)) / 2**n


def median_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """The interval for the median between two of the ordered values: at least ``confidence``, if there are
    six values or more; with fewer it is the whole range.

    >>> median_interval([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    (2, 9)
    """
    ordered, n = sorted(values), len(values)
    cut, below = (
        0,
        1,
    )  # how many values lie outside at either end; 2ⁿ P(at most so many of n throws are heads)
    while below <= (1 - confidence) / 2 * 2**n:
        cut += 1
        below += math.comb(n, cut)
    first = max(cut - 1, 0)
    return ordered[first], ordered[n - 1 - first]
