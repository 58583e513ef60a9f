"""Audits against a second, slow, obvious implementation in NumPy alone."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from insight import trainings

import backstory
from backstory.insight import experiment, open_run, watch
from backstory.insight.run import Watched


class Slow(Watched):
    """A ``watch`` that remembers, before and after every step, all weights, gradients and velocities."""

    def __init__(self) -> None:
        self.before: list[Any] = []
        self.after: list[Any] = []
        self.model: Any = None

    def __call__(self, model: Any, optimizer: Any, *, data: Any, generator: Any = None) -> Slow:
        self.model, self.data = model, np.asarray(data)
        self.after.append(self.weights())
        optimizer.register_step_pre_hook(self.gradients)
        optimizer.register_step_post_hook(lambda _: self.after.append(self.weights()))
        return self

    def weights(self) -> dict[str, np.ndarray]:
        return {name: p.array.copy() for name, p in self.model.named_parameters()}

    def gradients(self, optimizer: Any) -> None:
        self.before.append({name: p.grad.array.copy() for name, p in self.model.named_parameters()})


def slow_forward(weights: dict[str, np.ndarray], x: np.ndarray) -> dict[str, np.ndarray]:
    """Inputs and pre-activations of both hidden layers."""
    zero = np.zeros(8)
    first = x @ weights["0.weight"].T + weights.get("0.bias", zero)
    hidden = np.where(first > 0, first, 0.0)
    second = hidden @ weights["2.weight"].T + weights.get("2.bias", zero)
    return {"1/relu#0": first, "3/relu#0": second, "x of 1/relu#0": x, "x of 3/relu#0": hidden}


def slow_life(seen: Slow) -> list[tuple[int, str, int, str]]:
    """Every event by a full look at every unit after every step."""
    events, before = [], None
    for step, weights in enumerate(seen.after):
        z = slow_forward(weights, seen.data)
        dead = {(site, unit): not (z[site][:, unit] > 0).any() for site in SITES for unit in range(8)}
        for (site, unit), now in dead.items():
            if before is None and now:
                events.append((step, site, unit, "born dead"))
            elif before is not None and now != before[site, unit]:
                events.append((step, site, unit, "died" if now else "revived"))
        before = dead
    return sorted(events)


SITES = ("1/relu#0", "3/relu#0")
VARIANTS = {
    "plain": {},
    "momentum": {"momentum": 0.9, "lr": 0.1, "steps": 40},
    "dampening": {"momentum": 0.9, "dampening": 0.5, "lr": 0.3},
    "weight decay": {"weight_decay": 0.3, "momentum": 0.5, "steps": 30},
    "no bias": {"bias": False, "lr": 0.8},
    "clipped": {"clip": 1.0, "lr": 1.5},
    "in two chunks": {"rows": 700},
    "nesterov": {"nesterov": True, "momentum": 0.9, "lr": 0.1},
    "adam": {"optimizer": "adam", "lr": 0.5, "steps": 20},
    "adamw": {"optimizer": "adamw", "lr": 0.5, "weight_decay": 0.3, "steps": 20},
    "halved": {"optimizer": "halved", "lr": 0.8},
}


def config_of(variant: str) -> dict[str, Any]:
    return {**trainings.CONFIG, **VARIANTS[variant]}


def slowly(config: dict[str, Any]) -> Slow:
    """The same training, watched by the slow implementation."""
    seen = Slow()
    backstory.manual_seed(config["seed"])
    trainings.regress(dict(config), seen)
    return seen


def events_of(table: Any) -> list[tuple[int, str, int, str]]:
    return sorted((e.step, e.site, e.unit, e.kind) for e in table.events)


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_audit_finds_what_a_full_look_after_every_step_finds(variant, tmp_path):
    config = config_of(variant)
    run = experiment(trainings.regress, config, tmp_path / "run")
    table = run.audit()
    expected = slow_life(slowly(config))
    assert events_of(table) == expected
    assert all(event.exact for event in table.events)
    assert any(kind == "died" for *_, kind in expected), "a variant in which nothing dies tests nothing"
    assert table.count("born dead") + table.count("died") - table.count("revived") == table.dead
    assert table.steps.tolist() == list(range(config["steps"] + 1))
    assert "exact" in str(table)


def test_in_these_trainings_everything_happens_in_both_layers():
    """Otherwise the tests here would test less than they say."""
    events = [event for variant in VARIANTS for event in slow_life(slowly(config_of(variant)))]
    assert {(site, kind) for _, site, _, kind in events} >= {
        (site, kind) for site in SITES for kind in ("died", "revived")
    }
    assert any(kind == "born dead" for *_, kind in events)


def watched(config: dict[str, Any], path: Any, **options: Any) -> Any:
    """The same training under a bare ``watch``; its run."""
    recordings = []

    def begin(model: Any, optimizer: Any, *, data: Any) -> Any:
        recordings.append(watch(model, optimizer, path, data=data, **options))
        return recordings[0]

    backstory.manual_seed(config["seed"])
    trainings.regress(dict(config), begin)
    recordings[0].close()
    return open_run(path)


@pytest.mark.parametrize("variant", ["plain", "momentum", "weight decay"])
def test_a_bare_watch_that_scans_at_every_step_is_exact(variant, tmp_path):
    config = config_of(variant)
    table = watched(config, tmp_path / "run", scan_at=lambda step: True).life_table()
    assert events_of(table) == slow_life(slowly(config))
    assert all(event.exact for event in table.events)


def test_events_between_two_scans_say_so_and_their_bounds_hold_the_true_step(tmp_path):
    config = config_of("momentum")
    table = watched(config, tmp_path / "run").life_table()
    truth = slow_life(slowly(config))
    assert not table.audited
    assert [e for e in table.events if not e.exact], "nothing lay between two scans"
    for event in table.events:
        fitting = [
            step
            for step, site, unit, kind in truth
            if (site, unit, kind) == (event.site, event.unit, event.kind)
            and event.after <= step <= event.step
        ]
        assert fitting, str(event)
        if event.exact:
            assert event.step in fitting
        else:
            assert str(event).endswith(f"between steps {event.after} and {event.step}")


def test_an_audit_leaves_the_life_at_the_end_as_it_was_and_can_be_repeated(tmp_path):
    run = experiment(trainings.regress, config_of("momentum"), tmp_path / "run")
    before = [(life.dead, life.linear) for life in run.life_table().sites]
    first, second = run.audit(), run.audit()
    assert [(life.dead, life.linear) for life in first.sites] == before
    assert str(first) == str(second)
    assert first.events == second.events


def test_an_audit_measures_the_steps_that_the_recording_left_out(tmp_path):
    config = {**config_of("plain"), "steps": 11}
    run = experiment(trainings.regress, config, tmp_path / "run")
    assert run.gates(SITES[0])[0].tolist() == [1, 9]
    run.audit()
    steps, shares = run.gates(SITES[0])
    assert steps.tolist() == list(range(1, 12))
    assert np.isfinite(run.norms()["0.weight"]).all()
    whole = experiment(trainings.regress, config, tmp_path / "whole", every=1)
    assert (whole.gates(SITES[0])[1] == shares).all()
    assert np.array_equal(whole.norms()["2.bias"], run.norms()["2.bias"])


# Certificates


def fractions(x: Any) -> list[Fraction]:
    return [Fraction(float(value)) for value in np.ravel(x)]


def dot(a: Any, b: Any) -> Fraction:
    return sum((p * q for p, q in zip(fractions(a), fractions(b), strict=True)), Fraction(0))


def slow_change(seen: Slow, site: str, unit: int, step: int, sample: int) -> Fraction:
    """Δz = w·x + b after the update less before, without any rounding."""
    layer = str(int(site[0]) - 1)
    values = []
    for at in (step - 1, step):
        weights = seen.after[at]
        x = slow_forward(weights, seen.data[sample : sample + 1])[f"x of {site}"][0]
        b = weights.get(f"{layer}.bias")
        values.append(
            dot(weights[f"{layer}.weight"][unit], x) + (0 if b is None else Fraction(float(b[unit])))
        )
    return values[1] - values[0]


def close_to(parts: list[float], exact: Fraction) -> bool:
    slack = Fraction(1e-12) * sum(map(abs, map(Fraction, parts)), Fraction(0))
    return abs(sum(map(Fraction, parts), Fraction(0)) - exact) <= slack


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_parts_of_a_certificate_add_up_to_the_change(variant, tmp_path):
    config = config_of(variant)
    run = experiment(trainings.regress, config, tmp_path / "run")
    table = run.audit()
    seen, certificates = slowly(config), run.certificates()
    assert len(certificates) == table.count("died") > 0
    for c in certificates:
        exact = slow_change(seen, c.site, c.unit, c.step, c.sample)
        assert close_to(c.parts, exact)
        assert c.change == pytest.approx(float(exact), rel=1e-9)
        z = slow_forward(seen.after[c.step - 1], seen.data)[c.site][:, c.unit]
        assert c.sample == z.argmax()
        assert c.before == pytest.approx(z.max(), rel=1e-12)
        assert c.before > 0 >= c.after
        assert ("bias" in " ".join(c.lines())) == config["bias"]
        assert c.site == SITES[1] or c.inputs == 0, "nothing moves the data"


@pytest.mark.parametrize("variant", ["plain", "momentum", "dampening", "weight decay", "clipped"])
def test_the_terms_of_a_certificate_are_those_of_the_update(variant, tmp_path):
    """PyTorch's formula, by hand: d = g + λw, v = μv + (1 − τ)d, w − ηv."""
    config = config_of(variant)
    run = experiment(trainings.regress, config, tmp_path / "run")
    run.audit()
    seen = slowly(config)
    lr, mu, tau = config["lr"], config["momentum"], config["dampening"]
    decay = config["weight_decay"]
    for c in run.certificates():
        name = f"{int(c.site[0]) - 1}.weight"
        velocity = np.zeros_like(seen.after[0][name])
        for step in range(c.step - 1):
            d = seen.before[step][name] + decay * seen.after[step][name]
            velocity = d if step == 0 else mu * velocity + (1 - tau) * d
        first = c.step == 1
        damping = 1.0 if first or mu == 0 else 1 - tau
        x = slow_forward(seen.after[c.step - 1], seen.data)[f"x of {c.site}"][c.sample]
        expected = {
            "gradient": -lr * damping * seen.before[c.step - 1][name][c.unit] @ x,
            "momentum": -lr * mu * velocity[c.unit] @ x if mu and not first else 0.0,
            "weight decay": -lr * damping * decay * seen.after[c.step - 1][name][c.unit] @ x,
        }
        for key, value in expected.items():
            assert c.weights.get(key, 0.0) == pytest.approx(value, rel=1e-9, abs=1e-13)
        assert abs(c.weights["rounding"]) < 1e-13
        assert c.note == ""


