"""The networks W1 to W5: a step's time, the first call cold and from caches, peak memory, for every peer."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import steps
from measure import cell, grid
from peers import PEERS
from workloads import TINY, WORKLOADS, Workload

__all__ = ["Plan", "Results", "sections"]

COLD_ROUNDS = 3
EVERY = WORKLOADS | TINY

Figures = dict[str, dict[str, list[float]]]
"""By network and peer: one figure per round."""


@dataclass
class Plan:
    """What is to be measured, and what went wrong on the way."""

    workloads: dict[str, Workload]
    parts: list[str]
    peers: list[str]
    rounds: int
    seconds: float
    threads: tuple[int, ...]
    quick: bool = False
    check: bool = False
    skipped: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, only: list[str], peers: list[str], **settings: Any) -> Plan:
        """The plan for what was named, without the peers that cannot run here."""
        missing = {peer: PEERS[peer].missing() for peer in peers}
        return cls(
            {name: EVERY[name] for name in only if name in EVERY},
            [name for name in only if name not in EVERY],
            [peer for peer, why in missing.items() if why is None],
            skipped={peer: why for peer, why in missing.items() if why is not None},
            **settings,
        )

    def __str__(self) -> str:
        rounds = "1 round" if self.rounds == 1 else f"{self.rounds} rounds"
        return f"{rounds}, peers in turn, one process each, float32."

    @property
    def reference(self) -> str:
        """The peer whose time the others' are multiples of."""
        return "backstory-compile" if "backstory-compile" in self.peers else self.peers[0]


@dataclass
class Results:
    """What was found: times in µs by number of threads, first calls in seconds, memory in MiB."""

    times: dict[int, Figures] = field(default_factory=dict)
    cold: Figures = field(default_factory=dict)
    cached: Figures = field(default_factory=dict)
    first_peak: Figures = field(default_factory=dict)
    peak: Figures = field(default_factory=dict)


def caches(folder: str | Path) -> dict[str, str]:
    """Environment variables that keep every peer's caches in ``folder``, and every peer on the CPU."""
    places = {
        name: str(Path(folder) / name.lower())
        for name in (
            "XDG_CACHE_HOME",
            "BACKSTORY_CACHE",
            "NUMBA_CACHE_DIR",
            "TORCHINDUCTOR_CACHE_DIR",
            "JAX_COMPILATION_CACHE_DIR",
        )
    }
    return places | {
        "PYTENSOR_FLAGS": f"base_compiledir={Path(folder) / 'pytensor'}",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "JAX_PLATFORMS": "cpu",
        "DEV": "CPU",
    }


def measure(plan: Plan) -> Results:
    """Everything about the networks of the plan; peers that fail or disagree are noted in it."""
    results = Results()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for threads in plan.threads:
            for name in plan.workloads:
                _measure_network(plan, name, threads, caches(folder), results)
    return results


def _measure_network(
    plan: Plan, name: str, threads: int, environment: Mapping[str, str], results: Results
) -> None:
    workload, most = plan.workloads[name], max(plan.threads)
    failures: dict[str, str] = {}
    seconds = 0 if plan.check else plan.seconds
    rounds = 1 if plan.check else plan.rounds
    reports = steps.compare(workload, plan.peers, rounds, seconds, threads, environment, failures=failures)
    plan.failures += [f"{name}, {threads} threads: {PEERS[p].label}: {why}" for p, why in failures.items()]
    sound = {peer: found for peer, found in reports.items() if peer not in failures}
    if plan.check:
        return

    def figures(key: str, begin: int = 0) -> dict[str, list[float]]:
        return {peer: [one[key] for one in found[begin:]] for peer, found in sound.items()}

    results.times.setdefault(threads, {})[name] = figures("time")
    if threads == most:
        # The first round fills the caches.
        results.cached[name] = figures("first", 1)
        results.first_peak[name], results.peak[name] = figures("first_peak"), figures("peak")
        results.cold[name] = {
            peer: _cold(peer, workload, threads, min(plan.rounds, COLD_ROUNDS))
            for peer in sound
            if PEERS[peer].compiles and not plan.quick
        }


def _cold(peer: str, workload: Workload, threads: int, rounds: int) -> list[float]:
    """Seconds of the first call with every cache empty."""
    figures = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            command = steps.command(peer, workload, 0, threads)
            figures.append(steps.report(command, threads, caches(folder))["first"])
    return figures


def sections(plan: Plan) -> Iterator[str]:
    """The Markdown of the networks."""
    results = measure(plan)
    yield "\n".join(f"- {name}: {workload}" for name, workload in plan.workloads.items())
    if plan.check:
        wrong = "" if plan.failures else f": {', '.join(PEERS[peer].label for peer in plan.peers)}"
        yield f"{'Not all peers' if plan.failures else 'All peers'} agree{wrong}."
        return
    reference = PEERS[plan.reference].label
    for threads, times in results.times.items():
        yield f"Microseconds per step with {threads} thread(s), and multiples of {reference}:"
        yield _table(plan, times, plan.reference)
    if any(results.cold.values()):
        yield "Seconds to the first loss, caches empty (what a library imports on first use is counted):"
        yield _table(plan, results.cold)
    if plan.rounds > 1:
        yield "Seconds to the first loss, from the caches of an earlier process:"
        yield _table(plan, results.cached)
    yield "Peak memory up to the first loss, in MiB beyond what the imported library holds:"
    yield _table(plan, results.first_peak)
    yield "Peak memory of the steps after it, in MiB beyond what the imported library holds:"
    yield _table(plan, results.peak)


def _table(plan: Plan, figures: Figures, reference: str | None = None) -> str:
    def of(peer: str, name: str) -> str:
        found = figures.get(name, {})
        return cell(found[peer], found.get(reference or "")) if found.get(peer) else "–"

    measured = [peer for peer in plan.peers if any(figures.get(name, {}).get(peer) for name in figures)]
    return grid(
        "peer",
        list(plan.workloads),
        {PEERS[peer].label: [of(peer, name) for name in plan.workloads] for peer in measured},
    )
