"""A run: what a recording holds, read back at any time, and what can be asked of it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from backstory.errors import ArgumentError, ReplayError, RunError
from backstory.insight import packed
from backstory.insight.certificate import Certificate
from backstory.insight.lifetable import Event, LifeTable, life_table
from backstory.insight.record import Recorder, powers_of_two
from backstory.insight.sites import Site
from backstory.insight.snapshot import Snapshot, read_snapshot
from backstory.insight.source import source_of, torch_adapter
from backstory.insight.store import Reader, Writer, transaction
from backstory.insight.watched import Following, Watched, all_at_the_end, unwatched
from backstory.insight.why import Why

__all__ = ["Recording", "Run", "Watched", "open_run", "start_recording", "unwatched", "watch"]


class Run:
    """A recorded training, finished or still being written. Get one from :func:`open_run`."""

    def __init__(self, path: Path, known_good: bool = False) -> None:
        self.path = path
        self._reader = Reader(path, known_good)

    def _rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        return self._reader.rows(query, *values)

    @property
    def meta(self) -> dict[str, Any]:
        """Versions, status, and for an experiment its function, config, seed and thread count."""
        return self._reader.meta()

    @property
    def config(self) -> dict[str, Any]:
        """The experiment's config; empty for a bare ``watch``."""
        return (self.meta.get("experiment") or {}).get("config", {})

    @property
    def sites(self) -> list[Site]:
        """The sites, in the order in which they run."""
        return [Site(*row) for row in self._rows("SELECT site, name, op, units FROM sites ORDER BY site")]

    @property
    def steps(self) -> np.ndarray:
        """The numbers of the recorded updates."""
        return packed.steps_of(self._rows("SELECT numbers FROM steps"))

    @property
    def losses(self) -> np.ndarray:
        """The loss before each update; NaN where it was NaN, or where no backward pass was seen."""
        return packed.losses_of(self._rows("SELECT numbers, losses FROM steps"))

    @property
    def rates(self) -> np.ndarray:
        """The learning rate of every parameter group at every step; NaN before the group was added."""
        return packed.rates_of(self._rows("SELECT numbers, rates FROM steps"))

    def norms(self) -> dict[str, np.ndarray]:
        """Per parameter an array (3, steps): the 2-norms of its gradient, of its change and of its weights.

        NaN at a step that was not measured. The weights' norm is taken every eighth step and stands
        for the steps up to the next.
        """
        names = [name for (name,) in self._rows("SELECT name FROM parameters ORDER BY parameter")]
        rows = self._rows("SELECT numbers, gradients, changes, weights FROM steps")
        table = packed.norms_of(rows, len(names))
        return {name: table[:, :, i].T for i, name in enumerate(names)}

    def gates(self, site: Site | str) -> tuple[np.ndarray, np.ndarray]:
        """The steps, and per step and unit the share of the batch for which the gate was open."""
        found = self._site(site)
        rows = self._rows("SELECT numbers, samples, open FROM gates WHERE site = ?", found.index)
        return packed.gates_of(rows, found.units)

    def _site(self, site: Site | str) -> Site:
        name = site if isinstance(site, str) else site.name
        for known in self.sites:
            if known.name == name:
                return known
        raise ArgumentError(
            f"the site {name!r} of the run at {self.path}",
            why=f"its sites are {', '.join(str(s) for s in self.sites)}",
            instead="one of these names",
        )

    def metrics(self, name: str) -> list[tuple[int, float]]:
        """What ``log(name=…)`` was told: pairs of step and value."""
        rows = self._rows("SELECT step, value FROM metrics WHERE name = ? ORDER BY rowid", name)
        return [(step, _or_nan(value)) for step, value in rows]

    @property
    def result(self) -> dict[str, float]:
        """The last value of every metric."""
        rows = self._rows("SELECT name, value FROM metrics ORDER BY rowid")
        return {name: _or_nan(value) for name, value in rows}

    def life_table(self) -> LifeTable:
        """Births, deaths and revivals of every site, each exact or between two steps."""
        known, found, scans, audited = self._reader.tables(
            "SELECT site, name, op, units FROM sites ORDER BY site",
            "SELECT site, unit, kind, step, after FROM events ORDER BY rowid",
            "SELECT step, site, states FROM scans ORDER BY step, site",
            "SELECT value FROM meta WHERE key = 'audited'",
        )
        sites = [Site(*row) for row in known]
        names = {site.index: site.name for site in sites}
        events = [Event(names[site], *rest) for site, *rest in found]
        return life_table(sites, scans, events, bool(audited))

    def certificates(self) -> list[Certificate]:
        """The certificate of every death, in order; ``audit()`` computes them."""
        rows = self._rows("SELECT body FROM certificates ORDER BY rowid")
        return [Certificate(**json.loads(body)) for (body,) in rows]

    def findings(self, code: str) -> list[tuple[int | None, str]]:
        """What was noticed: pairs of step and text."""
        return self._rows("SELECT step, body FROM findings WHERE code = ? ORDER BY rowid", code)

    def whys(self) -> list[Why]:
        """The answers that :meth:`keep` stored."""
        return [Why.from_dict(json.loads(body)) for _, body in self.findings("why")]

    def keep(self, *answers: Why) -> None:
        """Store answers of :func:`backstory.why` with the run, in place of those kept before."""
        insert = "INSERT INTO findings VALUES (NULL, 'why', ?)"
        statements: list[tuple[str, tuple[Any, ...]]] = [("DELETE FROM findings WHERE code = 'why'", ())]
        statements += [(insert, (json.dumps(answer.as_dict()),)) for answer in answers]
        transaction(self.path, statements)

    def snapshot(self, step: int | None = None) -> Snapshot:
        """The last snapshot at or before ``step`` (by default the last one)."""
        rows = self._rows("SELECT step, file FROM snapshots ORDER BY step")
        fitting = [file for at, file in rows if step is None or at <= step]
        if not fitting:
            raise RunError(
                f"a snapshot at or before step {step} of the run at {self.path}",
                why=f"its snapshots are at steps {[at for at, _ in rows]}",
                instead="one of these steps",
            )
        return read_snapshot(self.path / "snapshots" / fitting[-1])

    def restore(self, model: Any, optimizer: Any = None, step: int | None = None) -> int:
        """Load parameters (and the optimizer's state) of a snapshot; returns its step."""
        taken = self.snapshot(step)
        adapter = torch_adapter()
        if adapter is not None and adapter.owns(model):
            adapter.restore(taken, model, optimizer)
        else:
            taken.restore(model, optimizer)
        return taken.step

    def audit(self) -> LifeTable:
        """Replay the run and decide every birth, death and revival exactly, with certificates.

        Raises :class:`backstory.errors.ReplayError` when the run cannot be replayed, or where the
        replay parts from the recording.
        """
        from backstory.insight.audit import audit

        audit(self)
        return self.life_table()

    def counterfactuals(self, changes: Iterable[Any], seeds: int = 20, jobs: int | None = None) -> Any:
        """Rerun the training with each change over paired seeds; see :class:`backstory.Change`.

        Outcomes are compared by the metric that ``log`` was told first; larger is better.
        """
        from backstory.insight.counterfactual import rerun_all

        return rerun_all(self, list(changes), seeds, jobs)

    def outcomes(self) -> Any:
        """What :meth:`counterfactuals` found and stored."""
        from backstory.insight.counterfactual import stored_outcomes

        return stored_outcomes(self)

    def story(self) -> str:
        """What happened, in at most 25 lines."""
        from backstory.insight.story import story

        return story(self)

    def experiment(self) -> dict[str, Any]:
        """How to rerun it, or an error that says why it cannot be."""
        found = self.meta.get("experiment")
        if found is None:
            raise ReplayError(
                f"rerunning the run at {self.path}",
                why="it was recorded with a bare watch(): backstory saw the training and not how to start it",
                instead="backstory.experiment(train, config, path) with an importable train(config, watch)",
            )
        return found

    def _repr_html_(self) -> str:
        from backstory.insight.html import run_html

        return run_html(self)

    def __repr__(self) -> str:
        return f"<run at {self.path}: {len(self.steps)} steps, {len(self.sites)} sites>"


