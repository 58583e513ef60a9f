"""The memory of a bound program: the arrays that it reads and writes in each call, and who holds them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from backstory.arrays import default_generator, eager
from backstory.compiler.graph import Graph
from backstory.compiler.replay import Program
from backstory.tensor import wrap

__all__ = ["Memory"]


class Memory:
    """``arrays`` are the inputs as they were set last, ``tensors`` the outputs that have memory of their own.

    No array that is written to may share memory with another: :meth:`bind` refuses those that do.
    """

    def __init__(self, program: Program, graph: Graph, written: set[int]) -> None:
        self.program, self._graph, self._written = program, graph, written
        self.arrays: list[Any] = [None] * len(graph.inputs)
        self.copies: dict[int, tuple[Any, Any]] = {}
        self._roots: list[Any] = [None] * len(graph.inputs)
        self._held: list[Any] = [None] * len(graph.inputs)
        self._written_roots: set[int] = set()
        self.tensors: list[Any] = [None] * len(graph.outputs)
        self.counts: list[tuple[int, int]] = [(0, 0)] * len(graph.outputs)
        for j in range(len(graph.outputs)):
            self.renew(j)

    # Inputs

    def bind(self, place: int, array: Any) -> bool:
        """Read input ``place`` from ``array``; false if it does not fit the program."""
        value = self._graph.inputs[place].value
        if array is None or array.shape != value.shape or array.dtype != value.dtype:
            return False
        written = place in self._written
        root = _root(array)
        if (written or id(root) in self._written_roots) and self.overlapping(place, array, root) is not None:
            return False
        if written and not array.flags.writeable:
            return False
        self.copies.pop(place, None)
        self.arrays[place], self._held[place], self._roots[place] = array, array, root
        if written:
            self._written_roots = {id(self._roots[i]) for i in self._written}
        if not (array.flags.c_contiguous and array.flags.aligned):
            own = np.array(array, order="C")
            self.copies[place] = (array, own)
            self.arrays[place] = None  # to be copied anew in the next call
            array = own
        self.program.set_input(place, array)
        return True

    def overlapping(self, place: int, array: np.ndarray, root: Any) -> int | None:
        """Another input in the same memory, where one of the two is written to."""
        for other, known in enumerate(self._roots):
            written = place in self._written or other in self._written
            if known is root and other != place and written and np.shares_memory(array, self._held[other]):
                return other
        return None

    def draw(self, place: int, generator: Any, draw: Callable[[Any], Any]) -> None:
        """Fill an input with random numbers, as eager mode would draw them."""
        array = np.ascontiguousarray(eager.draw(generator, draw)).reshape(
            self._graph.inputs[place].value.shape
        )
        self._held[place] = array
        self.program.set_input(place, array)

    def streams(self, generators: Sequence[Any]) -> list[tuple[Any, Any]]:
        """The random streams that a call draws from (``None`` is the thread's own), and where they are."""
        own = [generator or default_generator() for generator in generators]
        return [(generator, generator.get_state()) for generator in own]

    def held(self, place: int) -> np.ndarray:
        """What input ``place`` reads in this call."""
        copied = self.copies.get(place)
        return self._held[place] if copied is None else copied[1]

    def copy_back(self) -> None:
        """What was written to copies of arrays that do not lie in order, into the arrays themselves."""
        for place, (array, own) in self.copies.items():
            if place in self._written:
                np.copyto(array, own)

    # Outputs

    def lend(self, j: int, array: np.ndarray) -> None:
        """Output ``j`` goes to memory of somebody else's."""
        self.tensors[j] = None
        self.program.set_output(j, array)

    def renew(self, j: int) -> None:
        """New memory for output ``j``, since somebody holds the old; none for what goes into an input."""
        output = self._graph.outputs[j]
        if output.into is None:
            self.tensors[j] = wrap(np.empty(output.value.shape, output.value.dtype), 0)
            self.program.set_output(j, self.tensors[j].array)
            self.counts[j] = _count(self.tensors, j)

    def spare(self, j: int, owner: Any) -> bool:
        """Whether nobody but ``owner`` holds output ``j``, as its gradient; else it gets new memory."""
        x, (held, array_held) = self.tensors[j], self.counts[j]
        if sys.getrefcount(x) == held + (owner._grad is x) and sys.getrefcount(x.array) == array_held:
            return True
        self.renew(j)
        return False

    def handed(self, j: int) -> Any:
        """Output ``j`` for the caller to keep."""
        x = self.tensors[j]
        self.renew(j)
        return x


def _count(tensors: list[Any], j: int) -> tuple[int, int]:
    """How many references there are where nobody but a program holds the tensor and its array."""
    x = tensors[j]
    return sys.getrefcount(x), sys.getrefcount(x.array)


def _root(array: np.ndarray) -> Any:
    """Whose memory it is."""
    base = array
    while isinstance(base, np.ndarray) and base.base is not None:
        base = base.base
    return base
