"""A watched training whose step is compiled is recorded as the same training step by step in Python."""

import os
import sqlite3

import numpy as np
import pytest
from insight import trainings

import backstory
from backstory import nn, optim
from backstory.errors import TraceError
from backstory.insight import Change, experiment, open_run

RULES = {
    "sgd": lambda parameters: optim.SGD(parameters, lr=2.0, momentum=0.9),
    "adam": lambda parameters: optim.Adam(parameters, lr=0.5),
}


def network():
    backstory.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3)).double()


def recorded(path, rule, compiled, late_zero):
    model = network()
    optimizer = RULES[rule](model.parameters())
    x = backstory.randn(64, 4, dtype=np.float64)
    y = backstory.randint(0, 3, (64,))

    def step(x, y):
        if not late_zero:
            optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        if late_zero:
            optimizer.zero_grad()
        return loss

    run_step = backstory.compile(step) if compiled else step
    run = backstory.watch(model, optimizer, path, data=x)
    for i in range(33):
        part = slice(i % 4 * 16, i % 4 * 16 + 16)
        run_step(x[part], y[part])
    run.close()
    if compiled:
        assert run_step.cache_info().hits > 20
    with sqlite3.connect(path / "run.db") as store:
        names = ("events", "scans", "certificates", "findings")
        return run, {name: store.execute(f"SELECT * FROM {name}").fetchall() for name in names}


@pytest.mark.parametrize("late_zero", [False, True], ids=["zeroed first", "zeroed last"])
@pytest.mark.parametrize("rule", RULES)
def test_a_compiled_step_is_recorded_as_an_eager_one(tmp_path, rule, late_zero):
    its, eager = recorded(tmp_path / "eager", rule, False, late_zero)
    ours, compiled = recorded(tmp_path / "compiled", rule, True, late_zero)
    assert compiled["events"], "no unit died, and nothing was compared"
    for name in ("events", "scans", "findings"):
        assert compiled[name] == eager[name]
    assert len(compiled["certificates"]) == len(eager["certificates"])
    assert ours.steps.tolist() == its.steps.tolist() == list(range(1, 34))
    np.testing.assert_allclose(ours.losses, its.losses, rtol=1e-9)
    assert ours.rates.tolist() == its.rates.tolist()
    for site in its.sites:
        for a, b in zip(ours.gates(site), its.gates(site), strict=True):
            assert a.tolist() == b.tolist()
    for name, norms in its.norms().items():
        np.testing.assert_allclose(ours.norms()[name], norms, rtol=1e-7)


def test_a_recorder_added_or_closed_after_compiling_is_seen(tmp_path):
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    x, y = backstory.randn(8, 4, dtype=np.float64), backstory.randint(0, 3, (8,))
    step = compiled_step(model, optimizer)
    step(x, y)
    run = backstory.watch(model, optimizer, tmp_path / "run", data=x)
    step(x, y)
    step(x, y)
    run.close()
    step(x, y)
    assert run.steps.tolist() == [1, 2]


def compiled_step(model, optimizer):
    @backstory.compile
    def step(x, y):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def training(path, dtype=np.float64, scan_at=lambda step: False, every=1):
    """A watched model, its optimizer, a compiled step and its arguments, and the recording."""
    backstory.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3)).to(dtype)
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    batch = backstory.randn(8, 4, dtype=dtype), backstory.randint(0, 3, (8,))
    step = compiled_step(model, optimizer)
    run = backstory.watch(model, optimizer, path, data=batch[0], scan_at=scan_at, every=every)
    return model, optimizer, step, batch, run


def test_many_steps_are_stored_in_order_in_few_rows(tmp_path):
    _, _, step, batch, run = training(tmp_path / "run")
    losses = [step(*batch).item() for _ in range(2000)]
    run.close()
    assert run.losses.tolist() == losses
    assert run.steps.tolist() == list(range(1, 2001))
    assert run._rows("SELECT count(*) FROM steps")[0][0] < 100
    assert np.isfinite(run.norms()["0.weight"]).all()


