"""The exact arithmetic of certificates, against fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from drawn import SEEDS
from hypothesis import given
from hypothesis import strategies as st

from backstory.insight import Certificate
from backstory.insight.certificate import decompose, exact_dot

# Sizes far apart, so that sums cancel hard; and both ends of what a float64 holds.
SIZES = st.sampled_from(
    [0.0, 1e-3, 1.0, 3.3, 1e8, 1e16, -1.0, -1e8, -1e16, 1e-160, -1e-160, 5e-324, 1e150, -1e150]
)
ORDINARY = SEEDS.map(lambda seed: float(np.random.default_rng(seed).uniform(-10, 10)))
NUMBERS = st.one_of(
    SIZES,
    st.integers(-10, 10).map(float),
    ORDINARY,
    st.builds(lambda x, e: math.ldexp(x, 4 * e), ORDINARY, st.integers(-75, 75)),
)


def vectors(count):
    return st.integers(1, 6).flatmap(
        lambda n: st.tuples(
            *[st.lists(NUMBERS, min_size=n, max_size=n).map(np.float64) for _ in range(count)]
        )
    )


def dot(a, b):
    return sum((Fraction(float(x)) * Fraction(float(y)) for x, y in zip(a, b, strict=True)), Fraction(0))


def agrees(parts, exact):
    """|Σ parts − exact| ≤ 1e-12 Σ|parts|, and never by more than the smallest float allows."""
    found = sum(map(Fraction, parts), Fraction(0))
    smallest = Fraction(5e-324) * len(parts)
    return abs(found - exact) <= Fraction(1e-12) * sum(abs(Fraction(p)) for p in parts) + smallest


@given(vectors(2))
def test_a_product_of_vectors_is_rounded_once(pair):
    a, b = pair
    assert exact_dot(a, b) == float(dot(a, b))


@given(vectors(2))
def test_a_sum_that_cancels_altogether_leaves_nothing_behind(pair):
    a, b = pair
    assert exact_dot(np.concatenate([a, -a]), np.concatenate([b, b])) == 0.0
    assert exact_dot(np.concatenate([a, [1.0], -a]), np.concatenate([b, [1.0], b])) == 1.0


@given(vectors(5), st.tuples(NUMBERS, NUMBERS, NUMBERS))
def test_the_parts_add_up_however_hard_they_cancel(arrays, biases):
    w_old, w_new, x_old, x_new, term = arrays
    b_old, b_new, b_term = biases
    exact = dot(w_new, x_new) - dot(w_old, x_old) + Fraction(b_new) - Fraction(b_old)
    for terms in [(None, None), ({"gradient": term}, {"gradient": b_term}), ({}, {})]:
        weights, bias, inputs = decompose((w_old, b_old, x_old), (w_new, b_new, x_new), *terms)
        assert agrees([*weights.values(), *bias.values(), inputs], exact)


@given(vectors(3))
def test_an_update_that_follows_its_terms_leaves_only_rounding(arrays):
    w_old, term, x = arrays
    w_new = w_old + term
    weights, _, inputs = decompose((w_old, 0.0, x), (w_new, 0.0, x), {"gradient": term}, {})
    assert inputs == 0.0
    sizes = [
        abs(Fraction(xi)) * (abs(Fraction(a)) + abs(Fraction(t)))
        for xi, a, t in zip(x, w_old, term, strict=True)
    ]
    assert abs(Fraction(weights["rounding"])) <= sum(sizes) * Fraction(2) ** -52 + Fraction(5e-324) * len(x)


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_a_diverged_network_gives_infinity_or_nan_and_no_error(bad):
    w = np.array([1.0, bad])
    weights, bias, inputs = decompose((w, 0.0, w), (w, bad, w), {"gradient": w}, {"gradient": bad})
    certificate = Certificate("relu#0", 0, 1, 0, 1.0, -math.inf, weights, bias, inputs)
    assert not math.isfinite(certificate.change)
    assert "relu#0[0] died at step 1" in str(certificate)


def test_float32_weights_are_decomposed_in_float64():
    rng = np.random.default_rng(0)
    w_old, term, x_old, x_new = rng.normal(size=(4, 50)).astype(np.float32)
    w_new = w_old + term
    weights, bias, inputs = decompose((w_old, 0.5, x_old), (w_new, 0.25, x_new), {"gradient": term}, None)
    exact = dot(w_new, x_new) - dot(w_old, x_old) - Fraction(0.25)
    assert agrees([*weights.values(), *bias.values(), inputs], exact)
    assert bias == {"update": -0.25}
