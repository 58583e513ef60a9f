"""The traced graph: values in the order in which they were computed, and what comes in and goes out.

A :class:`Value` is an input, a constant, or what one primitive (:mod:`backstory.compiler.primitives`) makes
of other values and Python scalars. A graph changes nothing: what a step does to memory is said by its
outputs, each of which may name the input whose memory takes it at the end.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from backstory.compiler.primitives import evaluate

__all__ = ["Graph", "Input", "Number", "Origin", "Output", "Value", "verify"]

_numbers = itertools.count()


class Origin(NamedTuple):
    """Where a value comes from, for people: the operation of the table, its site or module, and the phase.

    ``phase`` is ``"forward"``, ``"backward"``, ``"update"`` or ``"record"``; ``line`` is the user's.
    """

    operation: str = ""
    path: str = ""
    phase: str = "forward"
    line: tuple[str, int] | None = None


_NOWHERE = Origin()


@dataclass(frozen=True, slots=True, eq=False)
class Number:
    """A Python number that is computed anew before every run, such as a learning rate: a weak scalar.

    ``place`` is its place among the numbers of the graph; ``kind`` is ``float``, ``int`` or ``bool``.
    """

    place: int
    kind: type
    label: str = ""

    def __repr__(self) -> str:
        return self.label or f"number{self.place}"


@dataclass(slots=True, eq=False)
class Value:
    """One array of the step: ``primitive`` of ``inputs``: values, numbers, Python scalars or ``None``.

    What is not computed is an ``"input"`` or a ``"constant"``, whose array is ``params["array"]``.
    ``values`` are the inputs that are arrays, ``size`` says how many entries there are.
    """

    primitive: str
    inputs: tuple[Any, ...]
    params: Mapping[str, Any]
    shape: tuple[int, ...]
    dtype: np.dtype
    origin: Origin = _NOWHERE
    order: int = field(default_factory=_numbers.__next__)
    values: tuple[Value, ...] = field(init=False)
    size: int = field(init=False)

    def __post_init__(self) -> None:
        values = tuple([x for x in self.inputs if isinstance(x, Value)])
        self.values = self.inputs if len(values) == len(self.inputs) else values
        self.size = math.prod(self.shape)

    def __repr__(self) -> str:
        shape = "×".join(map(str, self.shape))
        return f"<{self.primitive}#{self.order} {self.dtype}[{shape}]>"


@dataclass(slots=True, eq=False)
class Input:
    """An array that comes in. ``kind`` is ``"argument"``, ``"state"`` or ``"draw"``; ``label`` names it."""

    value: Value
    kind: str
    label: str = ""


@dataclass(slots=True, eq=False)
class Output:
    """An array that goes out: to its own memory or, when all is computed, to that of the input ``into``."""

    value: Value
    into: Input | None = None
    label: str = ""


@dataclass(slots=True, eq=False)
class Graph:
    """A whole step. ``values`` are all computed values and constants in order, inputs left out.

    Checks are among the values and are kept though nothing reads them.
    """

    inputs: list[Input]
    numbers: list[Number]
    values: list[Value]
    outputs: list[Output]

    def uses(self) -> dict[Value, list[Value]]:
        """For every value that is read, the values that read it, each once."""
        found: dict[Value, list[Value]] = {}
        for value in self.values:
            for x in dict.fromkeys(value.values):
                found.setdefault(x, []).append(value)
        return found


def verify(graph: Graph, infer: bool = False) -> None:
    """Assert that a graph is whole: values defined once and before their use, outputs fitting their memory.

    With ``infer`` every primitive is also run on arrays of ones to compare its shape and dtype.
    """
    known: set[Value] = {x.value for x in graph.inputs}
    assert len(known) == len(graph.inputs), "an input stands twice in the graph"
    for value in graph.values:
        assert value not in known, f"{value!r} is defined twice"
        assert value.primitive != "input", f"{value!r} is no input of the graph"
        for x in value.values:
            assert x in known, f"{value!r} reads {x!r} before it is defined"
        for x in value.inputs:
            if isinstance(x, Number):
                assert graph.numbers[x.place] is x, f"{value!r} reads a number that is not the graph's"
        if infer and value.primitive != "constant":
            shape, dtype = inferred(value.primitive, value.inputs, value.params)
            assert (shape, dtype) == (value.shape, value.dtype), f"{value!r} gives {dtype}{shape}"
        known.add(value)
    for output in graph.outputs:
        assert output.value in known, f"the output {output.value!r} is not defined"
        if output.into is not None:
            target = output.into.value
            assert output.into in graph.inputs, f"{target!r} is no input"
            assert output.value.shape == target.shape, f"{output.value!r} does not fit {target!r}"
            assert output.value.dtype == target.dtype, f"{output.value!r} does not fit {target!r}"


_SCALARS = {float: 1.0, int: 1, bool: True}


def inferred(
    primitive: str, inputs: Sequence[Any], params: Mapping[str, Any]
) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of what a primitive gives, found by running it on arrays of ones."""
    stand_ins = [_stand_in(x) for x in inputs]
    with np.errstate(all="ignore"):
        result = np.asarray(evaluate(primitive, stand_ins, params))
    return result.shape, result.dtype


def _stand_in(x: Any) -> Any:
    if isinstance(x, Value):
        return np.ones(x.shape, x.dtype)
    return _SCALARS[x.kind] if isinstance(x, Number) else x
