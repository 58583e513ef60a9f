"""Experiments: reruns bit for bit, and every reason to refuse one."""

from __future__ import annotations

import functools
import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from insight import trainings

import backstory
from backstory.errors import ArgumentError, ReplayError, RunError, SourceChangedError
from backstory.insight import Change, experiment, open_run, watch
from backstory.insight.experiment import conditions, expected_of, rerun

SOURCE = """
import backstory
from backstory import nn, optim
from insight.trainings import inputs, step_once

def train(config, watch):
    model = nn.Sequential(nn.Linear(5, 3, dtype=backstory.float64), nn.ReLU())
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    run = watch(model, optimizer, data=inputs())
    step_once(model, optimizer, inputs())
    run.log(score=1.0)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A file of its own with a train function, importable."""
    name = f"training_{tmp_path.name}"
    file = tmp_path / f"{name}.py"
    file.write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    yield file, importlib.import_module(name)
    del sys.modules[name]


def losses_of(path: Path, **changes) -> list[float]:
    return experiment(trainings.regress, {**trainings.CONFIG, **changes}, path).losses.tolist()


# The same again


def test_the_same_experiment_twice_is_the_same_bit_for_bit(tmp_path):
    backstory.manual_seed(11)
    first = losses_of(tmp_path / "first")
    backstory.manual_seed(12)
    backstory.rand(5)
    assert losses_of(tmp_path / "second") == first
    assert losses_of(tmp_path / "third", seed=4) != first


def test_the_callers_streams_and_modes_are_put_back(tmp_path):
    backstory.manual_seed(7)
    expected = backstory.rand(2).tolist()
    backstory.manual_seed(7)
    run = experiment(trainings.regress, trainings.CONFIG, tmp_path / "run")
    run.audit()
    assert backstory.rand(2).tolist() == expected


def test_modes_of_the_recording_hold_in_its_reruns(module, tmp_path):
    _, training = module
    backstory.set_default_dtype(backstory.float64)
    try:
        with backstory.relu_derivative_at_zero(1.0):
            run = experiment(training.train, {}, tmp_path / "run")
    finally:
        backstory.set_default_dtype(backstory.float32)
    with conditions(run.experiment()):
        assert backstory.get_default_dtype() == backstory.float64
        assert backstory.relu(backstory.tensor(0.0, requires_grad=True)).grad_fn.params == {"at_zero": 1.0}
    assert backstory.get_default_dtype() == backstory.float32
    run.audit()


def test_a_run_says_how_it_was_made(tmp_path):
    run = experiment(trainings.regress, {**trainings.CONFIG, "lr": 0.01}, tmp_path / "run", threads=1)
    recipe = run.meta["experiment"]
    assert recipe["train"] == "insight.trainings:regress"
    assert (recipe["seed"], recipe["threads"], recipe["config"]["lr"]) == (3, 1, 0.01)
    assert run.config == {**trainings.CONFIG, "lr": 0.01}
    assert run.meta["versions"]["backstory"] == backstory.__version__
    assert run.meta["status"] == "finished"


def test_the_last_snapshot_holds_the_streams_of_the_training(tmp_path):
    run = experiment(trainings.regress, trainings.CONFIG, tmp_path / "run")
    with conditions(run.experiment()):
        trainings.regress(dict(trainings.CONFIG), lambda *args, **kwargs: backstory.insight.run.Watched())
        expected = backstory.rand(1).item()
    stream = backstory.Generator()
    stream.set_state(run.snapshot().random[0])
    assert backstory.rand(1, generator=stream).item() == expected


# Trainings that end otherwise


