"""Layers, losses and whole networks against PyTorch with the same weights."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from support import close

import backstory
from backstory import nn


def twins(*layers: tuple) -> tuple[nn.Sequential, torch.nn.Sequential]:
    """The same network in both libraries, in float64, with the same weights."""
    mine = nn.Sequential(*(getattr(nn, name)(*args) for name, *args in layers)).double()
    theirs = torch.nn.Sequential(*(getattr(torch.nn, name)(*args) for name, *args in layers)).double()
    weights = {key: torch.tensor(value.numpy().copy()) for key, value in mine.state_dict().items()}
    theirs.load_state_dict(weights)
    return mine, theirs


NETWORKS = {
    "Linear": [("Linear", 3, 2)],
    "Linear without bias": [("Linear", 3, 2, False)],
    "ReLU": [("Linear", 3, 5), ("ReLU",), ("Linear", 5, 2)],
    "LeakyReLU": [("Linear", 3, 5), ("LeakyReLU", 0.2), ("Linear", 5, 2)],
    "Sigmoid": [("Linear", 3, 5), ("Sigmoid",), ("Linear", 5, 2)],
    "Tanh": [("Linear", 3, 5), ("Tanh",), ("Linear", 5, 2)],
    "no features": [("Linear", 3, 0), ("ReLU",), ("Linear", 0, 2)],
    "deep": [("Linear", 3, 8), ("ReLU",)] + [("Linear", 8, 8), ("ReLU",)] * 6 + [("Linear", 8, 2)],
}


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("shape", [(4, 3), (3,), (2, 5, 3), (0, 3), (1, 3)], ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_equal_pytorch_in_outputs_and_all_gradients(name, shape, rng):
    mine, theirs = twins(*NETWORKS[name])
    data = rng.normal(size=shape)
    x, y = backstory.tensor(data, requires_grad=True), torch.tensor(data, requires_grad=True)
    out, expected = mine(x), theirs(y)
    close(out.detach().numpy(), expected.detach().numpy())
    upstream = rng.normal(size=out.shape)
    out.backward(upstream)
    expected.backward(torch.tensor(upstream))
    close(x.grad.numpy(), y.grad.numpy())
    for p, q in zip(mine.parameters(), theirs.parameters(), strict=True):
        close(p.grad.numpy(), q.grad.numpy())


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_loss_modules_equal_pytorch(reduction, rng):
    data, labels = rng.normal(size=(6, 4)), rng.integers(0, 4, 6)
    target = rng.normal(size=(6, 4))
    for mine, theirs, goal in (
        (nn.CrossEntropyLoss(reduction=reduction), torch.nn.CrossEntropyLoss(reduction=reduction), labels),
        (nn.MSELoss(reduction=reduction), torch.nn.MSELoss(reduction=reduction), target),
    ):
        out, expected = mine(backstory.tensor(data), goal), theirs(torch.tensor(data), torch.tensor(goal))
        close(out.numpy(), expected.numpy())


def test_two_layer_classifier_trains_as_in_pytorch(rng):
    mine, theirs = twins(("Linear", 2, 16), ("ReLU",), ("Linear", 16, 3))
    x, labels = rng.normal(size=(32, 2)), rng.integers(0, 3, 32)
    ours = backstory.optim.SGD(mine.parameters(), lr=0.1, momentum=0.9)
    reference = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9)
    for _ in range(50):
        loss = nn.functional.cross_entropy(mine(backstory.tensor(x)), labels)
        expected = torch.nn.functional.cross_entropy(theirs(torch.tensor(x)), torch.tensor(labels))
        close(loss.detach().numpy(), expected.detach().numpy(), rtol=1e-11)
        for optimizer, value in ((ours, loss), (reference, expected)):
            optimizer.zero_grad()
            value.backward()
            optimizer.step()


def test_parameters_are_named_by_path_and_each_once():
    shared = nn.Linear(2, 2)
    net = nn.Sequential(shared, nn.ReLU(), shared, nn.Sequential(nn.Linear(2, 1, bias=False)))
    assert [name for name, _ in net.named_parameters()] == ["0.weight", "0.bias", "3.0.weight"]
    assert len(net) == 4
    assert net[0] is shared


def test_a_module_used_twice_accumulates_both_uses(rng):
    layer = nn.Linear(2, 2, bias=False, dtype="float64")
    w = torch.tensor(layer.weight.detach().numpy().copy(), requires_grad=True)
    x = rng.normal(size=(3, 2))
    layer(layer(backstory.tensor(x)).relu()).sum().backward()
    (torch.relu(torch.tensor(x) @ w.T) @ w.T).sum().backward()
    close(layer.weight.grad.numpy(), w.grad.numpy())


def test_state_dict_shares_memory_and_load_copies():
    net, other = nn.Linear(2, 2), nn.Linear(2, 2)
    state = net.state_dict()
    other.load_state_dict(state)
    np.testing.assert_array_equal(other.weight.detach().numpy(), net.weight.detach().numpy())
    assert np.shares_memory(state["weight"].numpy(), net.weight.detach().numpy())
    assert not np.shares_memory(other.weight.detach().numpy(), net.weight.detach().numpy())


@pytest.mark.parametrize("again", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_copied_network_has_memory_of_its_own_and_still_trains(again):
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    net(backstory.ones(4, 2)).sum().backward()
    twin = again(net)
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        assert type(q) is nn.Parameter
        assert q.requires_grad
        np.testing.assert_array_equal(q.detach().numpy(), p.detach().numpy())
        np.testing.assert_array_equal(q.grad.numpy(), p.grad.numpy())
        assert not np.shares_memory(q.detach().numpy(), p.detach().numpy())
    optimizer = backstory.optim.SGD(twin.parameters(), lr=0.1)
    before = net[0].weight.detach().numpy().copy()
    optimizer.step()
    np.testing.assert_array_equal(net[0].weight.detach().numpy(), before)
    assert (twin[2].bias.detach().numpy() != net[2].bias.detach().numpy()).all()
    assert twin[0].weight is dict(twin.named_parameters())["0.weight"]


def test_train_and_eval_reach_every_module():
    net = nn.Sequential(nn.Sequential(nn.ReLU()), nn.Tanh())
    assert all(m.training for m in net.modules())
    net.eval()
    assert not any(m.training for m in net.modules())
    assert net.train() is net


def test_reassigning_an_attribute_replaces_what_was_registered():
    net = nn.Sequential(nn.Linear(1, 1))
    net.extra = nn.Parameter(backstory.ones(1))
    net.extra = nn.ReLU()
    assert [name for name, _ in net.named_parameters()] == ["0.weight", "0.bias"]
    assert [name for name, _ in net.named_modules()] == ["", "0", "extra"]


def test_printing_shows_the_structure_as_in_pytorch():
    layers = [("Linear", 2, 3), ("ReLU",), ("LeakyReLU", 0.2)]
    mine, theirs = twins(*layers)
    assert repr(mine) == repr(theirs)
