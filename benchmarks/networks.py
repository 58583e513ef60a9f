"""The networks W1 to W5: a step's time, the first call cold and from caches, and memory, for every peer."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import memory
import steps
from measure import Failures, cell, grid
from peers import PEERS
from plan import Plan, caches

__all__ = ["Figures", "Found", "measure", "sections"]

# Of peers that take many seconds to start: one with empty caches, one with filled ones.
SLOW_ROUNDS = 2

Figures = dict[str, list[float]]
"""By peer: one figure per round."""


@dataclass
class Found:
    """What was found about a network: times in µs by number of threads, first calls in s, memory in MiB.

    First calls and memory are those of the most threads. ``first`` is the most memory held up to the
    first loss, ``process`` that held in the steps after it, ``arrays`` the arrays alone in those.
    """

    times: dict[int, Figures] = field(default_factory=dict)
    cold: Figures = field(default_factory=dict)
    cached: Figures = field(default_factory=dict)
    first: Figures = field(default_factory=dict)
    process: Figures = field(default_factory=dict)
    arrays: Figures = field(default_factory=dict)

    @property
    def best(self) -> Figures:
        """The times with the most threads."""
        return self.times[max(self.times)] if self.times else {}


def measure(plan: Plan, name: str) -> Found:
    """Everything about one network; peers that fail or disagree are noted in the plan."""
    found = Found()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        environment = caches(folder)
        _measure_most(plan, name, environment, found)
        for threads in () if plan.check else plan.threads:
            if threads != plan.most_threads:
                sound = [peer for peer in _swift(plan.peers) if found.best.get(peer)]
                one = _compare(plan, name, sound, 1, threads, environment)
                found.times[threads] = {peer: [r["time"] for r in reports] for peer, reports in one.items()}
    return found


def _measure_most(plan: Plan, name: str, environment: Mapping[str, str], found: Found) -> None:
    """With the most threads. The first round begins with empty caches and fills them."""
    rounds, threads = 1 if plan.check else plan.rounds, plan.most_threads
    sound = _compare(plan, name, plan.peers, min(rounds, SLOW_ROUNDS), threads, environment)
    if plan.check:
        return
    swift = _swift(sound)
    more = _compare(plan, name, swift, rounds - SLOW_ROUNDS, threads, environment)
    sound = {
        peer: reports + more.get(peer, [])
        for peer, reports in sound.items()
        if peer in more or peer not in swift
    }
    found.times[threads] = {peer: [one["time"] for one in reports] for peer, reports in sound.items()}
    found.cached = {peer: [one["first"] for one in reports[1:]] for peer, reports in sound.items()}
    cold = {peer: reports[:1] for peer, reports in sound.items()}
    if not plan.quick:
        again = [peer for peer in _swift(sound) if PEERS[peer].compiles]
        for _ in range(plan.rounds - 1):
            for peer in again:
                with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as empty:
                    one = _compare(plan, name, [peer], 1, threads, caches(empty), seconds=0.0)
                cold[peer] = cold[peer] + one.get(peer, [])
    found.cold = {peer: [one["first"] for one in reports] for peer, reports in cold.items()}
    found.first = {peer: [one["first_peak"] for one in reports] for peer, reports in cold.items()}
    if plan.quick:
        return
    failures = Failures()
    # In the first of three rounds the kernels of the small step before are compiled, in that process.
    found.process = memory.peaks(name, _swift(sound), 3, threads, environment, failures)
    traced = [peer for peer in sound if peer in memory.TRACED]
    found.arrays = memory.peaks(name, traced, 1, threads, environment, failures, arrays=True)
    plan.note(f"{name}, memory", failures)


def _swift(peers: Iterable[str]) -> list[str]:
    """Those whose first call does not take many seconds."""
    return [peer for peer in peers if not PEERS[peer].slow]


def _compare(
    plan: Plan,
    name: str,
    peers: Sequence[str],
    rounds: int,
    threads: int,
    environment: Mapping[str, str],
    seconds: float | None = None,
) -> dict[str, list[dict[str, float]]]:
    """The reports of the peers that ran and agree; the others are noted."""
    failures = Failures()
    seconds = (0.0 if plan.check else plan.seconds) if seconds is None else seconds
    settings = (rounds, seconds, threads, environment)
    reports = steps.compare(plan.workloads[name], peers, *settings, failures=failures, what=name)
    plan.note(f"{name}, {threads} thread(s)", failures)
    return {peer: found for peer, found in reports.items() if peer not in failures}


def sections(plan: Plan, name: str, found: Found) -> Iterator[str]:
    """The Markdown of one network."""
    yield f"{name}: {plan.workloads[name]}"
    if plan.check:
        wrong = [failure for failure in plan.failures if failure.startswith(f"{name},")]
        agree = "Not all peers agree" if wrong else "All peers agree"
        yield f"{agree}: {', '.join(PEERS[peer].label for peer in plan.peers)}."
        return
    reference = next((peer for peer in plan.peers if found.best.get(peer)), "")
    yield f"Microseconds per step, and multiples of {PEERS[reference].label if reference else '–'}:"
    columns = {f"{threads} thread(s)": figures for threads, figures in found.times.items()}
    yield _table(plan, columns, reference)
    yield (
        "Seconds to the first loss with empty caches (what is imported on first use in it), and with those "
        "of an earlier process. The most MiB beyond the libraries: of the process up to the first loss, "
        "compiling in it; of the process in later steps; and of the arrays alone in later steps, parameters "
        "and the optimizer's state in it:"
    )
    first = {"cold (s)": found.cold, "cached (s)": found.cached, "first (MiB)": found.first}
    yield _table(plan, first | {"steps (MiB)": found.process, "arrays (MiB)": found.arrays})


def _table(plan: Plan, columns: Mapping[str, Figures], reference: str = "") -> str:
    def of(figures: Figures, peer: str) -> str:
        return cell(figures[peer], figures.get(reference)) if figures.get(peer) else "–"

    columns = {title: figures for title, figures in columns.items() if any(figures.values())}
    measured = [peer for peer in PEERS if any(figures.get(peer) for figures in columns.values())]
    rows = {PEERS[peer].label: [of(figures, peer) for figures in columns.values()] for peer in measured}
    return grid("peer", list(columns), rows)