def test_a_training_that_never_watches_is_refused(tmp_path):
    with pytest.raises(RunError, match="without calling watch"):
        experiment(trainings.without_watch, {}, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_training_that_watches_twice_is_refused(tmp_path):
    with pytest.raises(RunError, match="called twice"):
        experiment(trainings.watching_twice, {}, tmp_path / "run")
    assert open_run(tmp_path / "run").meta["status"].startswith("ended by RunError")


@pytest.mark.parametrize("steps", [0, 3, 9])
def test_an_error_of_the_training_passes_and_ends_the_run_with_that_status(steps, tmp_path):
    with pytest.raises(LookupError, match="the training's own error"):
        experiment(trainings.raising, {"steps": steps}, tmp_path / "run")
    run = open_run(tmp_path / "run")
    assert run.meta["status"] == "ended by LookupError: the training's own error"
    assert run.steps.tolist() == list(range(1, steps + 1))
    table = run.audit()
    assert table.audited
    assert table.steps.tolist() == list(range(steps + 1))


def test_a_training_that_closes_its_run_early_is_replayed_up_to_there(tmp_path):
    run = experiment(trainings.closing_early, {}, tmp_path / "run")
    assert run.steps.tolist() == [1, 2, 3, 4]
    assert run.audit().steps.tolist() == [0, 1, 2, 3, 4]
    outcomes = run.counterfactuals([], seeds=1, jobs=1)
    assert outcomes.values("as it was") == [1.0]


def test_an_outside_random_source_is_refused_with_the_step_where_it_parted(tmp_path):
    run = experiment(trainings.from_outside, {}, tmp_path / "run")
    scans = run.life_table().steps.tolist()
    for ask in (run.audit, lambda: run.counterfactuals([Change("nothing")], seeds=1, jobs=1)):
        with pytest.raises(ReplayError, match="parted from the recording at step 5: the loss was"):
            ask()
    assert run.life_table().steps.tolist() == scans, "a refused audit changes nothing"
    assert run.outcomes().all == ()


def test_a_training_that_catches_every_error_cannot_hide_that_it_parted(module, tmp_path):
    file, training = module
    step = "    step_once(model, optimizer, inputs())"
    hidden = "    import time\n    try:\n    {} * time.time())\n    except Exception:\n        pass"
    file.write_text(SOURCE.replace(step, hidden.format(step.removesuffix(")"))))
    importlib.reload(training)
    run = experiment(training.train, {}, tmp_path / "run")
    with pytest.raises(ReplayError, match="step 1: the loss"):
        run.audit()


def test_another_order_of_the_data_is_refused_at_its_step(tmp_path):
    run = experiment(trainings.regress, trainings.CONFIG, tmp_path / "run")
    expected = expected_of(run)
    number, (step, samples) = 4, expected.orders[4]
    assert step == 4
    with pytest.raises(ReplayError, match="step 4: the data came in another order"):
        expected.order(number, step, samples[::-1])


def test_parameters_that_end_elsewhere_are_refused(tmp_path):
    """The last update is in no loss, so the audit compares the parameters."""
    run = experiment(trainings.regress, trainings.CONFIG, tmp_path / "run")
    last = run._rows("SELECT max(step) FROM snapshots")[0][0]
    files = [run.path / "snapshots" / f"step-{step:08d}.safetensors" for step in (0, last)]
    files[1].write_bytes(files[0].read_bytes())
    with pytest.raises(ReplayError, match="ended elsewhere"):
        run.audit()


# What cannot be rerun


def test_a_changed_source_file_is_refused_before_anything_runs(module, tmp_path):
    file, training = module
    run = experiment(training.train, {}, tmp_path / "run")
    file.write_text(SOURCE + "\n# changed\n")
    for ask in (run.audit, lambda: run.counterfactuals([], seeds=1, jobs=1)):
        with pytest.raises(SourceChangedError, match="has changed since the recording"):
            ask()
    file.write_text(SOURCE)
    assert run.audit().audited


def test_a_function_that_is_gone_is_refused(module, tmp_path):
    _, training = module
    run = experiment(training.train, {}, tmp_path / "run")
    del training.train
    with pytest.raises(ReplayError, match="PYTHONPATH"):
        run.audit()


def nested():
    def train(config, watch):
        raise AssertionError("never called")

    return train


class Trainer:
    def train(self, config, watch):
        raise AssertionError("never called")


@pytest.mark.parametrize(
    "train",
    [
        nested(),
        lambda config, watch: None,
        Trainer.train,
        Trainer().train,
        functools.partial(nested()),
        "train",
        None,
    ],
    ids=["nested", "lambda", "function of a class", "method", "partial", "name", "none"],
)
def test_a_function_that_no_other_process_could_import_is_refused(train, tmp_path):
    with pytest.raises(ReplayError, match="cannot import this one"):
        experiment(train, {}, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_function_of_main_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(trainings.regress, "__module__", "__main__")
    with pytest.raises(ReplayError, match="of __main__"):
        experiment(trainings.regress, {}, tmp_path / "run")


@pytest.mark.parametrize(
    "config", [{"x": {1, 2}}, {"x": np.float32(1.0)}, {"x": object()}, {(1, 2): 3}, [1, 2], 5]
)
def test_a_config_that_json_cannot_hold_is_refused(config, tmp_path):
    with pytest.raises(ArgumentError, match="JSON cannot hold"):
        experiment(trainings.regress, config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("seed", [-1, 1.5, "one", None])
def test_a_seed_that_is_no_whole_number_is_refused(seed, tmp_path):
    with pytest.raises(ArgumentError, match="seed"):
        experiment(trainings.regress, {**trainings.CONFIG, "seed": seed}, tmp_path / "run")


def test_the_training_gets_the_config_as_json_holds_it_and_may_change_it(module, tmp_path):
    file, training = module
    file.write_text(SOURCE.replace("    run.log", "    assert config.pop('sizes') == [1, 2]\n    run.log"))
    importlib.reload(training)
    config = {"sizes": (1, 2)}
    run = experiment(training.train, config, tmp_path / "run")
    assert config == {"sizes": (1, 2)}
    run.audit()


def test_a_bare_run_says_why_it_cannot_be_rerun(tmp_path):
    model = trainings.network()
    optimizer = backstory.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, tmp_path / "run", data=trainings.inputs()):
        pass
    run = open_run(tmp_path / "run")
    assert run.config == {}
    for ask in (run.audit, lambda: run.counterfactuals([], seeds=1)):
        with pytest.raises(ReplayError, match="bare watch"):
            ask()


def test_a_rerun_that_watches_twice_is_refused(tmp_path):
    run = experiment(trainings.regress, trainings.CONFIG, tmp_path / "run")
    recipe = {**run.experiment(), "train": "insight.trainings:watching_twice"}
    from backstory.insight.experiment import Rerun

    with pytest.raises(RunError, match="called twice"):
        rerun(recipe, {}, 0, lambda *parts: Rerun(*parts, None))
