"""One training step in eager mode: backstory against PyTorch, and against NumPy by hand as the floor.

    python benchmarks/eager.py

Every peer runs in a fresh process, the peers take turns, and all start from the same weights and data;
the first losses must agree. Times are µs per step: forward, backward, optimizer.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time

from measure import header, in_turn, row
from peers import PEERS
from workloads import WORKLOADS

CHECKED = 5
CHUNKS = 15


def time_peer(peer: str, workload: str, seconds: float) -> dict[str, object]:
    """The first losses, and the median time of a step (in µs) over chunks that last ``seconds`` together."""
    step = PEERS[peer](WORKLOADS[workload])
    losses = [step().item() for _ in range(CHECKED)]
    warm_until = time.perf_counter() + seconds / 4
    steps = 0
    while time.perf_counter() < warm_until:
        step()
        steps += 1
    per_chunk = max(1, 4 * steps // CHUNKS)
    times = []
    for _ in range(CHUNKS):
        start = time.perf_counter()
        for _ in range(per_chunk):
            step()
        times.append((time.perf_counter() - start) / per_chunk * 1e6)
    return {"losses": losses, "time": statistics.median(times)}


def disagreement(losses: dict[str, list[float]]) -> str | None:
    """What differs if the peers' first losses differ by more than rounding, else None."""
    (reference, expected), *others = losses.items()
    for peer, found in others:
        if any(abs(a - b) > 1e-4 * max(1.0, abs(b)) for a, b in zip(found, expected, strict=True)):
            return f"the first losses differ: {reference} {expected}, {peer} {found}"
    return None


def compare(workload: str, peers: list[str], rounds: int, seconds: float, threads: int) -> None:
    """Measure one workload and print its rows."""
    worker = [sys.executable, __file__, "--workloads", workload, "--seconds", str(seconds)]
    reports = in_turn({peer: [*worker, "--worker", peer] for peer in peers}, rounds, threads)
    wrong = disagreement({peer: found[0]["losses"] for peer, found in reports.items()})
    if wrong is not None:
        sys.exit(f"{workload}: {wrong}")
    times = {peer: [one["time"] for one in found] for peer, found in reports.items()}
    for peer in peers:
        print(row(f"{workload}: {WORKLOADS[workload]}", peer, times[peer], times[peers[0]]), flush=True)


def main() -> None:
    """Read the command line; be one worker, or run all of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="how long a process measures")
    parser.add_argument("--threads", type=int, default=2, help="of BLAS and of PyTorch")
    parser.add_argument("--worker", choices=PEERS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.worker:
        print(json.dumps(time_peer(chosen.worker, chosen.workloads[0], chosen.seconds)))
        return
    print(f"{chosen.rounds} rounds, {chosen.threads} threads, peers in turn, one process each\n")
    print(header("µs", chosen.peers[0]))
    for workload in chosen.workloads:
        compare(workload, chosen.peers, chosen.rounds, chosen.seconds, chosen.threads)


if __name__ == "__main__":
    main()
