"""Watching leaves everything as it was: hooks, copies, forks, compiled models; and bad input is refused."""

from __future__ import annotations

import copy
import gc
import io
import os
import pickle
import warnings
import weakref

import pytest
import torch
from adapters.torch.slow import (
    gates_of,
    inputs,
    network,
    never,
    parameters_of,
    same,
    sgd,
    step_once,
)
from torch import nn, optim
from torch.utils.data import DataLoader

from backstory.adapters.torch.attach import _watched
from backstory.errors import BackstoryError, RunError
from backstory.insight import open_run, watch


def hooks_of(model, optimizer):
    """How many hooks there are on all modules, parameters and the optimizer."""
    found = sum(
        len(h) for m in model.modules() for h in (m._forward_hooks, m._forward_pre_hooks, m._backward_hooks)
    )
    found += sum(len(p._post_accumulate_grad_hooks or ()) for p in model.parameters())
    return found + len(optimizer._optimizer_step_pre_hooks) + len(optimizer._optimizer_step_post_hooks)


def setting(**options):
    model = network()
    return model, sgd(model, **options)


# Hooks come and go


def test_close_removes_every_hook(tmp_path):
    model, optimizer = setting()
    with watch(model, optimizer, tmp_path / "run", data=inputs()) as run:
        assert hooks_of(model, optimizer) > 0
        step_once(model, optimizer, inputs())
    assert hooks_of(model, optimizer) == 0
    assert model not in _watched
    step_once(model, optimizer, inputs())
    assert open_run(tmp_path / "run").steps.tolist() == [1]
    run.close()
    with watch(model, optimizer, tmp_path / "again", data=inputs()) as run:
        step_once(model, optimizer, inputs())
        assert run.step == 1


def test_a_forgotten_model_is_collected_with_its_recording_and_the_run_opens(tmp_path):
    model, optimizer = setting()
    refs = [weakref.ref(model), weakref.ref(model[0].weight)]
    run = watch(model, optimizer, tmp_path / "run", data=inputs())
    refs += [weakref.ref(run._recorder), weakref.ref(run._recorder.source)]
    step_once(model, optimizer, inputs())
    run.flush()
    del run, model, optimizer
    gc.collect()
    assert [ref() for ref in refs] == [None] * 4
    opened = open_run(tmp_path / "run")
    assert opened.steps.tolist() == [1]
    assert opened.meta["status"] == "running"


def test_an_optimizer_that_outlives_the_model_has_no_hooks_left(tmp_path):
    model, optimizer = setting()
    parameters = list(model.parameters())
    watch(model, optimizer, tmp_path / "run", data=inputs())
    del model
    gc.collect()
    assert len(optimizer._optimizer_step_pre_hooks) == len(optimizer._optimizer_step_post_hooks) == 0
    assert not any(p._post_accumulate_grad_hooks for p in parameters)
    optimizer.step()


def test_training_goes_on_when_the_recording_alone_is_forgotten(tmp_path):
    model, optimizer = setting()
    watch(model, optimizer, tmp_path / "run", data=inputs())
    gc.collect()
    for _ in range(3):
        step_once(model, optimizer, inputs())
    (hook,) = model._forward_pre_hooks.values()
    hook._kept.listener.write(rest=True)
    hook._kept.listener.writer.flush()
    assert open_run(tmp_path / "run").steps.tolist() == [1, 2, 3]


@pytest.mark.parametrize("way", ["deepcopy", "pickle", "torch.save"])
def test_a_watched_model_can_be_copied_and_the_copy_is_not_watched(way, tmp_path):
    model, optimizer = setting()
    with watch(model, optimizer, tmp_path / "run", data=inputs()) as run:
        if way == "deepcopy":
            other, its = copy.deepcopy((model, optimizer))
        elif way == "pickle":
            other, its = pickle.loads(pickle.dumps((model, optimizer)))
        else:
            buffer = io.BytesIO()
            torch.save((model, optimizer), buffer)
            buffer.seek(0)
            other, its = torch.load(buffer, weights_only=False)
        assert same(parameters_of(model), parameters_of(other))
        step_once(other, its, inputs())
        step_once(model, optimizer, inputs())
        assert same(parameters_of(model), parameters_of(other))
        assert run.steps.tolist() == [1]
        assert gates_of(run, "1/relu#0")[0][1] == 40
        with watch(other, its, tmp_path / "other", data=inputs()) as another:
            step_once(other, its, inputs())
            assert another.steps.tolist() == [1]


