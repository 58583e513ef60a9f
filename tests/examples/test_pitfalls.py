"""Each popular snippet is wrong by how much it promises, and the right answer is what a slow look finds."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from backstory import nn

PATH = Path(__file__).parents[2] / "examples" / "pitfalls.py"


@pytest.fixture(scope="module")
def example():
    import sys

    spec = importlib.util.spec_from_file_location("example_pitfalls", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def slow_dead(model, x):
    """Units of one hidden ReLU layer that no sample opens, in NumPy."""
    z = x.numpy() @ model[0].weight.detach().numpy().T + model[0].bias.detach().numpy()
    return int((z <= 0).all(axis=0).sum())


def test_every_snippet_differs_from_what_is_right(example):
    assert len(example.PITFALLS) == 9
    for make in example.PITFALLS:
        pitfall = make()
        assert pitfall.snippet.keys() == pitfall.right.keys()
        assert pitfall.snippet != pitfall.right, pitfall.name


def test_the_right_answer_is_what_a_slow_look_finds(example):
    for bias in (0.0, -1.0, -100.0):
        model = example.network(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10))
        nn.init.constant_(model[0].bias, bias)
        assert example.dead(model, example.data()) == slow_dead(model, example.data())


def test_zeros_of_a_healthy_layer_are_about_half_and_no_unit_is_dead(example):
    pitfall = example.zeros_for_units()
    assert pitfall.snippet["% dead"] == pytest.approx(50, abs=5)
    assert pitfall.right["% dead"] == 0


def test_raw_input_gives_the_share_of_black_pixels_for_any_model(example):
    pitfall = example.raw_input()
    black = 100 * float((example.data(centred=False).numpy() == 0).mean())
    assert list(pitfall.snippet.values()) == pytest.approx([black, black])
    assert pitfall.right["% dead, all dead model"] == 100


def test_sites_are_where_activations_run(example):
    pitfall = example.functional_and_reused()
    assert (pitfall.snippet["sites"], pitfall.right["sites"]) == (1, 3)
    assert "relu/relu#1" in pitfall.why


@pytest.mark.parametrize(
    ("name", "told", "right"),
    [("before_batch_norm", 100, 0), ("training_mode", 0, 100), ("zero_gradient", 100, 0)],
)
def test_the_snippet_is_as_wrong_as_can_be(example, name, told, right):
    pitfall = getattr(example, name)()
    assert (pitfall.snippet["dead units"], pitfall.right["dead units"]) == (told, right)


def test_one_batch_calls_units_dead_that_other_samples_open(example):
    pitfall = example.one_batch()
    assert pitfall.snippet["dead units"] > pitfall.right["dead units"] == 0


def test_units_of_a_convolution_are_channels(example):
    pitfall = example.positions()
    assert (pitfall.snippet["units"], pitfall.right["units"]) == (512, 8)
    assert pitfall.snippet["dead units"] > pitfall.right["dead units"] == 0


def test_measuring_in_training_mode_changes_the_model(example):
    pitfall = example.training_mode()
    assert np.isclose(pitfall.right["running mean"], 20.0)
    assert pitfall.snippet["running mean"] < 19


def test_momentum_moves_what_has_no_gradient(example):
    pitfall = example.gradient_for_update()
    assert pitfall.snippet["units that stand still"] == 100
    assert pitfall.right["units that stand still"] == 0


def test_all_of_it_is_printed(example, capsys):
    example.main()
    told = capsys.readouterr().out
    assert told.count("the snippet says") >= 9
    assert "upstream zero" in told
