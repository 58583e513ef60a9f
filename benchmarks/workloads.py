"""The training steps that are measured, and the data and first weights that all peers share."""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass

import numpy as np

__all__ = ["TINY", "WORKLOADS", "Workload"]


@dataclass(frozen=True)
class Workload:
    """A ReLU network of ``sizes`` and one batch, in float32.

    The loss is ``mse`` or ``cross_entropy``, the optimizer ``adam`` or ``sgd`` with momentum 0.9. With
    ``normalised``, every hidden layer has batch norm in place of a bias, and where it is as wide as the layer
    before, its input is added to its output: ``h + relu(norm(h Wᵀ))``.
    """

    sizes: tuple[int, ...]
    batch: int
    loss: str
    optimizer: str
    lr: float
    normalised: bool = False

    def __str__(self) -> str:
        runs = [(size, len(list(run))) for size, run in itertools.groupby(self.sizes)]
        sizes = "-".join(str(size) if n == 1 else f"({size} × {n})" for size, n in runs)
        norm = ", batch norm and residual connections" if self.normalised else ""
        return f"{sizes} batch {self.batch}, {self.loss}, {self.optimizer}{norm}"

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """One batch: inputs (N, features), and targets (N, outputs) or labels (N,)."""
        x, y = _data(self)
        return x.copy(), y.copy()

    def weights(self) -> list[tuple[np.ndarray, ...]]:
        """What each layer learns: He's normal initialisation W of shape (out, in), and a bias of zeros.

        A normalised hidden layer has a gain of ones and a shift of zeros in place of the bias.
        """
        return [tuple(array.copy() for array in layer) for layer in _weights(self)]

    def residual(self, layer: int) -> bool:
        """Whether the input of hidden layer number ``layer`` is added to its output."""
        return self.normalised and self.sizes[layer] == self.sizes[layer + 1]


# Drawn once per process: what a first call costs is measured without the drawing.
@functools.cache
def _data(workload: Workload) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    x = random.standard_normal((workload.batch, workload.sizes[0])).astype(np.float32)
    if workload.loss == "cross_entropy":
        return x, random.integers(0, workload.sizes[-1], workload.batch)
    return x, np.sin(x.sum(axis=1, keepdims=True)) * np.ones((1, workload.sizes[-1]), np.float32)


@functools.cache
def _weights(workload: Workload) -> list[tuple[np.ndarray, ...]]:
    random = np.random.default_rng(1)
    layers: list[tuple[np.ndarray, ...]] = []
    for fan_in, fan_out in itertools.pairwise(workload.sizes):
        drawn = random.standard_normal((fan_out, fan_in)) * math.sqrt(2 / fan_in)
        hidden = len(layers) < len(workload.sizes) - 2
        gain = (np.ones(fan_out, np.float32),) if workload.normalised and hidden else ()
        layers.append((drawn.astype(np.float32), *gain, np.zeros(fan_out, np.float32)))
    return layers


DEEP = (784, *(256,) * 10, 10)
WORKLOADS = {
    "W1": Workload((2, 64, 64, 1), 32, "mse", "sgd", 0.01),
    "W2": Workload((64, 128, 10), 64, "cross_entropy", "adam", 1e-3),
    "W3": Workload((3072, 100, 10), 200, "cross_entropy", "sgd", 1e-3),
    "W4": Workload(DEEP, 128, "cross_entropy", "adam", 1e-3),
    "W5": Workload(DEEP, 128, "cross_entropy", "adam", 1e-3, normalised=True),
}

# Every loss, optimizer and kind of layer, at a size that takes no time.
TINY = {
    "tiny": Workload((3, 8, 8, 2), 5, "mse", "sgd", 0.01),
    "tiny-normalised": Workload((4, 8, 8, 3), 6, "cross_entropy", "adam", 1e-3, normalised=True),
}
