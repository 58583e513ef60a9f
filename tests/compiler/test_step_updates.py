"""Every optimizer, schedule and helper of updates in a compiled step, which does as the eager step does."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from compiler.steps import BUILDERS, alike
from optim.rules import MAXIMIZE, SETTINGS
from optim.test_lr_scheduler import SCHEDULES
from optim.test_lr_scheduler import build as scheduled

import backstory
from backstory import nn, optim
from backstory.compiler.program import build as native
from backstory.compiler.replay import Replay
from backstory.optim import lr_scheduler

F = nn.functional
TOGETHER = {
    "ReduceLROnPlateau": lambda own: lr_scheduler.ReduceLROnPlateau(own, patience=1, factor=0.3),
    "ChainedScheduler": lambda own: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ExponentialLR(own, 0.9), lr_scheduler.StepLR(own, 2)]
    ),
    "SequentialLR": lambda own: lr_scheduler.SequentialLR(
        own, [lr_scheduler.LinearLR(own), lr_scheduler.CosineAnnealingLR(own, 5)], [3]
    ),
}
METRICS = [1.0, 0.9, 0.9, 0.9, 0.95, 0.9, 0.9, 0.2]


@pytest.fixture(params=BUILDERS)
def build(request):
    return BUILDERS[request.param]


def network():
    return nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)).double()


def batches(count, seed=3):
    rng = np.random.default_rng(seed)
    return [
        (backstory.tensor(rng.normal(size=(6, 3))), backstory.tensor(rng.normal(size=(6, 2))))
        for _ in range(count)
    ]


def training(model, optimizer, between=lambda model: None):
    def step(x, y):
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), y)
        loss.backward()
        found = between(model)
        optimizer.step()
        return loss, found

    return step


def test_every_optimizer_has_a_case():
    """They are run, compiled and eager, by ``test_step_training``."""
    known = [getattr(optim, name) for name in optim.__all__]
    kinds = {kind for kind in known if inspect.isclass(kind) and not inspect.isabstract(kind)}
    for cases in (SETTINGS, MAXIMIZE):
        assert {kind for kind, _ in cases} == kinds


def test_every_schedule_has_a_case():
    assert {kind for kind, _ in SCHEDULES.values()} | set(TOGETHER) == {*lr_scheduler.__all__} - {
        "LRScheduler"
    }


@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam, optim.NAdam])
@pytest.mark.parametrize("name", [*SCHEDULES, *TOGETHER])
def test_every_schedule_acts_without_another_trace(name, kind):
    def make():
        model = network()
        groups = [{"params": model[0].parameters(), "lr": 0.1}, {"params": model[2].parameters()}]
        optimizer = kind(groups, lr=0.04, **({"momentum": 0.9} if kind is optim.SGD else {}))
        schedule = TOGETHER[name](optimizer) if name in TOGETHER else scheduled(name, optimizer, lr_scheduler)
        return training(model, optimizer), [model, optimizer, schedule]

    def between(number, state):
        if number:
            state[2].step(*([METRICS[number]] if name == "ReduceLROnPlateau" else []))

    alike(make, batches(len(METRICS)), Replay, between=between)


def clipped(most):
    return lambda model: nn.utils.clip_grad_norm_(model.parameters(), most)


def along(model):
    return nn.utils.parameters_to_vector(model.parameters()).detach()


def shrunk(model):
    vector = nn.utils.parameters_to_vector(model.parameters())
    nn.utils.vector_to_parameters(vector * 0.9, model.parameters())


BETWEEN = {
    "gradients of a norm": clipped(0.05),
    "gradients of a larger norm": clipped(1e6),
    "gradients of no norm": clipped(0.0),
    "gradients of one parameter": lambda model: nn.utils.clip_grad_norm_(model[0].weight, 0.01),
    "entries of gradients": lambda model: nn.utils.clip_grad_value_(model.parameters(), 0.01),
    "parameters as a vector": along,
    "a vector as parameters": shrunk,
}


@pytest.mark.parametrize("name", BETWEEN)
def test_what_is_done_between_backward_and_update(name, build):
    def make():
        model = network()
        optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        return training(model, optimizer, BETWEEN[name]), [model, optimizer]

    alike(make, batches(4), build)


def test_gradients_that_are_not_finite_are_clipped_as_eagerly(build):
    calls = batches(3)
    calls[1][0][0, 0] = float("inf")

    def make():
        model = network()
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        return training(model, optimizer, clipped(1.0)), [model, optimizer]

    alike(make, calls, build)


def test_a_moving_average_of_the_parameters(build):
    def make():
        model, average = network(), network()
        optimizer = optim.Adam(model.parameters(), lr=0.1)

        def follow(model):
            with backstory.no_grad():
                for mean, p in zip(average.parameters(), model.parameters(), strict=True):
                    mean.mul_(0.9).add_(p * 0.1)

        return training(model, optimizer, follow), [model, average, optimizer]

    alike(make, batches(4), build)


def test_a_computed_parameter_and_a_fused_network(build):
    def make():
        layer = nn.utils.weight_norm(nn.Linear(3, 5))
        model = nn.Sequential(layer, nn.ReLU(), nn.Linear(5, 2)).double()
        optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        return training(model, optimizer), [model, optimizer]

    alike(make, batches(4), build)

    def make_fused():
        model = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2)).double()
        model(backstory.randn(8, 3).double())
        fused = nn.utils.fuse(model.eval())
        return (lambda x, y: F.mse_loss(fused(x), y)), fused

    alike(make_fused, batches(3), build)


def test_every_optimizer_is_native_throughout():
    for kind, settings in SETTINGS:
        model = network()
        step = backstory.compile(training(model, kind(model.parameters(), **settings)), build=native)
        step(*batches(1)[0])
        assert not step._bound[0].program.explain().host, (kind, settings)