def test_learning_rates_that_change_between_steps_are_noted(tmp_path):
    _, optimizer, step, batch, run = training(tmp_path / "run")
    rates = [0.1, 0.1, 0.2, 0.1, 0.05, 0.05, 0.3, 0.3, 0.3, 0.1, 0.1, 0.2]
    for rate in rates:
        optimizer.param_groups[0]["lr"] = rate
        step(*batch)
    run.close()
    assert run.rates[:, 0].tolist() == rates


def test_steps_that_wait_are_committed_though_the_training_pauses(tmp_path):
    _, _, step, batch, run = training(tmp_path / "run")
    for _ in range(5):
        step(*batch)
    run._writer.flush()  # as it does by itself before long
    assert open_run(tmp_path / "run").steps.tolist() == [1, 2, 3, 4, 5]
    step(*batch)
    run.close()
    assert run.steps.tolist() == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("every", [0, 3, 8])
def test_a_step_that_is_not_measured_has_its_loss_alone(tmp_path, every):
    _, _, step, batch, run = training(tmp_path / "run", every=every)
    losses = [step(*batch).item() for _ in range(20)]
    run.close()
    measured = [k + 1 for k in range(20) if every and k % every == 0]
    assert run.losses.tolist() == losses
    assert (run.gates("1/relu#0")[0].tolist() if every else []) == measured
    taken = np.flatnonzero(~np.isnan(run.norms()["0.weight"][0])) + 1
    assert taken.tolist() == measured


def test_passes_and_steps_outside_of_the_compiled_ones_are_told_apart_as_in_eager_mode(tmp_path):
    def recorded_with(compiled):
        model, _, step, batch, run = training(tmp_path / f"{compiled}")
        step = step if compiled else step._function
        for k in range(12):
            if k % 3 == 1:
                model(batch[0])  # a pass of which nothing comes counts with the next step
            if k % 5 == 4:
                step._function(*batch) if compiled else step(*batch)
            step(*batch)
        run.close()
        return run

    ours, its = recorded_with(True), recorded_with(False)
    assert ours.steps.tolist() == its.steps.tolist()
    np.testing.assert_allclose(ours.losses, its.losses, rtol=1e-9)
    for a, b in zip(ours.gates("1/relu#0"), its.gates("1/relu#0"), strict=True):
        assert a.tolist() == b.tolist()
    samples = "SELECT samples, length(numbers) / 8 FROM gates ORDER BY step"
    assert [s for s, n in ours._rows(samples) for _ in range(n)] == [s for s, _ in its._rows(samples)]


@pytest.mark.parametrize("scale", [1e-40, 1e-30, 1e-22, 1e-10, 1.0, 1e10, 1e22, 1e33])
def test_norms_of_short_floats_have_the_range_of_the_floats(tmp_path, scale):
    def norms(compiled):
        w = nn.Linear(300, 5, bias=False)
        model = nn.Sequential(w, nn.ReLU())
        optimizer = optim.SGD(model.parameters(), lr=1.0)
        x = backstory.ones(4, 300)
        x[:, 100:200] = 0.0  # stretches of nothing as well

        def step(x):
            optimizer.zero_grad()
            (model(x) * scale).sum().backward()
            optimizer.step()

        with backstory.no_grad():
            w.weight.copy_(backstory.ones(5, 300))
        path = tmp_path / f"{compiled}"
        run = backstory.watch(model, optimizer, path, data=x, scan_at=lambda step: False)
        (backstory.compile(step) if compiled else step)(x)
        run.close()
        return run.norms()["0.weight"]

    ours = norms(True)
    np.testing.assert_allclose(ours, norms(False), rtol=1e-5)
    np.testing.assert_allclose(ours[:2, 0], 4 * scale * 1000**0.5, rtol=1e-5)


