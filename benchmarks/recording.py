"""What recording costs: the demo's training bare and recorded, and where the difference goes.

    python benchmarks/recording.py

Bare and recorded trainings take turns, one fresh process each, with one BLAS thread as in the demo. A
recorded training makes its folder, records every step, scans the declared data before and after, takes
two snapshots and has everything committed when it ends. The shares come from a third process in which
the recorder's functions are timed.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measure import header, in_turn, report, row

REPEATS = 7

# What is timed for the shares; a name's time includes no other name's but where it says so.
PARTS = {
    "seed, source hash, thread pools": ("backstory.insight.experiment", "_describe"),
    "gates, every eighth step": ("backstory.insight.statistics", "Statistics.gate"),
    "gradients' norms, every eighth step": ("backstory.insight.statistics", "Statistics.before_step"),
    "changes' and weights' norms; the loss of every step": (
        "backstory.insight.record",
        "Recorder.after_step",
    ),
    "two scans of the declared data": ("backstory.insight.own", "scan"),
    "two snapshots (the copies)": ("backstory.insight.record", "Recorder.snapshot"),
    "waiting for the last commit": ("backstory.insight.store", "Writer.close"),
}


def bare(epochs: int) -> float:
    """Seconds of the training alone, under the conditions of an experiment."""
    from backstory import demo
    from backstory.insight import unwatched
    from backstory.insight.experiment import conditions

    start = time.perf_counter()
    with conditions({"seed": demo.CONFIG["seed"], "threads": 1}):
        demo.train({**demo.CONFIG, "epochs": epochs}, unwatched)
    return time.perf_counter() - start


def recorded(epochs: int) -> float:
    """Seconds of the training as the demo records it."""
    from backstory import demo
    from backstory.insight import experiment

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        start = time.perf_counter()
        experiment(demo.train, {**demo.CONFIG, "epochs": epochs}, Path(folder) / "run")
        return time.perf_counter() - start


def milliseconds(training: Callable[[int], float], epochs: int) -> float:
    """The median of a few trainings in this process, after two that are not counted."""
    from backstory import demo

    demo.digits()
    return 1e3 * statistics.median([training(epochs) for _ in range(REPEATS + 2)][2:])


def shares() -> dict[str, float]:
    """Milliseconds per recorded training of 10 epochs in each part of the recorder."""
    spent = dict.fromkeys(PARTS, 0.0)
    for part, (module, path) in PARTS.items():
        owner: Any = importlib.import_module(module)
        *outer, name = path.split(".")
        for step in outer:
            owner = getattr(owner, step)
        setattr(owner, name, _timed(getattr(owner, name), part, spent))
    milliseconds(recorded, 10)
    return {part: 1e3 * seconds / (REPEATS + 2) for part, seconds in spent.items()}


def _timed(function: Callable[..., Any], part: str, spent: dict[str, float]) -> Callable[..., Any]:
    @functools.wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            spent[part] += time.perf_counter() - start

    return timed


TRAININGS = {"bare": bare, "recorded": recorded}


def main() -> None:
    """Measure and print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--worker", choices=[*TRAININGS, "shares"], help=argparse.SUPPRESS)
    parser.add_argument("--epochs", type=int, default=10, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.worker:
        known = chosen.worker in TRAININGS
        print(json.dumps(milliseconds(TRAININGS[chosen.worker], chosen.epochs) if known else shares()))
        return
    command = [sys.executable, __file__, "--worker"]
    print(f"{chosen.rounds} rounds, in turn, one process each\n")
    print(header("ms", "bare"))
    for epochs in (10, 50):
        commands = {peer: [*command, peer, "--epochs", str(epochs)] for peer in TRAININGS}
        times = in_turn(commands, chosen.rounds, threads=1)
        for peer in TRAININGS:
            print(row(f"the demo's training, {epochs} epochs", peer, times[peer], times["bare"]))
    print("\n| share of the recording of 10 epochs | ms |\n|---|--:|")
    for part, spent in report([*command, "shares"], threads=1).items():
        print(f"| {part} | {spent:.1f} |")


if __name__ == "__main__":
    main()
