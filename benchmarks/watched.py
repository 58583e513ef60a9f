"""What a recorder inside a compiled step costs: the same step bare and watched, every step recorded.

    python benchmarks/watched.py

Both trainings run in one process, turn by turn, since the difference is small against what differs between
two processes. Turns are short and there are many, and the best are compared: what else the machine does only
adds to them. Once a second the recorder's writer converts and commits what was recorded, in a thread of its
own: the time that this takes of a core, which may be another one, is counted by the system and stands beside.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from measure import Failures, grid, in_turn, keep_to, number
from peers import PEERS
from plan import Plan
from workloads import WORKLOADS

__all__ = ["MOST", "cost", "sections", "times"]

BARE, WATCHED, WRITER = "backstory-compile", "backstory-watched", "writer"
MOST = {"W1": 10.0, "W2": 3.0, "W3": 3.0, "W4": 3.0}  # percent
WRITER_NAME = "backstory-writer"
TURN = 0.002  # seconds


def measured(name: str, seconds: float) -> dict[str, float]:
    """Microseconds per step of the best turn of both trainings, and what the writer took per step."""
    trainings = {peer: PEERS[peer].start(WORKLOADS[name]) for peer in (BARE, WATCHED)}
    calls = {}
    for peer, training in trainings.items():
        for _ in range(40):  # both programs of the watched step, and those of its first steps, are compiled
            training.number(training.step())
        calls[peer] = max(1, int(TURN * 1e6 / _turn(training.step, 8))) // 8 * 8 or 8
    [writer] = [thread for thread in threading.enumerate() if thread.name == WRITER_NAME]
    clock = time.pthread_getcpuclockid(writer.ident or 0)
    trainings[WATCHED].settle()
    turns, began = 0, time.clock_gettime(clock)
    best = dict.fromkeys(trainings, math.inf)
    end = time.perf_counter() + seconds
    while turns < 10 or time.perf_counter() < end:
        turns += 1
        for peer, training in trainings.items():
            best[peer] = min(best[peer], _turn(training.step, calls[peer]))
    trainings[WATCHED].settle()
    written = (time.clock_gettime(clock) - began) / (turns * calls[WATCHED]) * 1e6
    for training in trainings.values():
        training.close()
    return best | {WRITER: written}


def _turn(step: Callable[[], Any], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        step()
    return (time.perf_counter() - start) / calls * 1e6


def times(plan: Plan, names: Sequence[str] = tuple(MOST)) -> dict[str, list[dict[str, float]]]:
    """For every network what each process has measured, with the most threads of the plan."""
    found: dict[str, list[dict[str, float]]] = {}
    for name in names:
        failures, what = Failures(), f"{name}, watched"
        command = [sys.executable, __file__, "--threads", str(plan.most_threads)]
        command += ["--seconds", str(10 * plan.seconds), "--worker", name]
        one = in_turn({what: command}, plan.rounds, plan.most_threads, None, failures, "watching")
        plan.note(what, failures)
        if one.get(what):
            found[name] = one[what]
    return found


def cost(processes: Sequence[dict[str, float]]) -> float:
    """By how many percent a watched step takes longer: the median over the processes."""
    return statistics.median(100 * (one[WATCHED] / one[BARE] - 1) for one in processes)


def sections(plan: Plan, found: dict[str, list[dict[str, float]]]) -> Iterator[str]:
    """The Markdown table of what was measured."""
    yield f"Microseconds per step, every step recorded, {plan.most_threads} thread(s):"
    rows = {}
    for name, processes in found.items():
        medians = {key: statistics.median(one[key] for one in processes) for key in processes[0]}
        cells = [number(medians[BARE]), number(medians[WATCHED]), f"{cost(processes):+.1f} %"]
        written = f"{number(medians[WRITER])} ({100 * medians[WRITER] / medians[BARE]:.1f} %)"
        rows[f"{name}: {WORKLOADS[name]}"] = [*cells, written]
    yield grid("network", ["bare", "watched", "cost", "writer's thread"], rows)


def main() -> None:
    """Be one worker, or print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=MOST, default=tuple(MOST))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--worker", choices=MOST, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.worker:
        keep_to(chosen.threads)
        print(json.dumps(measured(chosen.worker, chosen.seconds)))
        return
    plan = Plan.of([], [], rounds=chosen.rounds, seconds=chosen.seconds, threads=(chosen.threads,))
    plan.print(sections(plan, times(plan, chosen.only)))
    plan.end()


if __name__ == "__main__":
    main()
