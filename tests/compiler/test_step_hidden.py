"""What a step reads from Python where it is easily overlooked: each is read anew, or refused."""

from __future__ import annotations

import itertools
from argparse import Namespace
from collections import deque
from types import SimpleNamespace

import numpy as np
import pytest
from compiler.steps import same, tensor, values

import backstory
from backstory.errors import DtypeError, TraceError

F = backstory.nn.functional


class Settings:
    scale = 1.0


class Own(Settings):
    pass


@pytest.fixture(autouse=True)
def _as_before():
    yield
    Settings.scale = 1.0
    if "scale" in vars(Own):
        del Own.scale


def a_constant_of_a_class():
    return lambda x: x * Settings.scale, lambda to: setattr(Settings, "scale", to)


def an_inherited_constant():
    return lambda x: x * Own.scale, lambda to: setattr(Settings, "scale", to)


def an_inherited_constant_that_gets_its_own_value():
    return lambda x: x * Own.scale, lambda to: setattr(Own, "scale", to)


def spaces(kind):
    def make():
        settings = kind(model=kind(scale=1.0))
        return lambda x: x * settings.model.scale, lambda to: setattr(settings.model, "scale", to)

    return make


def a_dict_in_a_dict():
    settings = {"model": {"scales": [0.5, 1.0]}}
    return lambda x: x * settings["model"]["scales"][1], lambda to: settings["model"]["scales"].append(
        settings["model"]["scales"].pop() * to
    )


def a_list_in_a_tuple():
    settings = (1, [1.0])
    return lambda x: x * settings[1][0], lambda to: settings[1].__setitem__(0, to)


def a_default():
    settings = {"scale": 1.0}

    def step(x, settings=settings):
        return x * settings["scale"]

    return step, lambda to: settings.update(scale=to)


def an_array_that_python_reads():
    scales = np.ones(3)
    return lambda x: x * float(scales[1]), lambda to: scales.__setitem__(1, to)


def a_mean_of_an_array():
    scales = np.ones(3)
    return lambda x: x * scales.mean(), lambda to: scales.fill(to)


def a_queue():
    scales = deque([1.0])
    return lambda x: x * scales[0], lambda to: scales.appendleft(to)


HIDDEN = [
    a_constant_of_a_class,
    an_inherited_constant,
    an_inherited_constant_that_gets_its_own_value,
    spaces(SimpleNamespace),
    spaces(Namespace),
    a_dict_in_a_dict,
    a_list_in_a_tuple,
    a_default,
    an_array_that_python_reads,
    a_mean_of_an_array,
    a_queue,
]


@pytest.mark.parametrize("make", HIDDEN)
def test_what_is_changed_between_calls_is_seen(compiled, make):
    function, change = make()
    step, x = compiled(function), tensor(1.0, 2.0)
    for _ in range(2):
        same(step(x), tensor(1.0, 2.0))
    assert step.cache_info().misses == 1
    change(3.0)
    for _ in range(2):
        same(step(x), tensor(3.0, 6.0))
    assert step.cache_info().misses == 2


def test_an_array_that_the_program_reads_needs_no_other_program(compiled):
    scales = np.ones(2)
    step, x = compiled(lambda x: x * scales), tensor(1.0, 2.0)
    for k in range(3):
        scales[:] = k
        same(step(x), x * k)
    assert step.cache_info().misses == 1


COUNTS, QUEUE, LETTERS = {"of": {"calls": [0]}}, deque([1.0, 2.0]), {"a"}


class Counter:
    calls = 0


def counted_deep(x):
    COUNTS["of"]["calls"][0] += 1
    return x * COUNTS["of"]["calls"][0]


def counted_in_a_default(x, calls=[]):  # noqa: B006
    calls.append(1)
    return x * len(calls)


def taken_from_a_queue(x):
    return x * QUEUE.popleft()


def added_to_a_set(x):
    LETTERS.add("b")
    return x * len(LETTERS)


def counted_in_a_class(x):
    Counter.calls += 1
    return x * Counter.calls


@pytest.mark.parametrize(
    "function", [counted_deep, counted_in_a_default, taken_from_a_queue, added_to_a_set, counted_in_a_class]
)
def test_what_the_step_itself_changes_is_refused_and_put_back(compiled, function):
    step = compiled(function)
    for _ in range(2):
        with pytest.raises(TraceError, match="the step itself changes the Python value"):
            step(tensor(1.0))
    assert COUNTS == {"of": {"calls": [0]}}
    assert (list(QUEUE), LETTERS, Counter.calls) == ([1.0, 2.0], {"a"}, 0)
    assert counted_in_a_default.__defaults__ == ([],)


def test_an_array_that_the_step_counts_in_is_refused_and_put_back(compiled):
    calls = np.zeros(1)

    def step(x):
        calls[0] += 1
        return x * calls[0]

    with pytest.raises(TraceError, match="changes"):
        compiled(step)(tensor(1.0))
    assert calls[0] == 0


@pytest.mark.parametrize(
    "make", [lambda: iter([1.0, 2.0]), lambda: itertools.count(1.0), lambda: (k for k in (1.0, 2.0))]
)
def test_an_iterator_is_refused_and_gives_nothing_away(compiled, make):
    items, x = make(), tensor(1.0)
    with pytest.raises(TraceError, match="refers to an iterator"):
        compiled(lambda x: x * next(items))(x)
    with pytest.raises(TraceError, match="refers to an iterator"):
        compiled(lambda x, items: x * next(items))(x, items)
    assert next(items) == 1.0
    with pytest.warns(UserWarning, match="iterator"):
        same(compiled(lambda x: x * next(items), strict=False)(x), tensor(2.0))


