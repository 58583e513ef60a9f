"""erf and erfc: their errors in units in the last place, against mpmath with 50 digits."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

import backstory
from backstory.arrays.error_function import ABOVE, BELOW, INNER, TAIL, erf, erfc

RNG = np.random.default_rng(5)
# Dense where the pieces meet and where something underflows; sparse elsewhere.
SPANS = ((1e-9, 1e-3), (0, 0.5), (0.4, 0.6), (0.9, 1.1), (1, 4), (3.8, 6), (6, 13), (13, 26))
PLACES = np.concatenate([RNG.uniform(low, high, 300) for low, high in SPANS])


def units(computed: np.ndarray, function: str, places: np.ndarray) -> np.ndarray:
    """The errors in units in the last place of the exact value."""
    with mpmath.workdps(50):
        exact = [getattr(mpmath, function)(mpmath.mpf(float(x))) for x in places]
        steps = np.spacing(np.abs(np.array(exact, computed.dtype)))
        return np.array(
            [
                float(abs(mpmath.mpf(float(y)) - z) / mpmath.mpf(float(step)))
                for y, z, step in zip(computed, exact, steps, strict=True)
            ]
        )


@pytest.mark.parametrize(
    ("function", "dtype", "most"),
    [
        ("erf", np.float64, 1.1),
        ("erfc", np.float64, 2.8),
        ("erf", np.float32, 0.6),
        ("erfc", np.float32, 0.51),
        ("erf", np.float16, 0.51),
    ],
)
def test_errors_stay_within_the_units_in_the_last_place_that_are_promised(function, dtype, most):
    # In float32 what is smaller than its normal numbers has fewer digits.
    within = 26 if dtype is np.float64 else 9
    places = np.concatenate([PLACES, -PLACES[PLACES < 6]])
    places = places[np.abs(places) < within].astype(dtype)
    computed = {"erf": erf, "erfc": erfc}[function](places)
    assert computed.dtype == dtype
    assert units(computed, function, places).max() < most


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_ends_signs_and_nan_are_exact(dtype):
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 30.0, -30.0, np.finfo(dtype).max], dtype)
    np.testing.assert_array_equal(erf(x), np.array([0, -0.0, 1, -1, np.nan, 1, -1, 1], dtype))
    assert np.signbit(erf(x)).tolist() == [False, True, False, True, False, False, True, False]
    np.testing.assert_array_equal(erfc(x), np.array([1, 1, 0, 2, np.nan, 0, 2, 0], dtype))


def test_the_smallest_numbers_keep_their_digits():
    tiny = np.array([5e-324, 1e-310, 2.3e-308, 1e-300])
    np.testing.assert_allclose(erf(tiny), tiny * 2 / np.sqrt(np.pi), rtol=1e-15, atol=5e-324)
    assert erfc(np.array([26.6]))[0] == pytest.approx(float(mpmath.erfc(26.6)), rel=1e-7)


def test_every_shape_also_beyond_one_block_gives_what_its_entries_give_alone():
    x = RNG.normal(size=(3, 5000)) * 2
    for function in (erf, erfc):
        whole = function(x[:, ::2])
        np.testing.assert_array_equal(whole[2, 2400:], function(x[2, 4800::2]))
        assert function(x[:0]).shape == (0, 5000)
        assert function(np.array(0.5)).shape == ()


def test_gelu_in_float32_is_computed_as_exactly_as_in_float64():
    x = RNG.normal(size=1000) * 3
    single = backstory.nn.functional.gelu(backstory.tensor(x.astype(np.float32))).numpy()
    double = backstory.nn.functional.gelu(backstory.tensor(x.astype(np.float32).astype(np.float64))).numpy()
    np.testing.assert_allclose(single, double, rtol=3e-7, atol=3e-7)


def interpolated(function, low, high, count):
    """The polynomial through ``function`` at the Chebyshev nodes, by rising powers."""
    nodes = [
        (low + high) / 2 + (high - low) / 2 * mpmath.cos(mpmath.pi * (k + mpmath.mpf(1) / 2) / count)
        for k in range(count)
    ]
    table = mpmath.matrix([[x**power for power in range(count)] for x in nodes])
    return list(mpmath.lu_solve(table, mpmath.matrix([function(x) for x in nodes])))


def test_the_coefficients_are_the_interpolations_that_they_are_said_to_be():
    with mpmath.workdps(80):
        mpf = mpmath.mpf

        def share(square):
            root = mpmath.sqrt(square)
            return mpmath.erf(root) / root

        def tail(t):
            x = 3 * (1 + t) / (1 - t)
            return (1 + 2 * x) * mpmath.exp(x * x) * mpmath.erfc(x) - 1

        first, last = ((mpf(x) - 3) / (mpf(x) + 3) for x in ("0.5", "28"))
        inner = interpolated(lambda square: share(square) - 1, mpf(0), mpf(1), len(INNER))
        assert tuple(map(float, inner)) == INNER
        assert tuple(map(float, interpolated(tail, first, last, len(TAIL)))) == TAIL
        count = len(ABOVE) + len(BELOW) - 1
        nodes = [8 + 8 * mpmath.cos(mpmath.pi * (k + mpf(1) / 2) / count) for k in range(count)]
        rows = [
            [*(s**k for k in range(len(ABOVE))), *(-share(s) * s**k for k in range(1, len(BELOW)))]
            for s in nodes
        ]
        found = list(mpmath.lu_solve(mpmath.matrix(rows), mpmath.matrix([share(s) for s in nodes])))
        assert tuple(map(float, found[: len(ABOVE)])) == ABOVE
        assert tuple(map(float, [mpf(1), *found[len(ABOVE) :]])) == BELOW