class Recording(Run, Watched):
    """A run that is being written; also what the training talks to. Close it, or use ``with``."""

    def __init__(self, recorder: Recorder, writer: Writer) -> None:
        self.path = writer.path
        self._recorder, self._writer = recorder, writer
        self._open = True

    @property
    def _reader(self) -> Reader:
        self.flush()
        return Reader(self.path, known_good=True)

    def flush(self) -> None:
        """Return once all that was recorded so far can be read, by any process."""
        if self._open and self._recorder.source.alive:
            self._recorder.write(rest=True)
        self._writer.flush()

    @property
    def step(self) -> int:  # type: ignore[override]
        """The number of updates so far."""
        return self._recorder.source.step

    def order(self, samples: Any) -> Any:
        self._check_open("order()")
        if self._recorder.source.alive:
            self._recorder.fetch()
            self._writer.put("orders", self.step, np.asarray(samples).astype(np.int64).tobytes())
        return samples

    def log(self, **metrics: float) -> None:
        self._check_open("log()")
        if self._recorder.source.alive:
            self._recorder.fetch()
            for name, value in metrics.items():
                self._writer.put("metrics", self.step, name, float(value))

    def _check_open(self, what: str) -> None:
        if not self._open:
            raise RunError(
                f"{what} of the closed run at {self.path}",
                why="what the training says after close() would not be stored",
                instead=f"{what} before close(), or inside the with block",
            )

    def keep(self, *answers: Why) -> None:
        self.flush()
        super().keep(*answers)

    def take_snapshot(self) -> None:
        self._check_open("take_snapshot()")
        self._recorder.fetch()
        self._recorder.snapshot()

    def scan(self) -> None:
        self._check_open("scan()")
        self._recorder.fetch()
        self._recorder.scan()

    def close(self, status: str = "finished") -> None:
        """Scan and snapshot a last time, and stop watching; a second call does nothing."""
        if self._open:
            self._open = False
            if self._recorder.source.alive:
                try:
                    if all_at_the_end(status):
                        self._recorder.source.meet()
                    self._recorder.finish()
                    self._writer.meta("status", status)
                finally:
                    self._writer.close()

    def __exit__(self, kind: Any, *rest: Any) -> None:
        self.close("finished" if kind is None else f"ended by {kind.__name__}")


