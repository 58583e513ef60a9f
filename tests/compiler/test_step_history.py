"""Results of a compiled function that have a history, and transforms of and inside compiled functions."""

from __future__ import annotations

import numpy as np
import pytest
from compiler.steps import same, values

import backstory
from backstory import func, nn
from backstory.autograd import Function, grad
from backstory.errors import GraphError
from backstory.nn import functional as F


def network(*extra):
    backstory.manual_seed(2)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), *extra, nn.Linear(4, 2)).double()


def data(seed=0):
    return backstory.tensor(np.random.default_rng(seed).normal(size=(5, 3)))


def test_a_compiled_model_is_walked_back_outside(compiled):
    model, twin = network(), network()
    run = compiled(model)
    for seed in (0, 1):
        x, y = data(seed).requires_grad_(), data(seed).requires_grad_()
        for inputs, function, own in ((x, run, model), (y, twin, twin)):
            own.zero_grad()
            ((function(inputs * 2) ** 2).sum() * 3).backward()
        same(
            values([x.grad, [p.grad for p in model.parameters()]]),
            values([y.grad, [p.grad for p in twin.parameters()]]),
        )
    assert run.cache_info()[:2] == (1, 1)


def test_the_backward_pass_sees_the_draws_of_its_own_call(compiled):
    model = network(nn.Dropout(0.5))
    run, x, found = compiled(model), data(), []
    for function in (run, model):
        backstory.manual_seed(8)
        model.zero_grad()
        first, second = function(x).sum(), (function(x) ** 2).sum()
        second.backward()
        first.backward()
        found.append(values([p.grad for p in model.parameters()]))
    same(*found)


def test_several_results_of_which_some_have_a_history(compiled):
    w = backstory.tensor([1.0, 2.0], requires_grad=True)

    def function(x):
        return {"loss": (w * x).sum(), "count": (x > 0).sum(), "twice": [w * 2, x * 2]}

    results = []
    for run in (compiled(function), function):
        w.grad = None
        out = run(backstory.tensor([3.0, -4.0]))
        (out["loss"] + out["twice"][0].sum()).backward()
        assert not out["twice"][1].requires_grad
        results.append(values([out, w.grad]))
    same(*results)


def test_derivatives_of_derivatives_of_a_compiled_function(compiled):
    x = backstory.tensor([0.3, -0.7], requires_grad=True)
    run = compiled(lambda x: (x.sin() * x).sum())
    (first,) = grad(run(x), x, create_graph=True)
    (second,) = grad(first.sum(), x)
    (expected,) = grad((2 * x.cos() - x * x.sin()).sum() * 1.0, x, allow_unused=True)
    exact = 2 * np.cos([0.3, -0.7]) - np.array([0.3, -0.7]) * np.sin([0.3, -0.7])
    np.testing.assert_allclose(second.numpy(), exact, rtol=1e-5)
    assert expected is not None


def test_a_second_derivative_does_not_run_once_more_what_does_more_than_compute(compiled):
    w, layer = backstory.tensor([1.0, 2.0], requires_grad=True), nn.Dropout(0.0)

    def leaves_a_gradient(x):
        (w * x).sum().backward()
        return (w**3).sum()

    def switches(x):
        layer.train(not layer.training)
        return (w**3 * layer(x)).sum()

    def makes_a_leaf(x):
        leaf = x.detach().requires_grad_()
        return (w**3 * leaf).sum()

    for function in (leaves_a_gradient, switches, makes_a_leaf):
        loss = compiled(function)(backstory.ones(2))
        gradient, mode = w.grad, layer.training
        before = values(gradient)
        with pytest.raises(GraphError, match="changes state"):
            grad(loss, w, create_graph=True)
        assert w.grad is gradient
        same(values(w.grad), before)
        assert layer.training is mode


def scalar(x):
    return (x.sin() * x).sum()


TRANSFORMS = {
    "grad": lambda f: func.grad(f),
    "jacrev": lambda f: func.jacrev(f),
    "jacfwd": lambda f: func.jacfwd(f),
    "hessian": lambda f: func.hessian(f),
    "vmap": lambda f: func.vmap(f),
    "vmap of grad": lambda f: func.vmap(func.grad(f)),
    "jvp": lambda f: lambda x: func.jvp(f, (x,), (x * 2,)),
    "vjp": lambda f: lambda x: func.vjp(f, x)[1](backstory.ones((), dtype=np.float64)),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_of_compiled_functions_and_inside_them(compiled, name):
    transform, x = TRANSFORMS[name], data()
    expected = values(transform(scalar)(x))
    same(values(transform(compiled(scalar))(x)), expected)
    inside = compiled(transform(scalar))
    for k in (1, 2):
        same(values(inside(x * k)), values(transform(scalar)(x * k)))
    assert inside.cache_info()[:2] == (1, 1)


class Cube(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 30 * g * x * x


def test_custom_functions_hooks_and_retained_gradients_inside(compiled):
    def step(x):
        w = x.detach().requires_grad_()
        h = Cube.apply(w)
        h.retain_grad()
        h.register_hook(lambda g: g * 2)
        (h * h).sum().backward()
        return w.grad, h.grad

    run = compiled(step)
    for seed in (0, 1):
        same(values(run(data(seed))), values(step(data(seed))))


def test_gradients_as_functions_inside_with_a_graph_of_their_own(compiled):
    def step(x):
        w = x.detach().requires_grad_()
        (first,) = grad(scalar(w), w, create_graph=True)
        penalty = (first * first).sum()
        return grad(penalty, w)[0]

    run = compiled(step)
    for seed in (0, 1):
        same(values(run(data(seed))), values(step(data(seed))))


def test_inference_has_nothing_of_the_backward_pass(compiled):
    model = network()
    run = compiled(model)
    with backstory.no_grad():
        same(run(data()), model(data()))
    assert "backward" not in run.explain()


def test_the_account_names_what_was_found(compiled):
    model = network(nn.ReLU())
    optimizer = backstory.optim.Adam(model.parameters(), lr=0.1)

    @compiled
    def step(x):
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), x[:, :2])
        loss.backward()
        optimizer.step()
        return loss

    with pytest.raises(backstory.errors.ArgumentError):
        step.explain()
    step(data())
    account = step.explain()
    for word in (
        "argument 0",
        "0.weight",
        "3.bias.exp_avg",
        "lr",
        "2/relu#0",
        "test_step_history.py",
        "misses 1",
    ):
        assert word in account, word
    assert "def call" in step.source
