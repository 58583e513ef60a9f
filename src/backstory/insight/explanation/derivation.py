"""The derivation of a result: every node with its value and its gradient, and what flows along each edge.

It only reads the graph. What nodes did not keep is computed again from what they did; where both are
known they must agree, so that a value changed after the fact is found, never shown.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from backstory.arrays import eager
from backstory.autograd import cotangents
from backstory.errors import GraphError, VersionError
from backstory.graph import Node, context
from backstory.insight.explanation.formula import latex_number
from backstory.insight.explanation.names import Names, as_latex
from backstory.ops import Elementwise, unbroadcast
from backstory.tensor import Tensor

__all__ = ["Derivation", "Flow", "Quantity", "Step", "derivation"]

# Views that only tell a vector from a row or a column, around a matrix product.
QUIET = ("reshape",)


@dataclass(eq=False)
class Quantity:
    """Something with a value: a leaf, a constant or the result of a step.

    ``symbol`` is LaTeX. ``kind`` is ``"leaf"``, ``"constant"``, ``"number"`` or ``"result"``; ``gradient``
    is the whole of it, ``None`` where none is wanted.
    """

    symbol: str
    kind: str
    shape: tuple[int, ...] = ()
    value: np.ndarray | None = None
    gradient: np.ndarray | None = None
    named: bool = False
    flows: list[Flow] = field(default_factory=list)
    step: Step | None = None
    aliases: tuple[str, ...] = ()


@dataclass(eq=False)
class Flow:
    """What one step hands to one of its inputs: upstream × local, the broadcasting undone."""

    step: Step
    argument: int
    target: Quantity
    product: np.ndarray
    local: np.ndarray | None
    summed: tuple[int, ...] = ()


@dataclass(eq=False)
class Step:
    """One operation: its inputs, its result and what flows back through it.

    A ``quiet`` one only shows a vector as a row or a column, under the same symbol.
    """

    node: Node
    inputs: tuple[Quantity, ...]
    result: Quantity
    quiet: bool = False
    flows: list[Flow] = field(default_factory=list)

    @property
    def op(self) -> Any:
        """The operation's record."""
        return self.node.op

    @property
    def upstream(self) -> np.ndarray:
        """The gradient of the loss with respect to the result."""
        assert self.result.gradient is not None
        return self.result.gradient


@dataclass(frozen=True, eq=False)
class Derivation:
    """All steps in the order in which they ran, and the leaves that receive a gradient."""

    root: Quantity
    steps: tuple[Step, ...]
    leaves: tuple[Quantity, ...]

    @property
    def scalar(self) -> bool:
        """Whether everything in it is a single number without axes."""
        return all(q.shape == () for step in self.steps for q in (*step.inputs, step.result))


def derivation(loss: Tensor, names: Names) -> Derivation:
    """Read the graph of ``loss``; what it needs must not have been freed or changed."""
    if loss.grad_fn is None:
        raise GraphError(
            f"explain() received a tensor of shape {loss.shape} without a history",
            why="it is a leaf or a constant, or was computed under no_grad()",
            instead="the result of operations on tensors with requires_grad=True",
        )
    if loss.level:
        raise GraphError(
            "explain() received a tensor of a transform",
            why="within a transform there are no numbers to show yet",
            instead="explain() of the result, outside of the transform",
        )
    nodes = _nodes(loss.grad_fn)
    if any(node.freed for node in nodes):
        raise GraphError(
            "explain() after backward()",
            why="backward() has freed the values that the derivation shows",
            instead="explain(loss) before loss.backward(), or loss.backward(retain_graph=True)",
        )
    gradients = cotangents(loss)
    with np.errstate(all="ignore"):
        return _Builder(loss, nodes, gradients, names).build()


def _nodes(root: Node) -> list[Node]:
    """Every node below ``root``, inputs first."""
    seen, stack = {root}, [root]
    while stack:
        for edge in stack.pop().edges:
            if isinstance(edge, Node) and edge not in seen:
                seen.add(edge)
                stack.append(edge)
    return sorted(seen, key=lambda node: node.order)


