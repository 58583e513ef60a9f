"""What all benchmarks share: peers in turn, one fresh process each, medians, spreads, ratios, a table.

Two cores of a shared machine are noisy, and two thread pools in one process disturb each other. So
every peer runs in a process of its own, all peers run in turn within each round (A B C A B C …), and
what counts is the ratio of their medians.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["header", "in_turn", "report", "row"]

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def report(command: Sequence[str], threads: int) -> Any:
    """What ``command`` prints, read as JSON; it runs in a fresh process with ``threads`` threads."""
    environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(threads))
    # Else a source tree is compiled anew by each process, which no installed package is.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def in_turn(commands: Mapping[str, Sequence[str]], rounds: int, threads: int) -> dict[str, list[Any]]:
    """The reports of every command, one per round, the commands taking turns."""
    reports: dict[str, list[Any]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            reports[name].append(report(command, threads))
    return reports


def header(unit: str, reference: str) -> str:
    """The first two lines of a Markdown table of :func:`row`."""
    return f"| what | peer | median ({unit}) | lowest – highest | × {reference} |\n|---|---|--:|--:|--:|"


def row(what: str, peer: str, figures: Sequence[float], reference: Sequence[float]) -> str:
    """One line: the median, the spread over the rounds, and the median as a multiple of the reference's."""
    median = statistics.median(figures)
    ratio = median / statistics.median(reference)
    return f"| {what} | {peer} | {median:.1f} | {min(figures):.1f} – {max(figures):.1f} | {ratio:.2f} |"
