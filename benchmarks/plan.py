"""What a run of ``compiled.py`` measures, and where the peers keep their caches."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from measure import Failures
from peers import PEERS
from workloads import TINY, WORKLOADS, Workload

__all__ = ["NETWORKS", "Plan", "caches", "names", "numbers"]

NETWORKS = WORKLOADS | TINY


@dataclass
class Plan:
    """What is to be measured, and what went wrong on the way."""

    workloads: dict[str, Workload]
    parts: list[str]
    peers: list[str]
    rounds: int
    seconds: float
    threads: tuple[int, ...]
    quick: bool = False
    check: bool = False
    skipped: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, only: list[str], peers: list[str], **settings: Any) -> Plan:
        """The plan for what was named, without the peers that cannot run here."""
        missing = {peer: PEERS[peer].missing() for peer in peers}
        return cls(
            {name: NETWORKS[name] for name in only if name in NETWORKS},
            [name for name in only if name not in NETWORKS],
            [peer for peer, why in missing.items() if why is None],
            skipped={peer: why for peer, why in missing.items() if why is not None},
            **settings,
        )

    def __str__(self) -> str:
        rounds = "1 round" if self.rounds == 1 or self.check else f"{self.rounds} rounds"
        return f"{rounds}, peers in turn, one process each, float32."

    @property
    def most_threads(self) -> int:
        """What is measured with one number of threads only is measured with this one."""
        return max(self.threads)

    def among(self, names: tuple[str, ...]) -> list[str]:
        """The peers of the plan that are in ``names``, in that order."""
        return [peer for peer in names if peer in self.peers]

    def print(self, sections: Iterable[str]) -> list[str]:
        """Print every section as soon as it is there, and return them all."""
        printed = []
        for section in sections:
            print(f"{section}\n", flush=True)
            printed.append(section)
        return printed

    def end(self) -> None:
        """End the process as failed if anything went wrong."""
        if self.failures:
            sys.exit("\n".join(self.failures))

    @property
    def few(self) -> int:
        """Rounds of what takes many processes and is about orders of magnitude."""
        return max(1, self.rounds // 2)

    def note(self, what: str, failures: Failures) -> None:
        """Keep what went wrong, to be told at the end; peers that hung are left out from here on."""
        self.peers = [peer for peer in self.peers if peer not in failures.late]
        for peer, why in failures.items():
            label = PEERS[peer].label if peer in PEERS else peer
            self.failures.append(f"{what}: {label}: {why}")


def caches(folder: str | Path) -> dict[str, str]:
    """Environment variables that keep every peer's caches in ``folder``, and every peer on the CPU."""
    names = (
        "XDG_CACHE_HOME",
        "BACKSTORY_CACHE",
        "NUMBA_CACHE_DIR",
        "TORCHINDUCTOR_CACHE_DIR",
        "JAX_COMPILATION_CACHE_DIR",
    )
    return {name: str(Path(folder) / name.lower()) for name in names} | {
        "PYTENSOR_FLAGS": f"base_compiledir={Path(folder) / 'pytensor'}",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "JAX_PLATFORMS": "cpu",
        "DEV": "CPU",
    }


def names(text: str) -> list[str]:
    """``a,b`` as a list."""
    return [name for name in text.split(",") if name]


def numbers(text: str) -> list[int]:
    """``1,10`` as a list."""
    return [int(number) for number in text.split(",")]
