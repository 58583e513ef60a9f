"""The peak memory of a training step: backstory against PyTorch, and against NumPy by hand as the floor.

    python benchmarks/memory.py

Every peer runs in a fresh process. What counts is the most that the process holds while it takes a few
steps after its first, beyond what it held before the model was made: weights, data, gradients, the
optimizer's state, activations and temporaries. Figures are MiB, from the kernel's own high-water mark
(Linux).

With ``--arrays`` it is what arrays alone take, the same way for all libraries on NumPy: every allocation of
NumPy's is counted, a compiled step's arena too; weights and data that existed before are not. What compiling
leaves behind in the process is not in it.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tracemalloc
from collections.abc import Mapping, Sequence

import numpy as np
from measure import Failures, forget_peak, header, held, in_turn, row
from peers import PEERS, present
from workloads import TINY, WORKLOADS, Workload

__all__ = ["TRACED", "peaks"]

STEPS = 5
DEFAULT = ("backstory", "backstory-compile", "torch", "numpy")
TRACED = ("backstory-compile", "backstory", "mygrad", "autograd", "numpy")
LARGE = {
    "many samples": Workload((256, 1024, 1024, 1024, 10), 4096, "cross_entropy", "sgd", 1e-3),
    "many weights": Workload((1024, 2048, 2048, 2048, 10), 64, "cross_entropy", "adam", 1e-4),
    "deep": Workload((512, *(512,) * 20, 10), 2048, "cross_entropy", "sgd", 1e-3),
}
KNOWN = LARGE | WORKLOADS | TINY


def grow(peer: str, workload: Workload) -> float:
    """How many MiB a peer's process holds at most in a few steps, beyond the libraries."""
    # A small step first: libraries load code and start threads when they are first used.
    small = PEERS[peer].start(WORKLOADS["W2"])
    small.number(small.step())
    workload.data(), workload.weights()
    forget_peak()
    before = held("VmRSS")
    training = PEERS[peer].start(workload)
    # What compiling itself needs is no part of a step.
    training.number(training.step())
    forget_peak()
    for _ in range(STEPS):
        training.number(training.step())
    found = held("VmHWM") - before
    small.close(), training.close()
    return found


def allocated(peer: str, workload: Workload) -> float:
    """How many MiB of NumPy's arrays exist at most in a few steps after the first two."""
    small = PEERS[peer].start(WORKLOADS["W2"])
    small.number(small.step())
    workload.data(), workload.weights()
    gc.collect()
    tracemalloc.start()
    training = PEERS[peer].start(workload)
    for _ in range(2):
        training.number(training.step())
    gc.collect()
    arrays = tracemalloc.DomainFilter(inclusive=True, domain=np.lib.tracemalloc_domain)
    held_before = sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([arrays]).traces)
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(STEPS):
        training.number(training.step())
    _, peak = tracemalloc.get_traced_memory()
    small.close(), training.close()
    return (held_before + peak - before) / 2**20


def peaks(
    name: str,
    peers: Sequence[str],
    rounds: int,
    threads: int,
    environment: Mapping[str, str] | None = None,
    failures: Failures | None = None,
    arrays: bool = False,
) -> dict[str, list[float]]:
    """MiB of every peer on one workload, one figure per round: of the process, or of ``arrays`` alone."""
    worker = [sys.executable, __file__, "--workloads", name, *["--arrays"] * arrays, "--worker"]
    commands = {peer: [*worker, peer] for peer in peers}
    what = f"{name}, memory{' of arrays' if arrays else ''}"
    return in_turn(commands, rounds, threads, environment, failures, what)


def main() -> None:
    """Read the command line; be one worker, or run all of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workloads", nargs="+", choices=KNOWN, default=list(LARGE))
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=present(DEFAULT))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="of BLAS and of PyTorch")
    parser.add_argument("--arrays", action="store_true", help="what arrays take, instead of the process")
    parser.add_argument("--worker", choices=PEERS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.worker:
        figure = allocated if chosen.arrays else grow
        print(json.dumps(figure(chosen.worker, KNOWN[chosen.workloads[0]])))
        return
    print(f"{chosen.rounds} rounds, {chosen.threads} threads, peers in turn, one process each\n")
    if chosen.arrays:
        chosen.peers = [peer for peer in chosen.peers if peer in TRACED]
    reference = "torch" if "torch" in chosen.peers else chosen.peers[0]
    print(header("MiB", PEERS[reference].label))
    for workload in chosen.workloads:
        found = peaks(workload, chosen.peers, chosen.rounds, chosen.threads, arrays=chosen.arrays)
        for peer in chosen.peers:
            what, label = f"{workload}: {KNOWN[workload]}", PEERS[peer].label
            print(row(what, label, found[peer], found[reference]), flush=True)


if __name__ == "__main__":
    main()