class _Builder:
    """Builds the quantities node by node."""

    def __init__(self, loss: Tensor, nodes: list[Node], gradients: Mapping[Node, Any], names: Names) -> None:
        self.loss, self.nodes, self.gradients, self.names = loss, nodes, gradients, names
        self.quantities: dict[Any, Quantity] = {}
        self.taken: set[str] = set()
        self.counts: dict[str, int] = {}
        self.users: dict[Node, list[Node]] = {}
        self.kept: dict[Node, np.ndarray] = {loss.grad_fn: loss.array}  # type: ignore[dict-item]
        for node in nodes:
            if node.ans is not None:
                self.kept[node] = node.ans
            for place, edge in enumerate(node.edges):
                if isinstance(edge, Node):
                    self.users.setdefault(edge, []).append(node)
                    if node.inputs[place] is not None:
                        self.kept.setdefault(edge, node.inputs[place])

    def build(self) -> Derivation:
        self._reserve()
        steps = [self._step(node) for node in self.nodes]
        for step in reversed(steps):
            self._flow(step)
        leaves = tuple(q for q in self.quantities.values() if q.kind == "leaf")
        for leaf in leaves:
            leaf.gradient = sum((flow.product for flow in leaf.flows[1:]), leaf.flows[0].product)
        return Derivation(steps[-1].result, tuple(steps), leaves)

    def _reserve(self) -> None:
        """Take every given name before names are made up."""
        for node in self.nodes:
            for thing in (node, *node.edges):
                if thing is not None and (name := self.names.of(thing)):
                    self.taken.add(as_latex(name))
            self.taken.update(as_latex(name) for name in self.names.aliases(node))

    def _step(self, node: Node) -> Step:
        inputs = tuple(self._input(node, place) for place in range(len(node.edges)))
        value = self._value(node, inputs)
        aliases = self.names.aliases(node)
        name = self.names.of_loss(node) if node is self.loss.grad_fn else self.names.of(node)
        quiet = None if name else self._quiet(node, inputs)
        symbol = as_latex(name) if name else quiet or self._invented(node, inputs)
        result = Quantity(symbol, "result", node.shape, value, np.asarray(self.gradients[node]), bool(name))
        result.aliases = tuple(alias for alias in aliases if alias != name)
        step = result.step = Step(node, inputs, result, bool(quiet))
        self.quantities[node] = result
        return step

    def _quiet(self, node: Node, inputs: tuple[Quantity, ...]) -> str | None:
        """A view of a vector as a row or column has the symbol of what it shows."""
        if node.op.name not in QUIET or not _same_but_ones(node.shape, inputs[0].shape):
            return None
        edge = node.edges[0]
        before = isinstance(edge, Node) and edge.op.name == "matmul"
        after = all(user.op.name == "matmul" for user in self.users.get(node, [])) and node in self.users
        return inputs[0].symbol if before or after else None

    def _invented(self, node: Node, inputs: tuple[Quantity, ...]) -> str:
        if node.op.name == "permute" and len(node.shape) == 2 and "^" not in inputs[0].symbol:
            return rf"{inputs[0].symbol}^{{\top}}"
        if node.op.name == "linear":
            return self._numbered("z")
        if isinstance(node.op, Elementwise) and node.op.arguments == 1 and inputs[0].symbol.startswith("z_"):
            activation = inputs[0].symbol.replace("z", "a", 1)
            if activation not in self.taken:
                self.taken.add(activation)
                return activation
        return self._numbered("v")

    def _numbered(self, letter: str) -> str:
        while True:
            self.counts[letter] = self.counts.get(letter, 0) + 1
            symbol = f"{letter}_{{{self.counts[letter]}}}"
            if symbol not in self.taken:
                return symbol

    def _input(self, node: Node, place: int) -> Quantity:
        edge = node.edges[place]
        if isinstance(edge, Node):
            return self.quantities[edge]
        if edge is not None:
            return self._leaf(edge)
        held = node.constants[place]
        held = held() if isinstance(held, weakref.ref) else held
        if isinstance(held, (bool, int, float)):
            return Quantity(latex_number(held), "number", (), np.asarray(held))
        return self._constant((node, place), held, node.inputs[place])

    def _leaf(self, leaf: Tensor) -> Quantity:
        if leaf not in self.quantities:
            name = self.names.of(leaf)
            symbol = as_latex(name) if name else self._numbered("p")
            self.quantities[leaf] = Quantity(symbol, "leaf", leaf.shape, leaf.array, named=True)
        return self.quantities[leaf]

    def _constant(self, place: tuple[Node, int], held: Any, kept: Any) -> Quantity:
        """The constant at a place: as the user holds it, or at least as the node kept it."""
        value = held if held is not None else kept
        key = place if value is None else id(value)
        if key not in self.quantities:
            name = self.names.of(held) if held is not None else None
            if name is None and value is not None and value.shape == () and value.dtype.kind != "b":
                return Quantity(latex_number(value), "number", (), value)
            symbol = as_latex(name) if name else self._numbered("c")
            shape = () if value is None else value.shape
            self.quantities[key] = Quantity(symbol, "constant", shape, value, named=bool(name))
        return self.quantities[key]

    def _value(self, node: Node, inputs: tuple[Quantity, ...]) -> np.ndarray | None:
        kept = self.kept.get(node)
        if any(q.value is None for q in inputs):
            return kept
        values = [_typed(q, node) for q in inputs]
        out = context().quiet.copy().run(node.op.forward, eager, *values, **node.params)
        found = np.asarray(out[0] if node.op.residuals else out).astype(node.dtype, copy=False)
        if kept is not None and not np.array_equal(found, kept, equal_nan=node.dtype.kind == "f"):
            raise VersionError(
                f"explain(): {node!r} of shape {node.shape} gives another value now than when it ran",
                why="one of its inputs was changed in place since, so the derivation would not be true",
                instead="explain(loss) before the optimizer's step or any other change",
            )
        return found if kept is None else kept

    def _flow(self, step: Step) -> None:
        node, g = step.node, step.upstream
        for place, edge in enumerate(node.edges):
            if edge is None:
                continue
            target = step.inputs[place]
            run = context().quiet.copy().run
            part = run(
                node.op.vjp, eager, place, g, node.ans, node.inputs, edge.shape, node.params, node.residuals
            )
            summed = _summed(part.shape, edge.shape)
            product = run(unbroadcast, eager, part, edge.shape).astype(edge.dtype, copy=False)
            flow = Flow(step, place, target, product, self._local(node, place, edge), summed)
            step.flows.append(flow)
            target.flows.append(flow)

    def _local(self, node: Node, place: int, edge: Any) -> np.ndarray | None:
        """The local derivative where it is one number per entry."""
        run = context().quiet.copy().run
        if isinstance(node.op, Elementwise):
            partial = run(node.op.partials[place], eager, node.ans, *node.inputs, **node.params)
            return np.asarray(partial)
        if node.op.name == "mul":
            return np.asarray(node.inputs[1 - place])
        if node.op.name in ("add", "sub", "neg") or node.shape == edge.shape == ():
            one = np.ones((), node.dtype)
            inputs, shape, params = node.inputs, (), node.params
            return np.asarray(run(node.op.vjp, eager, place, one, node.ans, inputs, shape, params, None))
        return None


def _typed(quantity: Quantity, node: Node) -> Any:
    """A value as the operation saw it: numbers stay weak, floats come in its dtype."""
    value = quantity.value
    assert value is not None
    if quantity.kind == "number" and value.dtype.kind in "fi":
        return value.item()
    cast = node.op.dtypes != "free" and value.dtype.kind in "fiu" and node.dtype.kind == "f"
    return value.astype(node.dtype, copy=False) if cast else value


def _same_but_ones(shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return [n for n in shape if n != 1] == [n for n in other if n != 1]


def _summed(shape: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of the product over which undoing the broadcasting sums."""
    extra = len(shape) - len(wanted)
    stretched = [i + extra for i, n in enumerate(wanted) if n == 1 and shape[i + extra] != 1]
    return (*range(extra), *stretched)