@pytest.mark.parametrize("variant", ["adam", "adamw", "nesterov"])
def test_the_terms_of_adam_and_nesterov_leave_nothing_but_rounding(variant, tmp_path):
    """The rounding is what an update has beyond its terms, by exact sums: a wrong term would show in it."""
    run = experiment(trainings.regress, config_of(variant), tmp_path / "run")
    run.audit()
    assert run.certificates()
    for c in run.certificates():
        assert c.note == ""
        assert ("momentum" in c.weights) == (c.step > 1)
        assert ("weight decay" in c.weights) == (variant == "adamw")
        assert abs(c.weights["rounding"]) < 1e-13 * max(1.0, *map(abs, c.parts))


def test_a_rule_without_a_split_says_so_and_gives_totals(tmp_path):
    run = experiment(trainings.regress, config_of("halved"), tmp_path / "run")
    run.audit()
    assert run.certificates()
    for c in run.certificates():
        assert "Halved's update" in c.note
        assert set(c.weights) == set(c.bias) == {"update"}
        assert "Halved's update" in str(c)


@pytest.mark.parametrize("model", ["masked", "sequences"])
def test_weights_that_are_computed_and_inputs_of_three_axes_are_certified_too(model, tmp_path):
    run = experiment(trainings.other_models, {"model": model, "seed": 0}, tmp_path / "run")
    run.audit()
    assert run.certificates()
    for c in run.certificates():
        assert c.change == pytest.approx(c.after - c.before, rel=1e-9, abs=1e-12)
        assert c.weights
        assert c.before > 0 >= c.after
        if model == "masked":
            assert "computed from parameters" in c.note
            assert set(c.weights) == {"update"}
            assert "gradient" in c.bias


def test_a_front_that_is_no_linear_layer_gives_a_note_and_only_the_total(tmp_path):
    run = experiment(trainings.other_models, {"model": "added", "seed": 0}, tmp_path / "run")
    table = run.audit()
    assert {site.site.name for site in table.sites} == {"relu#0", "relu#1"}
    assert {c.site for c in run.certificates()} == {"relu#0", "relu#1"}
    for c in run.certificates():
        if c.site == "relu#0":  # behind a sum of two layers: one of them is split
            assert set(c.others) == {"skip"}
            assert c.change == pytest.approx(c.after - c.before, rel=1e-9)
            continue
        assert "only the total is known" in c.note
        assert c.weights == c.bias == {}
        assert c.change == c.after - c.before
