"""The audit: a replay with a full scan after every update, so that every event is exact."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from backstory.arrays import Generator
from backstory.autograd.modes import relu_derivative_at_zero
from backstory.insight.certificate import Certificate, decompose, sgd_terms
from backstory.insight.experiment import Expected, Rerun, expected_of, rerun
from backstory.insight.lifetable import DIED, events_between
from backstory.insight.run import Run
from backstory.insight.scan import SiteScan, evaluation, rows_of_units
from backstory.insight.sites import Observer, observing, site_name
from backstory.insight.statistics import StepStatistics, rows
from backstory.insight.store import transaction
from backstory.nn import Module
from backstory.ops import Op
from backstory.optim import Optimizer
from backstory.tensor import Tensor

__all__ = ["Auditor", "audit"]


def audit(run: Run) -> None:
    """Replay ``run``, and replace its scans and events by exact ones, with a certificate for every death."""
    recipe = run.experiment()
    expected = expected_of(run)
    sites = {site.name: site.index for site in run.sites}

    def make(model: Module, optimizer: Optimizer, data: Any, generator: Generator | None) -> Auditor:
        return Auditor(model, optimizer, data, generator, expected, sites)

    auditor = rerun(recipe, recipe["config"], recipe["seed"], make)
    assert isinstance(auditor, Auditor)
    if run.meta.get("status") == "finished":
        _compare(run, auditor)
    statements: list[tuple[str, tuple[Any, ...]]] = [
        (f"DELETE FROM {table}", ()) for table in ("scans", "events", "certificates")
    ]
    statements += [("INSERT INTO sites VALUES (?,?,?,?)", row) for row in auditor.new_sites]
    for step, name, states in auditor.scans:
        statements.append(("INSERT INTO scans VALUES (?,?,?)", (step, sites[name], states.tobytes())))
    for step, name, unit, kind in auditor.events:
        row = (step, max(step - 1, 0), sites[name], unit, kind)
        statements.append(("INSERT INTO events VALUES (?,?,?,?,?)", row))
    for c in auditor.certificates:
        row = (c.step, sites[c.site], c.unit, json.dumps(c.as_dict()))
        statements.append(("INSERT INTO certificates VALUES (?,?,?,?)", row))
    for entry in auditor.measurements:
        statements += rows(entry)
    statements.append(("INSERT OR REPLACE INTO meta VALUES ('audited', 'true')", ()))
    transaction(run.path, statements)


def _compare(run: Run, auditor: Auditor) -> None:
    """The parameters at the end must be those of the recording, bit for bit."""
    taken = run.snapshot()
    for name, p in auditor.model.named_parameters():
        recorded = taken.parameters()[name]
        if recorded.tobytes() != p.array.tobytes():
            raise Expected.parted(auditor.step, f"{name} ended elsewhere")


class Before:
    """One parameter as it was before an update: value, gradient, optimizer state, settings."""

    def __init__(self, p: Tensor, optimizer: Optimizer, group: Mapping[str, Any]) -> None:
        self.optimizer = optimizer
        self.value = p.array.copy()
        self.gradient = None if p.grad is None else p.grad.array.copy()
        self.state = dict(optimizer.state[p])
        self.group = {key: value for key, value in group.items() if key != "params"}

    def terms(self) -> dict[str, np.ndarray] | None:
        """The terms of its update; none if it did not move, ``None`` if the rule has no split."""
        if self.gradient is None:
            return {}
        with np.errstate(all="ignore"):
            return sgd_terms(self.optimizer, self.value, self.gradient, self.state, self.group)


class Auditor(Rerun):
    """Scans after every update and certifies every death."""

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer,
        data: Any,
        generator: Generator | None,
        expected: Expected | None,
        sites: dict[str, int],
    ) -> None:
        super().__init__(model, optimizer, data, generator, expected, every=1)
        self.sites = sites
        self.new_sites: list[tuple[int, str, str, int]] = []
        self.measurements: list[StepStatistics] = []
        self.scans: list[tuple[int, str, np.ndarray]] = []
        self.events: list[tuple[int, str, int, str]] = []
        self.certificates: list[Certificate] = []
        self._seen: dict[str, SiteScan] = {}
        self._before: dict[Tensor, Before] = {}
        self._note(self.scanned(peaks=True))

    def site_index(self, name: str, op: str, units: int) -> int:
        if name not in self.sites:  # it ran too late for the recording to meet it
            self.sites[name] = len(self.sites)
            self.new_sites.append((self.sites[name], name, op, units))
        return self.sites[name]

    def before_step(self) -> None:
        super().before_step()
        self._before = {
            p: Before(p, self.optimizer, group)
            for group in self.optimizer.param_groups
            for p in group["params"]
        }

    def stepped(self) -> None:
        self.measurements.append(self.measured())
        self._note(self.scanned(peaks=True))

    def _note(self, found: dict[str, SiteScan]) -> None:
        died: list[tuple[str, int, int]] = []
        for name, now in found.items():
            self.site_index(name, now.op, len(now.states))
            before = self._seen.get(name)
            self.scans.append((self.step, name, now.states))
            was = None if before is None else before.states
            for unit, kind in events_between(was, now.states, self.step):
                self.events.append((self.step, name, unit, kind))
                if kind == DIED and before is not None and before.sample is not None:
                    died.append((name, unit, int(before.sample[unit])))
        self._seen.update(found)
        if died:
            self.certificates.extend(self._certify(died))

    def _certify(self, died: list[tuple[str, int, int]]) -> list[Certificate]:
        samples = sorted({sample for _, _, sample in died})
        new = self._fronts(samples)
        now = {p: p.array.copy() for p in self._before}
        try:
            for p, before in self._before.items():
                np.copyto(p.array, before.value)
            old = self._fronts(samples)
        finally:
            for p, value in now.items():
                np.copyto(p.array, value)
        return [
            self._certificate(name, unit, sample, samples, old[name], new[name])
            for name, unit, sample in died
        ]

    def _fronts(self, samples: list[int]) -> dict[str, Front]:
        """The front of every site, on a few samples."""
        finder = _FrontFinder(self.model)
        with (
            relu_derivative_at_zero(self.at_zero),
            evaluation(self.model, self.generators),
            observing(finder),
        ):
            self.model(self.data[np.array(samples)])
        return finder.fronts

    def _certificate(
        self, site: str, unit: int, sample: int, samples: list[int], old: Front, new: Front
    ) -> Certificate:
        row = old.row(unit, samples.index(sample), len(samples))
        base = {
            "site": site,
            "unit": unit,
            "step": self.step,
            "sample": sample,
            "before": float(old.z[row, unit]),
            "after": float(new.z[row, unit]),
            "at_zero": old.at_zero,
        }
        if old.layer is None or new.layer is None:
            note = "the layer in front is no linear layer: only the total is known"
            return Certificate(**base, note=note)
        notes: list[str] = []
        weights, bias, inputs = decompose(
            old.layer.at(unit, row),
            new.layer.at(unit, row),
            self._terms(old.layer.weight, old.layer.w, new.layer.w, unit, notes),
            self._terms(old.layer.bias, old.layer.b, new.layer.b, unit, notes),
        )
        if old.layer.bias is None:
            bias = {}
        return Certificate(**base, weights=weights, bias=bias, inputs=inputs, note="; ".join(notes))

    def _terms(
        self, used: Tensor | None, old: np.ndarray, new: np.ndarray, unit: int, notes: list[str]
    ) -> dict[str, Any] | None:
        """The terms of one unit's share of an update; ``None``, and a note, where they are not known."""
        before = None if used is None else self._before.get(used)
        if before is None:
            if np.array_equal(old[unit], new[unit], equal_nan=True):
                return {}
            note = "a weight that is computed from parameters is not split into terms"
        else:
            terms = before.terms()
            if terms is not None:
                return {key: value[unit] for key, value in terms.items()}
            nesterov = " with Nesterov's momentum" if before.group.get("nesterov") else ""
            note = f"{type(self.optimizer).__name__}'s update{nesterov} is not split into its terms yet"
        if note not in notes:
            notes.append(note)
        return None


