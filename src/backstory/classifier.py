"""What ``backstory train`` trains: affine – ReLU – affine – softmax (two layers), and deeper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from backstory import nn
from backstory.data import DataLoader, cifar10, csv, digits, mnist, random_split
from backstory.errors import ArgumentError

__all__ = ["Centred", "build", "read"]


class Centred(nn.Module):
    """x − mean, with the mean of the training inputs, as a part of the model.

    >>> import backstory
    >>> Centred(backstory.tensor([1.0, 2.0]))(backstory.tensor([[1.0, 4.0]]))
    tensor([[0., 2.]])
    """

    mean: Any

    def __init__(self, mean: Any) -> None:
        super().__init__()
        self.register_buffer("mean", mean)

    def forward(self, x: Any) -> Any:
        """x − mean."""
        return x - self.mean


def read(source: str, target: str, verify: bool) -> tuple[Any, Any, int]:
    """Training data, held-out data, and the number of outputs (one for a target of floats).

    ``source`` is ``digits``, a CSV file, or a folder of MNIST's or CIFAR-10's files. A fifth of digits and of
    CSV files is held out at random; MNIST and CIFAR-10 bring their own test data.
    """
    path = Path(source)
    if source == "digits" and not path.exists():
        whole: Any = digits()
    elif path.is_file():
        whole = csv(path, int(target) if target.lstrip("-").isdigit() else target)
    elif path.is_dir():
        reader = mnist if any(path.glob("*-ubyte*")) else cifar10
        return reader(path, verify=verify), reader(path, train=False, verify=verify), 10
    else:
        raise ArgumentError(
            f"backstory train {source}",
            why="there is no such file or folder",
            instead="digits, a CSV file, or a folder of MNIST's or CIFAR-10's files",
        )
    labels = whole.tensors[1]
    outputs = int(labels.max().item()) + 1 if labels.dtype.kind == "i" else 1
    if labels.dtype.kind == "i" and labels.min().item() < 0:
        raise ArgumentError(
            f"backstory train {source}: a label of {int(labels.min().item())}",
            why="classes are numbered from 0",
            instead="words or numbers from 0 in that column, or floats (1.0) for a regression",
        )
    training, held_out = random_split(whole, [0.8, 0.2])
    return training, held_out, outputs


def build(training: Any, hidden: Sequence[int], outputs: int) -> nn.Sequential:
    """Inputs centred on the training data's mean and flattened, then Linear and ReLU in turn, from He."""
    total: Any = 0.0
    for x, _ in DataLoader(training, batch_size=1000):
        total = total + x.sum(0)
    mean = total / len(training)
    sizes = [math.prod(mean.shape), *hidden, outputs]
    layers: list[nn.Module] = [Centred(mean), nn.Flatten()]
    for i, (n, m) in enumerate(pairwise(sizes)):
        layers += [nn.ReLU()] if i else []
        layers.append(nn.Linear(n, m))
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return nn.Sequential(*layers)
