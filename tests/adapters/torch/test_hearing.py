"""Losses, numbers of backward passes and GradScalers, against what the loop itself knows."""

from __future__ import annotations

import threading

import pytest
import torch
from adapters.torch.slow import F64, inputs, network, never, norm, parameters_of, sgd, step_once, targets
from torch import nn, optim

from backstory.insight import watch


@pytest.fixture
def training(tmp_path):
    """A watched model, its optimizer and run."""
    model = network()
    optimizer = sgd(model)
    with watch(model, optimizer, tmp_path / "run", data=inputs(), scan_at=never) as run:
        yield model, optimizer, run


def loss_of(model, scale=1.0):
    return (model(inputs()) - targets(inputs())).square().mean() * scale


def backwards(run):
    return [count for (count,) in run._rows("SELECT backwards FROM steps ORDER BY step")]


@pytest.mark.parametrize("to_none", [False, True])
def test_accumulated_losses_add_up(training, to_none):
    model, optimizer, run = training
    expected = []
    for _ in range(3):
        optimizer.zero_grad(set_to_none=to_none)
        losses = [loss_of(model, 1 / n) for n in (1, 2, 3)]
        for loss in losses:
            loss.backward()
        optimizer.step()
        expected.append(sum(loss.item() for loss in losses))
    assert run.losses.tolist() == expected
    assert backwards(run) == [3, 3, 3]


@pytest.mark.parametrize("to_none", [False, True])
def test_a_loss_whose_gradient_was_thrown_away_moved_nothing(training, to_none):
    model, optimizer, run = training
    expected = []
    for step in range(4):
        for _ in range(step):
            loss_of(model, 1e6).backward()
            optimizer.zero_grad(set_to_none=to_none)
        expected.append(step_once(model, optimizer, inputs()))
    assert run.losses.tolist() == expected
    assert backwards(run) == [1] * 4


class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(5, 4), nn.ReLU()).double()
        self.heads = nn.ModuleList(nn.Linear(4, 1).double() for _ in range(3))

    def forward(self, x):
        return [head(self.body(x)) for head in self.heads]


@pytest.mark.parametrize("to_none", [False, True])
def test_losses_of_several_heads_add_up_also_when_each_reaches_other_parameters(to_none, tmp_path):
    torch.manual_seed(0)
    model = Heads()
    optimizer = sgd(model)
    expected = []
    with watch(model, optimizer, tmp_path / "run", data=inputs()) as run:
        for step in range(4):
            if step == 2:
                for out in model(inputs()):  # thrown away
                    out.sum().backward()
            optimizer.zero_grad(set_to_none=to_none)
            losses = [out.square().mean() for out in model(inputs())]
            for loss in losses[: 3 if step else 2]:
                loss.backward()
            optimizer.step()
            expected.append(sum(loss.item() for loss in losses[: 3 if step else 2]))
        assert run.losses.tolist() == expected


def test_a_graph_that_is_walked_twice_is_two_passes(training):
    model, optimizer, run = training
    for _ in range(2):
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward(retain_graph=True)
        loss.backward()
        optimizer.step()
        assert run.losses[-1] == 2 * loss.item()
    assert backwards(run) == [2, 2]


@pytest.mark.filterwarnings("ignore:Using backward.* with create_graph")
def test_gradients_with_a_graph_accumulate_too(training):
    model, optimizer, run = training
    for _ in range(2):
        optimizer.zero_grad()
        losses = [loss_of(model), loss_of(model, 2.0)]
        for loss in losses:
            loss.backward(create_graph=True)
        optimizer.step()
        assert run.losses[-1] == sum(loss.item() for loss in losses)
        optimizer.zero_grad()


def test_several_roots_of_one_backward_add_up(training):
    model, optimizer, run = training
    first, second = loss_of(model), loss_of(model, 3.0)
    torch.autograd.backward([first, second])
    optimizer.step()
    assert run.losses.tolist() == [first.item() + second.item()]


def test_a_loss_of_one_entry_in_an_axis_is_one(training):
    model, optimizer, run = training
    loss = loss_of(model).reshape(1, 1)
    loss.backward()
    optimizer.step()
    assert run.losses.tolist() == [loss.item()]


def test_gradients_given_by_hand_have_no_loss(training):
    model, optimizer, run = training
    out = model(inputs())
    out.backward(torch.ones_like(out))
    optimizer.step()
    for p, g in zip(model.parameters(), torch.autograd.grad(loss_of(model), model.parameters()), strict=True):
        p.grad = g
    optimizer.step()
    assert torch.tensor(run.losses).isnan().tolist() == [True, True]
    assert run.norms()["0.weight"][1].min() > 0


def test_a_loss_that_is_changed_in_place_afterwards_was_what_it_was(training):
    model, optimizer, run = training
    total = torch.zeros((), dtype=F64)
    seen = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        optimizer.step()
        seen.append(loss.item())
        total = loss.detach()
        total += 100
    assert run.losses.tolist() == seen


