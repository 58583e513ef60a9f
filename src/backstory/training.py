"""``fit``: a training loop with validation, early stopping, and checkpoints that resume bit for bit."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from backstory.arrays import default_generator
from backstory.autograd.modes import no_grad
from backstory.data import DataLoader, Dataset, Subset, TensorDataset
from backstory.errors import ArgumentError
from backstory.insight import watch as start_watch
from backstory.nn import Module
from backstory.nn.functional import cross_entropy, mse_loss
from backstory.optim import Adam, Optimizer
from backstory.optim.lr_scheduler import CyclicLR, LRScheduler, OneCycleLR, ReduceLROnPlateau
from backstory.saving import load, save
from backstory.tensor import Tensor

__all__ = ["Epoch", "History", "fit"]


@dataclass(frozen=True)
class Epoch:
    """One epoch: mean training loss per sample (as the parameters moved), and validation after it.

    ``accuracy`` is the share of right classes in the validation data; ``None`` where there are none.
    ``rates`` are the learning rates with which the epoch ended.
    """

    number: int
    loss: float
    validation: float | None
    accuracy: float | None
    rates: list[float]

    def __str__(self) -> str:
        parts = [f"epoch {self.number}", f"loss {self.loss:.4g}"]
        parts += [] if self.validation is None else [f"validation {self.validation:.4g}"]
        parts += [] if self.accuracy is None else [f"accuracy {self.accuracy:.3f}"]
        return ", ".join(parts)


@dataclass
class History:
    """All epochs so far, why the training ended, and the run, if it was watched.

    ``ended`` is ``finished``, ``no better`` or ``interrupted``.
    """

    epochs: list[Epoch] = field(default_factory=list)
    ended: str = "finished"
    run: Any = None

    @property
    def losses(self) -> list[float]:
        """The training loss of every epoch."""
        return [epoch.loss for epoch in self.epochs]


def fit(
    model: Module,
    data: Any,
    *,
    epochs: int = 10,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    optimizer: Optimizer | None = None,
    schedule: Any = None,
    validation: Any = None,
    patience: int | None = None,
    checkpoint: str | Path | None = None,
    watch: str | Path | None = None,
    batch_size: int = 64,
    progress: bool = True,
) -> History:
    """Train ``model`` on ``data``: a tuple (inputs, targets), a dataset of such pairs, or a DataLoader.

    Tuples and datasets are shuffled into batches of ``batch_size``. ``loss(model(x), y)`` is the
    cross-entropy for whole-number targets and the mean squared error for others, unless given; the
    optimizer ``Adam(lr=1e-3)``. The schedule is stepped after every epoch (OneCycleLR and CyclicLR after
    every batch; ReduceLROnPlateau hears the validation loss, or else the training loss). With ``patience``
    the training ends when that loss has not improved for more than so many epochs.

    ``checkpoint`` names a file that is written after every epoch; if it exists, the training goes on from it,
    bit for bit as if it had never stopped: parameters, optimizer, schedule, random streams, data order.
    Ctrl-C ends the training cleanly after the batch under way, with everything saved (a second one at once).
    ``watch`` names the folder of a recording (:func:`backstory.watch`); one that goes on from a checkpoint is
    recorded beside it, as ``…-from-STEP``.

    >>> import backstory
    >>> from backstory import nn
    >>> x = backstory.linspace(-1, 1, 32).reshape(32, 1)
    >>> model = nn.Sequential(nn.Linear(1, 8), nn.ReLU(), nn.Linear(8, 1))
    >>> history = backstory.fit(model, (x, x.abs()), epochs=30, batch_size=8, progress=False)
    >>> history.ended, history.losses[-1] < history.losses[0]
    ('finished', True)
    """
    loader = _loader(data, batch_size, shuffle=True)
    held_out = None if validation is None else _loader(validation, max(batch_size, 256), shuffle=False)
    _check(model, epochs, patience)
    optimizer = optimizer or Adam(model.parameters())
    _check_schedule(schedule, optimizer)
    training = _Training(model, optimizer, schedule, loader, loss, held_out)
    file = None if checkpoint is None else Path(checkpoint)
    if file is not None and file.exists():
        training.restore(load(file))
    else:
        training.begin_epoch()
    history = training.history
    if watch is not None:
        history.run = _recording(training, Path(watch))
    try:
        with _stopping() as stop, _progress(progress, epochs, len(loader)) as shown:
            while training.epoch < epochs and not _is_enough(history.epochs, patience):
                if not training.run_epoch(stop, shown):
                    history.ended = "interrupted"
                    break
                shown(training.epoch, 0, str(history.epochs[-1]))
                if file is not None:
                    save(training.state(), file)
            else:
                history.ended = "finished" if training.epoch >= epochs else "no better"
            if file is not None and history.ended == "interrupted":
                save(training.state(), file)
    finally:
        if history.run is not None:
            history.run.close()
    return history


class _Training:
    """A training under way: everything that a checkpoint holds."""

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer,
        schedule: Any,
        loader: DataLoader,
        loss: Any,
        validation: Any,
    ) -> None:
        self.model, self.optimizer, self.schedule = model, optimizer, schedule
        self.loader, self.loss, self.validation = loader, loss, validation
        self.history = History()
        self.epoch = self.batch = self.steps = 0
        self.total, self.samples = 0.0, 0
        self.streams = [default_generator()] + ([] if loader.generator is None else [loader.generator])

    def begin_epoch(self) -> None:
        """Remember the streams from which the epoch's order will be drawn."""
        self.batch, self.total, self.samples = 0, 0.0, 0
        self.start = [stream.get_state() for stream in self.streams]

    def run_epoch(self, stop: Callable[[], bool], shown: Callable[..., None]) -> bool:
        """Train to the end of the epoch; False if told to stop before."""
        self.model.train()
        now = [stream.get_state() for stream in self.streams]
        self._set_streams(self.start)
        batches = self.loader.batches(self.batch)
        if self.batch:
            self._set_streams(now)
        try:
            for batch in batches:
                x, y = _pair(batch)
                self.optimizer.zero_grad()
                loss = self._loss(self.model(x), y)
                loss.backward()
                self.optimizer.step()
                self.total, self.samples = self.total + loss.item() * len(y), self.samples + len(y)
                self.batch, self.steps = self.batch + 1, self.steps + 1
                if isinstance(self.schedule, (OneCycleLR, CyclicLR)):
                    self.schedule.step()
                shown(self.epoch, self.batch)
                if stop() and self.batch < len(self.loader):
                    return False
        finally:
            batches.close()  # type: ignore[attr-defined]
        self._end_epoch()
        return not stop()

    def _end_epoch(self) -> None:
        mean = self.total / max(self.samples, 1)
        validation, accuracy = (None, None) if self.validation is None else self._validate()
        if isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step(mean if validation is None else validation)
        elif self.schedule is not None and not isinstance(self.schedule, (OneCycleLR, CyclicLR)):
            self.schedule.step()
        self.epoch += 1
        rates = [group["lr"] for group in self.optimizer.param_groups]
        self.history.epochs.append(Epoch(self.epoch, mean, validation, accuracy, rates))
        if self.history.run is not None:
            extra = {} if validation is None else {"validation": validation}
            extra |= {} if accuracy is None else {"accuracy": accuracy}
            self.history.run.log(epoch_loss=mean, **extra)
        self.begin_epoch()

    def _loss(self, out: Tensor, y: Tensor) -> Tensor:
        if self.loss is not None:
            return self.loss(out, y)
        if y.dtype.kind in "iu":
            return cross_entropy(out, y)
        return mse_loss(out, y.reshape(out.shape) if y.ndim == out.ndim - 1 and out.shape[-1] == 1 else y)

    def _validate(self) -> tuple[float, float | None]:
        """Mean loss and accuracy on the validation data; the random streams stay where they are."""
        streams = [default_generator()] + [g for g in (self.validation.generator,) if g is not None]
        states = [stream.get_state() for stream in streams]
        total, right, samples, classes = 0.0, 0, 0, False
        self.model.eval()
        try:
            with no_grad():
                for x, y in map(_pair, self.validation):
                    out = self.model(x)
                    total, samples = total + self._loss(out, y).item() * len(y), samples + len(y)
                    classes = y.dtype.kind in "iu" and out.ndim == 2
                    right += int((out.argmax(1) == y).sum().item()) if classes else 0
        finally:
            self.model.train()
            for stream, state in zip(streams, states, strict=True):
                stream.set_state(state)
        return total / max(samples, 1), right / max(samples, 1) if classes else None

    def _set_streams(self, states: list[dict[str, Any]]) -> None:
        for stream, state in zip(self.streams, states, strict=True):
            stream.set_state(state)

    def state(self) -> dict[str, Any]:
        """All that :meth:`restore` needs."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
            "epochs": [asdict(epoch) for epoch in self.history.epochs],
            "counts": [self.epoch, self.batch, self.steps, self.samples],
            "total": self.total,
            "start": self.start,
            "now": [stream.get_state() for stream in self.streams],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint of a training that was set up in the same way."""
        if (state["schedule"] is None) != (self.schedule is None) or len(state["now"]) != len(self.streams):
            raise ArgumentError(
                "fit() was given a checkpoint of a training with another schedule or data loader",
                why="it could not go on as if it had never stopped",
                instead="the same arguments as before, or another checkpoint file",
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])
        self.history.epochs = [Epoch(**epoch) for epoch in state["epochs"]]
        self.epoch, self.batch, self.steps, self.samples = state["counts"]
        self.total, self.start = state["total"], state["start"]
        self._set_streams(state["now"])


