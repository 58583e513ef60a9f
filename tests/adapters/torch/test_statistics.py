"""What is recorded of every step, against hand-written hooks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from adapters.torch.slow import (
    F64,
    Gated,
    always,
    gates_of,
    inputs,
    network,
    never,
    parameters_of,
    same,
    sgd,
    slow_open,
    step_once,
    targets,
    wide_linear,
)
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from backstory.insight import open_run, watch

SITES = ("1/relu#0", "3/relu#0")


def open_of(model, x):
    """How many rows of ``x`` open each unit of the first hidden layer."""
    with torch.no_grad():
        return (F.linear(x, model[0].weight, model[0].bias) > 0).sum(0).tolist()


def setting(lr=0.05, **options):
    model = network()
    return model, sgd(model, lr, **options)


# Gates


def test_gates_of_every_step_are_those_that_hand_written_hooks_see(tmp_path):
    model, optimizer = setting(lr=0.3, momentum=0.5)
    x = inputs()
    seen = {site: [] for site in SITES}

    def hook(module, args, output):
        if module.training:
            seen[SITES[0] if module is model[1] else SITES[1]].append((output > 0).sum(0).tolist())

    with watch(model, optimizer, tmp_path / "run", data=x) as run:
        for place in (1, 3):
            model[place].register_forward_hook(hook)
        for step in range(9):
            batch = x[step : step + 11]
            step_once(model, optimizer, batch, targets(batch))
        for site in SITES:
            assert gates_of(run, site) == [(i + 1, 11, counts) for i, counts in enumerate(seen[site])]


def test_only_every_so_many_steps_are_measured_and_all_losses_kept(tmp_path):
    model, optimizer = setting()
    with watch(model, optimizer, tmp_path / "run", data=inputs(), every=3) as run:
        losses = [step_once(model, optimizer, inputs()) for _ in range(8)]
    run = open_run(tmp_path / "run")
    assert run.losses.tolist() == losses
    assert run.gates(SITES[1])[0].tolist() == [1, 4, 7]
    assert np.flatnonzero(np.isfinite(run.norms()["0.weight"][0])).tolist() == [0, 3, 6]


def test_several_forward_passes_of_a_step_add_up(tmp_path):
    model, optimizer = setting(lr=0.0)
    x = inputs()
    with watch(model, optimizer, tmp_path / "run", data=x) as run:
        (model(x).sum() + model(x[:7]).sum()).backward()
        optimizer.step()
        expected = [a + b for a, b in zip(open_of(model, x), open_of(model, x[:7]), strict=True)]
        assert gates_of(run, SITES[0]) == [(1, 47, expected)]


def test_evaluations_are_not_counted(tmp_path):
    model, optimizer = setting()
    x = inputs()
    with watch(model, optimizer, tmp_path / "run", data=x) as run:
        for step in (1, 2):
            with torch.no_grad():
                model(x[:5])
            with torch.inference_mode():
                model(x[:5])
            model.eval()
            model(-x)
            model.train()
            opened = open_of(model, x)
            step_once(model, optimizer, x)
            assert gates_of(run, SITES[0])[-1] == (step, 40, opened)


def test_a_site_whose_width_changes_is_told_once_and_the_training_goes_on(tmp_path):
    class Slim(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.width = nn.Linear(5, 6, dtype=F64), 6

        def forward(self, x):
            return F.relu(self.layer(x)[:, : self.width]).sum(1)

    model = Slim()
    optimizer = sgd(model)
    with watch(model, optimizer, tmp_path / "run", data=inputs(), scan_at=never) as run:
        step_once(model, optimizer, inputs())
        model.width = 4
        with pytest.warns(RuntimeWarning, match=r"relu#0 ran with 4 units and with 6 before"):
            step_once(model, optimizer, inputs())
        step_once(model, optimizer, inputs())
        model.width = 6
        step_once(model, optimizer, inputs())
        assert [step for step, *_ in gates_of(run, "relu#0")] == [1, 4]
        assert len(run.losses) == 4


# Checkpointing


class Checkpointed(nn.Module):
    def __init__(self, reentrant, everything):
        super().__init__()
        self.body, self.reentrant, self.everything = network()[:4], reentrant, everything
        self.gelu, self.out = nn.GELU(), nn.Linear(8, 1, dtype=F64)
        self.runs = 0

    def block(self, x):
        self.runs += 1
        return self.gelu(self.body(x))

    def whole(self, x):
        return self.out(self.block(x))

    def forward(self, x):
        x = x.requires_grad_() if self.reentrant else x
        if self.everything:
            return checkpoint(self.whole, x, use_reentrant=self.reentrant)
        return self.out(checkpoint(self.block, x, use_reentrant=self.reentrant))


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("everything", [False, True])
def test_what_checkpointing_computes_again_counts_once(reentrant, everything, tmp_path):
    losses = []
    for watched in (False, True):
        model = Checkpointed(reentrant, everything)
        torch.manual_seed(3)
        model.out.reset_parameters()
        optimizer = sgd(model)
        if not watched:
            losses.append([step_once(model, optimizer, inputs()) for _ in range(3)])
            continue
        with watch(model, optimizer, tmp_path / "run", data=inputs()) as run:
            opened, found = [], []
            for _ in range(3):
                opened.append(open_of(model.body, inputs()))
                runs = model.runs
                found.append(step_once(model, optimizer, inputs()))
                assert model.runs == runs + 2 + 2 * (run.step in (1, 2)), "a scan runs in two chunks"
            assert gates_of(run, "body.1/relu#0") == [(i + 1, 40, opened[i]) for i in range(3)]
            assert [row[:2] for row in gates_of(run, "gelu/gelu#0")] == [(1, 40), (2, 40), (3, 40)]
            assert run.losses.tolist() == found
            assert run._rows("SELECT backwards FROM steps") == [(1,)] * 3
        losses.append(found)
    assert losses[0] == losses[1]


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_model_that_is_checkpointed_as_a_whole_counts_once(reentrant, tmp_path):
    model, optimizer = setting()
    x = inputs().requires_grad_()
    with watch(model, optimizer, tmp_path / "run", data=inputs()) as run:
        for step in (1, 2):
            opened = open_of(model, x)
            loss = checkpoint(model, x, use_reentrant=reentrant).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            assert gates_of(run, SITES[0])[-1] == (step, 40, opened)
            assert run.losses[-1] == loss.item()


def test_counting_saves_nothing_through_the_users_hooks(tmp_path):
    saved = []
    model = Gated(wide_linear(), nn.GELU())
    optimizer = sgd(model)

    def count():
        del saved[:]
        with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(1) or t, lambda t: t):
            model(inputs())
        return len(saved)

    bare = count()
    with watch(model, optimizer, tmp_path / "run", data=inputs()):
        assert count() == bare


# Precision


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_counted_exactly(dtype, tmp_path):
    model = network(dtype=dtype)
    optimizer = sgd(model, lr=1e-4)
    x = inputs(600).to(dtype)
    with watch(model, optimizer, tmp_path / "run", data=x) as run:
        opened = open_of(model, x)
        loss = step_once(model, optimizer, x)
        assert gates_of(run, SITES[0]) == [(1, 600, opened)]
        assert run.losses.tolist() == [loss]


def test_autocast_is_the_scans_too(tmp_path):
    torch.manual_seed(0)
    model = Gated(nn.Linear(5, 6), nn.ReLU())
    model.out = nn.Linear(6, 1)
    optimizer, x = sgd(model), inputs().float()
    with watch(model, optimizer, tmp_path / "run", data=x) as run:
        assert model.kept[0].dtype == torch.float32
        for _ in range(3):
            model.kept.clear()
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                loss = model(x).float().square().mean()
            loss.backward()
            optimizer.step()
            assert {z.dtype for z in model.kept} == {torch.bfloat16}
            assert gates_of(run, "gate/relu#0")[-1][2] == slow_open(model.kept[0] > 0)
        model.kept.clear()
    assert [z.dtype for z in model.kept] == [torch.bfloat16] * 2, "the last scan, in chunks"


def test_a_scan_inside_of_autocast_leaves_no_weight_without_a_graph(tmp_path):
    ends = []
    for watched in (False, True):
        model = network(dtype=torch.float32)
        optimizer, x = sgd(model), inputs().float()
        run = watch(model, optimizer, tmp_path / "run", data=x, scan_at=always) if watched else None
        for _ in range(3):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                if run is not None:
                    run.scan()
                model(x).float().square().mean().backward()
            optimizer.step()
        ends.append(parameters_of(model))
        if run is not None:
            run.close()
    assert same(*ends)
