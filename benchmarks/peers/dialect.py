"""backstory and PyTorch, eager and compiled: one program for both, since they share their API."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from workloads import Workload

from peers.training import MOMENTUM, Training

__all__ = ["start"]


def start(workload: Workload, package: str, mode: str, watched: str = "") -> Training:
    """A training on ``package``; ``mode`` is ``eager`` or ``compile``; ``watched``, it is recorded.

    backstory compiles the whole step. PyTorch compiles the forward pass with the loss (and so the backward
    pass), and the optimizer's step: that is as far as it goes without breaking its graph.
    """
    library = importlib.import_module(package)
    model = network(workload, library)
    parameters = list(model.parameters())
    optimizer = _optimizer(workload, library, parameters)
    criterion = {"mse": library.nn.MSELoss, "cross_entropy": library.nn.CrossEntropyLoss}[workload.loss]()
    x, y = (library.tensor(array) for array in workload.data())

    def forward(x: Any, y: Any) -> Any:
        return criterion(model(x), y)

    watching = _watch(model, optimizer, x) if watched else {}
    update = optimizer.step
    if mode == "compile" and package == "torch":
        forward, update = library.compile(forward), library.compile(update)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = forward(x, y)
        loss.backward()
        update()
        return loss

    if mode == "compile" and package == "backstory":
        step = library.compile(step)
    return Training(
        lambda: step(x, y),
        lambda: [np.array(p.grad.detach().numpy(), np.float64) for p in parameters],
        lambda loss: loss.item(),
        **watching,
    )


def network(workload: Workload, library: Any) -> Any:
    """The workload's network, with its first weights."""
    nn, weights = library.nn, workload.weights()

    class Residual(nn.Module):
        def __init__(self, block: Any) -> None:
            super().__init__()
            self.block = block

        def forward(self, x: Any) -> Any:
            return x + self.block(x)

    layers: list[Any] = []
    for i, (weight, *_) in enumerate(weights):
        hidden = i < len(weights) - 1
        normalised = hidden and workload.normalised
        block = [nn.Linear(weight.shape[1], weight.shape[0], bias=not normalised)]
        block += [nn.BatchNorm1d(weight.shape[0])] * normalised + [nn.ReLU()] * hidden
        layers += [Residual(nn.Sequential(*block))] if hidden and workload.residual(i) else block
    model = nn.Sequential(*layers)
    first = (array for layer in weights for array in layer)
    with library.no_grad():
        for parameter, array in zip(model.parameters(), first, strict=True):
            parameter.copy_(library.tensor(array))
    return model


def _watch(model: Any, optimizer: Any, data: Any) -> dict[str, Callable[[], None]]:
    """Record every step, without scans between the first and the last: how to settle and to close it."""
    import backstory

    folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    recording = backstory.watch(
        model, optimizer, Path(folder.name) / "run", data=data, scan_at=lambda step: False
    )

    def close() -> None:
        recording.close()
        folder.cleanup()

    return {"settle": recording.flush, "close": close}


def _optimizer(workload: Workload, library: Any, parameters: list[Any]) -> Any:
    if workload.optimizer == "adam":
        return library.optim.Adam(parameters, lr=workload.lr)
    return library.optim.SGD(parameters, lr=workload.lr, momentum=MOMENTUM)
