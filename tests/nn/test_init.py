"""Initialisers against the published formulas and PyTorch's own statistics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import backstory
from backstory import nn
from backstory.nn import init

SHAPE = (200, 300)
# 60 000 draws: a relative standard error of 0.3 % on the deviation of a normal sample.
CLOSE = 0.015
BOUNDED = {
    "kaiming_uniform_": ({"nonlinearity": "relu"}, math.sqrt(6 / 300)),
    "kaiming_uniform_ fan_out": ({"nonlinearity": "relu", "mode": "fan_out"}, math.sqrt(6 / 200)),
    "kaiming_uniform_ sqrt5": ({"a": math.sqrt(5)}, 1 / math.sqrt(300)),
    "xavier_uniform_": ({}, math.sqrt(6 / 500)),
    "xavier_uniform_ gain": ({"gain": 5 / 3}, 5 / 3 * math.sqrt(6 / 500)),
    "uniform_": ({"a": -0.25, "b": 0.25}, 0.25),
}
NORMAL = {
    "kaiming_normal_": ({"nonlinearity": "relu"}, math.sqrt(2 / 300)),
    "kaiming_normal_ fan_out": ({"nonlinearity": "relu", "mode": "fan_out"}, math.sqrt(2 / 200)),
    "kaiming_normal_ leaky": ({"a": 0.2}, math.sqrt(2 / (1 + 0.04) / 300)),
    "xavier_normal_": ({}, math.sqrt(2 / 500)),
    "normal_": ({"std": 0.7}, 0.7),
}


def drawn(name: str, arguments: dict) -> np.ndarray:
    x = backstory.zeros(SHAPE, dtype="float64")
    assert getattr(init, name.split()[0])(x, **arguments) is x
    return x.numpy()


@pytest.mark.parametrize("name", BOUNDED)
def test_uniform_initialisers_fill_their_interval_evenly(name):
    arguments, bound = BOUNDED[name]
    x = drawn(name, arguments)
    assert np.abs(x).max() <= bound
    assert np.abs(x).max() > 0.999 * bound
    assert abs(x.mean()) < 0.02 * bound
    assert x.std() == pytest.approx(bound / math.sqrt(3), rel=CLOSE)
    counts, _ = np.histogram(x, bins=10, range=(-bound, bound))
    assert (np.abs(counts / x.size - 0.1) < 0.01).all()


@pytest.mark.parametrize("name", NORMAL)
def test_normal_initialisers_have_their_deviation(name):
    arguments, std = NORMAL[name]
    x = drawn(name, arguments)
    assert x.std() == pytest.approx(std, rel=CLOSE)
    assert abs(x.mean()) < 0.02 * std
    assert (np.abs(x) < std).mean() == pytest.approx(0.6827, abs=0.01)
    assert np.abs(x).max() > 3.5 * std


@pytest.mark.parametrize("name", [*BOUNDED, *NORMAL])
def test_deviations_equal_pytorchs(name):
    arguments, _ = {**BOUNDED, **NORMAL}[name]
    y = torch.empty(SHAPE, dtype=torch.float64)
    getattr(torch.nn.init, name.split()[0])(y, generator=torch.Generator().manual_seed(0), **arguments)
    assert drawn(name, arguments).std() == pytest.approx(y.std().item(), rel=2 * CLOSE)


@pytest.mark.parametrize("nonlinearity", ["linear", "sigmoid", "tanh", "relu", "leaky_relu"])
@pytest.mark.parametrize("param", [None, 0.3])
def test_gains_equal_pytorch(nonlinearity, param):
    assert init.calculate_gain(nonlinearity, param) == torch.nn.init.calculate_gain(nonlinearity, param)


def test_kaiming_keeps_the_second_moment_through_twenty_relu_layers():
    x = backstory.randn(64, 256)
    for _ in range(20):
        weight = init.kaiming_normal_(backstory.zeros(256, 256), nonlinearity="relu")
        x = (x @ weight.T).relu()
    assert 0.3 < (x * x).mean().item() < 3.0


def test_initialisers_leave_requires_grad_and_count_the_change():
    w = nn.Linear(3, 3).weight
    before = w._version
    init.kaiming_normal_(w)
    assert w.requires_grad
    assert w.grad_fn is None
    assert w._version == before + 1
    assert init.zeros_(w).detach().numpy().sum() == 0.0


def test_a_generator_makes_layers_reproducible_and_leaves_the_default_stream_alone():
    state = backstory.manual_seed(5).get_state()
    first = nn.Linear(4, 4, generator=backstory.Generator(3))
    second = nn.Linear(4, 4, generator=backstory.Generator(3))
    np.testing.assert_array_equal(first.weight.detach().numpy(), second.weight.detach().numpy())
    assert backstory.manual_seed(5).get_state() == state
    backstory.manual_seed(1)
    third = nn.Linear(4, 4)
    backstory.manual_seed(1)
    np.testing.assert_array_equal(nn.Linear(4, 4).weight.detach().numpy(), third.weight.detach().numpy())


@pytest.mark.parametrize("features", [1, 10, 1000])
def test_linear_starts_within_the_bounds_of_pytorch(features):
    layer = nn.Linear(features, 50)
    for p in layer.parameters():
        assert np.abs(p.detach().numpy()).max() <= 1 / math.sqrt(features)
        assert np.abs(p.detach().numpy()).max() > 0.8 / math.sqrt(features)


@pytest.mark.parametrize("name", ["selu", "conv1d", "conv2d", "conv_transpose3d"])
def test_further_gains_equal_pytorch(name):
    assert init.calculate_gain(name) == torch.nn.init.calculate_gain(name)


@pytest.mark.parametrize(
    ("name", "shape", "arguments"),
    [
        ("eye_", (3, 5), ()),
        ("ones_", (2, 3), ()),
        ("constant_", (4,), (0.3,)),
        ("dirac_", (6, 2, 3), (3,)),
        ("dirac_", (2, 4, 3, 4), ()),
    ],
)
def test_fixed_initialisers_equal_pytorch(name, shape, arguments):
    mine = getattr(init, name)(backstory.randn(*shape), *arguments)
    theirs = getattr(torch.nn.init, name)(torch.randn(shape), *arguments)
    np.testing.assert_array_equal(mine.numpy(), theirs.numpy())


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 2, 3)])
def test_orthogonal_rows_or_columns_are_orthonormal(shape):
    x = init.orthogonal_(backstory.zeros(*shape, dtype="float64"), gain=2.0).numpy().reshape(shape[0], -1)
    product = x @ x.T if x.shape[0] <= x.shape[1] else x.T @ x
    np.testing.assert_allclose(product, 4 * np.eye(len(product)), atol=1e-12)


def test_truncated_draws_lie_within_and_have_pytorchs_deviation():
    x = init.trunc_normal_(backstory.zeros(300, 300), std=1.0, a=-1.0, b=2.0).numpy()
    y = torch.nn.init.trunc_normal_(torch.zeros(300, 300), std=1.0, a=-1.0, b=2.0)
    assert x.min() >= -1.0
    assert x.max() <= 2.0
    assert x.std() == pytest.approx(y.std().item(), rel=0.02)
    assert x.mean() == pytest.approx(y.mean().item(), abs=0.02)


def test_sparse_columns_have_their_share_of_zeros():
    x = init.sparse_(backstory.ones(10, 20), 0.25).numpy()
    assert ((x == 0).sum(0) == 3).all()


def test_lecun_and_asymmetric_have_their_published_deviations():
    x = init.lecun_normal_(backstory.zeros(300, 400)).numpy()
    assert x.std() == pytest.approx(1 / math.sqrt(400), rel=0.02)
    layer = nn.Linear(400, 3000)
    weight, bias = init.asymmetric_(layer.weight, layer.bias)
    rows = np.column_stack([weight.detach().numpy(), bias.detach().numpy()])
    large = rows > 6 * 0.6007 / 20  # Beta(2, 1) draws stand out
    assert large.sum(1).max() == 1
    assert large.any(1).mean() == pytest.approx(1 - (6 * 0.6007 / 20) ** 2, abs=0.02)
    assert rows[large].mean() == pytest.approx(2 / 3, abs=0.04)
    assert rows[~large].std() == pytest.approx(0.6007 / 20, rel=0.03)