def _check(model: Any, epochs: int, patience: int | None) -> None:
    """Refuse what makes no sense before anything is trained."""
    if not isinstance(model, Module):
        raise ArgumentError(
            f"fit() received a model of type {type(model).__name__}",
            why="it trains modules of backstory.nn",
            instead="an instance of a subclass of backstory.nn.Module",
        )
    if epochs < 0 or (patience is not None and patience < 0):
        raise ArgumentError(
            f"fit(epochs={epochs}, patience={patience})",
            why="both count epochs",
            instead="epochs=10, patience=3",
        )


def _check_schedule(schedule: Any, optimizer: Optimizer) -> None:
    """Refuse a schedule of something else than ``optimizer``."""
    if schedule is not None and not isinstance(schedule, LRScheduler):
        raise ArgumentError(
            f"fit() received a schedule of type {type(schedule).__name__}",
            why="it steps a schedule of backstory.optim.lr_scheduler",
            instead="schedule=StepLR(optimizer, 5), together with optimizer=optimizer",
        )
    if schedule is not None and schedule.optimizer is not optimizer:
        raise ArgumentError(
            f"fit() received a {type(schedule).__name__} of another optimizer",
            why="it would set rates that nothing uses",
            instead="fit(…, optimizer=optimizer, schedule=StepLR(optimizer, 5))",
        )


