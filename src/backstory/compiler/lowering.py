"""Lowering: what a program adds to a simplified graph before it is fused."""

from __future__ import annotations

import numpy as np

from backstory.compiler.graph import Graph, Output, Value
from backstory.compiler.kinds import kind
from backstory.compiler.layout import Layouts

__all__ = ["lowered"]

_BOOL = np.dtype(bool)


def lowered(graph: Graph) -> Graph:
    """The graph with tests of its checks computed, and with every output a value of its own."""
    return _with_own_outputs(_with_tests(graph))


def _with_tests(graph: Graph) -> Graph:
    """Every check reads, beside its input, whether that lies in the range everywhere."""
    if not any(value.primitive == "check" for value in graph.values):
        return graph
    values: list[Value] = []

    def add(like: Value, primitive: str, *inputs: object, shape: tuple[int, ...], **params: object) -> Value:
        values.append(Value(primitive, inputs, params, shape, _BOOL, like.origin))
        return values[-1]

    for value in graph.values:
        if value.primitive == "check":
            x, low, high = value.inputs[0], value.params["low"], value.params["high"]
            above = add(value, "less_equal", low, x, shape=x.shape)
            below = add(value, "less_equal", x, high, shape=x.shape)
            kept = add(value, "bitwise_and", above, below, shape=x.shape)
            if x.shape:
                kept = add(value, "all", kept, shape=(), axis=tuple(range(len(x.shape))), keepdims=False)
            value = Value("check", (x, kept), value.params, value.shape, value.dtype, value.origin)
        values.append(value)
    return Graph(graph.inputs, graph.numbers, values, graph.outputs)


def _with_own_outputs(graph: Graph) -> Graph:
    """The graph with every output a value of its own: inputs, constants and views go out as copies."""
    layouts = Layouts(graph)
    taken: set[Value] = set()
    values, outputs = list(graph.values), []
    for output in graph.outputs:
        value = output.value
        root = layouts[value].root if layouts.is_whole(value) else value
        if root is not value and root not in taken and kind(root, layouts) != "leaf":
            taken.add(root)  # a view of all its entries in order: the same memory
        elif kind(value, layouts) in ("leaf", "view", "other view") or value in taken:
            value = Value("copy", (value,), {}, value.shape, value.dtype, value.origin)
            values.append(value)
        taken.add(value)
        outputs.append(Output(value, output.into, output.label))
    return Graph(graph.inputs, graph.numbers, values, outputs)
