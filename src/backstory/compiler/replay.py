"""The reference: a graph run in NumPy, value by value. What is native must give the same."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from backstory.compiler.graph import Graph, Number, Value
from backstory.compiler.log import Log
from backstory.compiler.primitives import evaluate, may_fail

__all__ = ["Deoptimized", "Failed", "Program", "Replay", "computed"]


class Deoptimized(Exception):
    """What the program took for granted does not hold for these arguments, though they are no error."""


class Failed(Exception):
    """The step cannot be done. Nothing has changed yet, so that the eager step can fail in its own way."""


class Program(ABC):
    """A graph that can be run. Whoever runs it sets what its inputs and outputs are.

    ``numbers`` are the graph's, as they were set last. Arrays are C-contiguous and have shape and dtype of
    their values. An output that goes into an input has no array of its own. ``early`` are outputs
    that are written while the step may still fail. ``steps`` are what a run calls, one after the other.
    """

    early: frozenset[int] = frozenset()

    graph: Graph
    numbers: list[Any]
    steps: list[Callable[[], None]]

    @abstractmethod
    def set_input(self, place: int, array: np.ndarray) -> None:
        """Read input ``place`` from this array from now on, and write there what goes into it."""

    @abstractmethod
    def set_output(self, place: int, array: np.ndarray) -> None:
        """Write output ``place`` to this array from now on."""

    @abstractmethod
    def keep(self, log: Log, clock: np.ndarray) -> None:
        """At the end of every run count a step, and append the record of ``log``, which outputs go to."""

    def set_numbers(self, *numbers: Any) -> None:
        """Run with these numbers from now on."""
        self.numbers[:] = numbers

    def run(self) -> None:
        """Run once. What may fail for some numbers raises :class:`Failed`; a check :class:`Deoptimized` too.

        Then no input has been written to, and no output that is not ``early``.
        """
        for step in self.steps:
            step()


def computed(value: Value, inputs: list[Any]) -> Any:
    """A value of a graph in NumPy."""
    try:
        return evaluate(value.primitive, inputs, value.params)
    except (ValueError, IndexError) as error:
        if may_fail(value):
            raise Failed from error
        raise


class Replay(Program):
    """A graph run in NumPy. ``seen`` hears of every computed value and its array."""

    def __init__(self, graph: Graph, seen: Callable[[Value, np.ndarray], None] | None = None) -> None:
        self.graph, self.seen = graph, seen
        self.numbers = [None] * len(graph.numbers)
        self.steps = [self._run]
        self._inputs: list[Any] = [None] * len(graph.inputs)
        self._outputs: list[Any] = [None] * len(graph.outputs)
        self._logs: list[tuple[Log, np.ndarray]] = []

    def set_input(self, place: int, array: np.ndarray) -> None:
        self._inputs[place] = array

    def set_output(self, place: int, array: np.ndarray) -> None:
        self._outputs[place] = array

    def keep(self, log: Log, clock: np.ndarray) -> None:
        self._logs.append((log, clock))

    def _run(self) -> None:
        arrays: dict[Value, Any] = {
            x.value: array for x, array in zip(self.graph.inputs, self._inputs, strict=True)
        }
        with np.errstate(all="ignore"):
            for value in self.graph.values:
                if value.primitive == "constant":
                    arrays[value] = value.params["array"]
                    continue
                inputs = [self._entry(x, arrays) for x in value.inputs]
                arrays[value] = np.asarray(computed(value, inputs))
                if self.seen is not None:
                    self.seen(value, arrays[value])
        # Only now, since what goes out may be a view of what comes in.
        results = [np.array(arrays[output.value]) for output in self.graph.outputs]
        targets = dict(zip(self.graph.inputs, self._inputs, strict=True))
        for output, own, result in zip(self.graph.outputs, self._outputs, results, strict=True):
            np.copyto(own if output.into is None else targets[output.into], result)
        for log, clock in self._logs:
            log.append(clock)

    def _entry(self, x: Any, arrays: dict[Value, Any]) -> Any:
        if isinstance(x, Value):
            return arrays[x]
        return self.numbers[x.place] if isinstance(x, Number) else x
