"""Compiled models: what is recorded of them, and what is said of the rest."""

from __future__ import annotations

import contextlib
import copy

import pytest
import torch
from adapters.torch.slow import (
    Gated,
    always,
    gates_of,
    inputs,
    network,
    never,
    sgd,
    site_names,
    slow_states,
    states_of,
    step_once,
    wide_linear,
)
from torch import nn

from backstory.insight import watch


def setting(lr=0.05, **options):
    model = network()
    return model, sgd(model, lr, **options)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("order", ["before", "after", "in place"])
def test_of_compiled_models_all_but_gates_is_recorded_and_that_is_said(backend, order, tmp_path, monkeypatch):
    """Before or in place: at watch; after: as soon as it shows."""
    monkeypatch.setattr("backstory.adapters.torch.statistics.FETCH_SECONDS", 1e9)
    torch._dynamo.reset()
    model = Gated(wide_linear(), nn.ReLU())
    model.kept = Nothing()
    optimizer, x, bare = sgd(model, lr=1e-6), inputs(), copy.deepcopy(model)
    theirs = sgd(bare, lr=1e-6)
    if order == "in place":
        model.compile(backend=backend)
    watched = torch.compile(model, backend=backend) if order == "before" else model
    told = contextlib.nullcontext() if order == "after" else pytest.warns(RuntimeWarning, match="is compiled")
    with told:
        run = watch(watched, optimizer, tmp_path / "run", data=x, scan_at=always)
    trained = torch.compile(model, backend=backend) if order == "after" else watched
    losses = []
    for step in range(3):
        seen = order != "after" or step > 0
        told = contextlib.nullcontext() if seen else pytest.warns(RuntimeWarning, match="do not compile")
        with told:
            losses.append(step_once(trained, optimizer, x))
        assert losses[-1] == pytest.approx(step_once(bare, theirs, x), rel=1e-12)
    (site,) = site_names(run)
    assert site == ("_orig_mod." if order == "before" else "") + "gate/relu#0"
    assert gates_of(run, site) == []
    states = slow_states((bare.front(x) > 0).double())
    assert states_of(run, site) == [(step, states) for step in range(4)]
    assert run.losses.tolist() == losses
    assert next(iter(run.norms().values()))[1].min() > 0
    run.close()
    assert not optimizer._optimizer_step_pre_hooks
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # Dynamo's own
def test_a_part_that_is_compiled_on_the_way_is_not_seen_and_the_rest_is(tmp_path):
    torch._dynamo.reset()
    model, optimizer = setting()
    bare, theirs = setting()
    with watch(model, optimizer, tmp_path / "run", data=inputs(), scan_at=never) as run:
        model[1].compile(backend="eager")
        for _ in range(2):
            loss = step_once(model, optimizer, inputs())
            assert loss == step_once(bare, theirs, inputs())
        assert gates_of(run, "1/relu#0") == []
        assert [step for step, *_ in gates_of(run, "3/relu#0")] == [1, 2]
    torch._dynamo.reset()


class Nothing(list):
    """Keeps nothing."""

    def append(self, x):
        pass
