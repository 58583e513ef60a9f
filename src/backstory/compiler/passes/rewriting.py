"""What passes are made of: a walk over a graph that replaces values, and questions about values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from backstory.compiler.graph import Graph, Output, Value

__all__ = ["Emit", "Rule", "constant", "is_scalar", "made", "reached", "rewritten", "splat"]

Emit = Callable[[Value], Value]
Rule = Callable[[Value, Emit], Value]


def made(
    like: Value, primitive: str, inputs: tuple[Any, ...], params: Mapping[str, Any] | None = None
) -> Value:
    """Another computation of what ``like`` is."""
    return Value(primitive, inputs, params or {}, like.shape, like.dtype, like.origin)


def constant(array: np.ndarray, like: Value) -> Value:
    """A constant that comes from where ``like`` comes from."""
    return Value("constant", (), {"array": array}, array.shape, array.dtype, like.origin)


def rewritten(graph: Graph, *rules: Rule) -> Graph:
    """The graph with every value replaced by what the rules give for it, one after the other, in order.

    ``rule(value, emit)`` sees inputs that are replaced already. It gives the value itself, an earlier one, or
    a new one; what that needs besides, it hands to ``emit`` before, and reads what comes back: these go
    through the rules behind it too. Where nothing is replaced it is the same graph.
    """
    replaced: dict[Value, Value] = {}
    values: list[Value] = []
    known: set[Value] = {x.value for x in graph.inputs}

    def through(old: Value, first: int) -> Value:
        value = old
        for i in range(first, len(rules)):
            value = rules[i](value, emits[i])
            if value in known:
                break
        else:
            known.add(value)
            values.append(value)
        assert value.shape == old.shape, f"{old!r} became {value!r}"
        assert value.dtype == old.dtype, f"{old!r} became {value!r}"
        return value

    emits: list[Emit] = [partial(through, first=i + 1) for i in range(len(rules))]
    for old in graph.values:
        value = old
        if replaced and not replaced.keys().isdisjoint(old.values):
            inputs = tuple([replaced.get(x, x) if isinstance(x, Value) else x for x in old.inputs])
            value = made(old, old.primitive, inputs, old.params)
        result = through(value, 0)
        if result is not old:
            replaced[old] = result
    if values == graph.values and replaced.keys().isdisjoint(x.value for x in graph.outputs):
        return graph
    outputs = [Output(replaced.get(x.value, x.value), x.into, x.label) for x in graph.outputs]
    return Graph(graph.inputs, graph.numbers, values, outputs)


def reached(graph: Graph) -> set[Value]:
    """The values that outputs and checks are computed from."""
    needed = {output.value for output in graph.outputs}
    for value in reversed(graph.values):
        if value in needed or value.primitive == "check":
            needed.add(value)
            needed.update(value.values)
    return needed


def is_scalar(x: Any, number: float) -> bool:
    """Whether ``x`` is this Python number, with its sign.

    >>> is_scalar(0.0, 0), is_scalar(-0.0, 0), is_scalar(True, 1)
    (True, False, False)
    """
    return (
        isinstance(x, (int, float))
        and not isinstance(x, bool)
        and x == number
        and math.copysign(1, x) == math.copysign(1, number)
    )


def splat(x: Any) -> Any:
    """The one Python scalar that all entries of a value are, or ``None``.

    >>> params = {"shape": (2, 3), "value": 1.0, "dtype": np.dtype("f4")}
    >>> ones = Value("full", (), params, (2, 3), np.dtype("f4"))
    >>> splat(Value("reshape", (ones,), {"shape": (6,)}, (6,), ones.dtype))
    1.0
    """
    if not isinstance(x, Value):
        return None
    while x.primitive in ("reshape", "permute_dims", "broadcast_to"):
        x = x.inputs[0]
    if x.primitive == "full" and not x.inputs:
        value = np.asarray(x.params["value"], x.dtype)
        return value.item() if value.ndim == 0 else None
    if x.primitive != "constant" or x.size == 0 or x.dtype.kind not in "fiub":
        return None
    flat = x.params["array"].reshape(-1)
    if x.size > 1 and flat[:1].tobytes() * x.size != flat.tobytes():
        return None
    return flat[0].item()
