"""Every operation here that PyTorch's ``op_db`` knows, on all of its sample inputs in float64."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
import torch
from oracle.coverage import COVERED, GAPS, UNTRIED
from oracle.opinfo import Trial, converted, database, errors, samples

import backstory

# How many samples and error inputs of each operation are tried, written by `python -m oracle.record`.
RECORDED = json.loads(Path(__file__).with_name("covered.json").read_text())
FIRST = 10


def test_every_function_that_pytorch_has_samples_of_is_tried():
    for name in backstory.__all__:
        for entry in (name, f"nn.functional.{name}", f"linalg.{name}"):
            assert entry not in database() or entry in COVERED or entry in UNTRIED, entry


def test_coverage_does_not_shrink():
    """In names here; in numbers of samples where they are tried."""
    assert set(RECORDED) == set(COVERED), "dropped, or newly covered: run `python -m oracle.record` in tests"


@pytest.mark.parametrize("name", COVERED)
def test_forward(name):
    info = database()[name]
    assert len(samples(name)) >= RECORDED[name][0]
    for sample in samples(name):
        Trial(info, COVERED[name], sample).check_forward()


# Integers have ties, and which of equals comes first PyTorch leaves open: there values alone are compared.
TIES = {"kthvalue", "median", "sort", "topk"}


@pytest.mark.parametrize("dtype", ["float32", "int64", "int32", "uint8", "bool"])
@pytest.mark.parametrize("name", COVERED)
def test_forward_of_the_first_samples_in_other_dtypes(name, dtype):
    info, kind = database()[name], getattr(torch, dtype)
    if kind not in info.dtypes or (name == "argsort" and dtype != "float32"):
        return
    only = 1 if name in TIES and dtype != "float32" else None
    gap = pytest.raises((AssertionError, backstory.errors.BackstoryError))
    with gap if (name, dtype) in GAPS else contextlib.nullcontext():
        for sample in samples(name, kind)[:FIRST]:
            Trial(info, COVERED[name], sample).check_forward(only)


@pytest.mark.parametrize("name", COVERED)
def test_gradients_first_and_second(name):
    info = database()[name]
    if info.supports_autograd:
        for sample in samples(name):
            Trial(info, COVERED[name], sample).check_gradients(second=info.supports_gradgrad)


@pytest.mark.parametrize("name", COVERED)
def test_forward_mode(name):
    info = database()[name]
    if info.supports_forward_ad:
        for sample in samples(name):
            Trial(info, COVERED[name], sample).check_forward_mode()


@pytest.mark.parametrize("name", COVERED)
def test_error_inputs_raise(name):
    assert len(errors(name)) >= RECORDED[name][1]
    for error in errors(name):
        sample = error.sample_input
        with pytest.raises((backstory.errors.BackstoryError, TypeError)):
            COVERED[name](
                converted(sample.input), *converted(list(sample.args)), **converted(dict(sample.kwargs))
            )
