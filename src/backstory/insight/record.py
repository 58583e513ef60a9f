"""The recorder: sees every forward pass, backward pass and optimizer step of one model, and stores it.

It keeps the loss of every step, and at every step that is measured, per site how many samples of the
batch opened each unit, and per parameter the norms of gradient and change. Scans of the declared data
happen before the first step, at the steps that ``scan_at`` names and at the end.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from backstory.arrays import Generator
from backstory.errors import RunError
from backstory.insight.lifetable import events_between
from backstory.insight.snapshot import take_snapshot
from backstory.insight.statistics import Statistics, rows
from backstory.insight.store import Writer
from backstory.nn import Module
from backstory.optim import Optimizer

__all__ = ["Recorder", "never", "powers_of_two"]


def powers_of_two(step: int) -> bool:
    """Steps 1, 2, 4, 8, …: dense where units usually die, and cheap afterwards."""
    return step & (step - 1) == 0


def never(step: int) -> bool:
    """No step."""
    return False


class Recorder(Statistics):
    """Stores what it sees through a writer."""

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer,
        data: Any,
        generator: Generator | None,
        scan_at: Callable[[int], bool],
        every: int,
    ) -> None:
        super().__init__(model, optimizer, data, generator, every)
        self._scan_at = scan_at
        self._first = self.scanned()
        if not self._first:
            raise RunError(
                f"watch() found no gating activation in {type(model).__name__}",
                why="units die behind ReLU and its kin; this model runs none on the declared data",
                instead="a model with backstory.nn.ReLU() or backstory.relu(x)",
            )
        self._states: dict[str, tuple[int, np.ndarray]] = {}
        self._indices: dict[str, int] = {}
        self._noted_nan = False

    def start(self, writer: Writer) -> None:
        """Begin to write: parameters, sites, what is born dead, and the first snapshot."""
        self.writer = writer
        for i, (name, p) in enumerate(self.parameters):
            writer.put("parameters", i, name, str(list(p.shape)))
        self._note_scan(self._first)
        self.snapshot()
        writer.start()
        self.attach()

    def snapshot(self) -> None:
        """Store parameters, optimizer state and random streams as they are now."""
        taken = take_snapshot(self.step, self.model, self.optimizer, self.generators)
        file = f"step-{self.step:08d}.safetensors"
        self.writer.add(taken.write, (self.writer.path / "snapshots" / file,))
        self.writer.put("snapshots", self.step, file)

    def scan(self) -> None:
        """Decide every unit's state on the declared data, now."""
        self._note_scan(self.scanned())

    def _try_scan(self) -> None:
        """Scan; a model that raises on the declared data ends no training."""
        try:
            self.scan()
        except Exception as error:
            self.writer.put("findings", self.step, "scan-failed", f"{type(error).__name__}: {error}")
            warnings.warn(
                f"after step {self.step} the model raised on the declared data and was not scanned: {error}",
                RuntimeWarning,
                stacklevel=2,
            )

    def _note_scan(self, found: Any) -> None:
        for name, site in found.items():
            index = self.site_index(name, site.op, len(site.states))
            states = site.states
            self.writer.put("scans", self.step, index, states.tobytes())
            after, before = self._states.get(name, (0, None))
            for unit, kind in events_between(before, states, self.step):
                self.writer.put("events", self.step, after, index, unit, kind)
            self._states[name] = (self.step, states)

    def site_index(self, name: str, op: str, units: int) -> int:
        index = self._indices.get(name)
        if index is None:
            index = self._indices[name] = len(self._indices)
            self.writer.put("sites", index, name, op, units)
        return index

    def after_step(self) -> None:
        entry = self.measured()
        self.writer.add(rows, (entry,))
        loss = entry.loss
        if loss is not None and not math.isfinite(loss) and not self._noted_nan:
            self._note_non_finite(loss)
        if self._scan_at(self.step):
            self._try_scan()

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
        self.snapshot()
        self._try_scan()
