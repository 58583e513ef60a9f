"""The time of ``import backstory`` against ``import numpy`` and ``import torch``.

    python benchmarks/import_time.py

Every import runs in a fresh process, the peers take turns; the interpreter's own start is not counted.
"""

from __future__ import annotations

import argparse
import sys

from measure import header, in_turn, row

PEERS = ("numpy", "backstory", "torch")
TIMED_IMPORT = "import time; t = time.perf_counter(); import {}; print((time.perf_counter() - t) * 1e3)"


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", nargs="+", default=list(PEERS))
    parser.add_argument("--rounds", type=int, default=15)
    chosen = parser.parse_args()
    commands = {peer: [sys.executable, "-c", TIMED_IMPORT.format(peer)] for peer in chosen.peers}
    in_turn(commands, rounds=1, threads=2)  # writes the bytecode that installing would write
    times = in_turn(commands, chosen.rounds, threads=2)
    print(f"{chosen.rounds} rounds, peers in turn, one process each\n")
    print(header("ms", chosen.peers[0]))
    for peer in chosen.peers:
        print(row(f"`import {peer}`", peer, times[peer], times[chosen.peers[0]]))


if __name__ == "__main__":
    main()
