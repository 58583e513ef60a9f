"""What an activation's record says beyond its value: its gain, and where it saturates.

Both are computed from the record's own rules, so they hold for any parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from backstory.arrays import eager
from backstory.ops.record import Elementwise, Op

__all__ = ["gain", "saturation"]

FAR = 12.0  # standard deviations; beyond them a normal density is below 1e-31
PANELS = 16  # per unit
REACH = 1e4


def _quiet(rule: Callable[[], Any]) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.asarray(rule())


def gain(op: Op, params: Mapping[str, Any] | None = None, *others: float) -> float:
    """1 / √E[f(z)²] for z ~ N(0, 1): weights of variance gain²/fan_in keep the second moment (He).

    ``others`` are the arguments after the first, such as the slope of prelu. For relu it is √2, for selu 1.

    >>> from backstory.ops import TABLE
    >>> round(gain(TABLE["relu"]) ** 2, 9), round(gain(TABLE["tanh"]), 4)
    (2.0, 1.5925)
    """
    nodes, weights = np.polynomial.legendre.leggauss(6)
    left = np.arange(-FAR, FAR, 1 / PANELS)
    z = (left[:, None] + (nodes + 1) / (2 * PANELS)).reshape(-1)
    share = np.tile(weights / (2 * PANELS), len(left)) * np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    value = _quiet(lambda: op.forward(eager, z, *others, **(params or {})))
    return 1.0 / math.sqrt(float((share * value * value).sum()))


def saturation(
    op: Op, params: Mapping[str, Any] | None = None, *others: float, below: float = 0.01
) -> tuple[tuple[float, float], ...]:
    """The intervals of the argument on which the local derivative is smaller than ``below`` in size.

    An interval that goes on beyond ±10⁴ is taken to be endless.

    >>> from backstory.ops import TABLE
    >>> saturation(TABLE["relu"])
    ((-inf, 0.0),)
    >>> [round(edge, 2) for edge in saturation(TABLE["sigmoid"])[1]]
    [4.58, inf]
    """
    assert isinstance(op, Elementwise)

    def flat(z: np.ndarray) -> np.ndarray:
        def rule() -> Any:
            ans = op.forward(eager, z, *others, **(params or {}))
            return op.partials[0](eager, ans, z, *others, **(params or {}))

        return np.abs(np.broadcast_to(_quiet(rule), z.shape)) < below

    near = np.linspace(-30.0, 30.0, 6001)
    grid = np.concatenate([-np.geomspace(REACH, 30.0, 500)[:-1], near, np.geomspace(30.0, REACH, 500)[1:]])
    low = flat(grid)
    edges = [_edge(flat, grid[i], grid[i + 1]) for i in np.flatnonzero(low[1:] != low[:-1])]
    edges = ([-math.inf] if low[0] else []) + edges + ([math.inf] if low[-1] else [])
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return tuple((left, right) for left, right in pairs if right > left)


def _edge(flat: Callable[[np.ndarray], np.ndarray], left: float, right: float) -> float:
    """Where ``flat`` changes between the two, by halving."""
    before = flat(np.array([left]))[0]
    for _ in range(60):
        middle = 0.5 * (left + right)
        if flat(np.array([middle]))[0] == before:
            left = middle
        else:
            right = middle
    return round(float(right), 9) + 0.0
