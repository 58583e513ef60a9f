"""A watched training whose step is compiled is recorded as the same training step by step in Python."""

import sqlite3

import numpy as np
import pytest

import backstory
from backstory import nn, optim

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
        names = ("steps", "gates", "events", "scans", "certificates", "findings")
        return {name: store.execute(f"SELECT * FROM {name}").fetchall() for name in names}


@pytest.mark.parametrize("late_zero", [False, True], ids=["zeroed first", "zeroed last"])
@pytest.mark.parametrize("rule", RULES)
def test_a_compiled_step_is_recorded_as_an_eager_one(tmp_path, rule, late_zero):
    eager = recorded(tmp_path / "eager", rule, False, late_zero)
    compiled = recorded(tmp_path / "compiled", rule, True, late_zero)
    assert compiled["events"], "no unit died, and nothing was compared"
    for name in ("gates", "events", "scans", "findings"):
        assert compiled[name] == eager[name]
    assert len(compiled["certificates"]) == len(eager["certificates"])
    for ours, theirs in zip(compiled["steps"], eager["steps"], strict=True):
        assert ours[0] == theirs[0]
        assert ours[1] == pytest.approx(theirs[1], rel=1e-9)
        assert ours[2:4] == theirs[2:4]
        for a, b in zip(ours[4:], theirs[4:], strict=True):
            assert (a is None) == (b is None)
            if a is not None:
                np.testing.assert_allclose(np.frombuffer(a), np.frombuffer(b), rtol=1e-7)


def test_a_recorder_added_or_closed_after_compiling_is_seen(tmp_path):
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    x, y = backstory.randn(8, 4, dtype=np.float64), backstory.randint(0, 3, (8,))

    @backstory.compile
    def step(x, y):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    step(x, y)
    run = backstory.watch(model, optimizer, tmp_path / "run", data=x)
    step(x, y)
    step(x, y)
    run.close()
    step(x, y)
    with sqlite3.connect(tmp_path / "run" / "run.db") as store:
        assert store.execute("SELECT count(*) FROM steps").fetchone() == (2,)
