"""Every operation here that PyTorch's ``op_db`` knows, on all of its sample inputs in float64."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import backstory
from oracle.coverage import COVERED, UNTRIED
from oracle.opinfo import Trial, converted, database, errors, samples


# How many samples and error inputs of each operation are tried, written by `python -m oracle.record`.
RECORDED = json.loads(Path(__file__).with_name("covered.json").read_text())


def test_every_function_that_pytorch_has_samples_of_is_tried():
    for name in backstory.__all__:
        for entry in (name, f"nn.functional.{name}", f"linalg.{name}"):
            assert entry not in database() or entry in COVERED or entry in UNTRIED, entry


def test_coverage_does_not_shrink():
    for name, (count, refused) in RECORDED.items():
        assert name in COVERED
        assert len(samples(database()[name])) >= count, name
        assert len(errors(database()[name])) >= refused, name
    assert set(RECORDED) == set(COVERED), "newly covered: run `python -m oracle.record` in tests"


@pytest.mark.parametrize("name", COVERED)
def test_forward(name):
    info = database()[name]
    for sample in samples(info):
        Trial(info, COVERED[name], sample).check_forward()


@pytest.mark.parametrize("name", COVERED)
def test_gradients_first_and_second(name):
    info = database()[name]
    if info.supports_autograd:
        for sample in samples(info):
            Trial(info, COVERED[name], sample).check_gradients(second=info.supports_gradgrad)


@pytest.mark.parametrize("name", COVERED)
def test_forward_mode(name):
    info = database()[name]
    if info.supports_forward_ad:
        for sample in samples(info):
            Trial(info, COVERED[name], sample).check_forward_mode()


@pytest.mark.parametrize("name", COVERED)
def test_error_inputs_raise(name):
    for error in errors(database()[name]):
        sample = error.sample_input
        with pytest.raises((backstory.errors.BackstoryError, TypeError)):
            COVERED[name](
                converted(sample.input), *converted(list(sample.args)), **converted(dict(sample.kwargs))
            )
