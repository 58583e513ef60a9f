"""Pictures of functions: curves are the functions' and the engine's derivatives; texts in every script."""

from __future__ import annotations

import io

import numpy as np
import pytest

import backstory
from backstory import nn, plots
from backstory.errors import ArgumentError
from backstory.plots.fonts import families


def drawn(axes):
    return axes.lines[-1] if len(axes.lines) < 4 else axes.lines[2]


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "sigmoid", "tanh", "exp"])
def test_a_function_stands_beside_its_derivative(name):
    left, right = plots.activation(name).axes
    x, y = next(line for line in left.lines if len(line.get_xdata()) > 100).get_data()
    with backstory.no_grad():
        np.testing.assert_array_equal(y, getattr(backstory, name)(backstory.tensor(np.asarray(x))).numpy())
    x, slope = next(line for line in right.lines if len(line.get_xdata()) > 100).get_data()
    t = backstory.tensor(np.nan_to_num(x), requires_grad=True)
    getattr(backstory, name)(t).sum().backward()
    np.testing.assert_array_equal(slope[~np.isnan(slope)], t.grad.numpy()[~np.isnan(slope)])


def test_a_jump_is_not_drawn_as_a_slope_and_its_value_is_a_dot():
    _, right = plots.activation("relu").axes
    curve, dot = right.lines[-2:]
    assert np.isnan(curve.get_ydata()).sum() == 1
    assert (dot.get_xdata().tolist(), dot.get_ydata().tolist()) == ([0.0], [0.0])
    with backstory.relu_derivative_at_zero(1.0):
        assert plots.activation("relu").axes[1].lines[-1].get_ydata().tolist() == [1.0]


def test_several_at_once_are_named_with_their_formulas():
    def twice(x):
        return 2 * x

    figure = plots.activation("relu", nn.LeakyReLU(0.2), twice)
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert texts[:2] == ["relu(x) = max(x, 0)", "derivative = 1[x > 0]"]
    assert "LeakyReLU" in texts[2]
    assert "0.2·min(x, 0)" in texts[2]
    assert texts[4] == "twice"


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ArgumentError, match="no function"):
        plots.activation()
    with pytest.raises(ArgumentError, match="nonsense"):
        plots.activation("nonsense")
    with pytest.raises(ArgumentError, match="entry by entry"):
        plots.activation(lambda x: x.sum())
    with pytest.raises(ArgumentError, match="left to right"):
        plots.activation("relu", low=1, high=1)


def test_the_curve_of_a_network_has_a_dot_and_a_label_at_each_breakpoint():
    figure = plots.piecewise(lambda x: backstory.relu(x) - 2 * backstory.relu(x - 1), -1, 3, name="tent")
    (axes,) = figure.axes
    dots = next(line for line in axes.lines if line.get_marker() == "o")
    assert dots.get_xdata().tolist() == [0.0, 1.0]
    texts = [text.get_text() for text in axes.texts]
    assert {"0", "1", "tent", "3 straight pieces, 2 breakpoints"} <= set(texts)


@pytest.mark.parametrize("form", ["png", "svg"])
@pytest.mark.skipif(not families(), reason="no font with Hangul is installed")
def test_titles_with_hangul_render(form):
    figure = plots.piecewise(lambda x: backstory.relu(x), -1, 1, name="층 이름: 조각별 선형")
    figure.savefig(io.BytesIO(), format=form)  # a missing glyph would warn, and warnings are errors here
