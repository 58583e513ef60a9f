"""Clipping against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import close

import backstory
from backstory import nn
from backstory.errors import ArgumentError, ShapeError
from backstory.nn.utils import (
    clip_grad_norm_,
    clip_grad_value_,
    parameters_to_vector,
    vector_to_parameters,
)

GRADIENTS = {
    "large": [np.array([3.0, -4.0]), np.array([[12.0]])],
    "small": [np.array([1e-3, 2e-3])],
    "zero": [np.zeros(3)],
    "0-d": [np.array(5.0)],
    "nan": [np.array([np.nan, 1.0]), np.array([2.0])],
    "inf": [np.array([np.inf, 1.0]), np.array([2.0])],
}


@pytest.mark.parametrize("max_norm", [0.0, 0.5, 1.0, 1e3])
@pytest.mark.parametrize("name", GRADIENTS)
def test_clipping_equals_pytorch(name, max_norm):
    mine, theirs = [], []
    for g in GRADIENTS[name]:
        x, y = backstory.tensor(np.zeros(g.shape), requires_grad=True), torch.zeros(g.shape).double()
        x.grad, y.grad = backstory.tensor(g), torch.tensor(g)
        mine.append(x)
        theirs.append(y)
    norm = clip_grad_norm_(mine, max_norm)
    expected = torch.nn.utils.clip_grad_norm_(theirs, max_norm)
    close(norm.numpy(), expected.numpy())
    for x, y in zip(mine, theirs, strict=True):
        close(x.grad.numpy(), y.grad.numpy())


def test_clipping_skips_parameters_without_a_gradient_and_takes_iterators():
    x, y = backstory.ones(1, requires_grad=True), backstory.ones(1, requires_grad=True)
    (x * 10.0).sum().backward()
    assert clip_grad_norm_(iter([x, y]), 1.0).item() == 10.0
    assert x.grad.item() == pytest.approx(1.0, rel=1e-6)
    assert y.grad is None
    assert clip_grad_norm_([y], 1.0).item() == 0.0


def test_clipping_float32_stays_float32_and_counts_the_change():
    x = backstory.ones(4, requires_grad=True)
    (x * 10.0).sum().backward()
    before = x.grad._version
    assert clip_grad_norm_(x, 1.0).dtype == backstory.float32
    assert x.grad.dtype == backstory.float32
    assert x.grad._version == before + 1


@pytest.mark.parametrize("bound", [0.0, 0.5, 10.0])
def test_clipping_values_equals_pytorch(bound):
    x, y = backstory.zeros(3, requires_grad=True), torch.zeros(3)
    x.grad, y.grad = backstory.tensor([-1.0, 0.25, np.nan]), torch.tensor([-1.0, 0.25, np.nan])
    before = x.grad._version
    clip_grad_value_([x], bound)
    torch.nn.utils.clip_grad_value_([y], bound)
    close(x.grad.numpy(), y.grad.numpy(), rtol=1e-7)
    assert x.grad._version == before + 1
    with pytest.raises(ArgumentError, match="not negative"):
        clip_grad_value_([x], -1.0)


def test_parameters_go_into_a_vector_and_back():
    first, second = nn.Linear(3, 2), nn.Linear(3, 2)
    vector = parameters_to_vector(first.parameters())
    vector_to_parameters(vector, second.parameters())
    np.testing.assert_array_equal(parameters_to_vector(second.parameters()).tolist(), vector.tolist())
    assert second.weight.requires_grad
    assert second.weight.is_leaf
    (vector * vector).sum().backward()
    close(first.bias.grad.numpy(), 2 * first.bias.detach().numpy(), rtol=1e-6)
    with pytest.raises(ShapeError, match="8 entries"):
        vector_to_parameters(vector[:4], second.parameters())
