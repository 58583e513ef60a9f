"""The exact curve of a network of one input: its straight pieces and where each of them ends.

A ReLU network is piecewise linear. Around a point where no gate is at its edge every pre-activation is
z(x) = z₀ + z′·(x − x₀), so the piece ends at the nearest root of any of them; the slopes z′ are
forward-mode derivatives along the recorded graph. Nothing is sampled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from backstory.core import tensor
from backstory.errors import ArgumentError, ShapeError
from backstory.insight.explanation import Names, Quantity, Step, derivation
from backstory.insight.explanation.tangents import step_forward
from backstory.nn import Module
from backstory.ops import Bilinear, Linear
from backstory.tensor import Tensor

__all__ = ["PiecewiseLinear", "piecewise_linear"]

MOST = 10_000  # pieces
MEETING = ("maximum", "minimum")  # they bend where their two arguments meet


@dataclass(frozen=True)
class PiecewiseLinear:
    """A curve of straight pieces: the breakpoints, the ends of the interval among them, and the values there.

    ``slopes[i]`` holds between ``xs[i]`` and ``xs[i + 1]``; ``breaks`` are the points within the interval.
    """

    xs: np.ndarray
    ys: np.ndarray
    slopes: np.ndarray

    @property
    def breaks(self) -> np.ndarray:
        """Where the slope changes."""
        return self.xs[1:-1]

    def __call__(self, x: Any) -> np.ndarray:
        """The curve at ``x``."""
        return np.interp(x, self.xs, self.ys)


def piecewise_linear(network: Callable[[Tensor], Any], low: float, high: float) -> PiecewiseLinear:
    """The exact curve of ``network`` on [low, high].

    ``network`` takes a tensor of shape (1, 1) and returns one of one entry. It may be a module or any
    function whose only bends are corners (relu, leaky_relu, hardtanh).

    >>> import backstory
    >>> tent = lambda x: backstory.relu(x) - 2 * backstory.relu(x - 1)
    >>> curve = piecewise_linear(tent, -1, 3)
    >>> curve.breaks.tolist(), curve.slopes.tolist()
    ([0.0, 1.0], [0.0, 1.0, -1.0])
    """
    if not (np.isfinite([low, high]).all() and low < high):
        raise ArgumentError(
            f"an interval from {low} to {high}", why="a curve runs from left to right", instead="low < high"
        )
    found: list[tuple[float, float, float, float]] = []
    waiting = [(float(low), float(high))]
    while waiting:
        left, right = waiting.pop()
        piece = _inside(network, left, right)
        if piece is None:
            continue
        found.append(piece)
        if len(found) > MOST:
            raise ArgumentError(
                f"a curve of more than {MOST:,} pieces",
                why="it cannot be shown",
                instead="a smaller interval, or a smaller network",
            )
        if left < piece[0]:
            waiting.append((left, piece[0]))
        if piece[1] < right:
            waiting.append((piece[1], right))
    return _joined(sorted(found))


def _joined(pieces: list[tuple[float, float, float, float]]) -> PiecewiseLinear:
    """Neighbouring pieces of one slope put together; what is narrower than rounding left out."""
    span = pieces[-1][1] - pieces[0][0]
    pieces = [p for p in pieces if p[1] - p[0] > 1e-12 * span] or pieces[:1]
    steepest = max(abs(slope) for *_, slope in pieces)
    kept = [pieces[0]]
    for piece in pieces[1:]:
        if abs(piece[3] - kept[-1][3]) > 1e-9 * max(steepest, 1e-300):
            kept.append(piece)
    xs = np.array([*(piece[0] for piece in kept), pieces[-1][1]])
    slopes = np.array([piece[3] for piece in kept])
    ys = [
        value + slope * (x - 0.5 * (left + right))
        for x, (left, right, value, slope) in zip(xs, kept, strict=False)
    ]
    last = kept[-1]
    ys.append(last[2] + last[3] * (xs[-1] - 0.5 * (last[0] + last[1])))
    return PiecewiseLinear(xs, np.array(ys), slopes)


def _inside(network: Any, left: float, right: float) -> tuple[float, float, float, float] | None:
    """A piece within (left, right); ``None`` where rounding leaves no room for one."""
    for share in (0.5, 0.4871, 0.5387, 0.2718, 0.7071):
        at = left + share * (right - left)
        if left < at < right:
            piece = _piece(network, at, left, right)
            # At an edge itself a gate is neither open nor closed.
            if min(at - piece[0], piece[1] - at) > 1e-9 * (right - left):
                return piece
    return None


def _piece(network: Any, at: float, left: float, right: float) -> tuple[float, float, float, float]:
    """The piece around ``at`` within (left, right): its ends, the value in its middle, its slope."""
    x = tensor([[at]], _dtype(network), requires_grad=True)
    y = network(x)
    if not isinstance(y, Tensor) or y.numel() != 1:
        raise ShapeError(
            f"a network that returns {getattr(y, 'shape', type(y).__name__)} for x of shape (1, 1)",
            why="a curve has one value at each point",
            instead="a network with one output, or one of its outputs: lambda x: net(x)[:, 0]",
        )
    if y.grad_fn is None or y.level:
        return left, right, y.item(), 0.0
    found = derivation(y, Names([]))
    tangents: dict[Quantity, np.ndarray] = {
        leaf: np.ones(leaf.shape, x.dtype) for leaf in found.leaves if leaf.value is x.array
    }
    for step in found.steps:
        known = [tangents.get(q) for q in step.inputs]
        if all(t is None for t in known):
            continue
        _check(step, known)
        for root in _roots(step, known, at):
            left, right = (max(left, root), right) if root <= at else (left, min(right, root))
        tangents[step.result] = step_forward(step, known)
    slope = float(tangents[found.root].reshape(-1)[0]) if found.root in tangents else 0.0
    return left, right, float(y.item()) + slope * (0.5 * (left + right) - at), slope


def _roots(step: Step, known: list[Any], at: float) -> Iterator[float]:
    """Where the operation would bend if what goes in went on straight."""
    z, slope, corners = np.asarray(step.inputs[0].value), known[0], (0.0,)
    if step.op.name in MEETING:
        z = z - np.asarray(step.inputs[1].value)
        slope = sum((sign * t for sign, t in zip((1, -1), known, strict=True) if t is not None), 0.0)
    elif step.op.corners is not None:
        corners = step.op.corners(step.node.params)
    elif step.op.name != "abs":
        return
    rises = np.broadcast_to(slope, z.shape).reshape(-1).tolist()
    for value, rise in zip(z.reshape(-1).tolist(), rises, strict=True):
        if rise:
            yield from (at - (value - corner) / rise for corner in corners)


def _check(step: Step, known: list[Any]) -> None:
    """The step keeps a piecewise linear input piecewise linear."""
    bent = step.op.corners is not None and all(t is None for t in known[1:])
    bent = bent or step.op.name in (*MEETING, "abs")
    straight = bent or isinstance(step.op, Linear) or (step.op.name == "linear" and known[1] is None)
    divided = step.op.name == "div" and known[1] is None
    if straight or divided or (isinstance(step.op, Bilinear) and None in known):
        return
    raise ArgumentError(
        f"the exact curve of a network with {step.op.name}",
        why="it is not piecewise linear in the input, or where it bends is not known",
        instead="relu and its straight relatives, maximum, sums and products with constants; "
        "or draw samples of it",
    )


def _dtype(network: Any) -> Any:
    """The dtype of the network's parameters."""
    if isinstance(network, Module):
        return next((p.dtype for p in network.parameters()), np.dtype("float64"))
    return np.dtype("float64")
