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
from pathlib import Path

from measure import header, in_turn, row
from peers import PEERS
from workloads import WORKLOADS, Workload

STEPS = 5
LARGE = {
    "many samples": Workload((256, 1024, 1024, 1024, 10), 4096, "cross_entropy", "sgd", 1e-3),
    "many weights": Workload((1024, 2048, 2048, 2048, 10), 64, "cross_entropy", "adam", 1e-4),
    "deep": Workload((512, *(512,) * 20, 10), 2048, "cross_entropy", "sgd", 1e-3),
}


def held(field: str) -> float:
    """MiB of memory that the process holds (``VmRSS``), or the most that it ever held (``VmHWM``)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    sys.exit(f"/proc/self/status has no {field}: this benchmark needs Linux")


def grow(peer: str, workload: str) -> float:
    """How many MiB a peer's process holds at most in its first steps, beyond the libraries."""
    # A small step first: libraries load code and start threads when they are first used.
    PEERS[peer](WORKLOADS["W2"])().item()
    before = held("VmRSS")
    step = PEERS[peer](LARGE[workload])
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    for _ in range(STEPS):
        step()
    return held("VmHWM") - before


def main() -> None:
    """Read the command line; be one worker, or run all of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workloads", nargs="+", choices=LARGE, default=list(LARGE))
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="of BLAS and of PyTorch")
    parser.add_argument("--worker", choices=PEERS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.worker:
        print(json.dumps(grow(chosen.worker, chosen.workloads[0])))
        return
    print(f"{chosen.rounds} rounds, {chosen.threads} threads, peers in turn, one process each\n")
    reference = "PyTorch" if "PyTorch" in chosen.peers else chosen.peers[0]
    print(header("MiB", reference))
    for workload in chosen.workloads:
        worker = [sys.executable, __file__, "--workloads", workload]
        found = in_turn(
            {peer: [*worker, "--worker", peer] for peer in chosen.peers}, chosen.rounds, chosen.threads
        )
        for peer in chosen.peers:
            print(row(f"{workload}: {LARGE[workload]}", peer, found[peer], found[reference]), flush=True)


if __name__ == "__main__":
    main()
