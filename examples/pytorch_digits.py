"""The demo's network in PyTorch, watched by two lines: who dies, at which step, and by which update.

A loop like any other, in float64, from the initial weights and in the data order of ``backstory demo``.
In the 5 epochs (115 steps) that it trains, the same units die and revive at the same steps as in backstory's
own engine, all 484 events. The two add up in different orders, so they differ by rounding, and with this
learning rate the difference grows: by step 115 their losses differ by up to 8e-7 of their value, by step 157
by 1e-2. There, of 10 epochs (230 steps), the first event differs; neither is then the right one.

    python examples/pytorch_digits.py [folder of the run] [epochs]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import backstory
from backstory import demo

EPOCHS, BATCH = 5, 64


def start(epochs: int = EPOCHS) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray], list[np.ndarray]]:
    """Training images, labels, the demo's initial weights by name, and the order of every epoch."""
    backstory.manual_seed(0)
    images, labels, _, _ = demo.data(demo.CONFIG)
    model, _ = demo.build(demo.CONFIG)
    weights = {name: p.numpy().copy() for name, p in model.state_dict().items()}
    orders = [backstory.randperm(len(images)).numpy() for _ in range(epochs)]
    return images.numpy(), labels.numpy(), weights, orders


def network(weights: dict[str, np.ndarray]) -> nn.Sequential:
    """64-100-100-10 in float64, with these weights."""
    model = nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 10))
    model = model.double()
    model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    return model


def train(path: str | Path, epochs: int = EPOCHS) -> Any:
    """The training; the run is what ``watch`` recorded, scanned after every step."""
    images, labels, weights, orders = start(epochs)
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    model = network(weights)
    optimizer = torch.optim.SGD(model.parameters(), lr=demo.CONFIG["lr"], momentum=demo.CONFIG["momentum"])
    run = backstory.watch(model, optimizer, path, data=x, scan_at=lambda step: True)
    for order in orders:
        for first in range(0, len(order), BATCH):
            batch = torch.from_numpy(order[first : first + BATCH])
            optimizer.zero_grad()
            cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
    run.close()
    return run


def main(path: str = "digits-in-pytorch", epochs: str = str(EPOCHS)) -> None:
    """Train, and tell what happened."""
    run = train(path, int(epochs))
    print(run.life_table())
    print()
    print(run.story())


if __name__ == "__main__":
    main(*sys.argv[1:])
