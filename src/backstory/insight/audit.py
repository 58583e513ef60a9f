"""The audit: a replay with a full scan after every update, so that every event is exact."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from backstory.arrays import Generator
from backstory.insight.certificate import Certificate, decompose, sgd_terms
from backstory.insight.experiment import Expected, Rerun, expected_of, rerun
from backstory.insight.lifetable import DIED, events_between
from backstory.insight.run import Run
from backstory.insight.scan import SiteScan, evaluation, rows_of_units, scan
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

    auditor = rerun(recipe, recipe["config"], make)
    assert isinstance(auditor, Auditor)
    if run.meta["status"] == "finished":
        _compare(run, auditor)
    statements: list[tuple[str, tuple[Any, ...]]] = [
        (f"DELETE FROM {table}", ()) for table in ("scans", "events", "certificates")
    ]
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
        self.value = p.array.copy()
        self.gradient = None if p.grad is None else p.grad.array.copy()
        self.state = dict(optimizer.state[p])
        self.group = {key: value for key, value in group.items() if key != "params"}

    def terms(self) -> dict[str, np.ndarray] | None:
        """The terms of its update; none if it did not move, ``None`` if the rule has no split."""
        if self.gradient is None:
            return {}
        return sgd_terms(self.value, self.gradient, self.state, self.group)


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
        self.measurements: list[StepStatistics] = []
        self.scans: list[tuple[int, str, np.ndarray]] = []
        self.events: list[tuple[int, str, int, str]] = []
        self.certificates: list[Certificate] = []
        self._seen: dict[str, SiteScan] = {}
        self._before: dict[Tensor, Before] = {}
        self._note(scan(model, self.data, peaks=True))

    def site_index(self, name: str, op: str, units: int) -> int:
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
        self._note(scan(self.model, self.data, peaks=True))

    def _note(self, found: dict[str, SiteScan]) -> None:
        died: list[tuple[str, int, int]] = []
        for name, now in found.items():
            before = self._seen.get(name)
            self.scans.append((self.step, name, now.states))
            for unit, kind in events_between(None if before is None else before.states, now.states):
                self.events.append((self.step, name, unit, kind))
                if kind == DIED and before is not None and before.sample is not None:
                    died.append((name, unit, int(before.sample[unit])))
        self._seen = found
        if died:
            self.certificates.extend(self._certify(died))

    def _certify(self, died: list[tuple[str, int, int]]) -> list[Certificate]:
        samples = sorted({sample for _, _, sample in died})
        row = {sample: i for i, sample in enumerate(samples)}
        part = self.data[np.array(samples)]
        new = _fronts(self.model, part)
        now = {p: p.array.copy() for p in self._before}
        try:
            for p, before in self._before.items():
                np.copyto(p.array, before.value)
            old = _fronts(self.model, part)
        finally:
            for p, value in now.items():
                np.copyto(p.array, value)
        return [
            self._certificate(name, unit, sample, row[sample], old[name], new[name], len(samples))
            for name, unit, sample in died
        ]

    def _certificate(
        self, site: str, unit: int, sample: int, row: int, old: Front, new: Front, samples: int
    ) -> Certificate:
        z_old, z_new = float(old.z[row][unit]), float(new.z[row][unit])
        base = {
            "site": site,
            "unit": unit,
            "step": self.step,
            "sample": sample,
            "before": z_old,
            "after": z_new,
        }
        if old.weight is None or old.x is None or new.x is None or len(old.x) != samples:
            note = (
                "the layer in front is no plain linear layer on one row per sample: only the total is known"
            )
            return Certificate(**base, note=note)
        (w_old, w_new, w_terms), (b_old, b_new, b_terms) = (
            self._moved(old.weight, unit),
            self._moved(old.bias, unit),
        )
        weights, bias, inputs = decompose(
            (w_old, float(b_old), old.x[row]), (w_new, float(b_new), new.x[row]), w_terms, b_terms
        )
        note = ""
        if w_terms is None:
            note = f"{type(self.optimizer).__name__}'s update is not split into its terms yet"
        return Certificate(
            **base, weights=weights, bias=bias, inputs=inputs, at_zero=float(old.at_zero), note=note
        )

    def _moved(self, p: Tensor | None, unit: int) -> tuple[Any, Any, Any]:
        """One unit's row of a parameter: before, after, and the terms in between."""
        if p is None:
            return 0.0, 0.0, {}
        before = self._before.get(p)
        if before is None:  # in no optimizer: it stays
            return p.array[unit], p.array[unit], {}
        terms = before.terms()
        return (
            before.value[unit],
            p.array[unit],
            None if terms is None else {k: v[unit] for k, v in terms.items()},
        )


class Front:
    """What stands in front of a site: the linear layer, its input, and the pre-activation."""

    def __init__(self, z: np.ndarray, layer: Any, at_zero: float) -> None:
        self.z, self.at_zero = z, at_zero
        self.x = self.weight = self.bias = None
        if layer is not None:
            x, self.weight, *bias = layer
            self.x = x.array if x.ndim == 2 else None
            self.bias = bias[0] if bias else None


class _FrontFinder(Observer):
    def __init__(self, model: Module) -> None:
        super().__init__(model)
        self.layers: list[tuple[Tensor, Any]] = []
        self.fronts: dict[str, Front] = {}

    def ran(self, op: Op, args: Any, result: Tensor, params: Any) -> None:
        if op.name == "linear":
            self.layers.append((result, args))
        super().ran(op, args, result, params)

    def gate(self, key: Any, op: Op, args: Any, result: Tensor, params: Any) -> None:
        layer = next((inputs for made, inputs in self.layers if made is args[0]), None)
        self.fronts[site_name(key)] = Front(rows_of_units(args[0].array), layer, params.get("at_zero", 0.0))


def _fronts(model: Module, data: Tensor) -> dict[str, Front]:
    """The front of every site, on a few samples."""
    finder = _FrontFinder(model)
    with evaluation(model), observing(finder):
        model(data)
    return finder.fronts
