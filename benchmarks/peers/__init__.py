"""The peers of the benchmarks: each trains the same network on the same batch, in its own library's way.

A peer's module is imported in the process that measures it and nowhere else.
"""

from peers.table import PEERS, Peer, present
from peers.training import Training

__all__ = ["PEERS", "Peer", "Training", "present"]
