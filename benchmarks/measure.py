"""What all benchmarks share: peers in turn, one fresh process each, medians, spreads, ratios, tables.

Two cores of a shared machine are noisy, and two thread pools in one process disturb each other. So
every peer runs in a process of its own, all peers run in turn within each round (A B C A B C …), and
what counts is the ratio of their medians.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = [
    "Failures",
    "called",
    "cell",
    "forget_peak",
    "grid",
    "header",
    "held",
    "in_turn",
    "keep_to",
    "machine",
    "per_call",
    "progress",
    "ratio",
    "report",
    "row",
]

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
CHUNKS = 15
MOST_SECONDS = 240
BEGUN = time.monotonic()
LOAD = os.getloadavg()[0]


class Failures(dict[str, str]):
    """What went wrong, by the name of a command; ``late`` names those that were ended since they hung."""

    def __init__(self, told: Mapping[str, str] | None = None) -> None:
        super().__init__(told or {})
        self.late: set[str] = set()


def progress(text: str) -> None:
    """One line to the error stream, with the time since the beginning."""
    minutes, seconds = divmod(int(time.monotonic() - BEGUN), 60)
    print(f"[{minutes:2}:{seconds:02}] {text}", file=sys.stderr, flush=True)


def report(command: Sequence[str], threads: int, environment: Mapping[str, str] | None = None) -> Any:
    """What ``command`` prints last, read as JSON; it runs in a fresh process with ``threads`` threads.

    Nothing of it is left behind, whatever it started; what it says of errors is told if it fails.
    """
    variables = os.environ | dict.fromkeys(THREAD_VARIABLES, str(threads)) | dict(environment or {})
    # Else a source tree is compiled anew by each process, which no installed package is.
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    # Files, since a pipe stays open for as long as anything that the command started lives.
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen(command, env=variables, stdout=out, stderr=told, start_new_session=True)
        try:
            code = process.wait(MOST_SECONDS)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        out.seek(0), told.seek(0)
        if code:
            errors = told.read()
            sys.stderr.write(errors)
            raise subprocess.CalledProcessError(code, command, stderr=errors)
        return json.loads(out.read().splitlines()[-1])


def in_turn(
    commands: Mapping[str, Sequence[str]],
    rounds: int,
    threads: int,
    environment: Mapping[str, str] | None = None,
    failures: Failures | None = None,
    what: str = "",
) -> dict[str, list[Any]]:
    """The reports of every command, one per round, the commands taking turns.

    A command that fails ends the run; where ``failures`` is given, it is noted there and takes no more turns.
    """
    reports: dict[str, list[Any]] = {name: [] for name in commands}
    for turn in range(rounds):
        for name, command in commands.items():
            if failures is not None and name in failures:
                continue
            start = time.monotonic()
            try:
                reports[name].append(report(command, threads, environment))
                ended = f"{time.monotonic() - start:.1f} s"
            except (subprocess.SubprocessError, ValueError, IndexError) as error:
                if failures is None:
                    raise
                if isinstance(error, subprocess.TimeoutExpired):
                    failures.late.add(name)
                failures[name] = ended = _in_words(error)
                reports.pop(name)
            progress(f"{what + ', ' if what else ''}round {turn + 1} of {rounds}: {name}: {ended}")
    return reports


def _in_words(error: Exception) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return f"ended after {error.timeout:.0f} s without a result"
    if isinstance(error, subprocess.CalledProcessError):
        last = (error.stderr or "").strip().splitlines()[-1:]
        return ": ".join([f"exit status {error.returncode}", *last])
    return f"{type(error).__name__}: {error}"


def called() -> str:
    """The command that this process was started with."""
    return "python " + shlex.join(["benchmarks/" + Path(sys.argv[0]).name, *sys.argv[1:]])


def keep_to(threads: int) -> None:
    """Keep this process to as many cores as it may use threads: not every pool reads the variables."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def per_call(
    call: Callable[[], Any], seconds: float, finish: Callable[[Any], Any] = lambda result: None
) -> float:
    """The median time of a call in µs, over chunks of calls that last ``seconds`` together.

    ``finish`` waits for the last call of a chunk, for libraries that return before they are done.
    """
    warm_until = time.perf_counter() + seconds / 4
    calls = 0
    while calls == 0 or time.perf_counter() < warm_until:
        finish(call())
        calls += 1
    per_chunk = max(1, 4 * calls // CHUNKS)
    times: list[float] = []
    end = time.perf_counter() + 2 * seconds
    # A call that lasts long is not repeated as often.
    while len(times) < CHUNKS and (len(times) < 3 or time.perf_counter() < end):
        start = time.perf_counter()
        for _ in range(per_chunk):
            result = call()
        finish(result)
        times.append((time.perf_counter() - start) / per_chunk * 1e6)
    return statistics.median(times)


def held(field: str) -> float:
    """MiB of memory that the process holds (``VmRSS``), or the most that it ever held (``VmHWM``)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    sys.exit(f"/proc/self/status has no {field}: this benchmark needs Linux")


def forget_peak() -> None:
    """Give back what is free, and let the high-water mark of memory start anew."""
    gc.collect()
    # Else freed memory stays with the process, and what is taken from it later seems to cost nothing.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def ratio(figures: Sequence[float], reference: Sequence[float]) -> float:
    """The median as a multiple of the reference's median."""
    return statistics.median(figures) / statistics.median(reference)


def header(unit: str, reference: str) -> str:
    """The first two lines of a Markdown table of :func:`row`."""
    return f"| what | peer | median ({unit}) | lowest – highest | × {reference} |\n|---|---|--:|--:|--:|"


def row(what: str, peer: str, figures: Sequence[float], reference: Sequence[float]) -> str:
    """One line: the median, the spread over the rounds, and the median as a multiple of the reference's."""
    spread = f"{min(figures):.1f} – {max(figures):.1f}"
    return (
        f"| {what} | {peer} | {statistics.median(figures):.1f} | {spread} | {ratio(figures, reference):.2f} |"
    )


def cell(figures: Sequence[float], reference: Sequence[float] | None = None) -> str:
    """One cell: the median, the spread over the rounds, and the ratio to the reference where there is one.

    >>> cell([10, 12, 11], [5, 5, 6])
    '11.0 (10.0–12.0) 2.20 ×'
    >>> cell([1.25])
    '1.25'
    """
    text = number(statistics.median(figures))
    if len(figures) > 1:
        text += f" ({number(min(figures))}–{number(max(figures))})"
    return text if reference is None else f"{text} {ratio(figures, reference):.2f} ×"


def number(figure: float) -> str:
    """A figure with as many decimals as mean something.

    >>> number(0.314), number(31.4), number(3141.6), number(31415926)
    ('0.31', '31.4', '3,142', '31,415,926')
    """
    return (
        f"{figure:.2f}" if abs(figure) < 10 else f"{figure:.1f}" if abs(figure) < 1000 else f"{figure:,.0f}"
    )


def grid(corner: str, columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    """A Markdown table with one column per item of ``columns`` and one line per item of ``rows``."""
    lines = [f"| {corner} | {' | '.join(columns)} |", "|---|" + "--:|" * len(columns)]
    lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()]
    return "\n".join(lines)


def machine() -> str:
    """What the figures depend on: the processor, its cores, and what else ran in the minute before."""
    facts = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
    cores = len(os.sched_getaffinity(0))
    name = facts.get("model name", "unknown processor")
    vectors = next((v for v in ("avx512f", "avx2", "avx") if v in facts.get("flags", "").split()), "no avx")
    return f"{name}, {cores} cores, {vectors.upper()}, load {LOAD:.1f} before the beginning"
