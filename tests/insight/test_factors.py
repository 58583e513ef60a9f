"""The gradient's factors, against matrices multiplied by hand and PyTorch's gradients."""

from __future__ import annotations

import numpy as np
import pytest

import backstory
from backstory import nn
from backstory.errors import ArgumentError
from backstory.insight import gradient_factors


def stack(activation, depth=4, width=6):
    layers = [part for _ in range(depth) for part in (nn.Linear(width, width, dtype="float64"), activation())]
    return nn.Sequential(*layers)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Sigmoid, nn.Tanh, nn.ELU])
def test_the_factors_are_those_of_the_chain_rule_by_hand(activation, rng):
    model, x, upstream = stack(activation), rng.normal(size=(5, 6)), rng.normal(size=(5, 6))
    found = gradient_factors(
        model, backstory.as_tensor(x), lambda out: (out * backstory.as_tensor(upstream)).sum()
    )
    slopes, a = [], backstory.as_tensor(x)
    for layer, act in zip(model[::2], model[1::2], strict=True):
        z = layer(a).detach().requires_grad_()
        a = act(z)
        slopes.append(backstory.autograd.grad(a.sum(), z)[0].numpy())
        a = a.detach()
    g, activations, weights = upstream, [], []
    for slope, layer in zip(reversed(slopes), reversed(list(model[::2])), strict=True):
        through = g * slope
        activations.append(np.linalg.norm(through) / np.linalg.norm(g))
        g = through @ layer.weight.detach().numpy()
        weights.append(np.linalg.norm(g) / np.linalg.norm(through))
    np.testing.assert_allclose(found.activations, activations[::-1], rtol=1e-12)
    np.testing.assert_allclose(found.weights, weights[-2::-1], rtol=1e-12)
    assert found.product == pytest.approx(found.norms[0] / np.linalg.norm(upstream), rel=1e-12)


def test_norms_are_pytorchs(rng):
    torch = pytest.importorskip("torch")
    model, x = stack(nn.Tanh), rng.normal(size=(5, 6))
    found = gradient_factors(model, backstory.as_tensor(x), lambda out: (out**2).mean())
    ends, a = [], torch.tensor(x)
    for layer in model[::2]:
        z = a @ torch.tensor(layer.weight.detach().numpy()).T + torch.tensor(layer.bias.detach().numpy())
        ends.append(z.requires_grad_())
        a = torch.tanh(z)
    norms = [float(g.norm()) for g in torch.autograd.grad((a**2).mean(), ends)]
    np.testing.assert_allclose(found.norms, norms, rtol=1e-12)


def test_it_touches_no_grad_and_prints_a_line_per_site():
    model = stack(nn.ReLU)
    text = str(gradient_factors(model, backstory.randn(3, 6, dtype="float64"), lambda out: out.sum()))
    assert all(p.grad is None for p in model.parameters())
    assert len(text.splitlines()) == 6
    assert "7/relu#0" in text


def test_a_gradient_of_zero_is_told_as_nan_factors_without_a_warning():
    model = stack(nn.ReLU, depth=3)
    model[2].bias.detach().fill_(-100.0)  # the second site's gates are all closed
    found = gradient_factors(model, backstory.ones(2, 6, dtype="float64"), lambda out: out.sum())
    assert found.activations[1] == 0.0
    assert found.norms[0] == 0.0
    assert np.isnan(found.product)


def test_a_model_without_an_activation_is_refused():
    with pytest.raises(ArgumentError, match="no activation"):
        gradient_factors(nn.Linear(2, 1), backstory.ones(1, 2), lambda out: out.sum())


def test_an_activation_that_runs_again_in_the_same_module_is_a_site_of_its_own():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, x):
            return backstory.tanh(self.layer(backstory.tanh(self.layer(x))))

    assert gradient_factors(Twice(), backstory.ones(1, 2), lambda out: out.sum()).sites == (
        "tanh#0",
        "tanh#1",
    )
