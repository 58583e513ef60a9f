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
    "gates, every step": ("backstory.insight.record", "Recorder.gate"),
    "gradients' norms, every step": ("backstory.insight.record", "Recorder.before_step"),
    "changes' and weights' norms, loss": ("backstory.insight.record", "Recorder.after_step"),
    "two scans of the declared data": ("backstory.insight.attach", "scan"),
    "two snapshots (the copies)": ("backstory.insight.record", "Recorder.snapshot"),
    "waiting for the last commit": ("backstory.insight.store", "Writer.close"),
}


def bare() -> None:
    """The training alone, under the conditions of an experiment."""
    from backstory import demo
    from backstory.insight import unwatched
    from backstory.insight.experiment import conditions

    with conditions({"seed": demo.CONFIG["seed"], "threads": 1}):
        demo.train(dict(demo.CONFIG), unwatched)


def recorded() -> None:
    """The training as the demo records it."""
    from backstory import demo

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        start = time.perf_counter()
        demo.record(Path(folder) / "run")
        recorded.seconds = time.perf_counter() - start  # type: ignore[attr-defined]


def milliseconds(training: Callable[[], None]) -> list[float]:
    """The times of a few trainings in this process, after two that are not counted."""
    from backstory import demo

    demo.digits()
    times = []
    for i in range(REPEATS + 2):
        start = time.perf_counter()
        training()
        seconds = time.perf_counter() - start
        if i >= 2:
            times.append(1e3 * getattr(training, "seconds", seconds))
    return times


def shares() -> dict[str, float]:
    """Milliseconds per recorded training in each part of the recorder."""
    spent = dict.fromkeys(PARTS, 0.0)
    for part, (module, path) in PARTS.items():
        owner: Any = importlib.import_module(module) if module not in sys.modules else sys.modules[module]
        *outer, name = path.split(".")
        for step in outer:
            owner = getattr(owner, step)
        setattr(owner, name, _timed(getattr(owner, name), part, spent))
    milliseconds(recorded)
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


WORKERS: dict[str, Callable[[], Any]] = {
    "bare": lambda: statistics.median(milliseconds(bare)),
    "recorded": lambda: statistics.median(milliseconds(recorded)),
    "shares": shares,
}


def main() -> None:
    """Measure and print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--worker", choices=WORKERS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.worker:
        print(json.dumps(WORKERS[chosen.worker]()))
        return
    command = [sys.executable, __file__, "--worker"]
    times = in_turn({peer: [*command, peer] for peer in ("bare", "recorded")}, chosen.rounds, threads=1)
    print(f"{chosen.rounds} rounds, in turn, one process each\n")
    print(header("ms", "bare"))
    for peer in ("bare", "recorded"):
        print(row("the demo's training", peer, times[peer], times["bare"]))
    print("\n| share of the recording | ms |\n|---|--:|")
    for part, spent in report([*command, "shares"], threads=1).items():
        print(f"| {part} | {spent:.1f} |")


if __name__ == "__main__":
    main()
