"""Whole training steps, compiled and eager: the same results, state, gradients, draws and versions."""

from __future__ import annotations

import numpy as np
import pytest
from compiler.steps import BUILDERS, alike, same
from optim.rules import MAXIMIZE, SETTINGS

import backstory
from backstory import nn, optim
from backstory.nn import functional as F


@pytest.fixture(params=BUILDERS)
def build(request):
    return BUILDERS[request.param]


def batches(count=4, shape=(6, 3), classes=None, seed=3):
    rng = np.random.default_rng(seed)
    return [
        (
            backstory.tensor(rng.normal(size=shape)),
            backstory.tensor(
                rng.integers(0, classes, shape[0]) if classes else rng.normal(size=(shape[0], 2))
            ),
        )
        for _ in range(count)
    ]


def network():
    return nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)).double()


def training(model, optimizer, loss=F.mse_loss, between=lambda model: None, late=False):
    def step(x, y):
        if not late:
            optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        between(model)
        optimizer.step()
        if late:
            optimizer.zero_grad()
        return value

    return step, [model, optimizer]


def made(kind, settings, **more):
    def make():
        model = network()
        return training(model, kind(model.parameters(), **settings), **more)

    return make


RULES = [*SETTINGS, *MAXIMIZE]


@pytest.mark.parametrize("number", range(len(RULES)), ids=[f"{k.__name__}-{s}" for k, s in RULES])
def test_every_optimizer_takes_the_same_steps(number, build):
    kind, settings = RULES[number]
    climbs = {"maximize": True} if number >= len(SETTINGS) else {}
    first = 2 if settings.get("dampening") else 1  # the first step is not damped
    alike(made(kind, {**settings, **climbs}), batches(5), build, misses=first)


@pytest.mark.parametrize("late", [False, True], ids=["zeroed first", "zeroed last"])
@pytest.mark.parametrize("to_none", [True, False])
def test_gradients_are_zeroed_first_or_last_to_none_or_to_zero(late, to_none, build):
    def make():
        model = network()
        optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

        def step(x, y):
            if not late:
                optimizer.zero_grad(set_to_none=to_none)
            loss = F.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
            if late:
                optimizer.zero_grad(set_to_none=to_none)
            return loss

        return step, [model, optimizer]

    alike(make, batches(), build, misses=1 if to_none else 2)  # at first there are none to zero


def test_gradients_accumulate_over_two_backwards_and_over_calls(build):
    def make():
        model = network()

        def step(x, y):
            F.mse_loss(model(x), y).backward()
            loss = (model(x) ** 2).sum()
            loss.backward()
            return loss

        return step, model

    alike(make, batches(), build, misses=2)  # without gradients from before, and with them


@pytest.mark.parametrize("to_none", [True, False])
def test_gradients_of_a_walk_outside_are_clipped_used_and_cleared_inside(build, to_none):
    def make():
        model = network()
        optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

        def step():
            norm = nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
            optimizer.zero_grad(set_to_none=to_none)
            return norm

        return step, [model, optimizer]

    inputs, held = batches(), []

    def between(number, state):
        model = state[0]
        F.mse_loss(model(inputs[number][0]), inputs[number][1]).backward()
        held.append(model[0].weight.grad)

    alike(make, [()] * 4, build, between=between)
    eager, own = held[:4], held[4:]
    for x, y in zip(own, eager, strict=True):
        same(x, y)
        assert x._version == y._version or not to_none


def test_groups_have_rates_of_their_own(build):
    def make():
        model = network()
        groups = [{"params": model[0].parameters(), "lr": 0.01}, {"params": model[2].parameters()}]
        return training(model, optim.Adam(groups, lr=0.1))

    alike(make, batches(), build)


def test_two_optimizers_in_one_step(build):
    def make():
        model = network()
        first = optim.Adam(model[0].parameters(), lr=0.1)
        second = optim.SGD(model[2].parameters(), lr=0.1)

        def step(x, y):
            for optimizer in (first, second):
                optimizer.zero_grad()
            loss = F.mse_loss(model(x), y)
            loss.backward()
            first.step()
            second.step()
            return loss

        return step, [model, first, second]

    alike(make, batches(), build)


def test_two_updates_in_one_step(build):
    def make():
        model = network()
        optimizer = optim.Adam(model.parameters(), lr=0.1)

        def step(x, y):
            for _ in range(2):
                optimizer.zero_grad()
                loss = F.mse_loss(model(x), y)
                loss.backward()
                optimizer.step()
            return loss

        return step, [model, optimizer]

    alike(make, batches(), build)


def stays_native(step):
    """NumPy computes nothing of a step, where it is native at all."""
    assert "on the host" not in step.explain()


# Layers beside each other; every layer by itself is in test_step_layers.
NETWORKS = {
    "batch norm": (lambda: nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU()), (6, 3)),
    "convolutions": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1, stride=2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()
        ),
        (4, 2, 6, 6),
    ),
    "attention": (lambda: Attention(), (4, 5, 6)),
}


class Attention(nn.Module):
    """Two heads that look at what came before, and a residual connection."""

    def __init__(self):
        super().__init__()
        self.norm, self.parts, self.out = nn.LayerNorm(6), nn.Linear(6, 18), nn.Linear(6, 6)

    def forward(self, x):
        n, length, width = x.shape
        q, k, v = self.parts(self.norm(x)).reshape(n, length, 3, 2, 3).permute(2, 0, 3, 1, 4)
        later = backstory.triu(backstory.ones(length, length), 1) > 0
        scores = backstory.where(later, -float("inf"), q @ k.transpose(-1, -2) / 3**0.5)
        found = (F.softmax(scores, -1) @ v).transpose(1, 2).reshape(n, length, width)
        return x + self.out(found)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_train_with_the_same_statistics(name, build):
    build_model, shape = NETWORKS[name]
    rng = np.random.default_rng(0)
    calls = [(backstory.tensor(rng.normal(size=shape)),) for _ in range(3)]

    def make():
        model = build_model().double()
        # Gradients that are zero but for rounding are no matter of Adam's here.
        optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

        def step(x):
            optimizer.zero_grad()
            loss = (model(x) ** 2).mean()
            loss.backward()
            optimizer.step()
            return loss

        return step, [model, optimizer]

    stays_native(alike(make, calls, build))


def test_embedding_is_traced_for_all_indices(build):
    def make():
        table, head = nn.Embedding(7, 4).double(), nn.Linear(4, 2).double()
        optimizer = optim.Adam([*table.parameters(), *head.parameters()], lr=0.1)

        def step(indices, y):
            optimizer.zero_grad()
            loss = F.cross_entropy(head(table(indices)), y)
            loss.backward()
            optimizer.step()
            return loss

        return step, [table, head, optimizer]

    rng = np.random.default_rng(0)
    calls = [tuple(backstory.tensor(rng.integers(0, n, 6)) for n in (7, 2)) for _ in range(4)]
    stays_native(alike(make, calls, build))


def test_single_precision_trains_alike(build):
    def make():
        model = network().float()
        return training(model, optim.Adam(model.parameters(), lr=0.01))

    alike(make, [(x.float(), y.float()) for x, y in batches()], build)
