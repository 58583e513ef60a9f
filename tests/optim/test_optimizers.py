"""Fifty steps of every optimizer against PyTorch's, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from optim.rules import MAXIMIZE, SETTINGS
from support import close

import backstory
from backstory import errors, nn
from backstory.optim import SGD, Adagrad, Adam, AdamW, NAdam, RMSprop

KINDS = [SGD, Adam, AdamW, NAdam, RMSprop, Adagrad]
START = [np.array([[1.0, -2.0], [0.5, 3.0]]), np.array([0.1, -0.3]), np.array(2.0)]


@pytest.fixture(autouse=True)
def _float64_throughout():
    """PyTorch keeps NAdam's product of μ in its default dtype: in float32 it would lose half the digits."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


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


@pytest.mark.parametrize(("kind", "settings"), MAXIMIZE, ids=[f"{k.__name__}-{s}" for k, s in MAXIMIZE])
def test_fifty_steps_uphill_equal_pytorch(kind, settings):
    mine, theirs = leaves()
    optimizer = kind(mine, **settings, maximize=True)
    reference = getattr(torch.optim, kind.__name__)(theirs, **settings, maximize=True)
    for _ in range(50):
        for o, parameters in ((optimizer, mine), (reference, theirs)):
            o.zero_grad()
            (-loss(*parameters)).backward()
            o.step()
        for x, y in zip(mine, theirs, strict=True):
            close(x.detach().numpy(), y.detach().numpy(), rtol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_defaults_are_pytorchs(kind):
    theirs = getattr(torch.optim, kind.__name__)([torch.zeros(1)]).defaults
    mine = kind([backstory.zeros(1)]).defaults
    assert mine == {key: theirs[key] for key in mine}
    # What is left decides how PyTorch computes, and not what.
    assert theirs.keys() - mine.keys() <= {"foreach", "fused", "capturable", "differentiable"}


@pytest.mark.parametrize("kind", KINDS)
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


@pytest.mark.parametrize("kind", KINDS)
def test_a_parameter_without_a_gradient_does_not_move_and_takes_no_step(kind):
    x, y = backstory.ones(2, requires_grad=True), backstory.ones(2, requires_grad=True)
    optimizer = kind([x, y], lr=0.1, weight_decay=0.5)
    (x * x).sum().backward()
    optimizer.step()
    assert y.tolist() == [1.0, 1.0]
    assert x.tolist() != [1.0, 1.0]
    assert optimizer.state[x]["step"] == 1
    assert optimizer.state[y]["step"] == 0


@pytest.mark.parametrize(("kind", "settings"), SETTINGS)
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


def advance(optimizer, parameters, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        loss(*parameters).backward()
        optimizer.step()


@pytest.mark.parametrize(("kind", "settings"), SETTINGS, ids=[f"{k.__name__}-{s}" for k, s in SETTINGS])
def test_a_loaded_state_goes_on_bit_for_bit(kind, settings):
    first, _ = leaves()
    optimizer = kind(first, **settings)
    advance(optimizer, first, 3)
    saved = optimizer.state_dict()
    values = [p.detach().clone() for p in first]
    advance(optimizer, first, 4)
    second = [value.requires_grad_() for value in values]
    other = kind(second, **{**settings, "lr": 0.9})
    other.load_state_dict(saved)
    advance(other, second, 4)
    for x, y in zip(first, second, strict=True):
        np.testing.assert_array_equal(x.detach().numpy(), y.detach().numpy())


def test_a_state_dict_is_laid_out_as_pytorchs():
    mine, theirs = leaves()
    ours = Adam([{"params": mine[:1], "lr": 0.1}, {"params": mine[1:]}])
    reference = torch.optim.Adam([{"params": theirs[:1], "lr": 0.1}, {"params": theirs[1:]}])
    advance(ours, mine, 2)
    advance(reference, theirs, 2)
    saved, expected = ours.state_dict(), reference.state_dict()
    assert [group["params"] for group in saved["param_groups"]] == [[0], [1, 2]]
    assert [group["lr"] for group in saved["param_groups"]] == [0.1, 0.001]
    assert saved["state"].keys() == expected["state"].keys()
    for number, state in expected["state"].items():
        for key in ("exp_avg", "exp_avg_sq"):
            close(saved["state"][number][key].numpy(), state[key].numpy())
        assert saved["state"][number]["step"] == int(state["step"])


def test_a_state_that_does_not_fit_is_refused_and_nothing_changes():
    w, b = backstory.ones(2, 3, requires_grad=True), backstory.ones(3, requires_grad=True)
    optimizer = Adam([w, b], lr=0.5)
    before = optimizer.state[w]
    with pytest.raises(errors.ArgumentError, match=r"groups of \[1\] parameters"):
        optimizer.load_state_dict(Adam([backstory.ones(2, 3)], lr=0.1).state_dict())
    with pytest.raises(errors.ShapeError, match=r"exp_avg has shape \(4,\)"):
        optimizer.load_state_dict(Adam([backstory.ones(2, 3), backstory.ones(4)], lr=0.1).state_dict())
    assert optimizer.state[w] is before
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_a_group_can_be_added_later():
    w, b = backstory.ones(2, requires_grad=True), backstory.ones(2, requires_grad=True)
    optimizer = SGD([w], lr=0.1, momentum=0.9)
    optimizer.add_param_group({"params": b, "lr": 1.0})
    (w * b).sum().backward()
    optimizer.step()
    assert (w.tolist(), b.tolist()) == (pytest.approx([0.9, 0.9]), [0.0, 0.0])
    assert optimizer.param_groups[1]["momentum"] == 0.9


@pytest.mark.parametrize(
    ("group", "match"),
    [
        (lambda w, b: {"lr": 0.1}, "names its parameters"),
        (lambda w, b: {"params": [b], "learning_rate": 0.1}, "no such setting"),
        (lambda w, b: {"params": [b, b]}, "twice"),
        (lambda w, b: {"params": [b, w]}, "twice"),
        (lambda w, b: {"params": [b], "lr": -1.0}, "lr=-1"),
    ],
)
def test_a_group_that_makes_no_sense_is_refused_and_nothing_changes(group, match):
    w, b = backstory.ones(2, requires_grad=True), backstory.ones(2, requires_grad=True)
    optimizer = SGD([w], lr=0.1)
    with pytest.raises(errors.ArgumentError, match=match):
        optimizer.add_param_group(group(w, b))
    assert len(optimizer.param_groups) == 1
    assert list(optimizer.state) == [w]


def test_a_closure_computes_the_gradients_and_its_loss_comes_back():
    x = backstory.tensor([3.0], requires_grad=True)
    optimizer = SGD([x], lr=0.5)

    def closure():
        optimizer.zero_grad()
        value = (x * x).sum()
        value.backward()
        return value

    assert optimizer.step(closure).item() == 9.0
    assert x.tolist() == [0.0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_of_a_parameter_without_axes_stays_arrays(kind):
    x = backstory.tensor(2.0, requires_grad=True)
    optimizer = kind([x], lr=0.1)
    (x * x).backward()
    optimizer.step()
    for value in optimizer.state[x].values():
        assert isinstance(value, (int, float, np.ndarray))
        assert not isinstance(value, np.generic)
