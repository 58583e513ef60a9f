"""Why a weight of a PyTorch model moves, or not: upstream × gate × input, read from PyTorch's own graph.

The graph below the loss is walked from the parameter to the layer that uses it and on to the activation
behind it. One more backward pass, kept to the parameter, gives the upstream gradients; the gate is what the
activation's node makes of an upstream of 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from backstory.adapters.torch.source import rule_of
from backstory.errors import ArgumentError, GraphError
from backstory.insight.updates import update_terms
from backstory.insight.why import Factors, Why, asks_behind, behind, checked_index, judged, moved

__all__ = ["why"]

#: Nodes between a parameter and the layer that uses it; of these a transposition changes the layout.
ON_THE_WAY = ("TBackward0", "ToCopyBackward0", "TransposeBackward0", "ViewBackward0", "ExpandBackward0")
#: Nodes that change neither rows nor units.
SHAPES = (
    "ViewBackward0",
    "UnsafeViewBackward0",
    "ReshapeAliasBackward0",
    "ToCopyBackward0",
    "CloneBackward0",
)
ACTIVATIONS = (
    "Relu", "LeakyRelu", "Threshold", "Hardtanh", "Clamp", "ClampMin", "Elu", "Celu", "Gelu", "Silu", "Mish",
    "Softplus", "Sigmoid", "Tanh", "Hardsigmoid", "Hardswish", "Softshrink", "Hardshrink", "LogSigmoid",
)  # fmt: skip
#: Nodes behind which a unit's gate is still the unit's own, though its gradients mix.
NORMALISATIONS = ("NativeBatchNorm", "CudnnBatchNorm", "NativeLayerNorm", "NativeGroupNorm", "NativeDropout")


class _Use(NamedTuple):
    """One use of the parameter: the layer's node, as which of its arguments, and whether transposed."""

    node: Any
    argument: int
    transposed: bool


class _Graph:
    """The graph below a loss, with who consumes what."""

    def __init__(self, loss: Tensor) -> None:
        self.consumers: dict[Any, list[tuple[Any, int]]] = {}
        seen: set[Any] = {loss.grad_fn}
        stack: list[Any] = [loss.grad_fn]
        while stack:
            node = stack.pop()
            for place, (below, _) in enumerate(node.next_functions):
                if below is None:
                    continue
                self.consumers.setdefault(below, []).append((node, place))
                if below not in seen:
                    seen.add(below)
                    stack.append(below)

    def leaf(self, parameter: Tensor) -> Any:
        """The node that accumulates into ``parameter``, if there is one."""
        return next((node for node in self.consumers if getattr(node, "variable", None) is parameter), None)

    def uses(self, leaf: Any) -> Iterator[_Use]:
        """Every layer that uses a parameter, through casts and transpositions."""
        stack = [(leaf, False)]
        while stack:
            node, transposed = stack.pop()
            for consumer, place in self.consumers.get(node, ()):
                name = consumer.name()
                if name in ON_THE_WAY:
                    turned = name in ("TBackward0", "TransposeBackward0")
                    stack.append((consumer, transposed != turned))
                else:
                    yield _Use(consumer, place, transposed)

    def only_consumer(self, node: Any) -> Any:
        """The one node that takes the output of ``node``; ``None`` if there are several."""
        found = self.consumers.get(node, ())
        return found[0][0] if len(found) == 1 else None


def _kind(node: Any) -> str:
    return node.name().removesuffix("0").removesuffix("Backward")


@dataclass
class _Gate:
    """The activation behind a layer; ``direct`` where nothing but shapes stands between."""

    node: Any
    direct: bool


def why(loss: Tensor, parameter: Tensor, index: Any, optimizer: Any = None, name: str | None = None) -> Why:
    """As :func:`backstory.why`, for tensors of PyTorch."""
    index = checked_index(tuple(parameter.shape), index)
    label = name or ("weight" if len(index) > 1 else "bias")
    _check_loss(loss)
    if not parameter.requires_grad:
        return Why(label, index, "frozen")
    graph = _Graph(loss)
    leaf = graph.leaf(parameter)
    if leaf is None:
        _check_checkpoints(graph)
        return _with_update(Why(label, index, "not in the graph"), optimizer, parameter)
    uses = list(graph.uses(leaf))
    gates = [_gate_behind(graph, use.node) for use in uses]
    upstream = _upstream(loss, parameter, [*(u.node for u in uses), *(g.node for g in gates if g)])
    parts = [
        _factors(use, gate, parameter, index, upstream)
        for use, gate in zip(uses, gates, strict=True)
        if upstream.get(use.node) is not None
    ]
    answer = judged(label, index, Factors.together(parts))
    hidden = [gate for gate in gates if gate is not None and not gate.direct]
    if hidden and asks_behind(answer):
        answer = _behind(answer, uses, gates, parameter, index, upstream)
    return _with_update(answer, optimizer, parameter)


