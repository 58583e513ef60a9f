"""Weights computed from others, against PyTorch's parametrizations."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from support import close

import backstory
from backstory import func, nn, optim
from backstory.errors import ArgumentError, BoundsError
from backstory.nn.utils import parametrizations, parametrize, weight_norm

CASES = [
    ("Linear", (3, 4), "weight", 0, (5, 3)),
    ("Linear", (3, 4), "weight", 1, (5, 3)),
    ("Linear", (3, 4), "weight", -2, (5, 3)),
    ("Linear", (3, 4), "weight", None, (5, 3)),
    ("Linear", (3, 4), "bias", 0, (5, 3)),
    ("Conv2d", (2, 3, 2), "weight", 0, (2, 2, 4, 5)),
    ("LSTM", (3, 4), "weight_hh_l0", 0, (5, 2, 3)),
]


def twins(name, arguments, parameter, dim):
    mine = parametrizations.weight_norm(getattr(nn, name)(*arguments).double(), parameter, dim)
    theirs = torch.nn.utils.parametrizations.weight_norm(
        getattr(torch.nn, name)(*arguments).double(), parameter, dim
    )
    assert sorted(mine.state_dict()) == sorted(theirs.state_dict())
    theirs.load_state_dict({key: torch.tensor(value.numpy()) for key, value in mine.state_dict().items()})
    return mine, theirs


@pytest.mark.parametrize(("name", "arguments", "parameter", "dim", "shape"), CASES, ids=str)
def test_weight_norm_trains_as_in_pytorch(name, arguments, parameter, dim, shape, rng):
    mine, theirs = twins(name, arguments, parameter, dim)
    assert repr(mine) == repr(theirs).replace("Parametrized", "")
    close(getattr(mine, parameter).detach().numpy(), getattr(theirs, parameter).detach().numpy())
    data = rng.normal(size=shape)
    ours, reference = optim.SGD(mine.parameters(), lr=0.1), torch.optim.SGD(theirs.parameters(), lr=0.1)
    for _ in range(5):
        outs = [mine(backstory.tensor(data)), theirs(torch.tensor(data))]
        loss, expected = ((out[0] if isinstance(out, tuple) else out).square().mean() for out in outs)
        close(loss.detach().numpy(), expected.detach().numpy(), rtol=1e-11)
        for optimizer, value in ((ours, loss), (reference, expected)):
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
    for key, value in mine.state_dict().items():
        close(value.numpy(), theirs.state_dict()[key].numpy(), rtol=1e-10)


def test_a_weight_is_computed_whenever_it_is_read_and_can_be_assigned():
    layer = weight_norm(nn.Linear(2, 1, bias=False))
    layer.weight = backstory.tensor([[3.0, 4.0]])
    np.testing.assert_allclose(layer.parametrizations.weight.original0.detach().numpy(), [[5.0]])
    with backstory.no_grad():
        layer.parametrizations.weight.original0.mul_(2)
    np.testing.assert_allclose(layer.weight.detach().numpy(), [[6.0, 8.0]])
    assert not hasattr(layer, "wieght")


@pytest.mark.parametrize("again", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_copy_computes_its_weight_from_originals_of_its_own(again):
    layer = weight_norm(nn.Linear(2, 3))
    twin = again(layer)
    np.testing.assert_array_equal(twin.weight.detach().numpy(), layer.weight.detach().numpy())
    with backstory.no_grad():
        twin.parametrizations.weight.original0.zero_()
    assert (layer.weight.detach().numpy() != 0).all()


def test_removing_leaves_a_parameter_of_the_present_value():
    layer = weight_norm(nn.Linear(2, 3))
    weight = layer.weight.detach().numpy().copy()
    assert parametrize.is_parametrized(layer)
    assert not parametrize.is_parametrized(layer, "bias")
    assert parametrize.remove_parametrizations(layer, "weight") is layer
    assert sorted(layer.state_dict()) == ["bias", "weight"]
    np.testing.assert_array_equal(layer.weight.detach().numpy(), weight)
    assert isinstance(layer.weight, nn.Parameter)
    assert not parametrize.is_parametrized(layer)
    assert repr(layer) == repr(nn.Linear(2, 3))


def test_transforms_take_the_originals_as_arguments():
    layer = weight_norm(nn.Linear(2, 3)).double()
    x = backstory.ones(4, 2).double()
    originals = {name: p.detach() for name, p in layer.named_parameters()}
    gradients = func.grad(lambda given: func.functional_call(layer, given, x).square().sum())(originals)
    layer(x).square().sum().backward()
    for name, p in layer.named_parameters():
        close(gradients[name].numpy(), p.grad.numpy())


def test_a_parametrization_without_an_inverse_starts_from_the_value():
    class Symmetric(nn.Module):
        def forward(self, x):
            return x.tril() + x.tril(-1).T

    layer = parametrize.register_parametrization(nn.Linear(3, 3), "weight", Symmetric())
    weight = layer.weight.detach().numpy()
    np.testing.assert_array_equal(weight, weight.T)
    assert "parametrizations.weight.original" in layer.state_dict()


def test_refusals_say_what_to_write_instead():
    layer = weight_norm(nn.Linear(2, 3))
    with pytest.raises(ArgumentError, match="computed from others already"):
        weight_norm(layer)
    with pytest.raises(ArgumentError, match=r"\['weight', 'bias'\]"):
        weight_norm(nn.Linear(2, 3), "wieght")
    with pytest.raises(BoundsError, match="has 2 axes"):
        weight_norm(nn.Linear(2, 3), dim=2)
    with pytest.raises(ArgumentError, match="makes shape"):
        parametrize.register_parametrization(nn.Linear(2, 3), "weight", nn.Flatten(0))
    with pytest.raises(ArgumentError, match="not computed"):
        parametrize.remove_parametrizations(layer, "bias")
    with pytest.raises(AttributeError, match="'Linear' object has no attribute 'nothing'"):
        layer.nothing  # noqa: B018
