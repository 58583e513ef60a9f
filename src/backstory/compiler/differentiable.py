"""Results of a compiled function that have a history: the call is one node, whose rule is a second program.

The rule is traced together with the function, on symbols for the cotangents, and built when it first runs. It
computes again what it needs of the forward pass, from the arrays and the random draws of the call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from backstory.autograd import grad
from backstory.compiler.graph import Graph, Input, Output, Value
from backstory.compiler.symbols import Symbol
from backstory.core import Core
from backstory.errors import GraphError
from backstory.func import tree
from backstory.graph import Node, context
from backstory.tensor import wrap

if TYPE_CHECKING:
    from backstory.compiler.recorded import Call
    from backstory.compiler.traced import Traced

__all__ = ["History", "Rule", "rule"]


class Rule(NamedTuple):
    """Gradients of results by what they were computed from: values that the graph has beside its own."""

    places: list[int]  # of the results that have a history, each once, among the leaves of the result
    sources: list[Any]  # the tensors from outside that they lead to
    cotangents: list[Input]
    gradients: list[Value | None]
    values: list[Value]


def rule(trace: Any, result: Any) -> Rule | None:
    """The rule of what a traced function returned; ``None`` if nothing of it has a history."""
    leaves = tree.flatten(result)[0]
    found = {id(x): i for i, x in enumerate(leaves) if isinstance(x, Core) and _live(trace, x)}
    if not found:
        return None
    places = list(found.values())
    roots = [leaves[i] for i in places]
    sources = _sources(roots)
    hooks = [(x, x._hooks) for x in sources]
    kept = [(x, x._grad) for x in roots]  # a gradient that is retained is no matter of the rule
    values = trace.graph.values
    mark = len(values)
    inputs = [Value("input", (), {}, x.shape, x.dtype) for x in roots]
    cotangents = [wrap(Symbol(value), 0) for value in inputs]
    for x, _ in hooks:  # they hear of the gradient where it arrives, once
        x._hooks = None
    try:
        found = grad(roots, sources, cotangents, allow_unused=True) if sources else ()
    finally:
        for x, own in hooks:
            x._hooks = own
        for x, own in kept:
            x._grad = own
    gradients = [None if g is None else g.array.value for g in found]
    own = values[mark:]
    del values[mark:]
    return Rule(places, sources, [Input(v, "argument", "cotangent") for v in inputs], gradients, own)


def _live(trace: Any, x: Any) -> bool:
    """Whether a backward walk could still start at ``x``."""
    if x.level or x.grad_fn is None or id(x) in trace.lifted:
        return False
    stack, seen = [x.grad_fn], set()
    while stack:
        node = stack.pop()
        if node.freed or node.order < trace.began:
            return False
        seen.add(node)
        stack += [edge for edge in node.edges if edge.__class__ is Node and edge not in seen]
    return True


def _sources(roots: Sequence[Any]) -> list[Any]:
    """The leaves that a graph leads to, each once."""
    found: dict[int, Any] = {}
    stack, seen = [x.grad_fn for x in roots], set()
    while stack:
        edge = stack.pop()
        if edge.__class__ is not Node:
            if edge is not None:
                found[id(edge)] = edge
        elif edge not in seen:
            seen.add(edge)
            stack += edge.edges
    return list(found.values())


class History:
    """The second program of a bound one, and the node that each call makes."""

    def __init__(self, traced: Traced) -> None:
        assert traced.rule is not None
        self._function, self._rule, self._graph = traced.function, traced.rule, traced.trace.graph
        self._places, self._found = traced.rule.places, [g is not None for g in traced.rule.gradients]
        self._program: Any = None

    @staticmethod
    def of(traced: Traced) -> History | None:
        """For a trace whose results have a history."""
        return None if traced.rule is None else History(traced)

    def bind(self, build: Callable[[Graph], Any], memory: Any, traced: Traced) -> None:
        """Say how programs are built, and where the arrays of a call are. What was traced is not kept."""
        from backstory.compiler.recorded import record

        self._record = record
        self._build, self._memory = build, memory
        self._lean = lean = _lean(self._graph, self._rule)
        self._needed = [self._graph.inputs.index(x) for x in lean.inputs if x not in self._rule.cotangents]
        changed = {id(output.into) for output in self._graph.outputs if output.into is not None}
        self._changed = [i for i in self._needed if id(self._graph.inputs[i]) in changed]
        trace = traced.trace
        self._read = self._read_of(traced)
        left = any(one.after is not one.before for one in trace.gradients.values())
        leaves = any(id(x) not in trace.lifted for x in self._rule.sources)
        self._pure = not (changed or left or leaves or trace.draws or trace.modes or trace.followers)
        del self._rule

    def sources(self, code: Callable[[Any], str]) -> str:
        """The code for the tensors that the results lead to."""
        return ", ".join(map(code, self._rule.sources))

    def before(self) -> dict[int, np.ndarray]:
        """Copies of what the coming run changes and the rule needs."""
        return {i: self._memory.held(i).copy() for i in self._changed}

    def attach(self, moving: list[Any], sources: list[Any], before: Any, args: Any, keywords: Any) -> None:
        """Give the results ``moving`` of a call the node that the call is."""
        memory = self._memory
        arrays = [before[i] if i in before else memory.held(i) for i in self._needed]
        call = (self, arrays, list(memory.program.numbers), (args, keywords))
        self._record(call, moving, self._saved(args, keywords), sources)

    def _read_of(self, traced: Traced) -> list[Any]:
        """The tensors whose memory the rule reads; of an argument its place."""
        own = {id(x): i for i, x in enumerate(traced.leaves)}
        needed = {id(self._graph.inputs[i]) for i in self._needed if i not in self._changed}
        found = []
        for one in traced.trace.lifted.values():
            captured = traced.trace.captured.get(id(one.array))
            if captured is not None and id(captured.input) in needed and captured.place[0] != "gradient":
                found.append(own.get(id(one.tensor), one.tensor))
        return found

    def _saved(self, args: Any, keywords: Any) -> list[Any]:
        """The tensors whose memory the rule reads: nobody may change it until then."""
        leaves = tree.flatten((args, keywords))[0]
        return [leaves[x] if x.__class__ is int else x for x in self._read]

    def pulled(self, call: Call, cotangents: Sequence[Any]) -> list[Any]:
        """The gradients of the sources of one call."""
        program, lean = self._built()
        program.set_numbers(*call.numbers)
        for i, array in enumerate(call.arrays):
            program.set_input(i, array)
        for i, g in enumerate(cotangents):
            program.set_input(len(call.arrays) + i, np.array(g.array, order="C"))
        fresh = [np.empty(output.value.shape, output.value.dtype) for output in lean.outputs]
        for j, array in enumerate(fresh):
            program.set_output(j, array)
        program.run()
        found = iter(fresh)
        return [wrap(next(found), 0) if is_there else None for is_there in self._found]

    def again(self, call: Call, sources: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
        """The gradients with a history of their own: the function is run step by step."""
        if not self._pure:
            raise GraphError(
                "a second derivative through a compiled function that draws, changes state or makes leaves",
                why="the function would have to run once more, with other draws and leaves",
                instead="both derivatives inside the compiled function",
            )
        args, keywords = call.arguments
        with_grad = context().levels[0].grad_enabled
        context().levels[0].grad_enabled = True
        try:
            leaves = tree.flatten(self._function(*args, **keywords))[0]
            roots = [leaves[i] for i in self._places]
        finally:
            context().levels[0].grad_enabled = with_grad
        return list(grad(roots, sources, cotangents, create_graph=with_grad, allow_unused=True))

    def _built(self) -> Any:
        if self._program is None:
            self._program = self._build(self._lean)
        return self._program, self._lean


def _lean(graph: Graph, rule: Rule) -> Graph:
    """The graph of a rule alone: its gradients, and what of the forward pass they need."""
    needed = {g for g in rule.gradients if g is not None}
    values = []
    for value in reversed([*graph.values, *rule.values]):
        if value in needed:
            values.append(value)
            needed.update(value.values)
    inputs = [x for x in graph.inputs if x.value in needed] + rule.cotangents
    outputs = [Output(g, None, "gradient") for g in rule.gradients if g is not None]
    return Graph(inputs, graph.numbers, values[::-1], outputs)