def _check_loss(loss: Tensor) -> None:
    if loss.numel() != 1 or loss.grad_fn is None:
        raise GraphError(
            f"why() about a loss of shape {tuple(loss.shape)}",
            why="it is no scalar" if loss.numel() != 1 else "no parameter led to it, or it was detached",
            instead="the scalar that backward() is called on, before it is",
        )


def _check_checkpoints(graph: _Graph) -> None:
    if any(node.name() == "CheckpointFunctionBackward" for node in graph.consumers):
        raise GraphError(
            "why() about a parameter inside a reentrant checkpoint",
            why="that checkpoint hides its part of the graph until backward() computes it again",
            instead="torch.utils.checkpoint.checkpoint(…, use_reentrant=False)",
        )


def _gate_behind(graph: _Graph, node: Any) -> _Gate | None:
    """The activation that alone takes the layer's output, perhaps behind a normalisation or a sum."""
    direct = True
    while True:
        above = graph.only_consumer(node)
        if above is None:
            return None
        kind = _kind(above)
        if kind in ACTIVATIONS:
            return _Gate(above, direct)
        if above.name() in SHAPES or (kind == "Add" and _adds_parameter(above, node)):
            node = above
        elif kind in NORMALISATIONS or kind == "Add":
            node, direct = above, False
        else:
            return None


def _adds_parameter(add: Any, node: Any) -> bool:
    """Whether the sum adds a bias to what ``node`` made."""
    others = [below for below, _ in add.next_functions if below is not node and below is not None]
    return all(hasattr(other, "variable") for other in others)


def _upstream(loss: Tensor, parameter: Tensor, nodes: list[Any]) -> dict[Any, Tensor]:
    """The gradient that reaches each node's output, from a backward pass that keeps the graph."""
    found: dict[Any, Tensor] = {}

    def capture(node: Any) -> Any:
        def hook(gradients: Any) -> None:
            if gradients[0] is not None:
                found[node] = gradients[0].detach()

        return hook

    handles = [node.register_prehook(capture(node)) for node in set(nodes)]
    try:
        torch.autograd.grad(loss, parameter, retain_graph=True, allow_unused=True)
    except RuntimeError as error:
        raise _gone(str(error).split("\n")[0]) from error
    finally:
        for handle in handles:
            handle.remove()
    return found


def _factors(
    use: _Use, gate: _Gate | None, parameter: Tensor, index: tuple[int, ...], upstream: dict[Any, Tensor]
) -> Factors:
    """The factors of one use of the parameter, row by row."""
    unit, x, rows_of, samples = _layer(use, parameter, index, upstream[use.node])
    zeros = 0
    if gate is None or not gate.direct or gate.node not in upstream:
        g = _column(rows_of(upstream[use.node]), unit)
        opened = np.ones_like(g)
    else:
        above = upstream[gate.node]
        g, opened = _column(rows_of(above), unit), _column(rows_of(_derivative(gate, above)), unit)
        samples = above.shape[0] if above.ndim > 1 else samples
        zeros = _exactly_zero(use, unit)
    x = np.ones_like(g) if x is None else _array(x)
    sample = np.arange(len(g)) * samples // max(len(g), 1)
    return Factors(g, opened, x, sample, zeros, 0.0)


def _derivative(gate: _Gate, upstream: Tensor) -> Tensor:
    """The activation's local derivative: what its node makes of an upstream of 1."""
    found = gate.node(torch.ones_like(upstream))
    return found[0] if isinstance(found, tuple) else found


