"""The reverse walk: every node turns its output's cotangent into its inputs' cotangents.

Nodes are visited from the newest to the oldest, which is a topological order because a node is
always made after its inputs. The walk is a loop over a heap, so depth is no limit. A plain walk runs
the vjp rules on what a level holds (arrays at level 0); with ``create_graph``, and where a cotangent
belongs to a higher level than the graph, it runs the same rules on tensors.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from backstory.arrays import namespace
from backstory.autograd.hooks import arrive_at_leaf, arrive_at_node, replaced, seen
from backstory.errors import BackstoryError, GraphError, VersionError
from backstory.graph import Level, Node, context
from backstory.history import place_of
from backstory.ops import unbroadcast
from backstory.tensor import Tensor, wrap

__all__ = ["Route", "fitted", "route_to", "walk"]

Visit = Callable[[Node, Any], None]
Leaves = dict[Tensor, tuple[Any, bool]]


class Route(NamedTuple):
    """The part of a graph that leads to certain tensors: all places on the way, and those passed through."""

    places: frozenset[Any]
    through: frozenset[Node]


def route_to(roots: Sequence[Tensor], wanted: Sequence[Any]) -> Route:
    """The nodes between ``roots`` and the places ``wanted`` (nodes and leaves), found without recursion."""
    nodes: dict[Node, None] = {}
    stack = [root.grad_fn for root in roots if root.grad_fn is not None]
    while stack:
        node = stack.pop()
        if node in nodes:
            continue
        nodes[node] = None
        stack += [edge for edge in node.edges if edge.__class__ is Node and edge not in nodes]
    places = set(wanted)
    through = set()
    for node in sorted(nodes, key=lambda node: node.order):
        if any(edge in places for edge in node.edges if edge is not None):
            through.add(node)
            places.add(node)
    return Route(frozenset(places), frozenset(through))


def walk(
    roots: Sequence[Tensor],
    upstream: Sequence[Tensor],
    retain: bool,
    create_graph: bool,
    visit: Visit | None = None,
    route: Route | None = None,
    level: Level | None = None,
) -> Leaves:
    """The cotangent of every leaf below ``roots``, each with whether its memory is surely nobody else's.

    ``visit`` hears of each node and its output's cotangent; ``route`` leaves out what leads elsewhere.
    ``level`` names the roots' level where it may have ended. NumPy's warnings are off.
    """
    ctx = context()
    number = roots[0].level
    level = ctx.level(number, "backward()") if level is None else level
    step = _Walk(retain, create_graph, max([g.level for g in upstream]) > number, visit, route)
    before = level.grad_enabled
    # Hooks and custom functions are recorded exactly when the gradient is.
    level.grad_enabled = create_graph
    try:
        if level in ctx.levels:
            return ctx.quiet.copy().run(step.run, roots, upstream)
        # The transform has ended, and its pullback is called now.
        with ctx.inside(level):
            return ctx.quiet.copy().run(step.run, roots, upstream)
    finally:
        level.grad_enabled = before


@dataclass(slots=True)
class _Walk:
    """How one walk is done; ``lifted`` if a cotangent is of a higher level than the graph."""

    retain: bool
    create_graph: bool
    lifted: bool
    visit: Visit | None
    route: Route | None

    def run(self, roots: Sequence[Tensor], upstream: Sequence[Tensor]) -> Leaves:
        pending: dict[Node, Any] = {}
        leaves: Leaves = {}
        heap: list[tuple[int, Node]] = []
        value: Any = None
        tensors = self.create_graph or self.lifted
        for root, g in zip(roots, upstream, strict=True):
            value = g if tensors or g.level < root.level else g.array
            _arrive(root.grad_fn or root, value, False, pending, leaves, heap)
        xp = namespace(value)  # every cotangent of a walk lives in one namespace
        visit, route, retain = self.visit, self.route, self.retain
        places = None if route is None else route.places
        slow, trace = context().anomaly is not None, context().trace
        while heap:
            node = heapq.heappop(heap)[1]
            if trace is not None:
                trace.walks(node)
            g = pending.pop(node)
            extra = node.extra
            if extra is not None:
                g = arrive_at_node(extra, node, g, self.create_graph)
            if visit is not None:
                visit(node, g)
            if route is not None and node not in route.through:
                continue
            if slow or extra is not None:
                for edge, part in self.told(node, xp, g):
                    _arrive(edge, part, False, pending, leaves, heap)
            else:
                ans, inputs, residuals = self.values(node)
                op, params, fresh = node.op, node.params, node.op.fresh
                for i, edge in enumerate(node.edges):
                    if edge is None or (places is not None and edge not in places):
                        continue
                    shape = edge.shape
                    part = op.vjp(xp, i, g, ans, inputs, shape, params, residuals)
                    if part.shape != shape:
                        part = unbroadcast(xp, part, shape)
                    if part.dtype is not edge.dtype:
                        part = xp.astype(part, edge.dtype)
                    _arrive(edge, part, fresh, pending, leaves, heap)
            if not retain:
                node.free()
        for leaf in leaves:
            if leaf._hooks is not None:
                part = arrive_at_leaf(leaf._hooks, leaf, leaves[leaf][0], self.create_graph)
                leaves[leaf] = (part, False)
        return leaves

    def values(self, node: Node) -> tuple[Any, list[Any], Any]:
        """What the node kept for its rule, if it still has it unchanged."""
        if node.freed:
            raise GraphError(
                f"a second backward() through {node!r} of shape {node.shape}",
                why="the first one freed the values that it needs",
                instead="backward(retain_graph=True) the first time, or compute the loss again",
            )
        for counter, version, _ in node.versions:
            if counter[0] != version:
                raise _changed(node, version, counter)
        if self.create_graph:
            return (*_as_tensors(node), None)
        if self.lifted and node.level == 0:
            return _constant(node.ans), [_constant(x) for x in node.inputs], None
        return node.ans, node.inputs, node.residuals

    def told(self, node: Node, xp: Any, g: Any) -> list[tuple[Any, Any]]:
        """:meth:`slowly`; while anomalies are looked for an error is told with the line of the operation."""
        try:
            return list(self.slowly(node, xp, g))
        except BackstoryError as error:
            place = None if node.extra is None else node.extra.origin
            if place is not None:
                error.add_note(f"the operation of {node!r} ran at {place_of(place)}")
            raise

    def slowly(self, node: Node, xp: Any, g: Any) -> Iterator[tuple[Any, Any]]:
        """The cotangent of each edge of a node with hooks or a custom rule, or in search of anomalies."""
        extra, create_graph = node.extra, self.create_graph
        ans, inputs, residuals = self.values(node)
        places = None if self.route is None else self.route.places
        wanted = [e is not None and (places is None or e in places) for e in node.edges]
        call = None if extra is None else extra.call
        outputs = [g] if call is None else call.split(node, g)
        if extra is not None:
            for hook in tuple(extra.prehooks.values()):
                outputs = replaced(hook, outputs, (), node, create_graph)
        if call is not None:
            parts = call.backward(node, outputs, create_graph)
        else:
            parts = [
                node.op.vjp(xp, i, outputs[0], ans, inputs, edge.shape, node.params, residuals)
                if wanted[i]
                else None
                for i, edge in enumerate(node.edges)
            ]
        parts = [
            None if part is None or not wanted[i] else fitted(xp, part, node.edges[i])
            for i, part in enumerate(parts)
        ]
        if extra is not None and extra.posthooks:
            shown = tuple(None if o is None else seen(o, node, create_graph) for o in outputs)
            for hook in tuple(extra.posthooks.values()):
                parts = replaced(hook, parts, (shown,), node, create_graph)
        anomaly = context().anomaly
        if anomaly is not None:
            anomaly.check(node, parts)
        for edge, part in zip(node.edges, parts, strict=True):
            if part is not None and edge is not None:
                yield edge, part


def fitted(xp: Any, part: Any, edge: Any) -> Any:
    """``part`` in the shape and dtype of the tensor that it is the cotangent of."""
    if part.shape != edge.shape:
        part = unbroadcast(xp, part, edge.shape)
    return part if part.dtype is edge.dtype else xp.astype(part, edge.dtype)


def _arrive(
    edge: Any, part: Any, fresh: bool, pending: dict[Node, Any], leaves: Leaves, heap: list[tuple[int, Node]]
) -> None:
    """Add one contribution to the cotangent of a node, which then waits its turn, or of a leaf."""
    if edge.__class__ is Node:
        if edge in pending:
            pending[edge] = pending[edge] + part
        else:
            pending[edge] = part
            heapq.heappush(heap, (-edge.order, edge))
    elif edge in leaves:
        leaves[edge] = (leaves[edge][0] + part, True)
    else:
        leaves[edge] = (part, fresh)


def _changed(node: Node, version: int, counter: list[Any]) -> VersionError:
    return VersionError(
        f"backward() through {node!r} of shape {node.shape}",
        why="a value that it needs was changed in place: "
        f"it was at version {version} and is at {counter[0]}, last changed by {place_of(counter[2])}",
        instead="x = x + y (a new tensor) for the change, or the change after backward()",
    )


def _constant(value: Any) -> Any:
    return wrap(value, 0) if isinstance(value, np.ndarray) else value


def _as_tensors(node: Node) -> tuple[Any, list[Any]]:
    """What the node kept, as tensors with their history, so that its rule can be recorded."""
    counters = {place: counter for counter, _, place in node.versions}
    inputs = []
    for j, (value, edge) in enumerate(zip(node.inputs, node.edges, strict=True)):
        if not hasattr(value, "dtype"):
            inputs.append(value)
        elif isinstance(edge, Tensor):
            inputs.append(edge)
        else:
            inputs.append(_linked(value, edge, node.level, counters.get(j)))
    ans = None if node.ans is None else _linked(node.ans, node, node.level, counters[-1])
    return ans, inputs


def _linked(array: Any, node: Node | None, level: int, counter: list[int] | None) -> Tensor:
    """A tensor of memory that was kept: changes in place are counted where its first owner counts them."""
    result = wrap(array, level)
    result.grad_fn = node
    result._requires_grad = node is not None
    if counter is not None:
        result._counter = counter
    return result
