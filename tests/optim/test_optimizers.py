"""Fifty steps of every optimizer against PyTorch's, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import close

import backstory
from backstory import nn
from backstory.optim import SGD, Adam

SETTINGS = [
    (SGD, {"lr": 0.05}),
    (SGD, {"lr": 0.05, "weight_decay": 0.1}),
    (SGD, {"lr": 0.05, "momentum": 0.9}),
    (SGD, {"lr": 0.05, "momentum": 0.9, "dampening": 0.3}),
    (SGD, {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
    (SGD, {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1}),
    (SGD, {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1, "nesterov": True}),
    (SGD, {"lr": 0.05, "momentum": 0.5, "dampening": 0.5, "weight_decay": 0.01}),
    (SGD, {"lr": 0.0, "momentum": 0.9}),
    (Adam, {"lr": 0.05}),
    (Adam, {"lr": 0.05, "weight_decay": 0.1}),
    (Adam, {"lr": 0.05, "betas": (0.5, 0.9)}),
    # A step of lr·sign(g) must not land on g = 0, where rounding decides; 0.037 divides no start value.
    (Adam, {"lr": 0.037, "betas": (0.0, 0.0)}),
    (Adam, {"lr": 0.05, "eps": 0.1}),
]
START = [np.array([[1.0, -2.0], [0.5, 3.0]]), np.array([0.1, -0.3]), np.array(2.0)]


def leaves() -> tuple[list, list]:
    mine = [backstory.tensor(x, requires_grad=True) for x in START]
    return mine, [torch.tensor(x, requires_grad=True) for x in START]


def loss(w, b, s):
    return ((w @ w.T - 1.0) ** 2).sum() * 0.1 + ((b * s) ** 2).sum() + (s * 0.5 - 1.0) ** 2


@pytest.mark.parametrize(("kind", "settings"), SETTINGS, ids=[f"{k.__name__}-{s}" for k, s in SETTINGS])
def test_fifty_steps_equal_pytorch(kind, settings):
    mine, theirs = leaves()
    optimizer = kind(mine, **settings)
    reference = getattr(torch.optim, kind.__name__)(theirs, **settings)
    for _ in range(50):
        for o, parameters in ((optimizer, mine), (reference, theirs)):
            o.zero_grad()
            loss(*parameters).backward()
            o.step()
        for x, y in zip(mine, theirs, strict=True):
            close(x.detach().numpy(), y.detach().numpy(), rtol=1e-11)


@pytest.mark.parametrize("kind", [SGD, Adam])
def test_groups_have_their_own_settings_which_may_change_on_the_way(kind):
    mine, theirs = leaves()

    def groups(parameters):
        return [{"params": parameters[:1], "lr": 0.01}, {"params": parameters[1:], "weight_decay": 0.1}]

    optimizer = kind(groups(mine), lr=0.05)
    reference = getattr(torch.optim, kind.__name__)(groups(theirs), lr=0.05)
    for step in range(20):
        for o, parameters in ((optimizer, mine), (reference, theirs)):
            o.param_groups[0]["lr"] = 0.01 / (1 + step)
            o.zero_grad()
            loss(*parameters).backward()
            o.step()
    for x, y in zip(mine, theirs, strict=True):
        close(x.detach().numpy(), y.detach().numpy(), rtol=1e-11)


def test_momentum_may_be_switched_on_on_the_way_as_in_pytorch():
    mine, theirs = leaves()
    optimizer, reference = SGD(mine, lr=0.01), torch.optim.SGD(theirs, lr=0.01)
    for step in range(10):
        for o, parameters in ((optimizer, mine), (reference, theirs)):
            o.param_groups[0]["momentum"] = 0.9 if step >= 3 else 0.0
            o.zero_grad()
            loss(*parameters).backward()
            o.step()
    for x, y in zip(mine, theirs, strict=True):
        close(x.detach().numpy(), y.detach().numpy(), rtol=1e-11)


@pytest.mark.parametrize("kind", [SGD, Adam])
def test_a_parameter_without_a_gradient_does_not_move_and_takes_no_step(kind):
    x, y = backstory.ones(2, requires_grad=True), backstory.ones(2, requires_grad=True)
    optimizer = kind([x, y], lr=0.1, weight_decay=0.5)
    (x * x).sum().backward()
    optimizer.step()
    assert y.tolist() == [1.0, 1.0]
    assert x.tolist() != [1.0, 1.0]
    assert optimizer.state[x]["step"] == 1
    assert optimizer.state[y]["step"] == 0


@pytest.mark.parametrize(("kind", "settings"), SETTINGS[:12])
def test_a_step_moves_the_memory_itself_keeps_the_dtype_and_leaves_the_gradient_alone(kind, settings):
    x = nn.Parameter(backstory.ones(3))
    memory = x.detach().numpy()
    optimizer = kind([x], **settings)
    for _ in range(3):
        optimizer.zero_grad()
        (x * x).sum().backward()
        before = x.grad.numpy().copy()
        optimizer.step()
        np.testing.assert_array_equal(x.grad.numpy(), before)
    assert x.detach().numpy() is memory
    assert x.dtype == backstory.float32
    assert x._version >= 3
    assert x.is_leaf


@pytest.mark.parametrize(("kind", "settings"), SETTINGS)
def test_the_rule_is_pure_and_the_parameter_moves_by_the_change_that_observers_see(kind, settings):
    x = backstory.tensor([1.0, -2.0], dtype="float64", requires_grad=True)
    optimizer = kind([x], **settings)
    optimizer.changes = {}
    for _ in range(3):
        optimizer.zero_grad()
        (x**3).sum().backward()
        before = x.detach().numpy().copy()
        optimizer.step()
        np.testing.assert_array_equal(x.detach().numpy(), before + optimizer.changes[x])


def test_the_state_exists_before_the_first_step():
    x = backstory.ones(2, requires_grad=True)
    assert Adam([x]).state[x]["exp_avg_sq"].shape == (2,)
    assert SGD([x], momentum=0.9).state[x]["momentum_buffer"].shape == (2,)


def test_hooks_run_around_every_step_until_they_are_removed():
    x = backstory.ones(1, requires_grad=True)
    optimizer, seen = SGD([x], lr=1.0), []
    handles = [
        optimizer.register_step_pre_hook(lambda _: seen.append(("before", x.item()))),
        optimizer.register_step_post_hook(lambda _: seen.append(("after", x.item()))),
    ]
    x.sum().backward()
    optimizer.step()
    for handle in handles:
        handle.remove()
        handle.remove()
    optimizer.step()
    assert seen == [("before", 1.0), ("after", 0.0)]