def _layer(use: _Use, parameter: Tensor, index: tuple[int, ...], g: Tensor) -> tuple[int, Any, Any, int]:
    """Of the layer: the unit, its input (``None``: 1), how to see (rows, units), the number of samples."""
    node, kind = use.node, _kind(use.node)
    if kind == "Convolution":
        x = None if use.argument == 2 else _patches(node, index, g)
        return index[0], x, lambda t: t.movedim(1, -1).reshape(-1, t.shape[1]), len(g)
    columns = lambda t: t.reshape(-1, t.shape[-1])
    if (kind == "Addmm" and use.argument == 0) or (kind == "Add" and parameter.ndim == 1):
        return index[0], None, columns, len(g)
    if (kind, use.argument) in (("Addmm", 2), ("Mm", 1)):
        inputs = _saved(node, "_saved_mat1" if kind == "Addmm" else "_saved_self")
        unit, feature = index if use.transposed else index[::-1]
        return unit, inputs[:, feature], columns, len(g)
    raise GraphError(
        f"why() about a parameter of {node.name()}",
        why="upstream × gate × input is known for the weights and biases of linear layers and convolutions",
        instead="a parameter of nn.Linear, nn.Conv1d, nn.Conv2d or nn.Conv3d",
    )


def _saved(node: Any, name: str) -> Tensor:
    try:
        return getattr(node, name).detach()
    except RuntimeError as error:
        raise _gone("backward() has freed what the layer kept") from error


def _gone(why: str) -> GraphError:
    return GraphError(
        "why() about a loss whose graph is gone",
        why=why,
        instead="why() before loss.backward(), or loss.backward(retain_graph=True)",
    )


def _patches(node: Any, index: tuple[int, ...], g: Tensor) -> Tensor:
    """What the kernel's entry met at every position of every sample: (samples × positions,)."""
    x, weight = _saved(node, "_saved_input"), _saved(node, "_saved_weight")
    channel, entry, *kernel = index
    padding, stride, dilation = (
        getattr(node, f"_saved_{name}") for name in ("padding", "stride", "dilation")
    )
    group = channel // (len(weight) // node._saved_groups)
    x = x[:, group * weight.shape[1] + entry]
    x = F.pad(x, [n for n in reversed(padding) for _ in range(2)])
    places = [
        slice(at * gap, at * gap + (count - 1) * step + 1, step)
        for at, gap, step, count in zip(kernel, dilation, stride, g.shape[2:], strict=True)
    ]
    return x[(slice(None), *places)].reshape(-1)


def _exactly_zero(use: _Use, unit: int) -> int:
    """For how many rows the pre-activation of a linear layer is exactly 0, computed as the layer did."""
    if use.node.name() != "AddmmBackward0":
        return 0
    inputs = _saved(use.node, "_saved_mat1")
    below = [leaf for leaf, _ in use.node.next_functions]
    bias = getattr(below[0], "variable", None)
    weight = getattr(below[2].next_functions[0][0], "variable", None) if below[2] is not None else None
    if bias is None or weight is None or weight.dtype != inputs.dtype:
        return 0
    with torch.no_grad():
        return int((F.linear(inputs, weight, bias)[:, unit] == 0).sum())


def _behind(
    answer: Why,
    uses: list[_Use],
    gates: list[_Gate | None],
    parameter: Tensor,
    index: tuple[int, ...],
    upstream: dict[Any, Tensor],
) -> Why:
    """The answer, if a gate that stands behind a normalisation or a sum is what blocks the gradient."""
    columns = []
    for use, gate in zip(uses, gates, strict=True):
        if gate is not None and gate.node in upstream:
            unit, _, rows_of, _ = _layer(use, parameter, index, upstream[use.node])
            columns.append(_column(rows_of(_derivative(gate, upstream[gate.node])), unit))
    return behind(answer, columns)


def _column(x: Tensor, unit: int) -> np.ndarray:
    return _array(x[:, unit])


def _array(x: Tensor) -> np.ndarray:
    return x.detach().to("cpu", torch.float64).numpy()


def _with_update(answer: Why, optimizer: Any, parameter: Tensor) -> Why:
    """The answer with the terms of the next update of the entry, if an optimizer is given."""
    if optimizer is None:
        return answer
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise ArgumentError(
            f"why(optimizer=…) received {type(optimizer).__name__}",
            why="the next update is what an optimizer of torch.optim makes of the gradient",
            instead="the optimizer that moves the parameter",
        )
    group = next((g for g in optimizer.param_groups if any(p is parameter for p in g["params"])), None)
    if group is None:
        return moved(answer, None, held=False)
    if answer.verdict in ("not in the graph", "frozen") and parameter.grad is None:
        return moved(answer, None, held=True)
    state = {
        key: (value[answer.index] if value.ndim else value).item() if isinstance(value, Tensor) else value
        for key, value in optimizer.state.get(parameter, {}).items()
    }
    value = np.float64(parameter.detach()[answer.index].item())
    terms = update_terms(rule_of(optimizer), value, np.float64(answer.gradient), state, group)
    return moved(answer, terms, held=True)
