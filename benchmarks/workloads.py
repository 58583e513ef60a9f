"""The training steps that are measured, and the data and first weights that all peers share."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

__all__ = ["WORKLOADS", "Workload"]


@dataclass(frozen=True)
class Workload:
    """A ReLU network of ``sizes`` and one batch, in float32.

    The loss is ``mse`` or ``cross_entropy``, the optimizer ``adam`` or ``sgd`` with momentum 0.9.
    """

    sizes: tuple[int, ...]
    batch: int
    loss: str
    optimizer: str
    lr: float

    def __str__(self) -> str:
        return f"{'-'.join(map(str, self.sizes))} batch {self.batch}, {self.loss}, {self.optimizer}"

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """One batch: inputs (N, features), and targets (N, outputs) or labels (N,)."""
        random = np.random.default_rng(0)
        x = random.standard_normal((self.batch, self.sizes[0])).astype(np.float32)
        if self.loss == "cross_entropy":
            return x, random.integers(0, self.sizes[-1], self.batch)
        return x, np.sin(x.sum(axis=1, keepdims=True)) * np.ones((1, self.sizes[-1]), np.float32)

    def weights(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """(W, b) of each layer, W of shape (out, in): He's normal initialisation, and no bias."""
        random = np.random.default_rng(1)
        return [
            (
                (random.standard_normal((fan_out, fan_in)) * math.sqrt(2 / fan_in)).astype(np.float32),
                np.zeros(fan_out, np.float32),
            )
            for fan_in, fan_out in zip(self.sizes, self.sizes[1:], strict=False)
        ]


WORKLOADS = {
    "W1": Workload((2, 64, 64, 1), 32, "mse", "sgd", 0.01),
    "W2": Workload((64, 128, 10), 64, "cross_entropy", "adam", 1e-3),
    "W3": Workload((3072, 100, 10), 200, "cross_entropy", "sgd", 1e-3),
}
