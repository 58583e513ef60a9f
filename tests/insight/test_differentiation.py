"""The ways to differentiate side by side: values against known ones, and what is told of them."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import backstory
from backstory import plots
from backstory.errors import ArgumentError, ShapeError
from backstory.insight.differentiation import ModeCost, ModeCosts


def swelling(x):
    return (((x**2 + 1).log() * x.tanh()).exp() * x.sigmoid() + x).sqrt()


def test_every_way_gives_the_derivative_and_automatic_ways_give_it_to_rounding():
    found = backstory.compare_differentiation(lambda x: (x * 2).exp(), 0.5)
    exact = 2 * np.exp(1.0)
    assert found.exact
    assert found.method("symbolic").value == pytest.approx(exact, rel=1e-15)
    for way in ("automatic, forward", "automatic, reverse"):
        assert found.method(way).error <= 1e-15 * exact
    best = found.method(next(m.name for m in found.methods if "best" in m.name))
    assert 1e-13 < best.error < 1e-8
    assert 1e-7 < found.best_step < 1e-3


def test_the_difference_is_worse_at_both_ends():
    found = backstory.compare_differentiation(swelling, 1.3)
    largest, smallest = found.errors[0], found.errors[-1]
    assert largest > 1e4 * found.errors.min()
    assert smallest > 1e4 * found.errors.min()


def test_the_symbolic_expression_swells_and_the_automatic_ones_do_not():
    found = backstory.compare_differentiation(swelling, 1.3)
    assert found.size == 10
    assert found.method("symbolic").size > 50
    assert found.method("automatic, reverse").size == 20


def test_it_prints_as_a_table():
    text = str(backstory.compare_differentiation(swelling, 1.3))
    assert "numerical, h = 10⁻⁵ (the best)" in text
    assert "f itself has 10 operations" in text
    assert "× f" in text


def test_without_sympy_errors_are_against_reverse_mode_and_that_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "sympy", None)
    found = backstory.compare_differentiation(lambda x: x.exp(), 0.0)
    assert not found.exact
    assert "pip install 'backstory[symbolic]'" in str(found)
    assert found.method("automatic, reverse").error == 0.0


def test_what_has_no_symbolic_form_is_said():
    found = backstory.compare_differentiation(lambda x: backstory.leaky_relu(x), 1.0)
    assert "leaky_relu has no symbolic form here" in str(found)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ShapeError, match=r"f returned \(2,\)"):
        backstory.compare_differentiation(lambda x: x * backstory.ones(2), 1.0)
    with pytest.raises(ArgumentError, match="two distinct points"):
        backstory.compare_differentiation(lambda x: x.exp(), 1.0, steps=[0.0])
    with pytest.raises(ArgumentError, match="at least one input"):
        backstory.compare_modes(sizes=[0])


def test_jacobians_of_both_modes_are_timed_against_inputs_and_outputs():
    costs = backstory.compare_modes(sizes=(1, 3), fixed=2)
    assert [(c.inputs, c.outputs) for c in costs.costs] == [(1, 2), (3, 2), (2, 1), (2, 3)]
    assert all(c.jvp > 0 and c.vjp > 0 for c in costs.costs)
    assert "Jacobian by JVP" in str(costs)


def test_the_crossing_lies_between_the_sizes_where_the_lead_changes():
    costs = ModeCosts(
        (
            ModeCost(1, 4, 1.0, 4.0),
            ModeCost(4, 4, 4.0, 4.1),
            ModeCost(16, 4, 16.0, 4.0),
            ModeCost(4, 1, 4.0, 1.0),
            ModeCost(4, 2, 4.0, 2.0),
            ModeCost(4, 3, 4.0, 3.0),
        )
    )
    assert 4 < costs.crossing("inputs") < 4.2
    assert costs.crossing("outputs") is None
    assert len(plots.modes(costs).axes) == 2


@pytest.mark.parametrize("function", [swelling, lambda x: x * 3.0, lambda x: x.relu()])
def test_the_picture_bears_every_error(function):
    found = backstory.compare_differentiation(function, 1.0)
    (axes,) = plots.differentiation(found).axes
    assert axes.get_xscale() == axes.get_yscale() == "log"
