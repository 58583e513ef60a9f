"""The recorder: sees every forward pass, backward pass and optimizer step of one model, and stores it.

It keeps the loss of every step, and at every step that is measured, per site how many samples of the
batch opened each unit, and per parameter the norms of gradient and change. Scans of the declared data
happen before the first step, at the steps that ``scan_at`` names and at the end.
"""

from __future__ import annotations

import atexit
import json
import warnings
import weakref
from collections.abc import Callable, Sequence
from functools import partial

from backstory.errors import RunError
from backstory.insight.census import Census, Found
from backstory.insight.packed import StepStatistics, Stretch, rows
from backstory.insight.source import Listener, Source
from backstory.insight.store import Writer

__all__ = ["Recorder", "never", "powers_of_two"]


def powers_of_two(step: int) -> bool:
    """Steps 1, 2, 4, 8, …: dense where units usually die, and cheap afterwards."""
    return step & (step - 1) == 0


def never(step: int) -> bool:
    """No step."""
    return False


class Recorder(Listener):
    """Stores what it sees of ``source`` through a writer."""

    harmless = True
    patient = True

    def __init__(self, source: Source, scan_at: Callable[[int], bool], every: int, certify: bool) -> None:
        source.every = every
        self.source = source
        self.sees = scan_at
        self._census = Census(source, certify)
        self._first = self._census.take()
        if not self._first.sites:
            raise RunError(
                f"watch() found no gating activation in {type(source.model).__name__}",
                why="units die behind ReLU and its kin; this model runs none on the declared data",
                instead="a model with nn.ReLU() or relu(x)",
            )
        self._indices: dict[str, int] = {}
        self._non_finite: tuple[int, float] | None = None
        self._warned = False

    def start(self, writer: Writer) -> None:
        """Begin to write: parameters, sites, what is born dead, and the first snapshot."""
        self.writer = writer
        self._at_exit = partial(_write_rest, weakref.ref(self))
        atexit.register(self._at_exit)
        for i, (name, shape) in enumerate(self.source.shapes):
            writer.put("parameters", i, name, str(list(shape)))
        self._note_scan(self._first)
        self.snapshot()
        writer.ask(_asking(weakref.ref(self)))
        writer.start()
        self.source.attach(self)

    def snapshot(self) -> None:
        """Store parameters, optimizer state and random streams as they are now."""
        step = self.source.step
        file = f"step-{step:08d}.safetensors"
        self.writer.add(self.source.snapshot().write, (self.writer.path / "snapshots" / file,))
        self.writer.put("snapshots", step, file)

    def scan(self) -> None:
        """Decide every unit's state on the declared data, now."""
        self._note_scan(self._census.take())

    def _try_scan(self) -> None:
        """Scan; a model that raises on the declared data ends no training."""
        step = self.source.step
        try:
            self.scan()
        except Exception as error:
            self.writer.put("findings", step, "scan-failed", f"{type(error).__name__}: {error}")
            warnings.warn(
                f"after step {step} the model raised on the declared data and was not scanned: {error}",
                RuntimeWarning,
                stacklevel=2,
            )

    def _note_scan(self, found: Found) -> None:
        for name, site in found.sites.items():
            states = site.states
            index = self.site_index(name, site.op, len(states))
            self.writer.put("scans", found.step, index, states.tobytes())
        for event in found.events:
            index = self._indices[event.site]
            self.writer.put("events", event.step, event.after, index, event.unit, event.kind)
        for c in found.certificates:
            row = (c.step, self._indices[c.site], c.unit, json.dumps(c.as_dict()))
            self.writer.put("certificates", *row)

    def site_index(self, name: str, op: str, units: int) -> int:
        index = self._indices.get(name)
        if index is None:
            index = self._indices[name] = len(self._indices)
            self.writer.put("sites", index, name, op, units)
        return index

    def before_step(self) -> None:
        if self.sees(self.source.step + 1):
            self._census.before_step()

    def after_step(self) -> None:
        self.write()
        if self.sees(self.source.step):
            self._try_scan()

    def collect(self) -> None:
        self.write(rest=True)

    def write(self, rest: bool = False) -> None:
        """Hand on what was measured and noticed."""
        self._add(self.source.measured(rest))
        while self.source.notes:
            self.writer.put("findings", *self.source.notes.pop(0))
        if self._non_finite is not None and not self._warned:
            self._warn_of(*self._non_finite)

    def fetch(self) -> None:
        """Hand on what waits in the logs of compiled steps, from whatever thread."""
        if self.source.alive:
            self._add(self.source.waiting())
            if self._non_finite is not None and not self._warned:
                self.source.hurry()  # to be warned of in the training's own thread

    def _add(self, entries: Sequence[StepStatistics | Stretch]) -> None:
        for entry in entries:
            self.writer.add(rows, (entry,))
            if self._non_finite is None and (found := entry.non_finite()) is not None:
                self._non_finite = found
                self.writer.put("findings", found[0], "non-finite-loss", str(found[1]))

    def _warn_of(self, step: int, loss: float) -> None:
        self._warned = True
        warnings.warn(
            f"the loss is {loss} at step {step}; backstory goes on recording, and so does your training",
            RuntimeWarning,
            stacklevel=2,
        )

    def failed(self, error: Exception) -> None:
        self.writer.put("findings", self.source.step, "recording-failed", f"{type(error).__name__}: {error}")

    def finish(self) -> None:
        """The last scan and snapshot; then everything is as before the recording."""
        atexit.unregister(self._at_exit)
        self.source.detach()
        self._try("fetch what was measured", partial(self.write, rest=True))
        self._try("take the last snapshot", self.snapshot)
        self._try_scan()

    def _try(self, what: str, method: Callable[[], None]) -> None:
        """Do what belongs to the end; a failure of it does not end the rest."""
        try:
            method()
        except Exception as error:
            self.failed(error)
            warnings.warn(
                f"after step {self.source.step} backstory could not {what}: {type(error).__name__}: {error}",
                RuntimeWarning,
                stacklevel=2,
            )


def _asking(recorder: weakref.ref[Recorder]) -> Callable[[], None]:
    """What a writer does before it commits; it keeps no recorder alive."""

    def ask() -> None:
        live = recorder()
        if live is not None:
            live.fetch()

    return ask


def _write_rest(recorder: weakref.ref[Recorder]) -> None:
    """A process that ends without closing the run still hands on what was measured."""
    live = recorder()
    if live is not None and live.source.alive:
        live.write(rest=True)