class Layer:
    """A linear layer as it ran: its tensors, and copies of their values and of its input."""

    def __init__(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> None:
        self.weight, self.bias = weight, bias
        self.x, self.w = rows_of_units(x.array).copy(), weight.array.copy()
        self.b = np.zeros(len(self.w), self.w.dtype) if bias is None else bias.array.copy()

    def at(self, unit: int, row: int) -> tuple[np.ndarray, float, np.ndarray]:
        """Weights, bias and inputs of one unit on one row."""
        return self.w[unit], float(self.b[unit]), self.x[row]


class Front:
    """What stands in front of a site: the pre-activation, and the linear layer that made it, if one did."""

    def __init__(self, z: np.ndarray, layer: Layer | None, at_zero: float) -> None:
        self.z, self.layer, self.at_zero = z, layer, at_zero

    def row(self, unit: int, place: int, samples: int) -> int:
        """The row with the largest pre-activation among those of the sample at ``place``."""
        rows = max(len(self.z) // samples, 1)
        first = min(place * rows, len(self.z) - rows)
        return first + int(np.argmax(self.z[first : first + rows, unit]))


class _FrontFinder(Observer):
    def __init__(self, model: Module) -> None:
        super().__init__(model)
        self.layers: list[tuple[Tensor, int, Layer]] = []
        self.fronts: dict[str, Front] = {}

    def ran(self, op: Op, args: Any, result: Tensor, params: Any) -> None:
        if op.name == "linear":
            self.layers.append((result, result._version, Layer(*args)))
        super().ran(op, args, result, params)

    def gate(self, key: Any, op: Op, args: Any, result: Tensor, params: Any) -> None:
        z = args[0]
        # Changed in place since, it is no longer what the layer made.
        layer = next((one for made, version, one in self.layers if made is z and z._version == version), None)
        self.fronts[site_name(key)] = Front(rows_of_units(z.array).copy(), layer, params.get("at_zero", 0.0))
