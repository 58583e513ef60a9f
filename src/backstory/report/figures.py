"""What the page shows, gathered from a run as plain records: numbers as they are, nothing formatted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import Any

from backstory.insight.certificate import Certificate
from backstory.insight.counterfactual import NO_CHANGE, Outcomes
from backstory.insight.lifetable import REVIVED, LifeTable
from backstory.insight.run import Run
from backstory.insight.why import Why

__all__ = [
    "Death",
    "Factor",
    "Part",
    "Row",
    "Weight",
    "code",
    "deaths",
    "exact_events",
    "factors",
    "outcome_rows",
    "parts",
    "weights",
]

NEGLIGIBLE = 1e-9


@dataclass(frozen=True)
class Part:
    """One cause of a change; ``start`` and ``length`` place it in a bar from −100 to 100."""

    name: str
    value: float
    start: float
    length: float


@dataclass(frozen=True)
class Death:
    """A certificate, its parts, and at which step the unit revived (``None``: it stayed dead)."""

    certificate: Certificate
    parts: list[Part]
    revived: int | None


def parts(certificate: Certificate) -> list[Part]:
    """The terms of the weights, then bias and inputs; what is next to nothing is left out.

    Negative parts lie end to end to the left of 0, positive ones to the right; the longer side has
    length 100.
    """
    if not certificate.weights:
        return []
    values = dict(certificate.weights)
    values["bias"] = math.fsum(certificate.bias.values())
    values["inputs"] = certificate.inputs
    values |= certificate.others
    if not all(map(math.isfinite, values.values())):
        return [Part(name, value, 0.0, 0.0) for name, value in values.items() if name != "rounding"]
    least = NEGLIGIBLE * max(map(abs, values.values()))
    values = {name: value for name, value in values.items() if abs(value) > least}
    sides = [sum(v for v in values.values() if v > 0), -sum(v for v in values.values() if v < 0)]
    scale = 100.0 / (max(sides) or 1.0)
    found, left, right = [], 0.0, 0.0
    for name, value in values.items():
        length = abs(value) * scale
        if value < 0:
            left += length
            found.append(Part(name, value, -left, length))
        else:
            found.append(Part(name, value, right, length))
            right += length
    return found


def deaths(run: Run, table: LifeTable) -> list[Death]:
    """Every certified death in order, with what became of the unit."""
    revivals: dict[tuple[str, int], list[int]] = {}
    for event in table.events:
        if event.kind == REVIVED:
            revivals.setdefault((event.site, event.unit), []).append(event.step)
    found = []
    for certificate in run.certificates():
        known = revivals.get((certificate.site, certificate.unit), [])
        later = [step for step in known if step > certificate.step]
        found.append(Death(certificate, parts(certificate), min(later, default=None)))
    return found


@dataclass(frozen=True)
class Factor:
    """One factor of a gradient: its value in the sample shown, in how many samples it is 0, and whether
    it is the first that makes the gradient 0."""

    name: str
    value: float
    zeros: int
    culprit: bool


@dataclass(frozen=True)
class Weight:
    """A kept answer and its factors; no factors where there is no sample to show."""

    why: Why
    factors: list[Factor]


def factors(why: Why) -> list[Factor]:
    """upstream, gate and input of the sample shown; the first that is 0 for every sample is the culprit."""
    if not why.example:
        return []
    zeros = {"upstream": why.upstream_zero, "gate": why.gate_closed, "input": why.input_zero}
    culprit = next((name for name, count in zeros.items() if count == why.samples), None)
    if culprit is None and why.verdict == "a zero in every sample":
        culprit = next((name for name in zeros if why.example[name] == 0), None)
    return [Factor(name, why.example[name], count, name == culprit) for name, count in zeros.items()]


def weights(run: Run) -> list[Weight]:
    """The kept answers."""
    return [Weight(why, factors(why)) for why in run.whys()]


@dataclass(frozen=True)
class Row:
    """One change in the table of outcomes; ``mark`` is empty for the training as it was, ``start`` the step
    of the snapshot it went on from."""

    change: str
    mark: str
    median: float
    low: float
    high: float
    dead: float
    better: int
    pairs: int
    p: float
    start: int


def outcome_rows(outcomes: Outcomes) -> list[Row]:
    """A row per change, the training as it was first."""
    rows = []
    for change in outcomes.changes:
        values, pairs = outcomes.values(change), outcomes.pairs(change)
        base = change == NO_CHANGE.name
        rows.append(
            Row(
                change,
                "" if base else outcomes.mark(change),
                median(values),
                min(values),
                max(values),
                outcomes.dead_share(change),
                sum(b > a for a, b in pairs),
                len(pairs),
                math.nan if base else outcomes.p_value(change),
                0 if base else max(outcome.start for outcome in outcomes.of(change)),
            )
        )
    return rows


def exact_events(table: LifeTable) -> dict[str, tuple[int, int]]:
    """Per site how many of its events are exact, and how many there are."""
    found: dict[str, tuple[int, int]] = {life.site.name: (0, 0) for life in table.sites}
    for event in table.events:
        exact, total = found.get(event.site, (0, 0))
        found[event.site] = (exact + event.exact, total + 1)
    return found


def code(run: Run) -> str:
    """The lines of Python that record the run again; empty for a bare ``watch``."""
    recipe: dict[str, Any] | None = run.meta.get("experiment")
    if recipe is None:
        return ""
    module, _, function = str(recipe["train"]).partition(":")
    config = ",\n".join(f"    {key!r}: {value!r}" for key, value in recipe["config"].items())
    threads = "" if recipe["threads"] == 1 else f", threads={recipe['threads']}"
    return (
        f"import backstory\nfrom {module} import {function}\n\nconfig = {{\n{config},\n}}\n"
        f'run = backstory.experiment({function}, config, "again"{threads})\nrun.audit()'
    )
