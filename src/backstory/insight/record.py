"""The recorder: sees every forward pass, backward pass and optimizer step of one model, and stores it.

Per step and site it keeps how many samples of the batch opened each unit; per step and parameter the
norms of gradient and change, every eighth step that of the weights; and the loss. Scans of the
declared data happen before the first step, at the steps that ``scan_at`` names and at the end.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from backstory.arrays import Generator, default_generator
from backstory.autograd.modes import is_grad_enabled
from backstory.errors import RunError
from backstory.graph import context
from backstory.insight.lifetable import events_between
from backstory.insight.scan import checked_data, local_derivative, scan
from backstory.insight.sites import Observer, site_name
from backstory.insight.snapshot import take_snapshot
from backstory.insight.store import Writer
from backstory.nn import Module
from backstory.ops import Op
from backstory.optim import Optimizer
from backstory.tensor import Tensor

__all__ = ["Attachment", "Recorder", "powers_of_two"]


def powers_of_two(step: int) -> bool:
    """Steps 1, 2, 4, 8, …: dense where units usually die, and cheap afterwards."""
    return step & (step - 1) == 0


# Weights move by a thousandth or so per step: their norms need not be taken anew at every one.
WEIGHTS_EVERY = 8


def never(step: int) -> bool:
    """No step."""
    return False


class Attachment(Observer):
    """Follows one training: counts its steps and hears of losses, until it is detached.

    Subclasses say what happens before and after each step.
    """

    def __init__(self, model: Module, optimizer: Optimizer, data: Any, generator: Generator | None) -> None:
        _check_parts(model, optimizer)
        super().__init__(model)
        self.model, self.optimizer = model, optimizer
        self.data = checked_data(data)
        self.generators = [default_generator(), *([] if generator is None else [generator])]
        self.step = 0
        self._losses: list[float] = []
        self._pid = os.getpid()
        self._thread = threading.get_ident()
        self._listening: list[Callable[[Any], None]] = []
        self._handles: list[Any] = []

    def attach(self) -> None:
        """Start to see forwards, backwards and steps."""
        me = weakref.ref(self)

        def on_backward(roots: list[Tensor]) -> None:
            if (live := me()) is not None:
                live.heard(roots)

        def before(optimizer: Optimizer) -> None:
            if (live := me()) is not None and live.alive:
                live.before_step()

        def after(optimizer: Optimizer) -> None:
            if (live := me()) is not None and live.alive:
                live.step += 1
                live.after_step()
                live._losses.clear()

        object.__setattr__(self.model, "_observer", self)
        self._listening = context().backward_listeners
        self._listening.append(on_backward)
        self._handles = [
            self.optimizer.register_step_pre_hook(before),
            self.optimizer.register_step_post_hook(after),
        ]
        self._on_backward = on_backward

    def detach(self) -> None:
        """See nothing more; the model and the optimizer are as they were."""
        if self.model._observer is self:
            object.__setattr__(self.model, "_observer", None)
        if self._handles:
            self._listening.remove(self._on_backward)
        for handle in self._handles:
            handle.remove()
        self._handles = []

    @property
    def alive(self) -> bool:
        """False in a forked child, which must not write."""
        return os.getpid() == self._pid

    def heard(self, roots: list[Tensor]) -> None:
        """A backward pass starts; losses of several before one step (accumulation) add up."""
        root = roots[0]
        if self.alive and root.numel() == 1:
            self._losses.append(root.array.item())

    @property
    def loss(self) -> float:
        """The loss of the present step: the sum over its backward passes."""
        return math.fsum(self._losses) if all(map(math.isfinite, self._losses)) else sum(self._losses)

    def begin(self, model: Module, args: Any) -> None:
        """A forward pass of the whole model begins."""
        self.restart()

    def end(self, result: Any) -> None:
        """The forward pass is over."""

    def abandon(self) -> None:
        """The forward pass raised."""

    def before_step(self) -> None:
        """The optimizer is about to move the parameters."""

    def after_step(self) -> None:
        """It has; ``step`` is the number of updates so far."""


def _check_parts(model: Any, optimizer: Any) -> None:
    if not isinstance(model, Module):
        raise RunError(
            f"watch() received a model of type {type(model).__name__}",
            why="it follows modules of backstory.nn",
            instead="an instance of a subclass of backstory.nn.Module",
        )
    if not isinstance(optimizer, Optimizer):
        raise RunError(
            f"watch() received an optimizer of type {type(optimizer).__name__}",
            why="it sees the updates through the optimizer",
            instead="backstory.optim.SGD(model.parameters(), lr=…)",
        )
    if model._observer is not None:
        raise RunError(
            "watch() of a model that is already watched",
            why="two recordings would see each other's scans",
            instead="run.close() on the first recording",
        )
    if not any(p in optimizer.state for p in model.parameters()):
        raise RunError(
            "watch() received an optimizer that moves no parameter of the model",
            why="it was built from other tensors, so nothing of the model would ever change",
            instead="the optimizer built from model.parameters()",
        )


class Recorder(Attachment):
    """Stores what it sees through a writer."""

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer,
        data: Any,
        generator: Generator | None,
        scan_at: Callable[[int], bool],
    ) -> None:
        super().__init__(model, optimizer, data, generator)
        self._scan_at = scan_at
        self._first = scan(model, self.data)
        if not self._first:
            raise RunError(
                f"watch() found no gating activation in {type(model).__name__}",
                why="units die behind ReLU and its kin; this model runs none on the declared data",
                instead="a model with backstory.nn.ReLU() or backstory.relu(x)",
            )
        self._states: dict[str, tuple[int, np.ndarray]] = {}
        self._indices: dict[str, int] = {}
        self._by_key: dict[tuple[str, str, int], int] = {}
        self._open: dict[int, list[Any]] = {}
        self._counting = False
        self._noted_nan = False
        self._parameters = [(name, p) for name, p in model.named_parameters() if p in optimizer.state]
        self._tensors = [p for _, p in self._parameters]
        self._gradients: list[float] = []
        self._steps: deque[_Step] = deque()

    def start(self, writer: Writer) -> None:
        """Begin to write: parameters, sites, what is born dead, and the first snapshot."""
        self.writer = writer
        steps = self._steps  # not self: the writer's thread must not keep the recorder alive
        writer.sources.append(lambda: _rows(steps))
        for i, (name, p) in enumerate(self._parameters):
            writer.put("parameters", i, name, str(list(p.shape)))
        self._note_scan(self._first)
        self.snapshot()
        self.attach()

    def snapshot(self) -> None:
        """Store parameters, optimizer state and random streams as they are now."""
        taken = take_snapshot(self.step, self.model, self.optimizer, self.generators)
        file = f"step-{self.step:08d}.safetensors"
        self.writer.add(taken.write, (self.writer.path / "snapshots" / file,))
        self.writer.put("snapshots", self.step, file)

    def scan(self) -> None:
        """Decide every unit's state on the declared data, now."""
        if self._states and all(step == self.step for step, _ in self._states.values()):
            return
        self._note_scan(scan(self.model, self.data))

    def _note_scan(self, found: Any) -> None:
        for name, site in found.items():
            index = self._index(name, site.op, len(site.states))
            states = site.states
            self.writer.put("scans", self.step, index, states.tobytes())
            after, before = self._states.get(name, (self.step, None))
            for unit, kind in events_between(before, states):
                self.writer.put("events", self.step, after, index, unit, kind)
            self._states[name] = (self.step, states)

    def _index(self, name: str, op: str, units: int) -> int:
        index = self._indices.get(name)
        if index is None:
            index = self._indices[name] = len(self._indices)
            self.writer.put("sites", index, name, op, units)
        return index

    # What the training does

    def begin(self, model: Module, args: Any) -> None:
        self.restart()
        self._counting = model.training and is_grad_enabled() and self.alive

    def gate(self, key: tuple[str, str, int], op: Op, args: Any, result: Tensor, params: Any) -> None:
        if not self._counting:
            return
        index = self._by_key.get(key)
        if index is None:
            index = self._by_key[key] = self._index(site_name(key), op.name, result.shape[-1])
        derivative = local_derivative(op, args, result, params)
        counts = open_counts(derivative)
        seen = self._open.get(index)
        if seen is None:
            self._open[index] = [len(derivative), counts]
        else:
            seen[0] += len(derivative)
            seen[1] = seen[1] + counts

    def before_step(self) -> None:
        self.optimizer.changes = {}
        self._gradients = [_square(p.grad.array) if p.grad is not None else 0.0 for p in self._tensors]

    def after_step(self) -> None:
        step, changes = self.step, self.optimizer.changes or {}
        self.optimizer.changes = None
        moved = [_square(changes[p]) if p in changes else 0.0 for p in self._tensors]
        weights = [_square(p.array) for p in self._tensors] if step % WEIGHTS_EVERY == 1 else None
        loss = self.loss if self._losses else None
        self._steps.append(_Step(step, loss, len(self._losses), self._gradients, moved, weights, self._open))
        self._open = {}
        if loss is not None and not math.isfinite(loss) and not self._noted_nan:
            self._note_non_finite(loss)
        if self._scan_at(step):
            self.scan()

    def _note_non_finite(self, loss: float) -> None:
        self._noted_nan = True
        self.writer.put("findings", self.step, "non-finite-loss", str(loss))
        warnings.warn(
            f"the loss is {loss} at step {self.step}; backstory goes on recording, and so does your training",
            RuntimeWarning,
            stacklevel=2,
        )

    def finish(self) -> None:
        """The last scan and snapshot; then everything is as before the recording."""
        self.detach()
        with contextlib.suppress(RunError):
            self.scan()
        self.snapshot()


