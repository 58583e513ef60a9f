"""Scans leave no trace, and decide as a full look at all declared samples does."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from adapters.torch.slow import (
    F64,
    always,
    images,
    inputs,
    network,
    never,
    parameters_of,
    same,
    sgd,
    slow_derivative,
    slow_states,
    states_of,
    step_once,
)
from torch import nn
from torch.nn import functional as F

from backstory.insight import open_run, watch


class Restless(nn.Module):
    """Draws from every random stream, changes and replaces buffers, and notes how it is called."""

    def __init__(self, generator):
        super().__init__()
        self.layer, self.drop = nn.Linear(5, 4, dtype=F64), nn.Dropout(0.5)
        self.norm = nn.BatchNorm1d(4, dtype=F64)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(4, dtype=F64))
        self.generator, self.seen = generator, []

    def forward(self, x):
        self.seen.append((self.training, torch.is_grad_enabled(), self.norm.training))
        self.calls += 1
        self.mean = 0.9 * self.mean + 0.1
        noise = torch.rand(4, dtype=F64) + torch.rand(4, generator=self.generator, dtype=F64)
        noise = noise + random.random() + np.random.rand()  # noqa: NPY002
        return F.relu(self.drop(self.norm(self.layer(x))) + noise).sum(1)


def test_a_scan_changes_nothing(tmp_path):
    stream = torch.Generator().manual_seed(4)
    model = Restless(stream)
    model.norm.eval()
    model.layer.bias.requires_grad_(False)
    optimizer = sgd(model)
    step_once(model, optimizer, inputs())
    gradients = {name: p.grad for name, p in model.named_parameters()}
    values = {name: None if g is None else g.clone() for name, g in gradients.items()}
    buffers = dict(model.named_buffers())
    copies = {name: buffer.clone() for name, buffer in buffers.items()}
    before = parameters_of(model)
    versions = [p._version for p in model.parameters()]
    streams = torch.get_rng_state(), stream.get_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
    run = watch(model, optimizer, tmp_path / "run", data=inputs(), generator=stream)
    run.scan()
    run.close()
    assert model.seen[-1] == (False, False, False)
    assert torch.get_rng_state().equal(streams[0])
    assert stream.get_state().equal(streams[1])
    assert random.getstate() == streams[2]
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), streams[3], strict=True))  # noqa: NPY002
    assert (model.training, model.norm.training, model.drop.training) == (True, False, True)
    assert same(before, parameters_of(model))
    assert [p._version for p in model.parameters()] == versions
    assert [p.requires_grad for p in model.parameters()] == [True, False, True, True]
    for name, p in model.named_parameters():
        assert p.grad is gradients[name]
        assert p.grad is None or p.grad.equal(values[name])
    for name, buffer in model.named_buffers():
        assert buffer is buffers[name]
        assert buffer.equal(copies[name])


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_training_that_is_scanned_at_every_step_is_bit_for_bit_the_bare_one(dropout, tmp_path):
    ends = []
    for watched in (False, True):
        model = network()
        model = nn.Sequential(*model[:2], nn.BatchNorm1d(8, dtype=F64), nn.Dropout(dropout), *model[2:])
        optimizer = sgd(model, momentum=0.9)
        torch.manual_seed(7)
        run = watch(model, optimizer, tmp_path / "run", data=inputs(), scan_at=always) if watched else None
        losses = [step_once(model, optimizer, inputs()[i : i + 9]) for i in range(6)]
        if run is not None:
            run.close()
        state = {name: value.clone() for name, value in model.state_dict().items()}
        ends.append((losses, state, torch.rand(2).tolist()))
    assert ends[0][0] == ends[1][0]
    assert same(ends[0][1], ends[1][1])
    assert ends[0][2] == ends[1][2]


def test_a_scan_between_forward_and_backward_disturbs_neither(tmp_path):
    gradients = []
    for watched in (False, True):
        model = network()
        model = nn.Sequential(*model[:2], nn.BatchNorm1d(8, dtype=F64), *model[2:])
        run = watch(model, sgd(model), tmp_path / "run", data=inputs()) if watched else None
        loss = model(inputs()).square().mean()
        if run is not None:
            run.scan()
            run.take_snapshot()
        loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
        if run is not None:
            run.close()
    assert same(*gradients)


@pytest.mark.parametrize("rows", [1, 16, 17, 700])
def test_scans_in_chunks_decide_on_all_samples(rows, tmp_path):
    """One sample decides: the last one opens a unit that all others leave closed."""
    x = inputs(rows)
    model = network()
    with torch.no_grad():
        model[0].bias[0] = -(x[:-1] @ model[0].weight[0]).max() - 0.001 if rows > 1 else 0.0
        model[0].weight[0] = model[0].weight[0].abs()
        model[0].bias[0] = -(x @ model[0].weight[0])[:-1].max() if rows > 1 else 0.0
        x[-1] = 3.0
        model[0].bias[1] = -900.0
    with watch(model, sgd(model), tmp_path / "run", data=x, scan_at=never) as run:
        z = (x @ model[0].weight.T + model[0].bias).detach()
        states = slow_states((z > 0).double())
        assert states_of(run, "1/relu#0") == [(0, states)]
        assert states[1] == 2
        assert rows == 1 or states[0] == 0


def test_life_at_the_end_is_what_a_full_look_finds(tmp_path):
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.Hardtanh(0.0, 1.0), nn.Flatten(), nn.Linear(24, 1)).double()
    optimizer, x = sgd(model, lr=0.5), images(30, 1, 4, 4)
    with watch(model, optimizer, tmp_path / "run", data=x) as run:
        for _ in range(5):
            optimizer.zero_grad()
            (model(x) + 5).square().mean().backward()
            nn.utils.clip_grad_norm_(model.parameters(), 2.0)
            optimizer.step()
    with torch.no_grad():
        z = model[0](x).movedim(1, -1).reshape(-1, 6)
    expected = slow_states(slow_derivative(model[1], z))
    (life,) = open_run(tmp_path / "run").life_table().sites
    assert list(life.dead) == [unit for unit, state in enumerate(expected) if state == 2]
    assert list(life.linear) == [unit for unit, state in enumerate(expected) if state == 1]
    assert run.meta["status"] == "finished"


def test_a_model_that_raises_on_the_declared_data_later_ends_no_training(tmp_path):
    class Moody(nn.Sequential):
        angry = False

        def forward(self, x):
            if self.angry and not self.training:
                raise AssertionError("not now")
            return super().forward(x)

    model = Moody(*network())
    optimizer = sgd(model)
    run = watch(model, optimizer, tmp_path / "run", data=inputs(), scan_at=lambda step: step == 2)
    step_once(model, optimizer, inputs())
    model.angry = True
    with pytest.warns(RuntimeWarning, match="after step 2 the model raised on the declared data"):
        step_once(model, optimizer, inputs())
    with pytest.warns(RuntimeWarning, match="not now"):
        run.close()
    assert model.training
    assert torch.is_grad_enabled()
    opened = open_run(tmp_path / "run")
    assert (opened.meta["status"], opened.snapshot().step) == ("finished", 2)
    assert opened.life_table().steps.tolist() == [0]


def test_weights_that_are_nan_are_recorded_and_scanned(tmp_path):
    model = network()
    optimizer = sgd(model)
    with watch(model, optimizer, tmp_path / "run", data=inputs(), scan_at=always) as run:
        step_once(model, optimizer, inputs())
        with torch.no_grad():
            model[0].weight.fill_(float("nan"))
        step_once(model, optimizer, inputs())
        with pytest.warns(RuntimeWarning, match="loss is nan"):
            run.flush()
        step_once(model, optimizer, inputs())
        assert len(run.losses) == 3
        assert run.story()