def test_a_stream_started_anew_inside_is_refused_and_put_back(compiled):
    own = backstory.Generator(7)

    def reseeded(x):
        backstory.manual_seed(3)
        return x * backstory.rand(2)

    def own_reseeded(x):
        own.manual_seed(3)
        return x * backstory.rand(2, generator=own)

    for function in (reseeded, own_reseeded):
        backstory.manual_seed(5)
        own.manual_seed(5)
        expected = values([backstory.rand(2), backstory.rand(2, generator=own)])
        backstory.manual_seed(5)
        own.manual_seed(5)
        with pytest.raises(TraceError, match="manual_seed"):
            compiled(function)(tensor(1.0, 2.0))
        assert own.initial_seed() == 5
        same(values([backstory.rand(2), backstory.rand(2, generator=own)]), expected, exact=True)


# Numbers and arrays as arguments


def filled(x, a):
    x = x.clone()
    x[0] = a
    return x


FLOATS = {
    "product": lambda x, a: x * a,
    "first": lambda x, a: a - x,
    "computed": lambda x, a: x * (1 - a) ** 0.5,
    "power": lambda x, a: x**a,
    "choice": lambda x, a: backstory.where(x > 1, a, x),
    "tensor": lambda x, a: x * backstory.tensor(a, dtype=backstory.float64),
    "single": lambda x, a: backstory.tensor(a),
    "bounds": lambda x, a: x.clamp(max=a),
    "entries": filled,
    "fill": lambda x, a: x.clone().fill_(a),
    "masked": lambda x, a: x.masked_fill(x > 1, a),
    "rounded": lambda x, a: x * round(a, 2),
    "integers": lambda x, a: (x * 10).long() * a,
}


@pytest.mark.parametrize("name", FLOATS)
def test_a_float_is_as_exact_as_in_eager_mode_and_read_in_every_call(compiled, name):
    step, x = compiled(FLOATS[name]), tensor(1.5, 0.1)
    for a in (0.1, 1 / 3, 0.7):
        same(values(step(x, a)), values(FLOATS[name](x, a)))
    assert step.cache_info()[:2] == (2, 1)


PYTHONS = {
    "kind": lambda x, a: x * a if isinstance(a, float) else x,
    "text": lambda x, a: (x * a, f"{a}", f"{a:.3f}", str(a)),
    "key": lambda x, a: x * {0.1: 5.0, 0.7: 7.0}.get(a, 1.0),
    "among": lambda x, a: x * 2 if a in (0.1, 0.7) else x,
    "largest": lambda x, a: x * max(a, 0.5),
}


@pytest.mark.parametrize("name", PYTHONS)
def test_what_python_makes_of_a_float_is_what_it_makes_in_eager_mode(compiled, name):
    step, x = compiled(PYTHONS[name]), tensor(1.5, 0.1)
    for a in (0.1, 0.7, 0.2, 0.1):
        same(values(step(x, a)), values(PYTHONS[name](x, a)))


@pytest.mark.parametrize(
    "function",
    [
        lambda n, t: n + t,
        lambda n, t: t / n,
        lambda n, t: n @ t,
        lambda n, t: n > t,
        lambda n, t: (2 * n - 1) ** t,
        lambda n, t: n.sum() * t,
        lambda n, t: np.exp(n) * t,
    ],
)
def test_arrays_and_tensors_as_arguments_meet(compiled, function):
    step, t = compiled(function), tensor(1.0, 2.0).requires_grad_()
    for k in (1, 2):
        n = np.array([0.5, 3.0]) * k
        same(values(step(n, t)), values(function(n, t)))
    assert step.cache_info()[:2] == (1, 1)


@pytest.mark.parametrize("number", [2j, 1 + 0j])
def test_complex_numbers_are_refused_as_eagerly(compiled, number):
    with pytest.raises(DtypeError, match="complex128"):
        compiled(lambda x: x * number)(tensor(1.0))
    with pytest.raises(DtypeError, match="complex128"):
        compiled(lambda x, a: x + a)(tensor(1.0), number)


# What a walked graph and a swapped parameter lead to


def test_a_leaf_that_the_step_makes_and_walks_back_to_is_no_leftover(compiled):
    weight = tensor(1.0, 2.0).requires_grad_()

    def step(x):
        weight.grad = None
        x = x.detach().requires_grad_()
        loss = (x * weight).sum()
        loss.backward()
        return loss, x.grad

    run = compiled(step)
    for k in (1.0, 2.0):
        expected = values([*step(tensor(k, 3.0)), weight.grad])
        same(values([*run(tensor(k, 3.0)), weight.grad]), expected)
    loss = run(tensor(1.0, 3.0))[0]
    assert loss.grad_fn.name() == "SumBackward0"
    assert loss.grad_fn.next_functions[0][0].name() == "MulBackward0"


def test_gradients_of_each_sample_by_parameters_made_inside(compiled):
    func = backstory.func
    model = backstory.nn.Linear(3, 2).double()

    def step(x, y):
        parameters = {name: p.detach() for name, p in model.named_parameters()}

        def loss(parameters, x, y):
            return F.mse_loss(func.functional_call(model, parameters, (x,)), y)

        return func.vmap(func.grad(loss), in_dims=(None, 0, 0))(parameters, x, y)

    run, x, y = compiled(step), backstory.randn(4, 3).double(), backstory.randn(4, 2).double()
    for _ in range(2):
        same(values(run(x, y)), values(step(x, y)))
    with backstory.no_grad():
        model.weight.add_(1.0)
    same(values(run(x, y)), values(step(x, y)))
    assert run.cache_info()[:2] == (2, 1)