class _Step(NamedTuple):
    """What the training thread hands to the writer's: squared norms, and (samples, counts) per site."""

    step: int
    loss: float | None
    backwards: int
    gradients: list[float]
    changes: list[float]
    weights: list[float] | None
    opened: dict[int, list[Any]]


def _rows(steps: deque[_Step]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The rows of all waiting steps; runs in the writer's thread."""
    waiting = [steps.popleft() for _ in range(len(steps))]
    if not waiting:
        return
    gradients = _norms([entry.gradients for entry in waiting])
    changes = _norms([entry.changes for entry in waiting])
    for entry, g, change in zip(waiting, gradients, changes, strict=True):
        weights = None if entry.weights is None else _norms(entry.weights).tobytes()
        yield STEP, (entry.step, entry.loss, entry.backwards, g.tobytes(), change.tobytes(), weights)
        for index, (samples, counts) in entry.opened.items():
            yield GATES, (entry.step, index, samples, counts.astype(np.uint32).tobytes())


def _norms(squares: Any) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.sqrt(np.array(squares, np.float64))


STEP = "INSERT OR REPLACE INTO steps VALUES (?,?,?,?,?,?)"
GATES = "INSERT OR REPLACE INTO gates VALUES (?,?,?,?)"


def open_counts(derivative: Any) -> Any:
    """For how many rows each unit's gate is open: where the local derivative is not 0."""
    opened = derivative if derivative.dtype == bool else derivative != 0
    if len(opened) < 256:
        return np.add.reduce(opened.view(np.uint8), 0, np.uint8)
    return np.add.reduce(opened, 0, np.uint32)


def _square(x: np.ndarray) -> float:
    """The squared 2-norm."""
    return np.vdot(x, x)  # type: ignore[return-value]