def test_state_dicts_hold_nothing_of_the_recording(tmp_path):
    model, optimizer = setting(momentum=0.9)
    bare = set(model.state_dict())
    with watch(model, optimizer, tmp_path / "run", data=inputs()):
        step_once(model, optimizer, inputs())
        assert set(model.state_dict()) == bare
        buffer = io.BytesIO()
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, buffer)
        buffer.seek(0)
        torch.load(buffer, weights_only=True)


class Indices(torch.utils.data.Dataset):
    """Runs a watched model where it is read: in the loader's worker."""

    def __init__(self, model, optimizer):
        self.model, self.optimizer = model, optimizer

    def __len__(self):
        return 4

    def __getitem__(self, i):
        self.model.train()
        step_once(self.model, self.optimizer, inputs())
        return os.getpid()


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_forked_workers_write_nothing(tmp_path):
    model, optimizer = setting()
    with watch(model, optimizer, tmp_path / "run", data=inputs()) as run:
        step_once(model, optimizer, inputs())
        loader = DataLoader(Indices(model, optimizer), num_workers=1, multiprocessing_context="fork")
        pids = {int(pid) for batch in loader for pid in batch}
        assert pids
        assert os.getpid() not in pids
        step_once(model, optimizer, inputs())
        assert run.steps.tolist() == [1, 2]
        assert gates_of(run, "1/relu#0")[1][1] == 40
    assert open_run(tmp_path / "run").meta["status"] == "finished"


# What happens behind the recording's back


def test_hooks_that_someone_removed_are_told_once(tmp_path):
    model, optimizer = setting()
    run = watch(model, optimizer, tmp_path / "run", data=inputs(), scan_at=never)
    step_once(model, optimizer, inputs())
    model._forward_pre_hooks.clear()
    step_once(model, optimizer, inputs())
    with pytest.warns(RuntimeWarning, match="some of the recording's hooks were removed"):
        run.flush()
    step_once(model, optimizer, inputs())
    run.close()
    assert open_run(tmp_path / "run").steps.tolist() == [1, 2, 3]
    assert open_run(tmp_path / "run").gates("1/relu#0")[0].tolist() == [1]


def test_a_recording_whose_optimizer_hooks_were_removed_says_so_when_it_is_closed(tmp_path):
    model, optimizer = setting()
    run = watch(model, optimizer, tmp_path / "run", data=inputs(), scan_at=never)
    optimizer._optimizer_step_pre_hooks.clear()
    optimizer._optimizer_step_post_hooks.clear()
    step_once(model, optimizer, inputs())
    with pytest.warns(RuntimeWarning, match="some of the recording's hooks were removed"):
        run.close()


def test_replaced_parameters_are_told_once(tmp_path):
    model, optimizer = setting()
    with watch(model, optimizer, tmp_path / "run", data=inputs(), scan_at=never) as run:
        step_once(model, optimizer, inputs())
        model[4] = nn.Linear(8, 1, dtype=torch.float64)
        step_once(model, optimizer, inputs())
        with pytest.warns(RuntimeWarning, match=r"2 parameters were replaced.*4\.weight"):
            run.flush()
        step_once(model, optimizer, inputs())
    assert open_run(tmp_path / "run").steps.tolist() == [1, 2, 3]


def test_a_parameter_of_another_shape_by_data_is_followed(tmp_path):
    model, optimizer = setting(momentum=0.5, nesterov=True)
    with watch(model, optimizer, tmp_path / "run", data=inputs(), scan_at=never) as run:
        step_once(model, optimizer, inputs())
        optimizer.state.clear()
        for p, shape in ((model[4].weight, (2, 8)), (model[4].bias, (2,))):
            p.grad = None
            p.data = torch.ones(shape, dtype=torch.float64)
        before = parameters_of(model)
        step_once(model, optimizer, inputs())
        change = (parameters_of(model)["4.weight"] - before["4.weight"]).norm().item()
        assert run.norms()["4.weight"][1][1] == pytest.approx(change)


SABOTAGE = {
    "forward": "backstory.adapters.torch.statistics.open_counts",
    "backward": "backstory.adapters.torch.hearing.Hearing.accumulated",
    "before the step": "backstory.adapters.torch.changes.Changes.before",
    "after the step": "backstory.adapters.torch.changes.Changes.after",
    "fetching": "backstory.adapters.torch.fetch.Parcel.fetch",
    "begin": "backstory.adapters.torch.sites.SiteMode.restart",
    "certificates": "backstory.adapters.torch.source.TorchSource.before",
}


