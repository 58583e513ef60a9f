"""The networks W1 to W5: a step's time, the first call cold and from caches, peak memory, for every peer."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import memory
import steps
from measure import cell, grid, in_turn
from peers import PEERS
from plan import Plan, caches

__all__ = ["Figures", "Results", "measure", "sections"]

FEW_ROUNDS = 3

Figures = dict[str, dict[str, list[float]]]
"""By network and peer: one figure per round."""


@dataclass
class Results:
    """What was found: times in µs by number of threads, first calls in seconds, memory in MiB.

    First calls and memory are those of the most threads. ``first_peak`` is the memory held up to the first
    loss, ``peak`` that of the steps after it.
    """

    times: dict[int, Figures] = field(default_factory=dict)
    cold: Figures = field(default_factory=dict)
    cached: Figures = field(default_factory=dict)
    first_peak: Figures = field(default_factory=dict)
    peak: Figures = field(default_factory=dict)


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
    failures: dict[str, str] = {}
    rounds, seconds = (1, 0.0) if plan.check else (plan.rounds, plan.seconds)
    workload = plan.workloads[name]
    found = steps.compare(workload, plan.peers, rounds, seconds, threads, environment, failures=failures)
    sound = {peer: reports for peer, reports in found.items() if peer not in failures}

    def figures(key: str, begin: int = 0) -> dict[str, list[float]]:
        return {peer: [one[key] for one in reports[begin:]] for peer, reports in sound.items()}

    if not plan.check:
        results.times.setdefault(threads, {})[name] = figures("time")
    if not plan.check and threads == plan.most_threads:
        # The first round fills the caches.
        results.cached[name] = figures("first", 1)
        results.first_peak[name] = figures("first_peak")
        if not plan.quick:
            few = min(plan.rounds, FEW_ROUNDS)
            results.peak[name] = memory.peaks(name, list(sound), few, threads, environment, failures)
            cold = _cold(plan, name, list(sound), few, failures)
            results.cold[name] = {peer: [one["first"] for one in reports] for peer, reports in cold.items()}
            # Later rounds load from the caches what the first compiled.
            results.first_peak[name] |= {
                peer: [one["first_peak"] for one in reports] for peer, reports in cold.items()
            }
    plan.note(f"{name}, {threads} thread(s)", failures)


def _cold(
    plan: Plan, name: str, peers: Sequence[str], rounds: int, failures: dict[str, str]
) -> dict[str, list[Any]]:
    """The reports of first calls with every cache empty, of the peers that compile."""
    found: dict[str, list[Any]] = {peer: [] for peer in peers if PEERS[peer].compiles}
    for _ in range(rounds):
        for peer, reports in found.items():
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                command = {peer: steps.command(peer, plan.workloads[name], 0, plan.most_threads)}
                one = in_turn(command, 1, plan.most_threads, caches(folder), failures)
            reports += one.get(peer, [])
    return found


def sections(plan: Plan, results: Results) -> Iterator[str]:
    """The Markdown of the networks."""
    yield "\n".join(f"- {name}: {workload}" for name, workload in plan.workloads.items())
    if plan.check:
        agree = "Not all peers agree" if plan.failures else "All peers agree"
        yield f"{agree}: {', '.join(PEERS[peer].label for peer in plan.peers)}."
        return
    reference = plan.peers[0]
    for threads, times in results.times.items():
        yield f"Microseconds per step with {threads} thread(s), and multiples of {PEERS[reference].label}:"
        yield _table(plan, times, reference)
    for title, figures in (
        (
            "Seconds to the first loss, caches empty, what is imported on first use in it",
            results.cold,
        ),
        ("Seconds to the first loss, with the caches of an earlier process", results.cached),
        ("MiB held at most up to the first loss, compiling included, beyond the library", results.first_peak),
        (
            "MiB held at most by the steps after it, beyond a process that trained a small one",
            results.peak,
        ),
    ):
        if any(found for by_peer in figures.values() for found in by_peer.values()):
            yield f"{title}:"
            yield _table(plan, figures)


def _table(plan: Plan, figures: Figures, reference: str | None = None) -> str:
    def of(peer: str, name: str) -> str:
        found = figures.get(name, {})
        return cell(found[peer], found.get(reference or "")) if found.get(peer) else "–"

    measured = [peer for peer in plan.peers if any(found.get(peer) for found in figures.values())]
    rows = {PEERS[peer].label: [of(peer, name) for name in plan.workloads] for peer in measured}
    return grid("peer", list(plan.workloads), rows)
