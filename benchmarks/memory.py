"""The peak memory of a training step: backstory against PyTorch, and against NumPy by hand as the floor.

    python benchmarks/memory.py

Every peer runs in a fresh process. What counts is the most that the process holds while it takes its first
steps, beyond what it held before model and data were made: weights, data, gradients, the optimizer's state,
activations and temporaries. Figures are MiB, from the kernel's own high-water mark (Linux).
"""

from __future__ import annotations

import argparse
import json
import sys

from measure import forget_peak, header, held, in_turn, row
from peers import PEERS, present
from workloads import WORKLOADS, Workload

STEPS = 5
DEFAULT = ("backstory", "backstory-compile", "torch", "numpy")
LARGE = {
    "many samples": Workload((256, 1024, 1024, 1024, 10), 4096, "cross_entropy", "sgd", 1e-3),
    "many weights": Workload((1024, 2048, 2048, 2048, 10), 64, "cross_entropy", "adam", 1e-4),
    "deep": Workload((512, *(512,) * 20, 10), 2048, "cross_entropy", "sgd", 1e-3),
}


def grow(peer: str, workload: str) -> float:
    """How many MiB a peer's process holds at most in its first steps, beyond the libraries."""
    # A small step first: libraries load code and start threads when they are first used.
    small = PEERS[peer].start(WORKLOADS["W2"])
    small.number(small.step())
    LARGE[workload].data(), LARGE[workload].weights()
    forget_peak()
    before = held("VmRSS")
    training = PEERS[peer].start(LARGE[workload])
    forget_peak()
    for _ in range(STEPS):
        training.number(training.step())
    return held("VmHWM") - before


def main() -> None:
    """Read the command line; be one worker, or run all of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workloads", nargs="+", choices=LARGE, default=list(LARGE))
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=present(DEFAULT))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="of BLAS and of PyTorch")
    parser.add_argument("--worker", choices=PEERS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.worker:
        print(json.dumps(grow(chosen.worker, chosen.workloads[0])))
        return
    print(f"{chosen.rounds} rounds, {chosen.threads} threads, peers in turn, one process each\n")
    reference = "torch" if "torch" in chosen.peers else chosen.peers[0]
    print(header("MiB", PEERS[reference].label))
    for workload in chosen.workloads:
        worker = [sys.executable, __file__, "--workloads", workload]
        found = in_turn(
            {peer: [*worker, "--worker", peer] for peer in chosen.peers}, chosen.rounds, chosen.threads
        )
        for peer in chosen.peers:
            what, label = f"{workload}: {LARGE[workload]}", PEERS[peer].label
            print(row(what, label, found[peer], found[reference]), flush=True)


if __name__ == "__main__":
    main()