def _loader(data: Any, batch_size: int, shuffle: bool) -> DataLoader:
    """A loader of ``data``, if it is not one."""
    if isinstance(data, DataLoader):
        return data
    dataset = TensorDataset(*data) if isinstance(data, (tuple, list)) else data
    if not isinstance(dataset, Dataset):
        raise ArgumentError(
            f"fit() received data of type {type(data).__name__}",
            why="it needs inputs and their targets",
            instead="(inputs, targets), a dataset or a DataLoader of backstory.data",
        )
    return DataLoader(dataset, batch_size, shuffle)


def _pair(batch: Any) -> tuple[Any, Tensor]:
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise ArgumentError(
            f"fit() received a batch of type {type(batch).__name__}",
            why="it needs an input and a target for each sample",
            instead="TensorDataset(inputs, targets), or a collate_fn that returns a pair",
        )
    return batch[0], batch[1]


def _is_enough(epochs: list[Epoch], patience: int | None) -> bool:
    """Whether the loss has not improved for more than ``patience`` epochs."""
    if patience is None or not epochs:
        return False
    losses = [epoch.loss if epoch.validation is None else epoch.validation for epoch in epochs]
    best = min(range(len(losses)), key=lambda i: math.inf if math.isnan(losses[i]) else losses[i])
    return len(losses) - 1 - best > patience


def _recording(training: _Training, path: Path) -> Any:
    """The recording, of all training inputs; beside an earlier one where the training goes on."""
    if training.steps:
        path = path.with_name(f"{path.name}-from-{training.steps}")
    dataset = training.loader.dataset
    whole = DataLoader(Subset(dataset, np.arange(len(dataset))), max(len(dataset), 1))
    state = training.streams[0].get_state()
    inputs = _pair(next(iter(whole)))[0]
    training.streams[0].set_state(state)
    return start_watch(training.model, training.optimizer, path, data=inputs)


@contextmanager
def _stopping() -> Iterator[Callable[[], bool]]:
    """Inside, a first Ctrl-C only makes the given function true; a second one interrupts as always."""
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return

    def note(number: int, frame: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _progress(wanted: bool, epochs: int, batches: int) -> Iterator[Callable[..., None]]:
    """A bar over all batches, with a line for every epoch above it."""
    if not wanted:
        yield lambda epoch, batch, line=None: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar:
        task = bar.add_task("training", total=epochs * batches)

        def show(epoch: int, batch: int, line: str | None = None) -> None:
            bar.update(task, completed=epoch * batches + batch, description=f"epoch {min(epoch + 1, epochs)}")
            if line is not None:
                bar.console.print(line, highlight=False)

        yield show
