"""The exact curve of a ReLU network against the network itself, and known curves."""

from __future__ import annotations

import numpy as np
import pytest

import backstory
from backstory import nn
from backstory.errors import ArgumentError, ShapeError
from backstory.insight import piecewise_linear


def network(depth, units=9, dtype="float64", slope=None):
    backstory.manual_seed(depth)
    act = nn.ReLU if slope is None else lambda: nn.LeakyReLU(slope)
    layers, width = [], 1
    for _ in range(depth):
        layers += [nn.Linear(width, units, dtype=dtype), act()]
        width = units
    return nn.Sequential(*layers, nn.Linear(width, 1, dtype=dtype))


@pytest.mark.parametrize("net", [network(1), network(2), network(3), network(2, slope=0.2)])
def test_the_curve_is_the_networks_everywhere_and_bends_where_it_bends(net):
    curve = piecewise_linear(net, -6.0, 6.0)
    x = np.linspace(-6, 6, 5001)
    with backstory.no_grad():
        y = net(backstory.as_tensor(x[:, None])).numpy()[:, 0]
    np.testing.assert_allclose(curve(x), y, atol=1e-12)
    assert np.all(np.diff(curve.xs) > 0)
    assert np.all(np.abs(np.diff(curve.slopes)) > 0)
    second = np.abs(np.diff(y, 2))
    bends = x[1:-1][second > 1e-9]
    assert all(np.abs(curve.breaks - bend).min() <= x[1] - x[0] for bend in bends)


def test_breakpoints_of_one_layer_are_minus_b_over_w():
    net = network(1)
    w, b = net[0].weight.detach().numpy()[:, 0], net[0].bias.detach().numpy()
    expected = np.sort([r for r in -b / w if -6 < r < 6])
    np.testing.assert_allclose(piecewise_linear(net, -6, 6).breaks, expected, rtol=1e-12)


def test_the_dosage_network_has_the_breakpoints_that_its_weights_give():
    def dose(x):
        return backstory.relu(-40.8 * backstory.relu(1.7 * x - 0.85) + 2.7 * (12.6 * x + 0.0) - 16)

    curve = piecewise_linear(dose, 0, 1)
    np.testing.assert_allclose(curve.breaks, [0.47031, 0.5, 0.52858], atol=5e-6)
    np.testing.assert_allclose(curve.ys, [0, 0, 1.01, 0, 0], atol=1e-12)


def test_float32_parameters_give_float32_accuracy():
    curve = piecewise_linear(network(2, dtype="float32"), -3, 3)
    assert len(curve.breaks) > 3


def test_a_constant_and_a_straight_line_have_no_breakpoints():
    assert piecewise_linear(lambda x: backstory.tensor(2.0), 0, 1).ys.tolist() == [2.0, 2.0]
    line = piecewise_linear(lambda x: 3 * x / 2 - 1, 0, 1)
    assert (line.breaks.size, line.slopes.tolist(), line.ys.tolist()) == (0, [1.5], [-1.0, 0.5])


@pytest.mark.parametrize(
    ("function", "breaks"),
    [
        (lambda x: backstory.relu6(2 * x), [0, 3]),
        (lambda x: backstory.hardtanh(x, -2.0, 1.5), [-2, 1.5]),
        (lambda x: backstory.abs(x - 1), [1]),
        (lambda x: backstory.maximum(x, 2 - x), [1]),
        (lambda x: backstory.maximum(x, 0.0), [0]),
        (lambda x: backstory.minimum(x, backstory.tensor([[3.0]])), [3]),
        (lambda x: backstory.prelu(x - 1, backstory.tensor(0.25, dtype="float64")), [1]),
    ],
    ids=["relu6", "hardtanh", "abs", "maximum", "maximum with a number", "minimum", "prelu"],
)
def test_every_piecewise_linear_operation_bends_where_it_must(function, breaks):
    curve = piecewise_linear(function, -4.0, 4.5)
    np.testing.assert_allclose(curve.breaks, breaks, atol=1e-12)
    x = np.linspace(-4, 4.5, 161)
    values = [function(backstory.tensor([[v]], dtype="float64")).item() for v in x]
    np.testing.assert_allclose(curve(x), values, atol=1e-12)


def test_what_is_not_piecewise_linear_is_refused():
    with pytest.raises(ArgumentError, match="sigmoid"):
        piecewise_linear(lambda x: x.sigmoid(), 0, 1)
    with pytest.raises(ArgumentError, match="gelu"):
        piecewise_linear(lambda x: backstory.gelu(x), 0, 1)
    with pytest.raises(ArgumentError, match="mul"):
        piecewise_linear(lambda x: x * x, 0, 1)
    with pytest.raises(ShapeError, match="one value at each point"):
        piecewise_linear(nn.Linear(1, 3, dtype="float64"), 0, 1)
    with pytest.raises(ArgumentError, match="left to right"):
        piecewise_linear(lambda x: x, 1, 0)
