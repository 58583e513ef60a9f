"""What ran in one forward pass: layers, activations, normalisations and dropout, found where they run.

Everything is recognised by the operation that ran and by what it ran on, never by the type of a module:
a layer is a product with a parameter, a normalisation a product with 1/√(variance), dropout a product
with a constant of zeros and one larger number. So functional calls are seen as well as modules.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from backstory.arrays import eager
from backstory.graph import Node
from backstory.insight.advice.profile import Profile, activates, numbers, profile_of
from backstory.insight.scan import local_derivative, rows_of_units
from backstory.insight.sites import Observer, site_name
from backstory.nn import Module
from backstory.ops import Op
from backstory.tensor import Tensor

__all__ = ["Activation", "Dropout", "Front", "Layer", "Norm", "Tape", "spread"]

# Operations that only arrange what they are given.
ARRANGING = frozenset(("reshape", "permute", "clone", "cast", "broadcast_to", "getitem"))


@dataclass(eq=False)
class Layer:
    """A product with a weight: its units are on ``axis`` of what it gives, and on the weight's first or last.

    ``arriving`` is the root mean square of what it was given, ``spread`` that of what it gives, with the
    bias, around each unit's mean over the rows.
    """

    name: str
    op: str
    weight: Tensor
    bias: Tensor | None
    fan_in: int
    units: int
    node: Node
    axis: int
    arriving: float
    spread: float
    first_axis: bool

    def rows(self, x: np.ndarray) -> np.ndarray:
        """Its weight, or the gradient of it, with a row for each unit."""
        return (x if self.first_axis else np.moveaxis(x, -1, 0)).reshape(self.units, -1)

    @property
    def fan_out(self) -> int:
        """Units, times the positions of a kernel."""
        return self.units * (math.prod(self.weight.shape[2:]) if self.op == "conv" else 1)

    @property
    def scale(self) -> float:
        """fan_in · E[w²]: 2 from He, 1 from LeCun."""
        w = self.weight.array.astype(np.float64)
        return self.fan_in * float((w * w).mean())


@dataclass(eq=False)
class Activation:
    """An activation that ran: its pre-activations and local derivatives, as (rows, units).

    ``leaving`` is the root mean square of what it gave.
    """

    name: str
    path: str
    op: Op
    profile: Profile
    node: Node
    source: Any
    z: np.ndarray
    derivative: np.ndarray
    leaving: float
    apply: Callable[[np.ndarray], Any]


@dataclass(eq=False)
class Norm:
    """A normalisation: of what, and whether over the samples of the batch."""

    path: str
    node: Node
    source: Any
    batch: bool


@dataclass(eq=False)
class Dropout:
    """Dropout that ran in training mode, with its probability."""

    path: str
    node: Node
    source: Any
    p: float


Made = Layer | Activation | Norm | Dropout


@dataclass(frozen=True)
class Front:
    """What made a value, behind whatever only arranged it; ``dropout`` if that is the last thing done to it.

    ``scaled`` says that a parameter was multiplied with it or added to it on the way.
    """

    made: Layer | Activation | Norm | None
    dropout: Dropout | None
    scaled: bool


class Tape(Observer):
    """Notes what runs while it observes the forward pass of ``model``.

    ``scores`` are what a softmax was taken of inside the model, on its way to a loss.
    """

    def __init__(self, model: Module) -> None:
        super().__init__(model)
        self.made: dict[Node, Made] = {}
        self.scores: list[tuple[str, np.ndarray]] = []
        self._names = {p: name for name, p in model.named_parameters()}
        self._counts: dict[str, int] = {}

    @property
    def layers(self) -> list[Layer]:
        """The layers, in the order in which they ran."""
        return [one for one in self.made.values() if isinstance(one, Layer)]

    @property
    def activations(self) -> list[Activation]:
        """The activations, in the order in which they ran."""
        return [one for one in self.made.values() if isinstance(one, Activation)]

    def ran(self, op: Op, args: Any, result: Tensor, params: Any) -> None:
        """An operation ran: note it if it is one of the four."""
        super().ran(op, args, result, params)
        node = result.grad_fn
        if node is None:
            return
        path = self._stack[-1]
        if op.name in ("linear", "conv", "matmul"):
            self._layer(op, args, result, node)
        elif op.name in ("mul", "div", "add"):
            self._arithmetic(op.name, args, result, node, path)
        elif activates(op, args) and result.dtype.kind == "f":
            self._activation(op, args, result, params, node, path)
        elif op.name in ("cross_entropy", "log_softmax"):
            self.scores.append((path, args[0].array.copy()))

    def _numbered(self, name: str) -> str:
        """``name`` for its first call, ``name#1`` for its second."""
        count = self._counts[name] = self._counts.get(name, -1) + 1
        return f"{name}#{count}" if count else name

    def _layer(self, op: Op, args: Any, result: Tensor, node: Node) -> None:
        found = next(((i, p) for i in (1, 0) if (p := self._parameter(args[i])) is not None), None)
        if found is None and op.name == "matmul":
            return
        # A weight may be computed, as weight norm does; then the module names the layer.
        place, weight = (1, args[1]) if found is None else found
        name = self._names.get(weight, "")
        owner = name.rpartition(".")[0] if name.endswith("weight") else name
        turned = args[place].grad_fn is not None and args[place].grad_fn.op.name == "permute"
        axis = -3 if op.name == "conv" else -1 if place == 1 else -2
        if result.ndim < -axis:
            return
        units, bias = result.shape[axis], args[2] if len(args) > 2 else None
        self.made[node] = Layer(
            self._numbered(owner or name or self._stack[-1] or op.name),
            op.name,
            weight,
            bias if bias in self._names else None,
            max(weight.numel() // max(units, 1), 1),
            units,
            node,
            axis,
            _rms(args[1 - place].array) if isinstance(args[1 - place], Tensor) else 1.0,
            spread(rows_of_units(result.array, axis)),
            op.name != "matmul" or (place == 0) != turned,
        )

    def _parameter(self, x: Any) -> Any:
        """The parameter that ``x`` is, or is an arrangement of."""
        if not isinstance(x, Tensor):
            return None
        place: Any = x if x.grad_fn is None else x.grad_fn
        while isinstance(place, Node) and place.op.name in ARRANGING:
            place = place.edges[0]
        return place if isinstance(place, Tensor) and place in self._names else None

    def _activation(self, op: Op, args: Any, result: Tensor, params: Any, node: Node, path: str) -> None:
        axis = self.units_of(args[0])
        others = tuple(a.array if isinstance(a, Tensor) else a for a in args[1:])
        self.made[node] = Activation(
            site_name((path, op.name, self._call(path, op.name))),
            path,
            op,
            profile_of(op, params, others),
            node,
            node.edges[0],
            rows_of_units(args[0].array, axis).copy(),
            np.asarray(local_derivative(op, args, result, params, axis)),
            _rms(result.array),
            lambda z: op.forward(eager, z, *numbers(others), **params),
        )

    def _call(self, path: str, name: str) -> int:
        key = f"{path}/{name}"
        count = self._counts[key] = self._counts.get(key, -1) + 1
        return count

    def _arithmetic(self, name: str, args: Any, result: Tensor, node: Node, path: str) -> None:
        if name == "add":
            self._bias(args, result, node)
            return
        scale = _normalising(node)
        if scale is not None:
            source, batch = scale
            self.made[node] = Norm(path, node, source, batch)
            return
        for x, factor in ((args[0], args[1]), (args[1], args[0])) if name == "mul" else ():
            p = _dropped(factor)
            if p is not None and isinstance(x, Tensor) and x.requires_grad:
                self.made[node] = Dropout(path, node, node.edges[0 if x is args[0] else 1], p)

    def _bias(self, args: Any, result: Tensor, node: Node) -> None:
        """A parameter added to a layer without a bias is its bias."""
        for edge, other in ((node.edges[0], args[1]), (node.edges[1], args[0])):
            layer, bias = self.made.get(edge), self._parameter(other)
            if isinstance(layer, Layer) and layer.bias is None and bias is not None:
                if bias.numel() != layer.units:
                    return
                del self.made[edge]
                layer.bias, layer.node = bias, node
                layer.spread = spread(rows_of_units(result.array, layer.axis))
                self.made[node] = layer
                return

    def front(self, edge: Any) -> Front:
        """What made the value at ``edge``, behind arrangement, dropout and the affine part of a norm."""
        dropout, scaled = None, False
        while isinstance(edge, Node):
            made = self.made.get(edge)
            if isinstance(made, Dropout):
                dropout = made if not scaled and dropout is None else dropout
                edge = made.source
            elif made is not None:
                return Front(made, dropout, scaled)
            elif edge.op.name in ARRANGING:
                edge = edge.edges[0]
            elif edge.op.name in ("add", "mul") and (rest := _affine(edge)) is not None:
                edge, scaled = rest, True
            else:
                break
        return Front(None, dropout, scaled)


def spread(z: np.ndarray) -> float:
    """The standard deviation over the rows, root mean square over the units."""
    with np.errstate(all="ignore"):
        return math.sqrt(float(z.var(axis=0, dtype=np.float64).mean())) if z.size else 0.0


def _rms(x: np.ndarray) -> float:
    return math.sqrt(float((x.astype(np.float64) ** 2).mean())) if x.size else 0.0


def _affine(node: Node) -> Node | None:
    """What a parameter was added to or multiplied with; ``None`` where both sides are computed."""
    sides = [edge for edge in node.edges if isinstance(_root(edge), Node)]
    return sides[0] if len(sides) == 1 and all(edge is not None for edge in node.edges) else None


def _root(edge: Any) -> Any:
    while isinstance(edge, Node) and edge.op.name in ARRANGING:
        edge = edge.edges[0]
    return edge


def _is(edge: Any, *names: str) -> bool:
    return isinstance(edge, Node) and edge.op.name in names


def _normalising(node: Node) -> tuple[Any, bool] | None:
    """What ``node`` normalises and whether over the batch; ``None`` if it is no (x − mean) / √variance."""
    a, b = node.edges
    if node.op.name == "mul" and _is(a, "rsqrt"):
        a, b = b, a
    if not (_is(b, "rsqrt") if node.op.name == "mul" else _is(b, "sqrt", "std")):
        return None
    if _is(a, "sub") and _is(a.edges[1], "mean"):
        axes = a.edges[1].params.get("axis")
        axes = axes if isinstance(axes, tuple) else (axes,)
        return a.edges[0], 0 in axes
    return a, False


def _dropped(factor: Any) -> float | None:
    """The probability of dropout, if ``factor`` is its mask: zeros, and one number above 1."""
    if not isinstance(factor, Tensor) or factor.requires_grad or not factor.ndim or factor.dtype.kind != "f":
        return None
    x = factor.array
    top = float(x.max()) if x.size else 0.0
    if not 1.0 < top < math.inf or not ((x == 0) | (x == top)).all() or (x != 0).all():
        return None
    return 1.0 - 1.0 / top
