"""``fit``: the loop anybody would write, and its checkpoints."""

from __future__ import annotations

import signal

import numpy as np
import pytest

import backstory
from backstory import errors, nn, optim
from backstory.data import DataLoader, TensorDataset
from backstory.optim import lr_scheduler

X = np.random.default_rng(0).normal(size=(50, 4))
Y = np.abs(X[:, :1]) - X[:, 1:2]
LABELS = (X[:, 0] > 0).astype(np.int64)


class Noisy(nn.Module):
    """A layer that draws from the thread's stream in training, as dropout does."""

    def forward(self, x):
        return x + backstory.randn(*x.shape, dtype=x.dtype) * 0.1 if self.training else x


def setup(outputs=1):
    backstory.manual_seed(7)
    f64 = backstory.float64
    model = nn.Sequential(nn.Linear(4, 8, dtype=f64), Noisy(), nn.ReLU(), nn.Linear(8, outputs, dtype=f64))
    optimizer = optim.Adam(model.parameters(), lr=0.05, amsgrad=True)
    return model, optimizer


SCHEDULES = {
    "none": lambda o: None,
    "exponential": lambda o: lr_scheduler.ExponentialLR(o, 0.8),
    "plateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0, factor=0.5),
    "one cycle": lambda o: lr_scheduler.OneCycleLR(o, 0.1, epochs=6, steps_per_epoch=7),
    "sequence": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o, 0.0), lr_scheduler.CosineAnnealingLR(o, 4)], [2]
    ),
}
DATA = {
    "arrays": lambda: (X, Y),
    "loader": lambda: DataLoader(TensorDataset(X, Y), 8, shuffle=True),
    "own stream, threads": lambda: DataLoader(
        TensorDataset(X, Y), 8, shuffle=True, generator=backstory.Generator(4), num_workers=2
    ),
}


def bytes_of(model, optimizer):
    arrays = [p.detach().numpy() for p in model.parameters()]
    for p in model.parameters():
        arrays += [np.asarray(value) for value in optimizer.state[p].values()]
    return [array.tobytes() for array in arrays]


def test_it_is_the_loop_that_anybody_would_write():
    model, optimizer = setup(outputs=2)
    history = backstory.fit(
        model,
        (X, LABELS),
        optimizer=optimizer,
        epochs=3,
        batch_size=8,
        progress=False,
        validation=(X, LABELS),
    )
    other, theirs = setup(outputs=2)
    loader = DataLoader(TensorDataset(X, LABELS), 8, shuffle=True)
    losses = []
    for _ in range(3):
        total = 0.0
        for x, y in loader:
            theirs.zero_grad()
            loss = nn.functional.cross_entropy(other(x), y)
            loss.backward()
            theirs.step()
            total += loss.item() * len(y)
        losses.append(total / 50)
    assert bytes_of(model, optimizer) == bytes_of(other, theirs)
    assert history.losses == losses
    with backstory.no_grad():
        out = other.eval()(backstory.tensor(X))
    accuracy = (out.argmax(1) == backstory.tensor(LABELS)).numpy().mean()
    assert history.epochs[-1].accuracy == pytest.approx(accuracy)
    expected = nn.functional.cross_entropy(out, backstory.tensor(LABELS)).item()
    assert history.epochs[-1].validation == pytest.approx(expected)


def run(data, schedule, checkpoint=None, epochs=6, loss=None):
    model, optimizer = setup()
    history = backstory.fit(
        model,
        DATA[data](),
        optimizer=optimizer,
        schedule=SCHEDULES[schedule](optimizer),
        epochs=epochs,
        batch_size=8,
        validation=(X[:10], Y[:10]),
        checkpoint=checkpoint,
        loss=loss,
        progress=False,
    )
    return history, bytes_of(model, optimizer)


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_training_that_goes_on_from_a_checkpoint_is_the_same_bit_for_bit(tmp_path, data, schedule):
    expected, values = run(data, schedule)
    file = tmp_path / "state.safetensors"
    run(data, schedule, file, epochs=2)
    history, again = run(data, schedule, file)
    assert again == values
    assert history.epochs == expected.epochs


