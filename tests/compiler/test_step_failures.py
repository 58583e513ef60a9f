"""Steps that fail, at every place where they can: error and state are those of eager mode."""

from __future__ import annotations

import random
import warnings
import weakref

import numpy as np
import pytest
from compiler.steps import BUILDERS, alike, same

import backstory
from backstory import nn, optim
from backstory.errors import TraceError
from backstory.nn import functional as F


@pytest.fixture(params=BUILDERS)
def build(request):
    return BUILDERS[request.param]


@pytest.fixture
def compiled(build):
    return lambda function, **options: backstory.compile(function, build=build, **options)


def network():
    """Draws, running statistics, and no gradient that is zero but for rounding."""
    return nn.Sequential(
        nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4), nn.Tanh(), nn.Dropout(0.5), nn.Linear(4, 3)
    ).double()


def batch(*labels, seed=0):
    x = np.random.default_rng(seed).normal(size=(len(labels), 3))
    return backstory.tensor(x), backstory.tensor(np.array(labels))


GOOD, BAD, IGNORED = batch(0, 1, 2, 1), batch(0, 1, 7, 1, seed=1), batch(0, -100, 2, 1, seed=2)


def adam(model):
    return optim.Adam(model.parameters(), lr=0.1)


def plain(model, optimizer, x, y):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss


def cleared_late(model, optimizer, x, y):
    loss = F.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


def accumulated(model, optimizer, x, y):
    F.cross_entropy(model(x), y).backward()
    optimizer.step()


def after_a_first_update(model, optimizer, x, y):
    optimizer.zero_grad()
    (model(x) ** 2).mean().backward()
    optimizer.step()
    return plain(model, optimizer, x, y)


def between_two_backwards(model, optimizer, x, y):
    optimizer.zero_grad()
    (model(x) ** 2).mean().backward()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()


STEPS = [plain, cleared_late, accumulated, after_a_first_update, between_two_backwards]


def made(body, optimizer=adam):
    def make():
        model = network()
        own = optimizer(model)
        return (lambda x, y: body(model, own, x, y)), [model, own]

    return make


@pytest.mark.parametrize("body", STEPS)
def test_a_label_that_is_no_class_fails_as_eagerly_in_any_call(body, build):
    alike(made(body), [GOOD, BAD, GOOD, GOOD], build, misses=None, failing=[1])
    alike(made(body), [BAD, GOOD, BAD], build, misses=None, failing=[0, 2])


@pytest.mark.parametrize("body", STEPS)
def test_labels_to_ignore_make_another_program_and_draw_once(body, build):
    alike(made(body), [GOOD, IGNORED, GOOD, IGNORED], build, misses=None)


def test_a_program_for_labels_to_ignore_still_refuses_what_is_no_class(build):
    alike(made(plain), [IGNORED, BAD, GOOD], build, misses=2, failing=[1])  # with, then without assumptions


def probabilities(model, optimizer, x, y):
    optimizer.zero_grad()
    loss = F.binary_cross_entropy(model(x) + y.reshape(-1, 1), y.reshape(-1, 1).double() * 0)
    loss.backward()
    optimizer.step()


def test_a_check_of_what_the_step_draws_and_computes(build):
    def make():
        model = nn.Sequential(nn.Linear(3, 1), nn.Sigmoid(), nn.Dropout(0.5), nn.Hardtanh(0, 1)).double()
        own = adam(model)
        return (lambda x, y: probabilities(model, own, x, y)), [model, own]

    calls = [batch(0, 0, 0, 0), batch(0, 0, 3, 0), batch(0, 0, 0, 0, seed=1)]
    alike(make, calls, build, misses=1, failing=[1])


INVALID = {
    "lr": (adam, {"lr": -1.0}),
    "nan": (adam, {"lr": float("nan")}),
    "betas": (adam, {"betas": (0.9, 1.5)}),
    "eps": (adam, {"eps": -1e-8}),
    "momentum": (lambda model: optim.SGD(model.parameters(), lr=0.1, momentum=0.9), {"momentum": -0.1}),
    "nesterov": (
        lambda model: optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True),
        {"dampening": 0.5},
    ),
    "alpha": (lambda model: optim.RMSprop(model.parameters(), lr=0.1), {"alpha": -1.0}),
    "lr_decay": (lambda model: optim.Adagrad(model.parameters(), lr=0.1), {"lr_decay": -1.0}),
}


@pytest.mark.parametrize("name", INVALID)
@pytest.mark.parametrize("first", [False, True], ids=["in a later call", "in the first call"])
def test_settings_that_the_optimizer_refuses_are_refused_in_every_call(name, first, build):
    optimizer, wrong = INVALID[name]
    right = {}

    def between(number, state):
        group = state[1].param_groups[0]
        if number == (0 if first else 2):
            right.update({key: group[key] for key in wrong})
            group.update(wrong)
        if number == 3:
            group.update(right)

    failing = [0, 1, 2] if first else [2]
    alike(made(plain, optimizer), [GOOD] * 5, build, misses=None, between=between, failing=failing)


def test_a_schedule_within_bounds_is_asked_about_and_needs_no_other_program(build):
    def between(number, state):
        state[1].param_groups[0].update(lr=[0.1, 1, np.float64(0.05), np.float32(0.2)][number])

    alike(made(plain), [GOOD] * 4, build, between=between)


