"""Levels: tensors that hold tensors, so that derivatives nest without touching each other."""

from __future__ import annotations

import numpy as np
import pytest
from support import close

import backstory
from backstory.autograd import grad, new_level
from backstory.tensor import Tensor, wrap


def lift(x: Tensor, number: int) -> Tensor:
    """A leaf of level ``number`` around ``x``."""
    return wrap(x, number).requires_grad_()


def derivative(function, x: Tensor) -> Tensor:
    """f'(x), recorded on the level of ``x``: what a transform ``grad`` will be."""
    with new_level() as level:
        inner = lift(x, level.number)
        out = function(inner)
        if not (isinstance(out, Tensor) and out.level == level.number and out.requires_grad):
            return backstory.zeros_like(x)
        (g,) = grad(out, inner)
    assert g.level == level.number
    return g.array


def test_an_operation_runs_at_the_highest_level_of_its_inputs():
    x = backstory.tensor([1.0, 2.0], requires_grad=True)
    with new_level() as level:
        inner = lift(x, level.number)
        mixed = inner * x
        assert mixed.level == level.number
        assert isinstance(mixed.array, Tensor)
        assert mixed.array.level == 0
        assert (x * x).level == 0
        assert mixed.shape == (2,)
        assert mixed.dtype == backstory.float32


@pytest.mark.parametrize("value", [0.3, -1.2])
def test_the_derivative_of_a_derivative(value):
    x = backstory.tensor(value, dtype="float64")
    second = derivative(lambda a: derivative(lambda b: (b * b * b).exp(), a), x)
    u = value**3
    close(second.item(), np.exp(u) * (9 * value**4 + 6 * value), rtol=1e-12)


def test_the_third_derivative_by_three_levels():
    x = backstory.tensor(0.4, dtype="float64")

    def f(y):
        return y.tanh()

    third = derivative(lambda a: derivative(lambda b: derivative(f, b), a), x)
    t = np.tanh(0.4)
    close(third.item(), -2 * (1 - t**2) * (1 - 3 * t**2), rtol=1e-12)


def test_a_level_0_graph_is_recorded_through_a_level_1_gradient():
    x = backstory.tensor([0.5, -1.0], dtype="float64", requires_grad=True)
    first = derivative(lambda a: (a**3).sum(), x)
    close(first.detach().numpy(), 3 * np.array([0.25, 1.0]))
    first.sum().backward()
    close(x.grad.numpy(), 6 * np.array([0.5, -1.0]))


def test_perturbations_are_not_confused():
    # Siskind & Pearlmutter 2005: d/dx (x · d/dy (x + y)) is 1; confusing the levels gives 2.
    x = backstory.tensor(1.0, dtype="float64")
    result = derivative(lambda a: a * derivative(lambda b: a + b, backstory.tensor(1.0, dtype="float64")), x)
    assert result.item() == 1.0


def test_the_inner_variable_of_equal_value_is_not_the_outer_one():
    x = backstory.tensor(3.0, dtype="float64")
    # d/dx (x · d/dy (x·y) at y = x) = d/dx x² = 2x
    assert derivative(lambda a: a * derivative(lambda b: a * b, a), x).item() == 6.0


def test_no_grad_in_the_inner_level_leaves_the_outer_one_recording():
    x = backstory.tensor(2.0, dtype="float64", requires_grad=True)
    with new_level() as level:
        inner = lift(x, level.number)
        with backstory.no_grad():
            y = inner * inner
        assert not y.requires_grad
        outer = y.array
    assert outer.requires_grad
    outer.backward()
    assert x.grad.item() == 4.0


def test_no_grad_in_the_outer_level_leaves_the_inner_one_recording():
    x = backstory.tensor(2.0, dtype="float64", requires_grad=True)
    with backstory.no_grad(), new_level() as level:
        inner = lift(x, level.number)
        y = inner * inner
        assert y.requires_grad
        (g,) = grad(y, inner)
    assert g.array.item() == 4.0
    assert not g.array.requires_grad


def test_backward_accumulates_into_leaves_of_their_own_level():
    x = backstory.tensor([1.0, 2.0], dtype="float64", requires_grad=True)
    with new_level() as level:
        inner = lift(x, level.number)
        (inner * inner).sum().backward()
        (inner * 3.0).sum().backward()
        assert inner.grad.level == level.number
        close(inner.grad.array.detach().numpy(), np.array([5.0, 7.0]))
        assert x.grad is None


def test_layers_and_losses_run_on_any_level(rng):
    x, labels = rng.normal(size=(4, 3)), rng.integers(0, 2, 4)
    layer = backstory.nn.Linear(3, 2, dtype="float64")

    def loss(a):
        return backstory.nn.functional.cross_entropy(layer(a).relu(), labels)

    direct = backstory.tensor(x, requires_grad=True)
    loss(direct).backward()
    close(derivative(loss, backstory.tensor(x)).detach().numpy(), direct.grad.numpy())


@pytest.mark.parametrize(
    "function",
    [
        lambda x: (x.T @ x).sum(),
        lambda x: x.max(1).values.sum() * x.max(),
        lambda x: x.logsumexp(0).sum(),
        lambda x: (x.log_softmax(1) * x).sum(),
        lambda x: (x[0] * x[:, 1:].sum(1)[1]).sum(),
        lambda x: backstory.where(x > 0, x * x, x.exp()).mean(),
        lambda x: backstory.nn.functional.mse_loss(x, x * x),
        lambda x: (backstory.maximum(x, 0.1) ** 2.5).sum(),
        lambda x: (x.reshape(4, 2).permute(1, 0).expand(3, 2, 4) / (1 + x[0, 0] ** 2)).sum(),
    ],
    ids=["matmul", "max", "logsumexp", "log_softmax", "getitem", "where", "mse", "maximum", "shapes"],
)
def test_gradients_of_level_1_equal_those_of_level_0_and_so_do_second_ones(function, rng):
    x = backstory.tensor(rng.permutation(8).reshape(2, 4) * 0.21 - 0.7, requires_grad=True)
    (direct,) = grad(function(x), x, create_graph=True)
    nested = derivative(function, x)
    close(nested.detach().numpy(), direct.detach().numpy())
    if direct.requires_grad:
        (second,) = grad((direct * direct).sum(), x)
        (nested_second,) = grad((nested * nested).sum(), x)
        close(nested_second.numpy(), second.numpy())