def start_recording(recorder: Recorder, path: Path, experiment: dict[str, Any] | None) -> Recording:
    """Make the run's folder and let the recorder write to it."""
    source = recorder.source
    writer = Writer(path)
    writer.meta("versions", _versions() | source.versions())
    writer.meta("started", datetime.now(UTC).isoformat(timespec="seconds"))
    writer.meta("status", "running")
    writer.meta("engine", source.engine)
    writer.meta("samples", source.samples)
    writer.meta("optimizer", source.optimizer_name)
    writer.meta("unmoved", source.unmoved)
    writer.meta("experiment", experiment)
    recorder.start(writer)
    return Recording(recorder, writer)


def watch(
    model: Any,
    optimizer: Any,
    path: str | Path,
    *,
    data: Any,
    generator: Any = None,
    scan_at: Any = powers_of_two,
    every: int = 1,
) -> Recording | Following:
    """Record a training from now on into a new folder ``path``; the loop itself stays as it is.

    ``data`` are the inputs on which a unit counts as dead or alive, usually all training inputs, one
    sample per row. They are scanned now, after the steps for which ``scan_at(step)`` is true (1, 2, 4,
    8, … by default; ``lambda step: True`` makes every event exact) and at the end. ``generator`` is
    the training's random stream, stored in snapshots. Gates and norms are measured at every ``every``-th
    step, the loss at all. A run that was only watched cannot be rerun;
    see :func:`backstory.experiment`.

    Of a DistributedDataParallel model every rank calls this; rank 0 writes.
    """
    source = source_of(model, optimizer, data, generator)
    if not source.writes:
        return Following(source, Path(path), every)
    with source.starting():
        recorder = Recorder(source, scan_at, every, certify=True)
        recording = start_recording(recorder, Path(path), None)
    recording.flush()
    return recording


def open_run(path: str | Path) -> Run:
    """The run in the folder ``path``, finished or still being written."""
    return Run(Path(path))


def _or_nan(value: float | None) -> float:
    """A number of the store, which keeps NaN as nothing."""
    return math.nan if value is None else value


def _versions() -> dict[str, str]:
    import platform

    import backstory

    return {
        "backstory": backstory.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
