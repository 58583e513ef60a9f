"""The audit: a replay with a full scan after every update, so that every event is exact."""

from __future__ import annotations

import json
from typing import Any

from backstory.insight.census import Census, Found
from backstory.insight.experiment import Expected, Rerun, expected_of, rerun
from backstory.insight.packed import StepStatistics, Stretch, rows
from backstory.insight.run import Run
from backstory.insight.source import Source
from backstory.insight.store import transaction

__all__ = ["Auditor", "audit"]


def audit(run: Run) -> None:
    """Replay ``run``, and replace its scans and events by exact ones, with a certificate for every death."""
    recipe = run.experiment()
    expected = expected_of(run)
    sites = {site.name: site.index for site in run.sites}

    def make(source: Source) -> Auditor:
        return Auditor(source, expected, sites)

    auditor = rerun(recipe, recipe["config"], recipe["seed"], make)
    assert isinstance(auditor, Auditor)
    if run.meta.get("status") == "finished":
        _compare(run, auditor)
    statements: list[tuple[str, tuple[Any, ...]]] = [
        (f"DELETE FROM {table}", ()) for table in ("scans", "events", "certificates", "steps", "gates")
    ]
    statements += [("INSERT INTO sites VALUES (?,?,?,?)", row) for row in auditor.new_sites]
    for found in auditor.found:
        for name, site in found.sites.items():
            row = (found.step, sites[name], site.states.tobytes())
            statements.append(("INSERT INTO scans VALUES (?,?,?)", row))
        for event in found.events:
            row = (event.step, max(event.step - 1, 0), sites[event.site], event.unit, event.kind)
            statements.append(("INSERT INTO events VALUES (?,?,?,?,?)", row))
        for c in found.certificates:
            row = (c.step, sites[c.site], c.unit, json.dumps(c.as_dict()))
            statements.append(("INSERT INTO certificates VALUES (?,?,?,?)", row))
    auditor.measurements += auditor.source.measured(rest=True)
    for entry in auditor.measurements:
        statements += rows(entry)
    statements.append(("INSERT OR REPLACE INTO meta VALUES ('audited', 'true')", ()))
    transaction(run.path, statements)


def _compare(run: Run, auditor: Auditor) -> None:
    """The parameters at the end must be those of the recording, bit for bit."""
    recorded = run.snapshot().parameters()
    for name, value in auditor.source.snapshot().parameters().items():
        if recorded[name].tobytes() != value.tobytes():
            raise Expected.parted(auditor.step, f"{name} ended elsewhere")


class Auditor(Rerun):
    """Scans after every update and certifies every death."""

    def __init__(self, source: Source, expected: Expected | None, sites: dict[str, int]) -> None:
        source.every = 1
        super().__init__(source, expected)
        self.sites = sites
        self.new_sites: list[tuple[int, str, str, int]] = []
        self.measurements: list[StepStatistics | Stretch] = []
        self.found: list[Found] = []
        self._census = Census(source, certify=True)
        self._scan()

    def site_index(self, name: str, op: str, units: int) -> int:
        if name not in self.sites:  # it ran too late for the recording to meet it
            self.sites[name] = len(self.sites)
            self.new_sites.append((self.sites[name], name, op, units))
        return self.sites[name]

    def before_step(self) -> None:
        self._census.before_step()

    def stepped(self) -> None:
        self.measurements += self.source.measured()
        self._scan()

    def _scan(self) -> None:
        found = self._census.take()
        for name, site in found.sites.items():
            self.site_index(name, site.op, len(site.states))
        self.found.append(found)
