"""What is measured of a training step: which gates were open, and the norms of gradients and changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from backstory.arrays import Generator
from backstory.errors import TraceError
from backstory.graph import Context, context
from backstory.history import place_of, user_line
from backstory.insight.attach import Attachment
from backstory.insight.logged import Logs, Mode, may_wait
from backstory.insight.packed import StepStatistics, Stretch, weighed
from backstory.insight.scan import local_derivative
from backstory.insight.sites import site_name
from backstory.insight.source import Listener
from backstory.nn import Module
from backstory.ops import Op
from backstory.optim import Optimizer
from backstory.tensor import Tensor

if TYPE_CHECKING:
    from backstory.compiler.log import Log

__all__ = ["Statistics"]

_EXACT = Mode(measuring=True, seen=True, alone=True)


class Statistics(Attachment):
    """Measures every ``every``-th step."""

    def __init__(self, model: Module, optimizer: Optimizer, data: Any, generator: Generator | None) -> None:
        super().__init__(model, optimizer, data, generator)
        self._open: dict[int, list[Any]] = {}
        self._seen_at = 0  # the step before which these gates were seen
        self._counted: dict[int, list[Any]] = {}  # before the forward pass under way
        self._running: Context | None = None
        self._changes: dict[Tensor, np.ndarray] = {}
        self._by_key: dict[tuple[str, str, int], int] = {}
        self._gradients: list[float] | None = None
        self._squares: Any = None  # of a compiled step: of gradients, changes, weights
        self._tensors = [p for _, p in self.parameters]
        self._logs = Logs()
        self._watching = False  # whether the listener sees the coming compiled step

    def attach(self, listener: Listener) -> None:
        super().attach(listener)
        self._sees, self._period = listener.sees, max(self.every, 1)
        self._unseen = self._modes(seen=False, alone=not listener.patient)
        self._seen = self._modes(seen=True, alone=True)
        self._alone = self._unseen if not listener.patient else self._modes(seen=False, alone=True)

    def _modes(self, seen: bool, alone: bool) -> list[Mode]:
        """The modes of the steps of one period."""
        if self.exact:
            return [_EXACT] * self._period
        known = {measuring: Mode(measuring, seen, alone) for measuring in (False, True)}
        return [known[self.every > 0 and step % self.every == 0] for step in range(self._period)]

    def coming(self) -> Mode | None:
        if self._clock[1] and not self._attended():
            return None
        step = self._clock[0]
        self._watching = self._sees(step + 1)
        modes = self._seen if self._watching else self._alone if self._clock[1] else self._unseen
        self._mode = mode = modes[step % self._period]
        return mode

    def doubt(self, mode: Mode, name: Callable[[Any], str]) -> str:
        """The code of what has to hold if :meth:`coming` gives another mode than that of most steps."""
        if mode not in self._unseen:
            return ""
        clock, sees = name(self._clock), name(self._sees)
        other = f" or ({clock}[0] % {self._period} == 0) is not {mode.measuring}" if self._period > 1 else ""
        return f"{clock}[1] or {sees}({clock}[0] + 1){other}"

    def _attended(self) -> bool:
        """Look after what there is before the coming step; false if that is not followed.

        A step is told alone if gates or losses from outside of the compiled step count with it.
        """
        if self.alive and self._handles:
            self._clock[1] = 0
            self.tell("collect")
            self._logs.clear()
        opened = self._open and self._seen_at == self.step
        if opened or (self._losses and self._heard_at == self.step) or not (self.alive and self._handles):
            self._clock[1] = 1  # for as long as it is asked
        return self.alive and bool(self._handles)

    def begin(self, model: Module) -> bool:
        if not super().begin(model):
            return False
        if (trace := context().trace) is not None:
            trace.follow(self)  # also where nothing is measured: in other steps it is
        if not (self.measuring or (trace is not None and self.exact)) or self._elsewhere():
            return False
        self.restart()
        self._counted = {index: list(seen) for index, seen in self._open.items()}
        return True

    def _elsewhere(self) -> bool:
        """Whether a forward pass is under way in another thread; of such only the first is seen."""
        ctx, before = context(), self._running
        self._running = ctx
        if before is ctx or before is None or before.observer is not self:
            return False
        self._running = before
        return True

    def _index(self, name: str, op: str, units: int) -> int:
        assert self.listener is not None, "what is not listened to is not measured"
        return self.listener.site_index(name, op, units)

    def abandon(self) -> None:
        self._open = self._counted

    def gate(self, key: tuple[str, str, int], op: Op, args: Any, result: Tensor, params: Any) -> None:
        derivative = local_derivative(op, args, result, params, self.units_of(args[0]))
        index = self._by_key.get(key)
        if index is None:
            index = self._by_key[key] = self._index(site_name(key), op.name, derivative.shape[1])
        trace = context().trace
        if trace is not None:
            # As floats, in lanes as wide as those of the activation; they are exact up to so many rows.
            exact = np.float32 if len(derivative) < 1 << 24 else np.float64
            counts = trace.namespace.sum(open_gates(derivative).astype(exact), axis=0)
            trace.tell(self, "opened", index, len(derivative), counts)
        else:
            self.opened(index, len(derivative), open_counts(derivative))

    def opened(self, index: int, rows: int, counts: Any) -> None:
        """Of so many rows, ``counts`` opened each unit of a site."""
        if not self.measuring:
            return
        if self._seen_at != self.step:
            self._open = {}
        self._seen_at, self._clock[1] = self.step, 1
        seen = self._open.get(index)
        if seen is None:
            self._open[index] = [rows, counts]
        else:
            seen[0] += rows
            seen[1] = seen[1] + counts.astype(np.uint32)

    def traced_step(self, trace: Any) -> None:
        if any(one is self and event[0] == "computed_step" for one, event in trace.events):
            raise TraceError(
                f"a second step of a watched optimizer inside a compiled step, at {place_of(user_line())}",
                why="what a step did is looked at behind it, and there the parameters would have gone on",
                instead="one optimizer step per call, or compile(step, strict=False)",
            )
        mode = self._mode
        squares: list[Any] = [None, None, None]
        if mode.measuring:
            changes = self._changes
            self.optimizer.changes, self._changes = None, {}
            moved = [changes.get(p) for p in self._tensors]
            gradients = [None if p.grad is None else p.grad.array for p in self._tensors]
            values = [p.array for p in self._tensors]
            for place, arrays in enumerate((gradients, moved, values)):
                squares[place] = [0.0 if x is None else trace.namespace.squares(x) for x in arrays]
        gradients = [p.grad.array for p in self._tensors if p.grad is not None] if mode.seen else []
        owners = [name for name, p in self.parameters if p.grad is not None] if mode.seen else []
        groups = self.optimizer.param_groups
        rates = [trace.updates.settings(self.optimizer, group)["lr"] for group in groups]
        trace.tell(self, "computed_step", squares, rates, owners, gradients)

    def computed_step(self, squares: Any, rates: Any, owners: Any, gradients: Any) -> None:
        """A compiled step is over: the squares of all norms, and the gradients of the parameters named."""
        if self._watching:
            self.complete(dict(zip(owners, gradients, strict=True)))
            self.tell("before_step")
        known = squares if self.measuring else [None, None, None]
        self._squares = [None if part is None else [float(x) for x in part] for part in known]
        self.stepped()

    def may_wait(self, events: Sequence[tuple[Any, ...]]) -> bool:
        """Whether what a compiled step tells can be read later: one whole step that nobody sees."""
        return not self._mode.alone and may_wait(events)

    def keep(self, log: Log) -> None:
        """A program appends rows to this log from now on."""
        self._logs.add(log)

    def drop(self, log: Log) -> None:
        """The program is no more."""
        self._logs.drop(log)

    def waiting(self) -> list[Stretch]:
        return self._logs.taken()

    def hurry(self) -> None:
        self._clock[1] = 1

    def complete(self, gradients: Mapping[str, np.ndarray]) -> None:
        """What :meth:`prepare` remembered of the parameters gets its gradients."""

    def before_step(self) -> None:
        trace = context().trace
        if trace is not None:
            trace.follow(self)
            if self._mode.measuring:
                self.optimizer.changes = self._changes = {}
            return
        if self.measuring:
            if self.optimizer.changes is None:  # another model's recorder may have asked for them
                self.optimizer.changes = {}
            self._changes = self.optimizer.changes
            self._gradients = [_square(p.grad.array) if p.grad is not None else 0.0 for p in self._tensors]

    def measured(self, rest: bool = False) -> list[StepStatistics | Stretch]:
        waited: list[StepStatistics | Stretch] = [*self._logs.taken()]
        return waited if rest else [*waited, self._measured()]

    def _measured(self) -> StepStatistics:
        """The step that is just over."""
        step, loss, backwards = self.step, self.loss, len(self._losses)
        rates = tuple(float(group["lr"]) for group in self.optimizer.param_groups)
        gradients, opened = self._gradients, self._open if self._seen_at == step - 1 else {}
        if self._squares is not None:
            (gradients, moved, weights), self._squares, self._open = self._squares, None, {}
            weights = weights if weighed(step) else None
            return StepStatistics(step, loss, backwards, rates, gradients, moved, weights, opened)
        if gradients is None:
            return StepStatistics(step, loss, backwards, rates, None, None, None, {})
        changes = self._changes
        self.optimizer.changes, self._changes, self._gradients, self._open = None, {}, None, {}
        moved = [_square(changes[p]) if p in changes else 0.0 for p in self._tensors]
        weights = [_square(p.array) for p in self._tensors] if weighed(step) else None
        return StepStatistics(step, loss, backwards, rates, gradients, moved, weights, opened)


def open_gates(derivative: Any) -> Any:
    """Where the local derivative is not 0."""
    return derivative if derivative.dtype == bool else derivative != 0


def open_counts(derivative: Any) -> Any:
    """For how many rows each unit's gate is open: where the local derivative is not 0."""
    opened = open_gates(derivative)
    if len(opened) < 256:
        return np.add.reduce(opened.view(np.uint8), 0, np.uint8)
    return np.add.reduce(opened, 0, np.uint32)


def _square(x: np.ndarray) -> float:
    """The squared 2-norm; of short floats in float64 where their own range does not hold it."""
    square: Any = np.vdot(x, x)
    if square.__class__ is np.float64 or 1e-30 < square < 1e30:
        return square
    return _square(x.astype(np.float64))
