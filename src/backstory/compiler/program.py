"""The native program: a graph as kernels, products and host steps.

A design (:mod:`~.design`) decides, and an assembly (:mod:`~.assembly`) makes tables of it. A run calls these,
and in Python only what no kernel computes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from backstory.compiler.assembly import Assembly
from backstory.compiler.design import Design
from backstory.compiler.driver import driver
from backstory.compiler.graph import Graph
from backstory.compiler.log import Log
from backstory.compiler.replay import Program
from backstory.compiler.table import Table
from backstory.compiler.workers import threads

if TYPE_CHECKING:
    from backstory.compiler.account import Account

__all__ = ["Native", "build"]


def build(graph: Graph) -> Program:
    """The graph as native code. Without Numba it raises :class:`~backstory.errors.MissingExtraError`."""
    return Native(graph)


class Native(Program):
    """A graph as native code; see :class:`~backstory.compiler.replay.Program` for its use.

    An input that is written to shares no memory with any other array that is set.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.numbers = [None] * len(graph.numbers)
        self._threads = threads()
        assembly = Assembly(self.design, self.numbers)
        self.early = assembly.design.plan.early
        self._storage, self._slots = assembly.storage, assembly.slots
        self._tables = [step for step in assembly.steps if isinstance(step, Table)]
        self.steps = [step.run if isinstance(step, Table) else step for step in assembly.steps]

    @property
    def design(self) -> Design:
        """What was decided. It is no part of the program, which needs less memory than its design."""
        return Design(self.graph, self._threads)

    @property
    def source(self) -> str:
        """All units, and the Python text of all kernels, to be read."""
        return self.design.source

    def explain(self) -> Account:
        """What was fused, what runs on the host and why, the work and the memory."""
        return self.design.explain()

    def set_input(self, place: int, array: np.ndarray) -> None:
        self._storage.put("input", place, array)

    def set_output(self, place: int, array: np.ndarray) -> None:
        self._storage.put("output", place, array)

    def keep(self, log: Log, clock: np.ndarray) -> None:
        if not self._tables or self.steps[-1] is not self._tables[-1].run:
            self._tables.append(Table())
            self.steps.append(self._tables[-1].run)
        self._tables[-1].add(driver().note, log.words(clock))

    def set_numbers(self, *numbers: Any) -> None:
        self.numbers[:] = numbers
        self._slots.fill(numbers)
