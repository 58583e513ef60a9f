"""The table of peers: what each is called, what it needs, and where it lives."""

from __future__ import annotations

import importlib
import importlib.util
import shutil
from collections.abc import Iterable
from dataclasses import dataclass

from workloads import Workload

from peers.training import Training

__all__ = ["PEERS", "Peer", "present"]


@dataclass(frozen=True)
class Peer:
    """One way to train: ``start`` of ``peers.<module>`` called with the workload and ``options``.

    ``needs`` names the packages that must be installed, the library itself first, ``programs`` what must be
    on the path, and ``attribute`` what the library must have. A peer that ``compiles`` has a costly first
    call, and a ``slow`` one takes many seconds for it. A ``library`` is somebody else's: the goals are about
    those.
    """

    label: str
    module: str
    needs: tuple[str, ...]
    programs: tuple[str, ...] = ()
    attribute: str = ""
    options: tuple[str, ...] = ()
    compiles: bool = False
    slow: bool = False
    library: bool = False

    def missing(self) -> str | None:
        """What this peer lacks here, in words; None where it can run."""
        for package in self.needs:
            spec = importlib.util.find_spec(package)
            if spec is None or spec.origin is None:  # a folder of that name is not the package
                return f"{package} is not installed"
        for program in self.programs:
            if shutil.which(program) is None:
                return f"there is no {program}"
        if self.attribute and not hasattr(importlib.import_module(self.needs[0]), self.attribute):
            return f"{self.needs[0]} has no {self.attribute}"
        return None

    def load(self) -> None:
        """Import the library, and nothing that it imports only when it is used."""
        importlib.import_module(self.needs[0])

    def start(self, workload: Workload) -> Training:
        """A training of the workload's network, from its first weights."""
        return importlib.import_module(f"peers.{self.module}").start(workload, *self.options)


PEERS = {
    "backstory-compile": Peer(
        "backstory.compile",
        "dialect",
        ("backstory", "numba"),
        attribute="compile",
        options=("backstory", "compile"),
        compiles=True,
    ),
    "backstory": Peer("backstory", "dialect", ("backstory",), options=("backstory", "eager")),
    "backstory-watched": Peer(
        "backstory.compile, watched",
        "dialect",
        ("backstory", "numba"),
        attribute="compile",
        options=("backstory", "compile", "watched"),
        compiles=True,
    ),
    "torch": Peer("PyTorch", "dialect", ("torch",), options=("torch", "eager"), library=True),
    "torch-compile": Peer(
        "torch.compile",
        "dialect",
        ("torch",),
        programs=("g++",),
        options=("torch", "compile"),
        compiles=True,
        slow=True,
        library=True,
    ),
    "jax": Peer("JAX jit", "with_jax", ("jax",), compiles=True, library=True),
    "pytensor": Peer(
        "PyTensor Numba", "with_pytensor", ("pytensor", "numba"), compiles=True, slow=True, library=True
    ),
    "tinygrad": Peer(
        "tinygrad TinyJit",
        "with_tinygrad",
        ("tinygrad",),
        programs=("clang",),
        compiles=True,
        slow=True,
        library=True,
    ),
    "mygrad": Peer("MyGrad", "with_mygrad", ("mygrad",), library=True),
    "autograd": Peer("HIPS autograd", "with_autograd", ("autograd",), library=True),
    "numpy": Peer("NumPy by hand", "by_hand", ("numpy",)),
}


def present(peers: Iterable[str]) -> list[str]:
    """Those of ``peers`` that can run here."""
    return [peer for peer in peers if PEERS[peer].missing() is None]
