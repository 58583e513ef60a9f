"""How the cost of a training step grows with width, depth and batch, and after how many steps compiling pays.

python benchmarks/growth.py
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence

import steps
from measure import Failures, cell, grid, in_turn, keep_to
from peers import PEERS, present
from plan import Plan, caches, numbers
from workloads import WORKLOADS, Workload

__all__ = ["sections"]

DEFAULT = ("backstory-compile", "backstory", "torch", "jax", "numpy")
COUNTS = (1, 10, 100, 1000, 10000)
BASE = Workload((64, 128, 128, 10), 64, "cross_entropy", "adam", 1e-3)


def wide(width: int) -> Workload:
    """Two hidden layers of ``width``."""
    return dataclasses.replace(BASE, sizes=(64, width, width, 10))


def deep(depth: int) -> Workload:
    """``depth`` hidden layers of 128."""
    return dataclasses.replace(BASE, sizes=(64, *(128,) * depth, 10))


def batched(batch: int) -> Workload:
    """A batch of so many samples."""
    return dataclasses.replace(BASE, batch=batch)


AXES = {
    "width": ("two hidden layers of so many units", wide, (16, 64, 256, 1024)),
    "depth": ("so many hidden layers of 128", deep, (1, 4, 16, 64)),
    "batch": ("a batch of so many samples", batched, (1, 16, 256, 4096)),
}


def totals(peer: str, counts: Sequence[int]) -> list[float]:
    """Seconds from the imported library to the end of each number of steps of W2, the first call included."""
    PEERS[peer].load()
    workload = WORKLOADS["W2"]
    workload.data(), workload.weights()
    start, done, found = time.perf_counter(), 0, []
    training = PEERS[peer].start(workload)
    for count in counts:
        for _ in range(count - done):
            loss = training.step()
        training.number(loss)
        done = count
        found.append(time.perf_counter() - start)
    return found


def sections(plan: Plan) -> Iterator[str]:
    """The Markdown of how cost grows."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield from _axes(plan, caches(folder))
    counts = COUNTS[:3] if plan.quick else COUNTS
    first = "the first call with empty caches in it"
    yield f"Seconds for so many steps of W2, {first}, {plan.most_threads} thread(s):"
    yield grid("peer", [f"{count:,}" for count in counts], _totals(plan, counts))


def _axes(plan: Plan, environment: Mapping[str, str]) -> Iterator[str]:
    peers, threads = plan.among(DEFAULT), plan.most_threads
    for axis, (what, make, values) in list(AXES.items())[: 1 if plan.quick else None]:
        chosen = values[:2] if plan.quick else values
        times: dict[int, dict[str, list[float]]] = {
            value: _times(plan, axis, make(value), environment) for value in chosen
        }
        rows = {}
        for peer in peers:
            found = [(times[value].get(peer), next(iter(times[value].values()), None)) for value in chosen]
            rows[PEERS[peer].label] = [cell(one, reference) if one else "–" for one, reference in found]
        yield f"Growth with {axis}: {what}, otherwise {BASE}; µs per step, {threads} thread(s):"
        yield grid("peer", [f"{value:,}" for value in chosen], rows)


def _times(
    plan: Plan, axis: str, workload: Workload, environment: Mapping[str, str]
) -> dict[str, list[float]]:
    failures = Failures()
    settings = (plan.few, plan.seconds / 2, plan.most_threads, environment)
    found = steps.compare(
        workload, plan.among(DEFAULT), *settings, failures=failures, what=f"growth with {axis}"
    )
    plan.note(f"{axis}, {workload}", failures)
    return {peer: [one["time"] for one in found[peer]] for peer in found if peer not in failures}


def _totals(plan: Plan, counts: Sequence[int]) -> dict[str, list[str]]:
    threads, failures = plan.most_threads, Failures()
    worker = [sys.executable, __file__, "--threads", str(threads)]
    worker += ["--counts", ",".join(map(str, counts)), "--worker"]
    found: dict[str, list[list[float]]] = {peer: [] for peer in plan.among(DEFAULT)}
    for _ in range(plan.few):
        for peer, rounds in found.items():
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                one = in_turn({peer: [*worker, peer]}, 1, threads, caches(folder), failures, "steps")
            rounds += one.get(peer, [])
    plan.note("steps", failures)
    return {
        PEERS[peer].label: [cell(column) for column in zip(*rounds, strict=True)]
        for peer, rounds in found.items()
        if rounds
    }


def main() -> None:
    """Be one worker, or print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.5, help="how long a process measures")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--counts", type=numbers, help=argparse.SUPPRESS)
    parser.add_argument("--worker", choices=PEERS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.worker:
        keep_to(chosen.threads)
        print(json.dumps(totals(chosen.worker, chosen.counts)))
        return
    plan = Plan.of(
        [], present(DEFAULT), rounds=chosen.rounds, seconds=chosen.seconds, threads=(chosen.threads,)
    )
    plan.print(sections(plan))
    plan.end()


if __name__ == "__main__":
    main()
