"""Gain and saturation, computed from the records. Oracle: published constants, PyTorch, differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from backstory.ops import TABLE, gain, saturation

INF = math.inf


@pytest.mark.parametrize(
    ("name", "others", "params", "expected"),
    [
        ("relu", (), {}, math.sqrt(2)),
        ("leaky_relu", (), {"negative_slope": 0.3}, math.sqrt(2 / (1 + 0.3**2))),
        ("prelu", (0.25,), {}, math.sqrt(2 / (1 + 0.25**2))),
        # The fixed point that selu is made for: it keeps variance 1 (Klambauer et al. 2017, eq. 14).
        ("selu", (), {}, 1.0),
    ],
)
def test_gains_equal_the_published_ones(name, others, params, expected):
    assert gain(TABLE[name], params, *others) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("name", ["elu", "gelu", "silu", "mish", "softplus", "hardswish", "tanh", "sigmoid"])
def test_gains_keep_the_second_moment_of_normal_numbers(name):
    z = torch.randn(1_000_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = getattr(torch if name in ("tanh", "sigmoid") else torch.nn.functional, name)(z)
    assert gain(TABLE[name]) == pytest.approx((found**2).mean().rsqrt().item(), rel=5e-3)


@pytest.mark.parametrize(
    ("name", "params", "expected"),
    [
        ("relu", {}, [(-INF, 0)]),
        ("relu6", {}, [(-INF, 0), (6, INF)]),
        ("hardtanh", {"min_val": -2.0, "max_val": 0.5}, [(-INF, -2), (0.5, INF)]),
        ("hardsigmoid", {}, [(-INF, -3), (3, INF)]),
        ("softshrink", {}, [(-0.5, 0.5)]),
        ("leaky_relu", {"negative_slope": 0.2}, []),
        ("elu", {}, [(-INF, math.log(0.01))]),
        ("celu", {"alpha": 2.0}, [(-INF, 2 * math.log(0.01))]),
        ("softplus", {}, [(-INF, -math.log(99))]),
        ("tanh", {}, [(-INF, -math.atanh(math.sqrt(0.99))), (math.atanh(math.sqrt(0.99)), INF)]),
        ("softsign", {}, [(-INF, -9), (9, INF)]),
    ],
)
def test_saturation_is_where_the_slope_is_below_a_hundredth(name, params, expected):
    found = saturation(TABLE[name], params)
    assert len(found) == len(expected)
    np.testing.assert_allclose(np.array(found).reshape(-1, 2), np.array(expected).reshape(-1, 2), atol=1e-8)


def test_functions_with_a_dip_are_flat_at_its_bottom_too():
    inner = [pair for pair in saturation(TABLE["silu"]) if -INF not in pair]
    assert len(inner) == 1
    assert inner[0][0] < -1.2784645 < inner[0][1]
