"""What is measured of a step: gathered on the tensors' device, and fetched for many steps at once."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from backstory.adapters.torch.activations import Gate, local_derivative, open_counts
from backstory.adapters.torch.attach import Attachment
from backstory.adapters.torch.changes import Changes, norms
from backstory.adapters.torch.fetch import Parcel
from backstory.adapters.torch.scan import Autocast
from backstory.adapters.torch.sites import Key, SiteMode, default_axis, is_calling, is_repeated, on_top
from backstory.insight.packed import StepStatistics, weighed
from backstory.insight.sites import site_name

__all__ = ["Measured", "Statistics"]

FETCH_STEPS, FETCH_SECONDS = 64, 0.5

#: One step, and per site the number of entries per unit and the open ones of each unit.
Measured = tuple[StepStatistics, dict[Key, tuple[float, np.ndarray]]]

UNSEEN = (
    "no forward pass of {model} in training mode was seen, so no gates are recorded: call the watched model "
    "itself, model(x), not model.forward(x) or a part of it, and do not compile it after watch()"
)


@dataclass
class _Gathered:
    """One step, its numbers still on their device.

    ``norms`` are those of the gradients and changes of the ``moving`` parameters, then, at some steps,
    of all weights; ``factors`` belong to the changes.
    """

    step: int
    losses: list[Tensor]
    scale: Tensor | None
    rates: list[Any]
    norms: Tensor | None
    moving: list[int]
    factors: list[float]
    opened: dict[Key, list[Any]]


class Statistics(Attachment):
    """Measures every ``every``-th step."""

    def __init__(self, model: nn.Module, optimizer: Any, parallel: bool = False) -> None:
        super().__init__(model, optimizer, parallel)
        self._tensors = [p for _, p in self.parameters]
        self._spread = len({p.device for p in self._tensors}) > 1
        self.axes: dict[Key, int] = {}
        self.autocast = Autocast(self._tensors[0].device.type)
        self._mode = _Counter(self, model)
        self._thread, self._entered, self._seen = 0, 0, False
        self.error: Exception | None = None
        self._open: dict[Key, list[Any]] = {}
        self._changes: Changes | None = None
        self._measured = False
        self._gathered: list[_Gathered] = []
        self._indices: dict[Key, int] = {}
        self._fetched = time.monotonic()

    def begin(self, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if self._entered:
            if self._thread != threading.get_ident():
                return None  # of forward passes in several threads at once the first is seen
            if not is_calling(self.model, skip=1):
                self._leave()  # a KeyboardInterrupt went through the last one, and no hook saw it
        training = self.model.training and torch.is_grad_enabled()
        if not (training and self.measuring) or self.compiled or is_repeated():
            return None
        self._entered, self._seen = self._entered + 1, True
        if self._entered > 1:
            return None
        self._thread = threading.get_ident()
        self.autocast = Autocast.now(self._tensors[0].device.type)
        self._mode.restart()
        self._mode.__enter__()
        return _Call(args, self)

    def end(self) -> None:
        if self._entered and self._thread == threading.get_ident():
            self._entered -= 1
            if not self._entered:
                self._leave()
                if self.error is not None:  # while the mode was active it could not be ended
                    raise self.error

    def interrupted(self) -> None:
        """A call has gone; if its end was not heard of, something but an Exception went through it."""
        if self._entered and self._thread == threading.get_ident() and not is_calling(self.model):
            self._leave()

    def _leave(self) -> None:
        self._entered = 0
        if on_top(self._mode):
            self._mode.__exit__(None, None, None)

    def count(self, key: Key, rows: int, counts: Any) -> None:
        """A site ran on ``rows`` entries per unit, open in ``counts`` of them (a number: in all)."""
        seen = self._open.get(key)
        if seen is None:
            self._open[key] = [rows, counts]
        else:
            seen[0] += rows
            seen[1] = seen[1] + counts

    def before_step(self) -> None:
        self._measured = self.measuring
        if self._measured and self.writes:  # the gradients and changes of all ranks are the same
            with torch.no_grad():
                self._changes = self._changes or Changes(self.optimizer, self._tensors)
                self._changes.before()

    def measured(self, rest: bool = False) -> list[StepStatistics]:
        if not rest:
            self._gather()
        late = time.monotonic() - self._fetched > FETCH_SECONDS
        if not (rest or late or len(self._gathered) >= FETCH_STEPS):
            return []
        return [self._at_sites(one) for one in self._fetch()]

    def _gather(self) -> None:
        """Keep what the step that is just over has shown."""
        rates = [_kept(group["lr"]) for group in self.optimizer.param_groups]
        heard, changes = self.hearing, self._changes
        taken, moving, factors, opened = None, [], [], {}
        if self._measured:
            opened, self._open = self._open, {}
            if not (self._seen or self.compiled):
                self.warn(UNSEEN.format(model=type(self.model).__name__))
        if self._measured and changes is not None:
            with torch.no_grad():
                found = changes.after()
                if weighed(self.step):
                    found += norms([p.detach() for p in self._tensors])
                if self._spread:
                    found = [x.to(found[0].device) for x in found]
                taken = torch.stack(found) if found else torch.zeros(0)
            moving, factors = changes.moving, changes.factors
        self._measured = False
        self._gathered.append(
            _Gathered(self.step, heard.losses, heard.scale, rates, taken, moving, factors, opened)
        )

    def _fetch(self) -> list[Measured]:
        """The steps gathered so far, their numbers brought from the devices."""
        self._fetched = time.monotonic()
        if not self._gathered:
            return []
        self.standing()
        gathered, self._gathered = self._gathered, []
        parcel = Parcel()
        places = []
        for entry in gathered:
            scalars = [*entry.losses, *(x for x in (entry.scale, *entry.rates) if isinstance(x, Tensor))]
            counts = [count for _, count in entry.opened.values() if isinstance(count, Tensor)]
            more = [] if entry.norms is None else [entry.norms]
            places.append([parcel.add(x) for x in (*(x.reshape(()) for x in scalars), *more, *counts)])
        numbers = parcel.fetch()
        return [
            self._entry(entry, iter([numbers[place] for place in own]))
            for entry, own in zip(gathered, places, strict=True)
        ]

    def _entry(self, entry: _Gathered, numbers: Any) -> Measured:
        losses = [float(next(numbers)) for _ in entry.losses]
        scale = 1.0 if entry.scale is None else float(next(numbers))
        rates = tuple(float(next(numbers)) if isinstance(x, Tensor) else float(x) for x in entry.rates)
        gradients: Any = None
        changes: Any = None
        weights: Any = None
        if entry.norms is not None:
            squares = next(numbers) ** 2
            count = len(entry.moving)
            gradients, changes = np.zeros((2, len(self._tensors)))
            gradients[entry.moving] = squares[:count]
            changes[entry.moving] = squares[count : 2 * count] * np.square(entry.factors)
            weights = squares[2 * count :] if len(squares) > 2 * count else None
        opened = {}
        for key, (rows, counts) in entry.opened.items():
            open_ = next(numbers) if isinstance(counts, Tensor) else np.full(self._mode.units[key], counts)
            if np.isnan(open_.sum()):
                # A NaN among the outputs has made the count NaN: such a unit let everything pass.
                open_ = np.where(np.isnan(open_), rows, open_)
            opened[key] = (rows, open_)
        loss = sum(losses) / scale if losses else None
        found = StepStatistics(entry.step, loss, len(losses), rates, gradients, changes, weights, {})
        return found, opened

    def _at_sites(self, measured: Measured) -> StepStatistics:
        """One step, its gates by the number of their site in the run."""
        found, opened = measured
        return found._replace(
            opened={self._index(key, len(gates[1])): gates for key, gates in opened.items()}
        )

    def _index(self, key: Key, units: int) -> int:
        """The number of the site in the run."""
        found = self._indices.get(key)
        if found is None:
            assert self.listener is not None, "what is not listened to is not measured"
            found = self._indices[key] = self.listener.site_index(site_name(key), key[1], units)
        return found


def _kept(rate: Any) -> Any:
    """A learning rate as it is now; a tensor may be changed in place later."""
    return rate.detach().clone() if isinstance(rate, Tensor) else rate


class _Call(tuple[Any, ...]):
    """The arguments of a call of the model, which live as long as it does."""

    def __new__(cls, args: tuple[Any, ...], statistics: Statistics) -> _Call:
        call = super().__new__(cls, args)
        call._statistics = weakref.ref(statistics)
        return call

    _statistics: weakref.ref[Statistics]

    def __del__(self) -> None:
        statistics = self._statistics()
        if statistics is not None:
            statistics.interrupted()


class _Counter(SiteMode):
    """Counts open gates while the model's forward runs."""

    def __init__(self, statistics: Statistics, model: nn.Module) -> None:
        super().__init__(model)
        self._statistics = statistics
        self.units: dict[Key, int] = {}

    def gate(self, key: Key, gate: Gate, func: Any, args: Any, kwargs: Any) -> Any:
        # What is counted before the call and after it; in place it takes its input away.
        seen = self._guarded(self._before, key, gate, func, args, kwargs)
        result = func(*args, **kwargs)
        if seen is not None:
            self._guarded(self._after, key, *seen, result)
        return result

    def _guarded(self, method: Callable[..., Any], *args: Any) -> Any:
        """Call ``method``; an error of it ends the recording, later, and not the forward pass."""
        if self._statistics.error is None:
            try:
                return method(*args)
            except Exception as error:
                self._statistics.error = error
        return None

    def _before(self, key: Key, gate: Gate, func: Any, args: Any, kwargs: Any) -> tuple[int, int, Any]:
        """The units' axis, how many entries each unit has, and the open ones, if the input tells."""
        z = args[0]
        axis = self._statistics.axes.get(key, default_axis(z))
        rows = z.numel() // max(z.shape[axis] if z.ndim else 1, 1)
        if gate.open_if is not None and gate.open_if(args, kwargs):
            return axis, rows, rows
        if gate.from_output:
            return axis, rows, None
        return axis, rows, open_counts(local_derivative(func, args, kwargs).abs(), axis)

    def _after(self, key: Key, axis: int, rows: int, counts: Any, result: Tensor) -> None:
        units = result.shape[axis] if result.ndim else 1
        if self.units.setdefault(key, units) != units:
            self._statistics.warn(
                f"the site {site_name(key)} ran with {units} units and with {self.units[key]} before: "
                "its gates are counted only where it has the latter"
            )
            return
        with torch.no_grad():
            self._statistics.count(key, rows, open_counts(result, axis) if counts is None else counts)
