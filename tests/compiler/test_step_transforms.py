"""Transforms of compiled functions are compiled functions, with the results of plain ones."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from compiler.steps import same, values

import backstory
from backstory import func, nn
from backstory.errors import BackstoryError, ShapeError

F = nn.functional


def data(*shape, seed=0):
    return backstory.tensor(np.random.default_rng(seed).normal(size=shape))


def scalar(x, y=2.0):
    return (x.sin() * x * y).sum()


def curved(x, y):
    return x.exp() * y, (x * y).sum()


MADE = {
    "grad": (lambda f: func.grad(f), scalar, 1),
    "grad by the second": (lambda f: func.grad(f, 1), scalar, 2),
    "grad by both": (lambda f: func.grad(f, argnums=(0, 1)), scalar, 2),
    "value_and_grad": (lambda f: func.value_and_grad(f), scalar, 1),
    "grad_and_value": (lambda f: func.grad_and_value(f), scalar, 1),
    "aux": (lambda f: func.grad(f, has_aux=True), lambda x: (scalar(x), {"twice": x * 2, "n": 3}), 1),
    "jacrev": (lambda f: func.jacrev(f), curved, 2),
    "jacrev in chunks": (lambda f: func.jacrev(f, chunk_size=2), curved, 2),
    "jacfwd": (lambda f: func.jacfwd(f, 1), curved, 2),
    "jacobian": (lambda f: func.jacobian(f), curved, 2),
    "hessian": (lambda f: func.hessian(f), scalar, 1),
    "vmap": (lambda f: func.vmap(f), scalar, 1),
    "vmap of the second": (lambda f: func.vmap(f, in_dims=(None, 0), out_dims=1), lambda x, y: x * y, 2),
    "gradients per sample": (lambda f: func.vmap(func.grad(f)), scalar, 1),
    "slopes of slopes": (lambda f: func.vmap(func.grad(lambda x: func.grad(f)(x).sum())), scalar, 1),
}


@pytest.mark.parametrize("name", MADE)
def test_what_a_transform_makes_of_a_compiled_function_is_compiled(name, compiled):
    transform, function, count = MADE[name]
    run, plain = compiled(function), transform(function)
    for seed in (0, 1):
        args = [data(3, 4, seed=seed + i) for i in range(count)]
        same(values(transform(run)(*args)), values(plain(*args)))
    made = transform(run)
    if name != "slopes of slopes":  # the outermost function is a plain one
        assert made is transform(run)
        assert made.cache_info()[:2] == (1, 1)
        assert "misses 1" in made.explain()
    assert run.cache_info().misses == 0


def test_what_transforms_make_follows_parameters_and_has_a_history(compiled):
    found = []
    for wrap in (compiled, lambda function: function):
        backstory.manual_seed(1)
        model, x = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double(), data(5, 3)
        run = wrap(lambda x, model=model: model(x).sum())
        for k in (1.0, 2.0):
            model.zero_grad()
            slope = func.grad(run)(x * k)
            (slope * slope).sum().backward()
            found.append(values([slope, [p.grad for p in model.parameters()]]))
            with backstory.no_grad():
                model[0].weight.mul_(0.5)
    same(found[:2], found[2:])


def test_losses_of_parameters_as_arguments(compiled):
    model, x, y = nn.Linear(3, 2).double(), data(4, 3), backstory.tensor([0, 1, 1, 0])

    def loss(parameters, x, y):
        return F.cross_entropy(func.functional_call(model, parameters, (x,)), y)

    parameters = {name: p.detach().clone() for name, p in model.named_parameters()}
    run = compiled(loss)
    for k in (1.0, 2.0):
        same(values(func.grad(run)(parameters, x * k, y)), values(func.grad(loss)(parameters, x * k, y)))
        per_sample, eager = (func.vmap(func.grad(f), in_dims=(None, 0, 0)) for f in (run, loss))
        same(values(per_sample(parameters, x * k, y)), values(eager(parameters, x * k, y)))


@pytest.mark.parametrize("randomness", ["different", "same"])
def test_draws_of_a_compiled_function_for_many_samples(randomness, compiled):
    found = []
    for wrap in (compiled, lambda function: function):
        run = func.vmap(wrap(lambda x: F.dropout(x, 0.5)), randomness=randomness)
        backstory.manual_seed(3)
        found.append(values([run(data(4, 5)) for _ in range(3)]))
    same(*found)


def test_errors_of_transforms_are_those_of_eager_mode(compiled):
    for transform, args in ((func.grad, (data(3),)), (func.vmap, (data(3), data(4))), (func.grad, ())):
        errors = []
        for wrap in (compiled, lambda function: function):
            with pytest.raises(BackstoryError) as caught:
                transform(wrap(lambda *x: x[0] * 2))(*args)
            errors.append((type(caught.value), str(caught.value)))
        assert errors[0] == errors[1]


def test_a_transform_of_what_does_not_fit_still_runs_with_what_does(compiled):
    weight = data(4, 2)
    run = func.grad(compiled(lambda x: (x @ weight).sum()))
    with pytest.raises(ShapeError):
        run(data(3, 3))
    same(run(data(3, 4)), backstory.ones(3, 2).double() @ weight.T)


def test_compiled_functions_are_called_in_transforms_of_others(compiled):
    inner = compiled(scalar)
    outer = compiled(func.grad(lambda x: inner(x) ** 2))
    x = data(3)
    for k in (1, 2):
        same(outer(x * k), func.grad(lambda x: scalar(x) ** 2)(x * k))
    assert outer.cache_info().misses == 1


def test_transforms_end_with_the_function_and_options_of_any_kind_are_taken(compiled):
    run = compiled(lambda x: (x["a"] * 2).sum())
    x = {"a": data(3, 2)}
    for _ in range(2):
        same(func.vmap(run, in_dims=({"a": 1},))(x), (x["a"] * 2).sum(0))
    made = weakref.ref(func.grad(run))
    run.cache_clear()
    assert made() is None
    made = weakref.ref(func.grad(run))
    func.grad(run)(x)
    del run
    gc.collect()
    assert made() is None
