"""Counterfactuals: what would have saved it, found by rerunning it with one thing changed.

Each change is rerun with the same seeds as the training without change, so that every seed is a
pair. Before that, the training without change must reproduce the recording bit for bit.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from backstory.errors import ArgumentError
from backstory.insight.chance import SIGNIFICANT, sign_test
from backstory.insight.experiment import Expected, Rerun, expected_of, load_train, rerun
from backstory.insight.run import Run
from backstory.insight.scan import DEAD, LINEAR
from backstory.insight.snapshot import Snapshot, read_snapshot
from backstory.insight.source import Source
from backstory.insight.store import transaction

__all__ = ["NO_CHANGE", "Change", "Outcome", "Outcomes", "rerun_all", "stored_outcomes"]

FEW_DEAD = 0.1


@dataclass(frozen=True)
class Change:
    """One thing done otherwise: entries of the config, from step ``start`` on.

    With ``start=0`` the training begins anew. Otherwise it goes on from the last snapshot at or
    before ``start``, for the recorded seed alone; train must then go on from ``run.step``.

    >>> Change("learning rate ÷ 10", {"lr": 0.05}).origin
    'from step 0'
    """

    name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    start: int = 0

    @property
    def origin(self) -> str:
        """Where the rerun starts."""
        return "from step 0" if self.start == 0 else f"from the snapshot at or before step {self.start}"


NO_CHANGE = Change("as it was")


@dataclass(frozen=True)
class Outcome:
    """How one rerun ended: its metrics, and its units at the last scan."""

    change: str
    seed: int
    start: int
    metrics: dict[str, float]
    units: int
    dead: int
    linear: int
    born_dead: int
    widths: list[int]
    loss: float | None


@dataclass(frozen=True)
class Outcomes:
    """The reruns of every change, paired by seed with those of the training as it was."""

    metric: str
    all: tuple[Outcome, ...]

    @property
    def changes(self) -> list[str]:
        """The names of the changes, in the order tried; the training as it was comes first."""
        return list(dict.fromkeys(outcome.change for outcome in self.all))

    def of(self, change: str) -> list[Outcome]:
        """The outcomes of one change, by seed."""
        return sorted((o for o in self.all if o.change == change), key=lambda o: o.seed)

    def values(self, change: str) -> list[float]:
        """The metric of every seed; NaN counts as 0."""
        found = [o.metrics.get(self.metric, math.nan) for o in self.of(change)]
        return [0.0 if math.isnan(value) else value for value in found]

    def pairs(self, change: str) -> list[tuple[float, float]]:
        """(as it was, with the change) of every seed that both have."""
        baseline = {
            o.seed: value
            for o, value in zip(self.of(NO_CHANGE.name), self.values(NO_CHANGE.name), strict=True)
        }
        changed = zip(self.of(change), self.values(change), strict=True)
        return [(baseline[o.seed], value) for o, value in changed if o.seed in baseline]

    def p_value(self, change: str) -> float:
        """The one-sided sign test: how likely so many seeds would improve if the change did nothing."""
        return sign_test(self.pairs(change))

    def dead_share(self, change: str) -> float:
        """The median share of units that end dead."""
        return median(o.dead / max(o.units, 1) for o in self.of(change))

    def mark(self, change: str) -> str:
        """✔ helps and few die, ◐ helps but over 10 % still die, ✘ does not help; ? too few pairs to tell."""
        if 0.5 ** len(self.pairs(change)) > SIGNIFICANT:
            return "?"
        if self.p_value(change) > SIGNIFICANT:
            return "✘"
        return "✔" if self.dead_share(change) <= FEW_DEAD else "◐"

    def lines(self) -> list[str]:
        """One line a change: mark, name, median of the metric, median share of dead units, p."""
        lines = []
        for name in self.changes:
            pairs = self.pairs(name)
            better = sum(b > a for a, b in pairs)
            values = self.values(name)
            text = (
                f"{name:24} {self.metric} {median(values):.2f} ({min(values):.2f}–{max(values):.2f})"
                f"  dead {self.dead_share(name):4.0%}"
            )
            if name == NO_CHANGE.name:
                lines.append(f"  {text}")
            else:
                start = max(o.start for o in self.of(name))
                origin = f", from the snapshot at step {start}" if start else ""
                lines.append(f"{self.mark(name)} {text}  better in {better} of {len(pairs)}{origin}")
        return lines

    def __str__(self) -> str:
        return "\n".join(self.lines())


class _Probe(Rerun):
    """Scans before the first and after the last update, and may start from a snapshot."""

    def __init__(self, source: Source, expected: Expected | None, snapshot: Snapshot | None) -> None:
        super().__init__(source, expected)
        if snapshot is not None:
            source.restore(snapshot)
        self.first = source.scan()

    def outcome(self, change: str, seed: int, start: int) -> Outcome:
        """How it ended."""
        last = {name: site.states for name, site in self.source.scan().items()}
        return Outcome(
            change,
            seed,
            start,
            self.metrics,
            sum(len(states) for states in last.values()),
            sum(int((states == DEAD).sum()) for states in last.values()),
            sum(int((states == LINEAR).sum()) for states in last.values()),
            sum(int((site.states == DEAD).sum()) for site in self.first.values()),
            [int((states != DEAD).sum()) for states in last.values()],
            self.last_loss,
        )


@dataclass(frozen=True)
class _Job:
    """One rerun, as it is sent to another process."""

    recipe: dict[str, Any]
    change: Change
    seed: int
    snapshot: Path | None
    expected: Expected | None


def _work(job: _Job) -> Outcome:
    snapshot = None if job.snapshot is None else read_snapshot(job.snapshot)

    def make(source: Source) -> _Probe:
        return _Probe(source, job.expected, snapshot)

    config = {**job.recipe["config"], **job.change.config}
    if "seed" in config:
        config["seed"] = job.seed
    probe = rerun(job.recipe, config, job.seed, make)
    assert isinstance(probe, _Probe)
    return probe.outcome(job.change.name, job.seed, 0 if snapshot is None else snapshot.step)


def rerun_all(run: Run, changes: list[Change], seeds: int, jobs: int | None) -> Outcomes:
    """Rerun ``run`` with every change and store the outcomes; processes run in parallel, with progress."""
    from joblib import Parallel, delayed

    recipe = run.experiment()
    _check(run, changes, seeds)
    load_train(recipe)
    tasks = _tasks(run, recipe, changes, seeds)
    reproduction = [task for task in tasks if task.expected is not None]
    rest = [task for task in tasks if task.expected is None]
    workers = jobs or max(1, (os.cpu_count() or 1) // recipe["threads"])
    outcomes: list[Outcome] = []
    parallel = Parallel(workers, return_as="generator_unordered")
    with _Progress(len(tasks)) as progress:
        for group in (reproduction, rest):
            for outcome in parallel(delayed(_work)(task) for task in group):
                assert outcome is not None
                outcomes.append(outcome)
                progress.advance()
    statements: list[tuple[str, tuple[Any, ...]]] = [("DELETE FROM outcomes", ())]
    order = [NO_CHANGE.name, *(change.name for change in changes)]
    # The training as it was went on from every snapshot too: one pair is enough.
    latest_first = sorted(outcomes, key=lambda o: -o.start)
    unique = {(order.index(o.change), o.seed): o for o in latest_first}
    ordered = [unique[place] for place in sorted(unique)]
    for position, outcome in enumerate(ordered):
        row = (position, outcome.change, outcome.seed, json.dumps(asdict(outcome)))
        statements.append(("INSERT INTO outcomes VALUES (?,?,?,?)", row))
    transaction(run.path, statements)
    return stored_outcomes(run)


def _check(run: Run, changes: list[Change], seeds: int) -> None:
    names = [NO_CHANGE.name, *(change.name for change in changes)]
    if len(set(names)) < len(names) or seeds < 1:
        raise ArgumentError(
            f"counterfactuals({[c.name for c in changes]}, seeds={seeds})",
            why=f"each change needs a name of its own ({NO_CHANGE.name!r} is taken), and a seed",
            instead="Change('learning rate ÷ 10', {'lr': 0.05}) and seeds=20",
        )
    known = run.config
    for change in changes:
        if "seed" in change.config or change.start < 0:
            raise ArgumentError(
                f"the change {change.name!r} of {dict(change.config)} from step {change.start}",
                why="seeds are what makes pairs, so every rerun has its own; and no step is before 0",
                instead="counterfactuals(changes, seeds=20), and Change(name, config, start=0)",
            )
        unknown = sorted(set(change.config) - set(known))
        if unknown:
            raise ArgumentError(
                f"the change {change.name!r} of {', '.join(unknown)}",
                why=f"the recorded config has only {', '.join(sorted(known))}, so nothing would change",
                instead="one of these names, or an entry for it in the config that is recorded",
            )


def _tasks(run: Run, recipe: dict[str, Any], changes: list[Change], seeds: int) -> list[_Job]:
    first = recipe["seed"]
    tasks: list[_Job] = []
    starts = sorted({change.start for change in changes} | {0})
    for start in starts:
        snapshot = _snapshot_file(run, start)
        expected = expected_of(run, 0 if snapshot is None else read_snapshot(snapshot).step)
        tasks.append(_Job(recipe, NO_CHANGE, first, snapshot, expected))
    tasks += [_Job(recipe, NO_CHANGE, first + k, None, None) for k in range(1, seeds)]
    for change in changes:
        snapshot = _snapshot_file(run, change.start)
        count = seeds if snapshot is None else 1
        tasks += [_Job(recipe, change, first + k, snapshot, None) for k in range(count)]
    return tasks


def _snapshot_file(run: Run, start: int) -> Path | None:
    if start == 0:
        return None
    rows = run._rows("SELECT file FROM snapshots WHERE step <= ? ORDER BY step DESC", start)
    return run.path / "snapshots" / rows[0][0]


def stored_outcomes(run: Run) -> Outcomes:
    """The outcomes that are stored with the run, in the order tried."""
    rows = run._rows("SELECT body FROM outcomes ORDER BY position")
    found = [Outcome(**json.loads(body)) for (body,) in rows]
    metric = next(iter(found[0].metrics), "accuracy") if found else "accuracy"
    return Outcomes(metric, tuple(found))


class _Progress:
    """A progress bar while it works, gone afterwards; nothing where no terminal is."""

    def __init__(self, total: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("rerunning"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), transient=True
        )
        self._task = self._bar.add_task("reruns", total=total)

    def __enter__(self):
        self._bar.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._bar.stop()

    def advance(self) -> None:
        """One more rerun is done."""
        self._bar.advance(self._task)
