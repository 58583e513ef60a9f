"""Sign test and interval of the median, against binomial sums written out and against coins thrown."""

from __future__ import annotations

import numpy as np
import pytest

from backstory.insight.chance import median_interval, sign_test


@pytest.mark.parametrize(
    ("wins", "losses", "p"), [(5, 0, 1 / 32), (4, 1, 6 / 32), (0, 5, 1.0), (9, 1, 11 / 1024)]
)
def test_the_sign_test_is_the_binomial_tail(wins, losses, p):
    assert sign_test([(0, 1)] * wins + [(1, 0)] * losses) == p


def test_ties_say_nothing():
    assert sign_test([(1, 1)] * 7 + [(0, 1)] * 5) == 1 / 32
    assert sign_test([(1, 1)]) == 1.0


@pytest.mark.parametrize("n", [6, 9, 20])
def test_the_interval_holds_the_median_as_often_as_it_says(n, rng):
    draws = rng.exponential(size=(4000, n))
    ends = np.array([median_interval(row) for row in draws.tolist()])
    share = np.mean((ends[:, 0] <= np.log(2)) & (np.log(2) <= ends[:, 1]))
    assert share > 0.945


@pytest.mark.parametrize(("n", "ends"), [(1, (1, 1)), (5, (1, 5)), (6, (1, 6)), (10, (2, 9)), (20, (6, 15))])
def test_the_interval_ends_at_ordered_values(n, ends):
    assert median_interval(list(range(n, 0, -1))) == ends
