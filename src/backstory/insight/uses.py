"""Where a recorded graph uses a parameter: the layer, what it met there, and the activation behind it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from backstory.arrays import eager
from backstory.errors import GraphError
from backstory.graph import Node
from backstory.tensor import Tensor

__all__ = ["Gate", "Graph", "Use"]

#: What stands in a normalisation or a sum; behind it a unit's gate is still the unit's own.
BETWEEN = frozenset(
    ("add", "clone", "div", "mean", "mul", "neg", "reshape", "rsqrt", "sqrt", "sub", "sum", "var")
)
#: Activations that gate nothing, and yet squash.
SQUASHING = frozenset(("logsigmoid", "sigmoid", "softsign", "tanh"))


@dataclass(frozen=True)
class Gate:
    """The activation behind a layer; ``direct`` where nothing but a bias and a reshape stands between."""

    node: Node
    direct: bool

    def derivative(self) -> np.ndarray:
        """Its local derivative at every entry."""
        node = self.node
        return node.op.partials[0](eager, node.ans, *node.inputs, **node.params)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Use:
    """One use of a parameter: the layer's node, and whether as its weight (1) or as its bias (2)."""

    node: Node
    argument: int

    @property
    def samples(self) -> int:
        """How many samples the layer saw."""
        return self.node.shape[0] if len(self.node.shape) > 1 else 1

    def rows(self, x: np.ndarray, unit: int) -> np.ndarray:
        """One unit's entries of something laid out as the layer's output."""
        x = x.reshape(self.node.shape)
        x = np.moveaxis(x, 1, -1) if self.node.op.name == "conv" else x
        return x.reshape(-1, x.shape[-1])[:, unit]

    def inputs(self, index: tuple[int, ...]) -> np.ndarray | None:
        """What the entry of the weight was multiplied by, row by row; ``None``: 1, for a bias."""
        if self.argument == 2:
            return None
        x = self.node.inputs[0]
        if self.node.op.name == "linear":
            return x.reshape(-1, x.shape[-1])[:, index[1]]
        windows, groups = self.node.params["windows"], self.node.params["groups"]
        unit, channel, *kernel = index
        row, column = kernel if len(kernel) == 2 else (0, *kernel)
        _, units, *counts = self.node.shape
        group = unit // (units // groups)
        met = x[windows.place(row, column, (counts[0], counts[1]))]
        return met[:, group * (x.shape[1] // groups) + channel].reshape(-1)


class Graph:
    """The graph below a loss, with who consumes what."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self._consumers: dict[Any, list[tuple[Node, int]]] = {}
        for node in nodes:
            for argument, edge in enumerate(node.edges):
                if edge is not None:
                    self._consumers.setdefault(edge, []).append((node, argument))

    def uses(self, parameter: Tensor) -> Iterator[Use]:
        """Every layer that uses the parameter, perhaps in another shape."""
        stack: list[Any] = [parameter]
        while stack:
            for node, argument in self._consumers.get(stack.pop(), ()):
                made = node.edges[1 - argument] if node.op.name == "add" else None
                if node.op.name == "reshape":
                    stack.append(node)
                elif (node.op.name == "linear" and argument) or (node.op.name == "conv" and argument == 1):
                    yield Use(node, argument)
                elif isinstance(made, Node) and made.op.name == "conv":
                    yield Use(made, 2)
                else:
                    raise GraphError(
                        f"why() about a parameter of {node!r}",
                        why="the factors upstream × gate × input are known for the weights and biases of "
                        "linear layers and convolutions",
                        instead="a parameter of nn.Linear, nn.Conv1d or nn.Conv2d",
                    )

    def gate_behind(self, layer: Node) -> Gate | None:
        """The activation that alone takes the layer's output, perhaps behind a normalisation or a sum."""
        node = layer
        while len(above := self._consumers.get(node, ())) == 1:
            (consumer, argument), *_ = above
            if _activates(consumer, argument):
                return Gate(consumer, True)
            if not (consumer.op.name == "reshape" or _adds_bias(consumer, argument)):
                break
            node = consumer
        found = self._first_gates(node)
        return Gate(found.pop(), False) if found is not None and len(found) == 1 else None

    def _first_gates(self, node: Node) -> set[Node] | None:
        """The activations that everything made of ``node`` meets first; ``None`` if something meets none."""
        found: set[Node] = set()
        stack, seen = [node], {node}
        while stack:
            consumers = self._consumers.get(stack.pop(), ())
            if not consumers:
                return None
            for consumer, argument in consumers:
                if _activates(consumer, argument) and (consumer.op.gates or consumer.op.name in SQUASHING):
                    found.add(consumer)
                elif consumer.op.name not in BETWEEN:
                    return None
                elif consumer not in seen:
                    seen.add(consumer)
                    stack.append(consumer)
        return found

    def exactly_zero(self, use: Use, unit: int) -> int:
        """For how many rows the unit's pre-activation is exactly 0, computed as the layer did.

        A frozen weight or bias is not in the graph, and then nothing can be said: 0.
        """
        node = use.node
        x, (_, *edges) = node.inputs[0], node.edges
        parameters = [_leaf(edge) for edge in edges]
        if x is None or any(p is None for p in parameters):
            return 0
        shapes = [edge.shape for edge in edges]
        arrays = [p.array.reshape(s) for p, s in zip(parameters, shapes, strict=True) if p is not None]
        z = node.op.forward(eager, x, *arrays, **node.params)
        for consumer, argument in self._consumers.get(node, ()):
            if node.op.name == "conv" and _adds_bias(consumer, argument):
                bias = consumer.edges[1 - argument]
                leaf = _leaf(bias)
                if leaf is None:
                    return 0
                z = z + leaf.array.reshape(bias.shape)
        return int((use.rows(z, unit) == 0).sum())


def _activates(node: Node, argument: int) -> bool:
    op = node.op
    return argument == 0 and hasattr(op, "partials") and (op.arguments == 1 or op.gates)


def _adds_bias(node: Node, argument: int) -> bool:
    """Whether ``node`` adds a parameter, or what needs no gradient, to its argument."""
    if node.op.name != "add":
        return False
    other = node.edges[1 - argument]
    return other is None or _leaf(other) is not None


def _leaf(edge: Any) -> Tensor | None:
    """The leaf that an edge leads to through reshapes alone."""
    while isinstance(edge, Node) and edge.op.name == "reshape":
        edge = edge.edges[0]
    return edge if isinstance(edge, Tensor) else None
