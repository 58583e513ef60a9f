"""Reruns, audits, counterfactuals and snapshots of PyTorch trainings, and scans against full looks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from adapters.torch import trainings
from adapters.torch.slow import (
    F64,
    always,
    inputs,
    network,
    never,
    parameters_of,
    same,
    sgd,
    step_once,
    targets,
)
from torch import nn, optim

import backstory
from backstory.errors import ReplayError, RunError
from backstory.insight import experiment, open_run, unwatched, watch
from backstory.insight.run import Watched

SITES = {"1/relu#0": 0, "3/relu#0": 2}


class Slow(Watched):
    """A ``watch`` that looks at all units on all samples after every step, by hand."""

    def __init__(self) -> None:
        self.events: list[tuple[int, str, int, str]] = []
        self.last: dict[Any, bool] | None = None
        self.steps = 0

    def __call__(self, model: Any, optimizer: Any, *, data: Any, generator: Any = None) -> Slow:
        self.model, self.data = model, data
        self.look()
        optimizer.register_step_post_hook(self.stepped)
        return self

    def stepped(self, *call: Any) -> None:
        self.steps += 1
        self.look()

    def look(self) -> None:
        with torch.no_grad():
            first = self.data @ self.model[0].weight.T + self.model[0].bias
            second = first.clamp(min=0) @ self.model[2].weight.T + self.model[2].bias
        dead = {
            (site, unit): not (z[:, unit] > 0).any().item()
            for site, z in zip(SITES, (first, second), strict=True)
            for unit in range(8)
        }
        for (site, unit), now in dead.items():
            if self.last is None and now:
                self.events.append((0, site, unit, "born dead"))
            elif self.last is not None and now != self.last[site, unit]:
                self.events.append((self.steps, site, unit, "died" if now else "revived"))
        self.last = dead


VARIANTS = {
    "plain": {},
    "momentum": {"momentum": 0.9, "lr": 0.1, "steps": 40},
    "nesterov": {"nesterov": True, "momentum": 0.9, "lr": 0.1},
    "everything": {"momentum": 0.9, "dampening": 0.2, "weight_decay": 0.3, "lr": 0.2, "maximize": True},
    "adam": {"optimizer": "adam", "lr": 0.5, "steps": 20},
    "rmsprop": {"optimizer": "rmsprop", "lr": 0.3},
    "dropout": {"dropout": 0.5},
    "in two chunks": {"rows": 700},
}


def config_of(variant: str) -> dict[str, Any]:
    return {**trainings.CONFIG, **VARIANTS[variant]}


def slowly(config: dict[str, Any]) -> list[tuple[int, str, int, str]]:
    seen = Slow()
    torch.manual_seed(config["seed"])
    trainings.regress(dict(config), seen)
    return sorted(seen.events)


def events_of(table: Any) -> list[tuple[int, str, int, str]]:
    return sorted((e.step, e.site, e.unit, e.kind) for e in table.events)


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_audit_finds_what_a_full_look_after_every_step_finds(variant, tmp_path):
    config = config_of(variant)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    run = experiment(trainings.regress, config, tmp_path / "run")
    table = run.audit()
    assert torch.get_rng_state().equal(state)
    expected = slowly(config)
    assert events_of(table) == expected
    assert all(event.exact for event in table.events)
    assert any(kind == "died" for *_, kind in expected), "a variant in which nothing dies tests nothing"
    assert len(run.certificates()) == table.count("died")
    assert open_run(tmp_path / "run").gates("1/relu#0")[0].tolist() == list(range(1, config["steps"] + 1))
    assert run.story()


@pytest.mark.parametrize("variant", ["plain", "momentum"])
def test_a_bare_watch_that_scans_at_every_step_is_exact_and_otherwise_bounds_hold(variant, tmp_path):
    config = config_of(variant)
    truth = slowly(config)
    for name, options in (("every", {"scan_at": always}), ("powers", {})):
        held = []

        def begin(model, optimizer, *, data, name=name, options=options, held=held):
            held.append(watch(model, optimizer, tmp_path / name, data=data, **options))
            return held[0]

        torch.manual_seed(config["seed"])
        trainings.regress(dict(config), begin)
        held[0].close()
        table = open_run(tmp_path / name).life_table()
        if name == "every":
            assert events_of(table) == truth
            continue
        assert any(not e.exact for e in table.events)
        for e in table.events:
            steps = [s for s, site, unit, kind in truth if (site, unit, kind) == (e.site, e.unit, e.kind)]
            assert any(e.after < s <= e.step for s in steps) or e.step == 0


def test_recording_an_experiment_changes_not_a_bit(tmp_path):
    config = {**config_of("dropout"), "steps": 6}
    ends = []
    for record in (False, True):
        kept = []

        def train(config, watch, kept=kept):
            def keeping(model, optimizer, **rest):
                kept.append(model)
                return watch(model, optimizer, **rest)

            trainings.regress(config, keeping)

        torch.manual_seed(3)
        if record:
            runs = []

            def begin(model, optimizer, *, data, runs=runs):
                runs.append(watch(model, optimizer, tmp_path / "run", data=data, scan_at=always))
                return runs[0]

            train(dict(config), begin)
            runs[0].close()
        else:
            train(dict(config), unwatched)
        ends.append((parameters_of(kept[0]), torch.rand(3).tolist()))
    assert same(ends[0][0], ends[1][0])
    assert ends[0][1] == ends[1][1]


def test_counterfactuals_pair_seeds_and_start_from_snapshots(tmp_path):
    config = {**config_of("momentum"), "steps": 8, "snapshots": [4], "dropout": 0.2}
    run = experiment(trainings.regress, config, tmp_path / "run")
    changes = [
        backstory.Change("small rate", {"lr": 0.001}),
        backstory.Change("small rate from step 4", {"lr": 0.001}, start=4),
    ]
    outcomes = run.counterfactuals(changes, seeds=2, jobs=1)
    assert outcomes.changes == ["as it was", "small rate", "small rate from step 4"]
    assert [o.seed for o in outcomes.of("small rate")] == [3, 4]
    assert outcomes.of("as it was")[0].metrics == run.result
    assert [o.start for o in outcomes.of("small rate from step 4")] == [4]
    assert outcomes.of("small rate")[0].metrics != run.result


def test_a_training_that_depends_on_something_else_is_told_where_it_parts(tmp_path):
    run = experiment(trainings.from_outside, {"seed": 0}, tmp_path / "run")
    with pytest.raises(ReplayError, match="parted from the recording at step 5"):
        run.audit()


@pytest.mark.parametrize("kind", ["sgd", "adam", "rmsprop"])
@pytest.mark.parametrize("dtype", [F64, torch.bfloat16])
def test_restoring_a_snapshot_goes_on_bit_for_bit(kind, dtype, tmp_path):
    def build():
        model = network(dtype=dtype)
        model.append(nn.BatchNorm1d(1, dtype=dtype)).append(nn.Dropout(0.3))
        lr = 1e-2
        options = {"momentum": 0.9} if kind == "sgd" else {}
        return model, trainings.KINDS[kind](model.parameters(), lr=lr, **options)

    x = inputs().to(dtype)
    model, optimizer = build()
    with watch(model, optimizer, tmp_path / "run", data=x, scan_at=never) as run:
        for _ in range(3):
            step_once(model, optimizer, x)
        run.take_snapshot()
        for _ in range(3):
            step_once(model, optimizer, x)
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    other, its = build()
    assert open_run(tmp_path / "run").restore(other, its, step=3) == 3
    for _ in range(3):
        step_once(other, its, x)
    assert same(parameters_of(model), parameters_of(other))
    assert same(buffers, dict(other.named_buffers()))
    third, _ = build()
    open_run(tmp_path / "run").restore(third)
    assert same(parameters_of(model), parameters_of(third))


def test_lbfgs_is_restored_without_its_history_and_runs_on(tmp_path):
    model = network()
    optimizer = optim.LBFGS(model.parameters(), max_iter=3)

    def closure():
        optimizer.zero_grad()
        loss = (model(inputs()) - targets(inputs())).square().mean()
        loss.backward()
        return loss

    with watch(model, optimizer, tmp_path / "run", data=inputs()) as run:
        optimizer.step(closure)
        run.take_snapshot()
        optimizer.step(closure)
        assert run.restore(model, optimizer, step=1) == 1
        optimizer.step(closure)
        assert len(run.losses) == 3


def test_a_snapshot_of_another_model_is_refused_before_anything_changes(tmp_path):
    model = network()
    with watch(model, sgd(model), tmp_path / "run", data=inputs()) as run:
        for other in (network(width=9), nn.Linear(5, 1)):
            before = parameters_of(other)
            with pytest.raises(RunError, match="a model like the one that was recorded"):
                run.restore(other)
            assert same(before, parameters_of(other))


def test_a_snapshot_holds_the_users_own_stream(tmp_path):
    stream = torch.Generator().manual_seed(1)
    model = network()
    with watch(model, sgd(model), tmp_path / "run", data=inputs(), generator=stream) as run:
        expected = torch.rand(3, generator=stream)
        stored = run.snapshot().tensors["random/own"]
    other = torch.Generator()
    other.set_state(torch.from_numpy(stored))
    assert torch.rand(3, generator=other).equal(expected)