def test_a_loss_is_heard_in_the_thread_that_computes_it(training):
    model, optimizer, run = training
    expected = []
    for _ in range(2):
        loss = loss_of(model)
        optimizer.zero_grad()
        thread = threading.Thread(target=loss.backward)
        thread.start()
        thread.join()
        optimizer.step()
        expected.append(loss.item())
    assert run.losses.tolist() == expected


def test_the_loss_of_another_model_is_not_heard(training):
    model, optimizer, run = training
    other = network(seed=5)
    loss_of(other).backward()
    loss = step_once(model, optimizer, inputs())
    loss_of(other).backward()
    assert run.losses.tolist() == [loss]


def test_two_models_at_once_record_each_its_own(tmp_path):
    a, b = network(), network(seed=3)
    of_a, of_b = sgd(a), sgd(b, momentum=0.5)
    losses = {"a": [], "b": []}
    with (
        watch(a, of_a, tmp_path / "a", data=inputs()) as run_a,
        watch(b, of_b, tmp_path / "b", data=inputs()) as run_b,
    ):
        for _ in range(3):
            first, second = loss_of(a), loss_of(b)
            of_a.zero_grad()
            of_b.zero_grad()
            first.backward()
            second.backward()
            of_b.step()
            of_a.step()
            losses["a"].append(first.item())
            losses["b"].append(second.item())
        assert run_a.losses.tolist() == losses["a"]
        assert run_b.losses.tolist() == losses["b"]


def test_an_adversary_is_heard_with_its_own_losses_only(tmp_path):
    """Two optimizers, and a loss of the one that also runs through the other's model."""
    made, judge = network(), nn.Sequential(nn.Linear(1, 4), nn.ReLU(), nn.Linear(4, 1)).double()
    of_made, of_judge = sgd(made), sgd(judge)
    x, seen = inputs(), []
    with watch(judge, of_judge, tmp_path / "run", data=x[:, :1], scan_at=never) as run:
        for _ in range(3):
            of_judge.zero_grad()
            loss = judge(x[:, :1]).mean() - judge(made(x).detach()).mean()
            loss.backward()
            of_judge.step()
            seen.append(loss.item())
            of_made.zero_grad()
            (-judge(made(x)).mean()).backward()  # reaches the judge's gradients, which are thrown away
            of_made.step()
        assert run.losses.tolist() == seen


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("unscale", [False, True])
def test_a_scaled_loss_is_recorded_as_it_was_before_and_a_skipped_step_is_none(fused, unscale, tmp_path):
    model = network(dtype=torch.float32)
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=1)
    x, seen, changes, gradients = inputs().float(), [], [], []
    with watch(model, optimizer, tmp_path / "run", data=x) as run:
        for step in range(6):
            before = parameters_of(model)
            optimizer.zero_grad()
            losses = [(model(x) * (float("inf") if step == 3 else 1.0)).square().mean() for _ in range(2)]
            true = torch.autograd.grad(sum(losses), list(model.parameters()), retain_graph=True)
            for loss in losses:
                scaler.scale(loss).backward()
            if unscale:
                scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
            if step == 3:
                assert parameters_of(model)["0.weight"].equal(before["0.weight"]), "it was skipped"
                continue
            seen.append(sum(loss.item() for loss in losses))
            changes.append(norm(model[0].weight - before["0.weight"]))
            gradients.append(norm(true[0]))
        if fused:  # the optimizer is called, and does nothing
            found = [n for n in range(6) if n != 3]
            with pytest.warns(RuntimeWarning, match="loss is inf at step 4"):
                losses_found = run.losses
        else:
            found, losses_found = list(range(5)), run.losses
        assert losses_found[found].tolist() == pytest.approx(seen, rel=1e-6)
        found_gradients, found_changes, _ = run.norms()["0.weight"]
        assert found_gradients[found].tolist() == pytest.approx(gradients, rel=1e-5)
        assert found_changes[found].tolist() == pytest.approx(changes, rel=1e-4)
        if fused:
            assert found_changes[3] == 0
        else:
            assert [step for step, _ in run.findings("skipped")] == [3]


def test_a_scaler_that_is_switched_off_changes_nothing(training):
    model, optimizer, run = training
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    loss = loss_of(model)
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    assert run.losses.tolist() == [loss.item()]


def test_a_loss_that_becomes_nan_is_told_once_and_recording_goes_on(training):
    model, optimizer, run = training
    step_once(model, optimizer, inputs())
    for _ in range(3):
        optimizer.zero_grad()
        (model(inputs()).sum() * float("nan")).backward()
        optimizer.step()
    with pytest.warns(RuntimeWarning, match="the loss is nan at step 2"):
        run.flush()
    assert torch.tensor(run.losses).isnan().tolist() == [False, True, True, True]
    assert run.findings("non-finite-loss") == [(2, "nan")]
    assert "became nan at step 2" in run.story()