@pytest.mark.parametrize("where", SABOTAGE)
def test_a_recording_that_fails_ends_with_one_warning_and_the_training_goes_on(where, tmp_path, monkeypatch):
    bare, optimizer = setting()
    expected = [step_once(bare, optimizer, inputs()) for _ in range(70)]
    model, optimizer = setting()
    run = watch(model, optimizer, tmp_path / "run", data=inputs(), scan_at=lambda step: step < 3)

    def fail(*args, **kwargs):
        raise ZeroDivisionError("sabotage")

    monkeypatch.setattr(SABOTAGE[where], fail)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        losses = [step_once(model, optimizer, inputs()) for _ in range(70)]
        monkeypatch.undo()
        assert losses == expected
        assert same(parameters_of(bare), parameters_of(model))
        assert torch.overrides._get_current_function_mode_stack() == []
        assert hooks_of(model, optimizer) == 0
        run.close()
    (warning,) = caught
    assert str(warning.message).startswith("backstory stopped recording after step")
    assert "ZeroDivisionError: sabotage. The training itself goes on" in str(warning.message)
    assert open_run(tmp_path / "run").findings("recording-failed")[0][1] == "ZeroDivisionError: sabotage"


def test_a_snapshot_that_fails_at_the_end_breaks_nothing(tmp_path, monkeypatch):
    model, optimizer = setting()
    run = watch(model, optimizer, tmp_path / "run", data=inputs())
    step_once(model, optimizer, inputs())

    def fail(*args, **kwargs):
        raise ZeroDivisionError("sabotage")

    monkeypatch.setattr("backstory.adapters.torch.source.take_snapshot", fail)
    with pytest.warns(RuntimeWarning, match="sabotage"):
        run.close()
    assert open_run(tmp_path / "run").meta["status"] == "finished"
    assert open_run(tmp_path / "run").steps.tolist() == [1]


# Bad input


def refused(model, optimizer, said, tmp_path, data=None):
    with pytest.raises(BackstoryError, match=said):
        watch(model, optimizer, tmp_path / "refused", data=inputs() if data is None else data)
    assert not (tmp_path / "refused").exists()
    if isinstance(optimizer, optim.Optimizer):
        assert not optimizer._optimizer_step_pre_hooks
        assert model not in _watched


def test_parts_that_do_not_fit_together_are_refused(tmp_path):
    model, optimizer = setting()
    plain = nn.Sequential(nn.Linear(5, 2), nn.Tanh()).double()
    refused(plain, sgd(plain), "no gating activation in Sequential", tmp_path)
    refused(model, sgd(plain), "moves no parameter of the model", tmp_path)
    refused(model, model, "an optimizer of type Sequential", tmp_path)
    refused(nn.DataParallel(model), optimizer, "DataParallel", tmp_path)
    frozen = network().requires_grad_(False)
    refused(frozen, optimizer, "moves no parameter of the model", tmp_path)
    lazy = nn.Sequential(nn.LazyLinear(3), nn.ReLU())
    refused(lazy, sgd(lazy), "0.weight has no shape yet", tmp_path)


def test_a_model_that_is_watched_or_holds_or_is_part_of_a_watched_one_is_refused(tmp_path):
    model, optimizer = setting()
    with watch(model, optimizer, tmp_path / "run", data=inputs()):
        for again in (model, nn.Sequential(model), model[:2][0]):
            with pytest.raises(RunError, match="already watched"):
                watch(again, optimizer, tmp_path / "other", data=inputs())
    assert not (tmp_path / "other").exists()


def test_a_path_that_holds_a_run_is_refused_and_the_model_stays_free(tmp_path):
    model, optimizer = setting()
    watch(model, optimizer, tmp_path / "run", data=inputs()).close()
    with pytest.raises(RunError, match="already holds a run"):
        watch(model, optimizer, tmp_path / "run", data=inputs())
    assert hooks_of(model, optimizer) == 0


# The end of the process


def test_a_process_that_ends_without_closing_leaves_every_step(tmp_path, monkeypatch):
    at_exit = []
    monkeypatch.setattr("backstory.insight.record.atexit.register", at_exit.append)
    model, optimizer = setting()
    run = watch(model, optimizer, tmp_path / "run", data=inputs())
    for _ in range(5):
        step_once(model, optimizer, inputs())
    for function in at_exit:
        function()
    run._writer.flush()
    assert open_run(tmp_path / "run").steps.tolist() == [1, 2, 3, 4, 5]
    del run, model, optimizer
    gc.collect()
    for function in at_exit:
        function()
