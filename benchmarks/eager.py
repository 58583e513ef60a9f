"""A training step, and a convolution, in eager mode: backstory against PyTorch, and NumPy by hand.

    python benchmarks/eager.py

Every peer runs in a fresh process, the peers take turns, and all start from the same weights and data; the
first losses and gradients must agree. Times are µs: per step forward, backward and optimizer, and for the
convolution forward and backward. NumPy by hand is the floor for a library on NumPy.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import steps
from measure import Failures, header, in_turn, keep_to, per_call, row
from peers import PEERS, present
from workloads import WORKLOADS

DEFAULT = ("backstory", "torch", "numpy")
CONVOLVING = ("backstory", "torch")
CONVOLUTION = "conv2d forward and backward, batch 64, 3 × 32 × 32 → 32 channels, 3 × 3"
TOLERANCE = 1e-4


def convolution(package: str) -> tuple[Callable[[], Any], Callable[[], list[float]]]:
    """A convolution with its backward pass; and what it gave: norms of output and of all three gradients."""
    library = importlib.import_module(package)
    random = np.random.default_rng(0)
    shapes = ((64, 3, 32, 32), (32, 3, 3, 3), (32,), (64, 32, 32, 32))
    image, weight, bias, g = (
        library.tensor(random.standard_normal(shape).astype(np.float32)) for shape in shapes
    )
    leaves = [leaf.requires_grad_() for leaf in (image, weight, bias)]

    def call() -> Any:
        for leaf in leaves:
            leaf.grad = None
        output = library.nn.functional.conv2d(image, weight, bias, padding=1)
        output.backward(g)
        return output

    def norms() -> list[float]:
        arrays = [call().detach(), *(leaf.grad for leaf in leaves)]
        return [float(np.linalg.norm(array.numpy().astype(np.float64))) for array in arrays]

    return call, norms


def time_convolution(package: str, seconds: float) -> dict[str, Any]:
    """What it gives, and its time in µs."""
    call, norms = convolution(package)
    return {"norms": norms(), "time": per_call(call, seconds)}


def compare_convolutions(peers: Sequence[str], rounds: int, seconds: float, threads: int) -> None:
    """Measure the convolution and print its rows."""
    worker = [sys.executable, __file__, "--seconds", str(seconds), "--threads", str(threads), "--worker"]
    reports = in_turn({peer: [*worker, peer] for peer in peers}, rounds, threads, what="conv2d")
    reference = reports[peers[0]][0]["norms"]
    for peer in peers:
        if not np.allclose(reports[peer][0]["norms"], reference, rtol=TOLERANCE):
            sys.exit(f"{CONVOLUTION}: {peer} and {peers[0]} computed different things")
    _print(CONVOLUTION, peers, reports)


def compare_steps(name: str, peers: Sequence[str], rounds: int, seconds: float, threads: int) -> None:
    """Measure one workload and print its rows."""
    failures = Failures()
    reports = steps.compare(WORKLOADS[name], peers, rounds, seconds, threads, failures=failures, what=name)
    for peer, why in failures.items():
        sys.exit(f"{name}: {PEERS[peer].label}: {why}")
    _print(f"{name}: {WORKLOADS[name]}", peers, reports)


def _print(what: str, peers: Sequence[str], reports: dict[str, list[Any]]) -> None:
    times = {peer: [one["time"] for one in reports[peer]] for peer in peers}
    for peer in peers:
        print(row(what, PEERS[peer].label, times[peer], times[peers[0]]), flush=True)


def main() -> None:
    """Read the command line; be one worker, or run all of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = [*WORKLOADS, "conv2d"]
    parser.add_argument("--workloads", nargs="+", choices=every, default=every)
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=present(DEFAULT))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="how long a process measures")
    parser.add_argument("--threads", type=int, default=2, help="of BLAS and of PyTorch")
    parser.add_argument("--worker", choices=CONVOLVING, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.worker:
        keep_to(chosen.threads)
        print(json.dumps(time_convolution(chosen.worker, chosen.seconds)))
        return
    print(f"{chosen.rounds} rounds, {chosen.threads} threads, peers in turn, one process each\n")
    print(header("µs", PEERS[chosen.peers[0]].label))
    settings = (chosen.rounds, chosen.seconds, chosen.threads)
    for name in chosen.workloads:
        if name in WORKLOADS:
            compare_steps(name, chosen.peers, *settings)
        elif convolving := [peer for peer in chosen.peers if peer in CONVOLVING]:
            compare_convolutions(convolving, *settings)


if __name__ == "__main__":
    main()
