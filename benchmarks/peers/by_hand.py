"""NumPy by hand, with no graph and everything in place: the floor for a library on NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from workloads import Workload

from peers.training import (
    BETA1,
    BETA2,
    EPSILON,
    MOMENTUM,
    NORM_EPSILON,
    NORM_MOMENTUM,
    Training,
    from_moments,
)

__all__ = ["optimizer", "start"]


def start(workload: Workload, dtype: str = "float32") -> Training:
    """A training in ``dtype``; in float64 it is what all peers are compared with."""
    x, y = workload.data()
    x = x.astype(dtype)
    weights = [tuple(array.astype(dtype) for array in layer) for layer in workload.weights()]
    layers = [_layer(workload, i, arrays) for i, arrays in enumerate(weights)]
    loss_and_gradient = {"mse": _mse, "cross_entropy": _cross_entropy}[workload.loss]
    move, moments = optimizer(workload, [array for arrays in weights for array in arrays])

    def step() -> np.floating:
        h = x
        for layer in layers:
            h = layer.forward(h)
        loss, g = loss_and_gradient(h, y)
        gradients: list[np.ndarray] = []
        for i in reversed(range(len(layers))):
            g, of_layer = layers[i].backward(g, to_input=i > 0)
            gradients[:0] = of_layer
        move(gradients)
        return loss

    return Training(step, lambda: from_moments(workload, moments))


class _Affine:
    """``x Wᵀ + b``, with ReLU behind it where the layer is hidden."""

    def __init__(self, weight: np.ndarray, bias: np.ndarray, hidden: bool) -> None:
        self.weight, self.bias, self.hidden = weight, bias, hidden

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.x = x
        z = x @ self.weight.T
        z += self.bias
        self.a = np.maximum(z, 0, out=z) if self.hidden else z
        return self.a

    def backward(self, g: np.ndarray, to_input: bool) -> tuple[Any, list[np.ndarray]]:
        if self.hidden:
            g *= self.a > 0
        gradients = [g.T @ self.x, np.add.reduce(g, axis=0)]
        return g @ self.weight if to_input else None, gradients


class _Normalised:
    """``relu(norm(x Wᵀ))``, and where the layer is ``residual`` its input added."""

    def __init__(self, weight: np.ndarray, gain: np.ndarray, shift: np.ndarray, residual: bool) -> None:
        self.weight, self.gain, self.shift, self.residual = weight, gain, shift, residual
        self.running_mean, self.running_variance = np.zeros_like(gain), np.ones_like(gain)

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.x = x
        n = len(x)
        z = x @ self.weight.T
        mean = np.add.reduce(z, axis=0)
        mean /= n
        z -= mean
        variance = np.add.reduce(z * z, axis=0)
        variance /= n
        self.running_mean += NORM_MOMENTUM * (mean - self.running_mean)
        self.running_variance += NORM_MOMENTUM * (variance * (n / (n - 1)) - self.running_variance)
        self.inverse = 1 / np.sqrt(variance + NORM_EPSILON)
        z *= self.inverse
        self.normal = z
        a = z * self.gain
        a += self.shift
        self.a = np.maximum(a, 0, out=a)
        return a + x if self.residual else a

    def backward(self, g: np.ndarray, to_input: bool) -> tuple[Any, list[np.ndarray]]:
        n = len(g)
        gz = g * (self.a > 0)
        shift = np.add.reduce(gz, axis=0)
        gain = np.add.reduce(gz * self.normal, axis=0)
        gz -= shift / n
        gz -= self.normal * (gain / n)
        gz *= self.gain * self.inverse
        gradients = [gz.T @ self.x, gain, shift]
        if not to_input:
            return None, gradients
        gx = gz @ self.weight
        if self.residual:
            gx += g
        return gx, gradients


def _layer(workload: Workload, i: int, arrays: tuple[np.ndarray, ...]) -> _Affine | _Normalised:
    hidden = i < len(workload.sizes) - 2
    if hidden and workload.normalised:
        weight, gain, shift = arrays
        return _Normalised(weight, gain, shift, workload.residual(i))
    weight, bias = arrays
    return _Affine(weight, bias, hidden)


def _mse(output: np.ndarray, target: np.ndarray) -> tuple[np.floating, np.ndarray]:
    difference = output - target
    loss = np.vdot(difference, difference) / difference.size
    difference *= 2 / difference.size
    return loss, difference


def _cross_entropy(logits: np.ndarray, labels: np.ndarray) -> tuple[np.floating, np.ndarray]:
    rows = np.arange(len(labels))
    logits -= np.maximum.reduce(logits, axis=1, keepdims=True)
    chosen = logits[rows, labels]
    p = np.exp(logits, out=logits)
    total = np.add.reduce(p, axis=1, keepdims=True)
    loss = np.add.reduce(np.log(total[:, 0]) - chosen) / len(labels)
    p /= total
    p[rows, labels] -= 1
    p /= len(labels)
    return loss, p


Move = Callable[[list[np.ndarray]], None]


def optimizer(workload: Workload, parameters: list[np.ndarray]) -> tuple[Move, list[np.ndarray]]:
    """What moves the parameters in place, by gradients that it uses up; and its (first) moments."""
    return {"sgd": _sgd, "adam": _adam}[workload.optimizer](parameters, workload.lr)


def _sgd(parameters: list[np.ndarray], lr: float) -> tuple[Move, list[np.ndarray]]:
    velocities = [np.zeros_like(p) for p in parameters]

    def move(gradients: list[np.ndarray]) -> None:
        for p, v, g in zip(parameters, velocities, gradients, strict=True):
            v *= MOMENTUM
            v += g
            g[...] = v
            g *= lr
            p -= g

    return move, velocities


def _adam(parameters: list[np.ndarray], lr: float) -> tuple[Move, list[np.ndarray]]:
    firsts = [np.zeros_like(p) for p in parameters]
    seconds = [np.zeros_like(p) for p in parameters]
    step = 0

    def move(gradients: list[np.ndarray]) -> None:
        nonlocal step
        step += 1
        correction = (1 - BETA2**step) ** 0.5
        rate = lr * correction / (1 - BETA1**step)
        for p, m, v, g in zip(parameters, firsts, seconds, gradients, strict=True):
            m *= BETA1
            m += g * (1 - BETA1)
            v *= BETA2
            g *= g
            g *= 1 - BETA2
            v += g
            root = np.sqrt(v)
            root += EPSILON * correction
            np.divide(m, root, out=root)
            root *= rate
            p -= root

    return move, firsts
