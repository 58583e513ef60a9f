"""The examples run as they stand there, and say what they promise."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_dosage_network_in_seven_steps(tmp_path, capsys):
    dosage = load("dosage")
    assert len(dosage.STEPS) == 7
    dosage.main(str(tmp_path / "picture.png"))
    told = capsys.readouterr().out
    assert "w1·x + b1      [-0.85, -0.51, 0.17, 0.85]" in told
    assert "relu of it     [0.0, 0.0, 0.17, 0.85]" in told
    assert "effective between 0.47031 and 0.52858, most at 0.5: 1.01" in told
    assert (tmp_path / "picture.png").stat().st_size > 10_000


def test_relu_is_sparse_and_sigmoid_is_squashed(tmp_path, capsys):
    example = load("relu_or_sigmoid")
    made = example.activations()
    relu, sigmoid = made["ReLU"], made["sigmoid"]
    assert relu[0].shape == sigmoid[0].shape == (5, 4)
    assert (relu[0] == 0).any()
    assert set(relu[1].ravel().tolist()) == {0.0, 1.0}
    assert ((sigmoid[0] > 0) & (sigmoid[0] < 1)).all()
    assert sigmoid[1].max() <= 0.25
    example.main(str(tmp_path / "picture.png"))
    assert "sigmoid: 0% of the outputs are 0" in capsys.readouterr().out


@pytest.mark.parametrize("steps", ["60"])
def test_relu_fits_in_straight_pieces_and_softplus_smoothly(tmp_path, capsys, steps):
    load("softplus_or_relu").main(str(tmp_path / "picture.png"), steps)
    told = capsys.readouterr().out
    assert "softplus: loss" in told
    assert "breakpoints at" in told