def test_settings_that_need_another_program_and_are_put_back(build):
    momentum = [0.9, 0.0, 0.9, 0.0, 0.9]
    rates = [0.1, 0.05, 0.1, 0.1, 0.05]

    def between(number, state):
        state[1].param_groups[0].update(lr=rates[number], momentum=momentum[number])

    optimizer = INVALID["momentum"][0]
    alike(made(plain, optimizer), [GOOD] * 5, build, misses=2, between=between)


def test_an_error_after_the_update_leaves_what_eager_mode_leaves(build):
    def body(model, optimizer, x, y):
        plain(model, optimizer, x, y)
        return model(x) @ x

    alike(made(body), [GOOD, GOOD], build, misses=None, failing=[0, 1])


def raising(x, y):
    if len(x) == 3:
        raise ArithmeticError("three")
    return x * 2


def test_an_exception_of_the_step_itself_is_raised_as_it_is(compiled):
    run = compiled(raising)
    x = backstory.ones(3)
    for _ in range(2):
        with pytest.raises(ArithmeticError, match="three") as caught:
            run(x, x)
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None
    same(run(x[:2], x), x[:2] * 2)


def written(x, i):
    y = x.clone()
    y[i] = 5.0
    return y


NUMBERS = {
    "an index": (lambda x, i: x[i], [[0, 2], [0, 3], [-3, 1]], [1]),
    "an index of a column": (lambda x, i: x[:, i], [[0, 2], [0, 3]], [1]),
    "an index written to": (written, [[0, 2], [0, 3], [-1, 1]], [1]),
    "a power": (lambda x, i: i**i, [[1, 2], [1, -2]], [1]),
    "a quotient": (lambda x, i: 7 // i, [[1, 2], [1, 0]], [1]),
    "a remainder": (lambda x, i: 7 % i, [[1, 2], [1, 0]], [1]),
    "an inverse": (lambda x, i: backstory.inv(x * i.sum()), [[1, 2], [0, 0]], [1]),
    "a solution": (lambda x, i: backstory.solve(x * i.sum(), x), [[1, 2], [0, 0]], [1]),
    "rows of a table": (lambda x, i: F.embedding(i, x), [[0, 2], [0, 3], [-1, 1]], [1, 2]),
    "places": (lambda x, i: backstory.gather(x, 1, i.reshape(1, 2)), [[0, 2], [0, 3]], [1]),
    "classes": (lambda x, i: F.one_hot(i, 3), [[0, 2], [0, 3], [-1, 0]], [1, 2]),
    "slices to fill": (lambda x, i: backstory.index_fill(x, 0, i, 1.0), [[0, 2], [0, 3]], [1]),
    "slices to add to": (lambda x, i: backstory.index_add(x, 0, i, x[:2]), [[0, 2], [0, 3]], [1]),
    "slices to copy to": (lambda x, i: backstory.index_copy(x, 0, i, x[:2]), [[0, 2], [0, 3]], [1]),
    "places to write to": (lambda x, i: backstory.scatter(x, 0, i.reshape(1, 2), x), [[0, 2], [0, 3]], [1]),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_what_depends_on_numbers_that_are_out_of_range(name, build):
    function, indices, failing = NUMBERS[name]
    matrix = backstory.tensor(np.diag([1.0, 2.0, 4.0]) + 0.5)

    def make():
        counter = backstory.zeros(2)

        def step(x, i):
            counter.add_(1)  # comes first: it stands as eager mode leaves it
            return function(x + backstory.rand(3, 3, dtype=np.float64) * 0, i), counter.sum()

        return step, counter

    alike(make, [(matrix, backstory.tensor(np.array(i))) for i in indices], build, failing=failing)


def test_streams_that_a_refused_step_drew_from_are_put_back(compiled):
    rng = np.random.default_rng(0)

    def step(x):
        return x + rng.normal() + random.random() + np.random.rand()  # noqa: NPY002

    def numbers():
        return rng.normal(), random.random(), np.random.rand()  # noqa: NPY002

    def seed():
        rng.bit_generator.state = np.random.default_rng(0).bit_generator.state
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002

    seed()
    expected = sum(numbers())
    seed()
    with pytest.raises(TraceError, match="random"):
        compiled(step)(backstory.zeros(1))
    assert sum(numbers()) == expected
    seed()
    with pytest.warns(UserWarning, match="runs eagerly"):
        found = compiled(step, strict=False)(backstory.zeros(1))
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_a_step_that_only_tracing_fails_on_runs_eagerly_with_one_warning(compiled):
    def step(x):
        return x * len(f"{x.array.strides}")  # arrays have strides, symbols have none

    run, x = compiled(step), backstory.ones(2)
    with pytest.warns(UserWarning, match="tracing it failed with AttributeError"):
        same(run(x), step(x))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same(run(x), step(x))


def test_a_step_that_cannot_fail_keeps_its_memory():
    model, x = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)), backstory.ones(4, 2)

    @backstory.compile
    def step(x):
        model.zero_grad()
        model(x).sum().backward()

    step(x)
    first = [weakref.ref(p.grad) for p in model.parameters()]
    step(x)
    assert all(p.grad is was() for p, was in zip(model.parameters(), first, strict=True))
