"""One forward and backward pass on the sample, as training would do it, that leaves no trace.

The pass runs in training mode on a copy of the sample. Gradients are found by a walk of the graph and
not by ``backward()``, so that nobody's ``grad`` changes; buffers, flags and random streams are put back.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from backstory.autograd.modes import enable_grad
from backstory.autograd.walk import walk
from backstory.errors import ArgumentError, GraphError
from backstory.graph import Node
from backstory.insight.advice.trace import Activation, Layer, Norm, Tape
from backstory.insight.sites import observing
from backstory.nn import Module
from backstory.nn import functional as F
from backstory.nn.evaluation import undisturbed
from backstory.tensor import Tensor, as_tensor, wrap

__all__ = ["Trial", "trial"]

MOST = 256  # samples that are run
ENDINGS = frozenset(("softmax", "log_softmax", "cross_entropy", "reshape"))


@dataclass(eq=False)
class Trial:
    """What one pass showed: the tape, the output, targets if there were any, and gradients by node and leaf.

    Two gradients are known: ``probe`` is that of the output under a random upstream, which no symmetry of a
    loss can make vanish; ``gradients`` that of a loss. Without targets the loss takes random ones.
    """

    model: Module
    tape: Tape
    x: tuple[Tensor, ...]
    output: Tensor
    y: Tensor | None
    loss: str
    probe: dict[Any, np.ndarray]
    gradients: dict[Tensor, np.ndarray]

    @property
    def layers(self) -> list[Layer]:
        """The layers that lead to the output."""
        return [one for one in self.tape.layers if one.node in self.probe]

    @property
    def activations(self) -> list[Activation]:
        """The activations that lead to the output."""
        return [one for one in self.tape.activations if one.node in self.probe]

    @property
    def classifies(self) -> bool:
        """Whether the targets are labels of classes, of which the output has a score each."""
        return self.y is not None and self.y.dtype.kind in "iu" and self.output.shape[1:2] > (1,)

    @cached_property
    def trunk(self) -> set[Node]:
        """The nodes through which every path from the input to the output leads."""
        return _trunk(self.output, self.x)

    @cached_property
    def normalised(self) -> set[Layer]:
        """The layers right in front of a normalisation."""
        norms = [one for one in self.tape.made.values() if isinstance(one, Norm)]
        found = {self.tape.front(one.source).made for one in norms}
        return {one for one in found if isinstance(one, Layer)}

    def layer_of(self, activation: Activation) -> Layer | None:
        """The layer right in front of an activation, with nothing but dropout in between."""
        front = self.tape.front(activation.source)
        return front.made if isinstance(front.made, Layer) and not front.scaled else None

    def gradient_norm(self, node: Any) -> float | None:
        """The norm of the gradient at a node; ``None`` where none comes."""
        g = self.probe.get(node)
        return None if g is None else float(np.linalg.norm(g.astype(np.float64)))

    @property
    def last(self) -> Any:
        """What made the scores: a layer, an activation, a normalisation, or ``None``."""
        node: Any = self.output.grad_fn
        while isinstance(node, Node) and node.op.name in ENDINGS:
            node = node.edges[0]
        return self.tape.front(node).made


def trial(model: Module, x: tuple[Tensor, ...], y: Tensor | None) -> Trial:
    """Run ``model`` on ``x``, forwards and backwards."""
    tape = Tape(model)
    # Of a model in training mode, parts that are frozen on purpose stay as they are.
    with undisturbed(model, None if model.training else True), enable_grad():
        inputs = tuple(_own(one) for one in x)
        with observing(tape):
            output = _first(model(*inputs))
        if not output.requires_grad:
            raise GraphError(
                f"lint() of {type(model).__name__}, whose output has no history",
                why="no operation that led to it was recorded: everything is frozen, or runs under no_grad",
                instead="requires_grad_(True) on the parameters that are to be trained",
            )
        rng = np.random.default_rng(0)
        upstream = rng.standard_normal(output.shape).astype(output.dtype)
        kept = set(tape.made) | {edge for one in tape.activations if isinstance(edge := one.source, Node)}
        probe = _gradients(output, upstream, kept)
        y = None if y is None else y[:MOST]
        name, loss = loss_of(output, y, rng)
        gradients = _gradients(loss, np.ones((), loss.dtype), set())
    leaves = {p: gradients[p] for p in gradients if isinstance(p, Tensor)}
    return Trial(model, tape, inputs, output, y, name, probe, leaves)


def _own(x: Tensor) -> Tensor:
    """A copy; of floats one with a gradient, and no leaf, so that it may be changed in place."""
    copy = wrap(x.array[:MOST].copy(), 0)
    return copy.requires_grad_().clone() if x.dtype.kind == "f" else copy


def _first(result: Any) -> Tensor:
    """The tensor that a model returns, or the first of several."""
    if isinstance(result, Tensor):
        return result
    parts = list(result.values()) if isinstance(result, dict) else result
    for part in parts if isinstance(parts, (list, tuple)) else ():
        with contextlib.suppress(ArgumentError):
            return _first(part)
    raise ArgumentError(
        f"lint() of a model that returns {type(result).__name__}",
        why="there is no tensor in it, so nothing flows back from it",
        instead="a model whose forward() returns a tensor, or several with the prediction first",
    )


def _gradients(root: Tensor, upstream: np.ndarray, kept: set[Node]) -> dict[Any, np.ndarray]:
    """The gradient at every node that is ``kept`` and at every leaf; the graph stays."""
    found: dict[Any, np.ndarray] = {}

    def visit(node: Node, g: Any) -> None:
        if node in kept:
            found[node] = g

    leaves = walk([root], [wrap(upstream, 0)], True, False, visit)
    found.update({leaf: part for leaf, (part, _) in leaves.items()})
    return found


def loss_of(output: Tensor, y: Tensor | None, rng: np.random.Generator) -> tuple[str, Tensor]:
    """The name of the usual loss for such targets, and the loss.

    Labels take cross-entropy; zeros and ones for a single output the binary one; floats the squared error.
    Without targets, an output of several scores takes random labels, and any other random numbers.
    """
    if not output.ndim:
        return "the output", output
    if y is None:
        if output.ndim == 2 and output.shape[1] > 1:
            y = as_tensor(rng.integers(0, output.shape[1], len(output)))
        else:
            y = as_tensor(rng.standard_normal(output.shape).astype(output.dtype))
    if y.dtype.kind in "iu" and output.shape[1:2] > (1,):
        return "cross-entropy", F.cross_entropy(output, y)
    if y.numel() != output.numel():
        raise ArgumentError(
            f"lint() received targets of shape {y.shape} and {y.dtype} for an output of shape {output.shape}",
            why="they are neither labels of classes nor one number for each output",
            instead="integers of shape (N,) for scores (N, C), floats of the output's shape, or x alone",
        )
    y = y.reshape(output.shape)
    if y.dtype.kind in "iub":
        y = y.to(output.dtype)
        inside = bool(((output.array >= 0) & (output.array <= 1)).all())
        name = "binary_cross_entropy" if inside else "binary_cross_entropy_with_logits"
        return "binary cross-entropy", getattr(F, name)(output, y)
    return "squared error", F.mse_loss(output, y.to(output.dtype))


def _trunk(output: Tensor, inputs: tuple[Tensor, ...]) -> set[Node]:
    """The nodes on every path from the inputs to the output, by counting paths."""
    nodes = _below(output)
    sources = {x.grad_fn for x in inputs if x.grad_fn is not None} & set(nodes)
    if not sources:  # rows chosen by whole numbers, as an embedding does
        sources = {n for n in nodes if n.op.name == "take" and not any(isinstance(e, Node) for e in n.edges)}
    before: dict[Node, int] = {}
    for node in nodes:
        before[node] = int(node in sources) + sum(before[e] for e in node.edges if isinstance(e, Node))
    after = dict.fromkeys(nodes, 0)
    after[nodes[-1]] = 1
    for node in reversed(nodes):
        for edge in node.edges:
            if isinstance(edge, Node):
                after[edge] += after[node]
    total = before[nodes[-1]]
    return {node for node in nodes if total and before[node] * after[node] == total}


def _below(output: Tensor) -> list[Node]:
    """Every node that the output was computed from, inputs first."""
    found: set[Node] = set()
    stack = [output.grad_fn]
    while stack:
        node = stack.pop()
        if isinstance(node, Node) and node not in found:
            found.add(node)
            stack += node.edges
    return sorted(found, key=lambda node: node.order)