def test_scans_fall_on_the_same_steps_whatever_the_schedule_depends_on(tmp_path):
    def scanned(compiled):
        due = [False]
        _, _, step, batch, run = training(tmp_path / f"{compiled}", scan_at=lambda step: due[0])
        for k in range(14):
            due[0] = k in (3, 4, 9)  # decided between the steps, as by a loss that leaps
            if k == 7:
                run._recorder.source.step = 20
            (step if compiled else step._function)(*batch)
        run.close()
        return run._rows("SELECT DISTINCT step FROM scans ORDER BY step"), run.steps.tolist()

    scans, steps = scanned(True)
    assert (scans, steps) == scanned(False)
    assert [step for (step,) in scans] == [0, 4, 5, 23, 27]
    assert steps == [*range(1, 8), *range(21, 28)]


def test_a_loss_that_is_not_finite_is_told_once(tmp_path):
    model, _, step, batch, run = training(tmp_path / "run")
    for _ in range(3):
        step(*batch)
    with backstory.no_grad():
        model[2].bias.fill_(float("nan"))
    step(*batch)
    step(*batch)
    with pytest.warns(RuntimeWarning, match="the loss is nan at step 4"):
        run.flush()
    step(*batch)
    run.close()
    assert [step for step, _ in run.findings("non-finite-loss")] == [4]
    assert np.isnan(run.losses).tolist() == [False] * 3 + [True] * 3


@pytest.mark.parametrize("every", [1, 2, 3])
def test_gates_of_a_compiled_forward_pass_are_counted_when_the_step_is_measured(tmp_path, every):
    def gates(path, compiled):
        model, optimizer, _, (x, y), run = training(path, every=every)
        forward = backstory.compile(lambda x: model(x)) if compiled else model
        for _ in range(10):
            optimizer.zero_grad()
            nn.functional.cross_entropy(forward(x), y).backward()
            optimizer.step()
        run.close()
        (site,) = run.sites
        return [part.tolist() for part in run.gates(site)]

    assert gates(tmp_path / "compiled", True) == gates(tmp_path / "eager", False)


@pytest.mark.parametrize("changes", [{}, {"optimizer": "adam"}, {"clip": 0.5, "momentum": 0.9}], ids=str)
def test_reruns_of_a_compiled_training_give_its_bits(tmp_path, changes):
    config = {**trainings.CONFIG, "lr": 0.05, "snapshots": [4], **changes}
    run = experiment(trainings.compiled, config, tmp_path / "run", every=3)
    assert run.gates(run.sites[0])[0].tolist() == [1, 4, 7, 10, 13], "only every third step is measured"
    assert run.audit().units == 16 + 16 + 8
    outcomes = run.counterfactuals([Change("same", {}, start=4), Change("slower", {"lr": 0.01})], 1, jobs=1)
    assert outcomes.of("as it was")[0].metrics == outcomes.of("same")[0].metrics == run.result
    assert outcomes.of("slower")[0].metrics != run.result


def test_a_second_step_of_a_watched_optimizer_is_refused_and_nothing_has_changed(tmp_path):
    model, optimizer, _, (x, y), run = training(tmp_path / "run")

    def twice(x, y):
        for _ in range(2):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
        return loss

    before = model[0].weight.detach().numpy().copy()
    with pytest.raises(TraceError, match=r"a second step of a watched optimizer .*_compiled\.py:\d+"):
        backstory.compile(twice)(x, y)
    assert np.array_equal(model[0].weight.detach().numpy(), before)
    with pytest.warns(UserWarning, match="twice runs eagerly: a second step"):
        backstory.compile(twice, strict=False)(x, y)
    step = compiled_step(model, optimizer)
    step(x, y)
    run.close()
    assert run.steps.tolist() == [1, 2, 3]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_steps_on_and_writes_nothing(tmp_path):
    _, _, step, batch, run = training(tmp_path / "run")
    step(*batch)
    step(*batch)
    child = os.fork()
    if child == 0:  # pragma: no cover (the child)
        code = 1
        try:
            for _ in range(3):
                step(*batch)
            run.close()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    step(*batch)
    run.close()
    assert open_run(tmp_path / "run").steps.tolist() == [1, 2, 3]
