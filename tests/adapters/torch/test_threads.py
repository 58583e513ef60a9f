"""Forward passes in other threads, and those that end by an error or an interruption."""

from __future__ import annotations

import contextlib
import threading

import pytest
import torch
from adapters.torch.slow import (
    gates_of,
    inputs,
    network,
    sgd,
    site_names,
    step_once,
)
from torch import nn
from torch.nn import functional as F

from backstory.insight import watch

SITES = ("1/relu#0", "3/relu#0")


def open_of(model, x):
    """How many rows of ``x`` open each unit of the first hidden layer."""
    with torch.no_grad():
        return (F.linear(x, model[0].weight, model[0].bias) > 0).sum(0).tolist()


def setting(lr=0.05, **options):
    model = network()
    return model, sgd(model, lr, **options)


def stack():
    return torch.overrides._get_current_function_mode_stack()


def in_thread(function):
    errors = []

    def run():
        try:
            function()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


def test_watched_here_and_trained_in_another_thread(tmp_path):
    model, optimizer = setting()
    with watch(model, optimizer, tmp_path / "run", data=inputs()) as run:
        losses = [step_once(model, optimizer, inputs())]
        opened = open_of(model, inputs())
        in_thread(lambda: losses.append(step_once(model, optimizer, inputs())))
        assert gates_of(run, SITES[0])[-1] == (2, 40, opened)
        losses.append(step_once(model, optimizer, inputs()))
        assert run.losses.tolist() == losses
        assert stack() == []


def test_an_evaluation_in_another_thread_disturbs_nothing(tmp_path):
    x, elsewhere = inputs(), []

    class Between(nn.Sequential):
        def forward(self, x):
            for i, module in enumerate(self):
                x = module(x)
                if i == 1 and self.training and not elsewhere:
                    in_thread(evaluate)
            return x

    def evaluate():
        elsewhere.append(1)
        with torch.no_grad():
            model(x)
        model(x)  # with gradients, while the other is under way: not seen
        elsewhere.pop()

    model = Between(*network())
    optimizer = sgd(model)
    with watch(model, optimizer, tmp_path / "run", data=x) as run:
        for step in (1, 2):
            opened = open_of(model, x)
            loss = step_once(model, optimizer, x)
            assert run.losses[-1] == loss
            assert gates_of(run, SITES[0])[-1] == (step, 40, opened)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_ends_a_forward_pass_leaves_no_mode_behind(error, tmp_path):
    class Angry(nn.Module):
        angry = True

        def forward(self, x):
            if self.angry:
                raise error
            return x

    model, x = nn.Sequential(*network()[:2], Angry(), *network()[2:]), inputs()
    optimizer = sgd(model)
    model[2].angry = False
    with watch(model, optimizer, tmp_path / "run", data=x) as run:
        for step in (1, 2):
            model[2].angry = True
            with contextlib.suppress(error):
                model(x)
            assert stack() == []
            model[2].angry = False
            F.relu(x)
            opened = open_of(model, x)
            step_once(model, optimizer, x)
            found = gates_of(run, SITES[0])[-1]
            assert found[0] == step
            # What ran before the end has run, as in a hand-written hook.
            assert found[1:] == (80, [2 * n for n in opened])
        assert site_names(run) == ["1/relu#0", "4/relu#0"]


def test_while_an_interruption_is_held_nothing_is_counted_outside_of_the_model(tmp_path):
    class Interrupted(nn.Module):
        def forward(self, x):
            if self.training:
                raise KeyboardInterrupt
            return x

    model = nn.Sequential(*network()[:2], Interrupted())
    optimizer = sgd(model)
    with watch(model, optimizer, tmp_path / "run", data=inputs()) as run:
        with pytest.raises(KeyboardInterrupt) as held:
            model(inputs())
        F.relu(inputs())
        del held
        assert stack() == []
        assert site_names(run) == ["1/relu#0"]
