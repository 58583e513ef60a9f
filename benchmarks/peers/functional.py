"""What the peers share whose arrays look like NumPy's: the network, and the optimizers as pure rules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from workloads import Workload

from peers.training import BETA1, BETA2, EPSILON, MOMENTUM, NORM_EPSILON, NORM_MOMENTUM

__all__ = ["adam", "grouped", "mean_square", "network", "running", "sgd", "unit_statistics"]


def network(
    xp: Any, workload: Workload, layers: Sequence[Sequence[Any]], x: Any
) -> tuple[Any, list[tuple[Any, Any]]]:
    """The output (N, outputs), and mean and variance (features,) of the batch at every normalisation."""
    statistics = []
    h = x
    *hidden, (last_weight, last_bias) = layers
    for i, (weight, *rest) in enumerate(hidden):
        z = h @ weight.T
        if workload.normalised:
            gain, shift = rest
            mean = xp.mean(z, axis=0)
            centred = z - mean
            variance = xp.mean(centred * centred, axis=0)
            z = centred * (gain / xp.sqrt(variance + NORM_EPSILON)) + shift
            statistics.append((mean, variance))
        else:
            z = z + rest[0]
        a = xp.maximum(z, 0)
        h = h + a if workload.residual(i) else a
    return h @ last_weight.T + last_bias, statistics


def mean_square(xp: Any, output: Any, target: Any) -> Any:
    """Mean squared error."""
    difference = output - target
    return xp.mean(difference * difference)


def unit_statistics(xp: Any, workload: Workload) -> list[tuple[Any, Any]]:
    """Running mean and variance of every normalisation before the first step."""
    sizes = workload.sizes[1:-1] if workload.normalised else ()
    return [(xp.zeros(n, dtype="float32"), xp.ones(n, dtype="float32")) for n in sizes]


def running(workload: Workload, old: tuple[Any, Any], batch: tuple[Any, Any]) -> tuple[Any, Any]:
    """Running mean and (unbiased) variance after one more batch."""
    unbiased = workload.batch / (workload.batch - 1)
    keep = 1 - NORM_MOMENTUM
    return (
        keep * old[0] + NORM_MOMENTUM * batch[0],
        keep * old[1] + NORM_MOMENTUM * unbiased * batch[1],
    )


def grouped(workload: Workload, arrays: Sequence[Any]) -> list[list[Any]]:
    """A flat list of parameters as layers."""
    iterator = iter(arrays)
    return [[next(iterator) for _ in layer] for layer in workload.weights()]


def sgd(workload: Workload, p: Any, g: Any, velocity: Any) -> tuple[Any, Any]:
    """SGD with momentum: the new parameter and velocity."""
    velocity = MOMENTUM * velocity + g
    return p - workload.lr * velocity, velocity


def adam(xp: Any, workload: Workload, count: Any, p: Any, g: Any, moments: Any) -> tuple[Any, Any]:
    """Adam: the new parameter and its two moments; ``count`` is the number of this step, in float32."""
    m, v = moments
    m = BETA1 * m + (1 - BETA1) * g
    v = BETA2 * v + (1 - BETA2) * (g * g)
    # 1 − βᵗ, exact in float32 where βᵗ is near 1.
    root = xp.sqrt(-xp.expm1(count * math.log(BETA2)))
    rate = workload.lr * root / -xp.expm1(count * math.log(BETA1))
    return p - rate * m / (xp.sqrt(v) + EPSILON * root), (m, v)
