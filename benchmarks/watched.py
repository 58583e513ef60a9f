"""What a recorder inside a compiled step costs: the same step bare and watched, every step recorded.

    python benchmarks/watched.py

Both trainings run in one process, turn by turn, since the difference is small against what differs between
two processes. A turn is as long as two commits of the recorder's writer, which therefore are in the figures;
what is left of a turn is committed before the next one begins. The best turns are compared: what else the
machine does only adds to them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from measure import Failures, grid, in_turn, keep_to, number
from peers import PEERS
from plan import Plan
from workloads import WORKLOADS

__all__ = ["BARE", "WATCHED", "sections", "times"]

BARE, WATCHED = "backstory-compile", "backstory-watched"
NETWORKS = ("W1", "W2", "W3", "W4")
TURNS = 6
LONGEST = 2.0  # seconds of one turn: two commits of the writer are in it


def turns(name: str, seconds: float) -> dict[str, list[float]]:
    """Microseconds per step in every turn of both trainings."""
    trainings = {peer: PEERS[peer].start(WORKLOADS[name]) for peer in (BARE, WATCHED)}
    calls = {}
    for peer, training in trainings.items():
        for _ in range(20):
            training.number(training.step())
        calls[peer] = max(1, int(seconds * 1e6 / (1 + _turn(training.step, 20))))
    found: dict[str, list[float]] = {peer: [] for peer in trainings}
    for _ in range(TURNS):
        for peer, training in trainings.items():
            found[peer].append(_turn(training.step, calls[peer]))
            training.settle()
    for training in trainings.values():
        training.close()
    return found


def _turn(step: Callable[[], Any], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        step()
    return (time.perf_counter() - start) / calls * 1e6


def times(plan: Plan, names: Sequence[str] = NETWORKS) -> dict[str, list[dict[str, list[float]]]]:
    """For every network the turns of every process, with the most threads of the plan."""
    found: dict[str, list[dict[str, list[float]]]] = {}
    for name in names:
        failures = Failures()
        seconds = str(min(LONGEST, 5 * plan.seconds))
        command = [sys.executable, __file__, "--threads", str(plan.most_threads), "--seconds", seconds]
        what = f"{name}, watched"
        both = in_turn(
            {what: [*command, "--worker", name]}, plan.few, plan.most_threads, None, failures, "watching"
        )
        plan.note(what, failures)
        if both.get(what):
            found[name] = both[what]
    return found


def best(processes: Sequence[dict[str, list[float]]], peer: str) -> float:
    """The median over the processes of a peer's best turn."""
    return statistics.median(min(one[peer]) for one in processes)


def cost(processes: Sequence[dict[str, list[float]]]) -> float:
    """By how many percent a watched step takes longer: the median over the processes."""
    return statistics.median(100 * (min(one[WATCHED]) / min(one[BARE]) - 1) for one in processes)


def sections(plan: Plan, found: dict[str, list[dict[str, list[float]]]]) -> Iterator[str]:
    """The Markdown table of what was measured."""
    yield f"Microseconds per step, every step recorded, {plan.most_threads} thread(s):"
    rows = {
        f"{name}: {WORKLOADS[name]}": [
            number(best(processes, BARE)),
            number(best(processes, WATCHED)),
            f"{cost(processes):+.1f} %",
        ]
        for name, processes in found.items()
    }
    yield grid("network", ["bare", "watched", "cost"], rows)


def main() -> None:
    """Be one worker, or print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--worker", choices=NETWORKS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.worker:
        keep_to(chosen.threads)
        print(json.dumps(turns(chosen.worker, chosen.seconds)))
        return
    plan = Plan.of([], [], rounds=chosen.rounds, seconds=chosen.seconds, threads=(chosen.threads,))
    plan.print(sections(plan, times(plan, chosen.only)))
    plan.end()


if __name__ == "__main__":
    main()