@pytest.mark.parametrize("at", [1, 3, 7, 10, 14, 42])
@pytest.mark.parametrize("data", DATA)
def test_ctrl_c_at_any_batch_saves_everything_and_the_rest_is_the_same_bit_for_bit(tmp_path, data, at):
    expected, values = run(data, "one cycle")
    seen = []

    def interrupted(out, y):
        if backstory.is_grad_enabled():
            seen.append(1)
            if len(seen) == at:
                signal.raise_signal(signal.SIGINT)
        return nn.functional.mse_loss(out, y)

    before = signal.getsignal(signal.SIGINT)
    file = tmp_path / "state.safetensors"
    history, _ = run(data, "one cycle", file, loss=interrupted)
    assert history.ended == "interrupted"
    assert len(seen) == at
    assert signal.getsignal(signal.SIGINT) is before
    history, again = run(data, "one cycle", file)
    assert again == values
    assert (history.epochs, history.ended) == (expected.epochs, "finished")


def test_a_second_ctrl_c_interrupts_at_once():
    def twice(out, y):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        return nn.functional.mse_loss(out, y)

    with pytest.raises(KeyboardInterrupt):
        run("arrays", "none", loss=twice)


def test_it_ends_when_the_loss_gets_no_better():
    model, _ = setup()
    optimizer = optim.SGD(model.parameters(), lr=0.0)
    history = backstory.fit(
        model, (X, Y), optimizer=optimizer, validation=(X, Y), patience=2, epochs=50, progress=False
    )
    assert (len(history.epochs), history.ended) == (4, "no better")


def test_watch_records_the_training_in_one_argument(tmp_path):
    model, optimizer = setup()
    history = backstory.fit(
        model, (X, Y), optimizer=optimizer, epochs=2, watch=tmp_path / "run", progress=False,
        checkpoint=tmp_path / "state",
    )  # fmt: skip
    found = backstory.open_run(tmp_path / "run")
    assert found.life_table().units == 8
    assert [value for _, value in found.metrics("epoch_loss")] == pytest.approx(history.losses)
    backstory.fit(
        model, (X, Y), optimizer=optimizer, epochs=3, watch=tmp_path / "run", progress=False,
        checkpoint=tmp_path / "state",
    )  # fmt: skip
    assert (tmp_path / "run-from-2" / "run.db").exists()


def test_watching_changes_nothing(tmp_path):
    results = []
    for watch in (None, tmp_path / "run"):
        model, optimizer = setup()
        backstory.fit(model, (X, Y), optimizer=optimizer, epochs=2, watch=watch, progress=False)
        results.append(bytes_of(model, optimizer))
    assert results[0] == results[1]


def test_its_progress_tells_every_epoch(capsys):
    model, optimizer = setup(outputs=2)
    backstory.fit(model, (X, LABELS), optimizer=optimizer, epochs=2, validation=(X, LABELS))
    out = capsys.readouterr().out
    assert "epoch 1, loss" in out
    assert "epoch 2, loss" in out
    assert "accuracy" in out


@pytest.mark.parametrize(
    "arguments",
    [
        {"model": object()},
        {"data": 3},
        {"data": (X,)},
        {"epochs": -1},
        {"patience": -1},
        {"schedule": "step"},
        {"schedule": lr_scheduler.StepLR(optim.SGD([backstory.ones(1)]), 3)},
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_what_makes_no_sense_is_refused(arguments):
    model, _ = setup()
    with pytest.raises(errors.ArgumentError, match=r"fit\("):
        backstory.fit(**{"model": model, "data": (X, Y), "progress": False, **arguments})


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    run("arrays", "none", tmp_path / "state", epochs=1)
    with pytest.raises(errors.ArgumentError, match="another schedule"):
        run("arrays", "exponential", tmp_path / "state")
