"""The peers: each makes, from a workload, a function that runs one training step and returns the loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from workloads import Workload

__all__ = ["PEERS"]

Step = Callable[[], Any]


def backstory_step(workload: Workload) -> Step:
    """backstory, eager."""
    import backstory

    return _library_step(workload, backstory, backstory.as_tensor)


def torch_step(workload: Workload) -> Step:
    """PyTorch, eager."""
    import torch

    return _library_step(workload, torch, torch.from_numpy)


def _library_step(workload: Workload, library: Any, as_tensor: Callable[[np.ndarray], Any]) -> Step:
    """The same program for both libraries, which share their API."""
    nn, optim = library.nn, library.optim
    layers: list[Any] = []
    for weight, bias in workload.weights():
        layer = nn.Linear(weight.shape[1], weight.shape[0])
        with library.no_grad():
            layer.weight.copy_(as_tensor(weight))
            layer.bias.copy_(as_tensor(bias))
        layers += [layer, nn.ReLU()]
    model = nn.Sequential(*layers[:-1])
    criterion = {"mse": nn.MSELoss, "cross_entropy": nn.CrossEntropyLoss}[workload.loss]()
    if workload.optimizer == "adam":
        optimizer = optim.Adam(model.parameters(), lr=workload.lr)
    else:
        optimizer = optim.SGD(model.parameters(), lr=workload.lr, momentum=0.9)
    x, y = map(as_tensor, workload.data())

    def step() -> Any:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def numpy_step(workload: Workload) -> Step:
    """NumPy by hand, with no graph and everything in place: the floor for a library on NumPy."""
    x, y = workload.data()
    layers = workload.weights()
    parameters = [array for layer in layers for array in layer]
    loss_and_gradient = {"mse": _mse, "cross_entropy": _cross_entropy}[workload.loss]
    move = {"sgd": _sgd, "adam": _adam}[workload.optimizer](parameters, workload.lr)

    def step() -> np.floating:
        activations = [x]
        for i, (weight, bias) in enumerate(layers, 1):
            z = activations[-1] @ weight.T
            z += bias
            activations.append(z if i == len(layers) else np.maximum(z, 0, out=z))
        loss, g = loss_and_gradient(activations.pop(), y)
        gradients: list[np.ndarray] = []
        for i in reversed(range(len(layers))):
            gradients[:0] = [g.T @ activations[i], np.add.reduce(g, axis=0)]
            if i:
                g = g @ layers[i][0]
                g *= activations[i] > 0
        move(gradients)
        return loss

    return step


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


def _sgd(parameters: list[np.ndarray], lr: float) -> Callable[[list[np.ndarray]], None]:
    velocities = [np.zeros_like(p) for p in parameters]

    def move(gradients: list[np.ndarray]) -> None:
        for p, v, g in zip(parameters, velocities, gradients, strict=True):
            v *= 0.9
            v += g
            g[...] = v
            g *= lr
            p -= g

    return move


def _adam(parameters: list[np.ndarray], lr: float) -> Callable[[list[np.ndarray]], None]:
    firsts = [np.zeros_like(p) for p in parameters]
    seconds = [np.zeros_like(p) for p in parameters]
    step = 0

    def move(gradients: list[np.ndarray]) -> None:
        nonlocal step
        step += 1
        correction = (1 - 0.999**step) ** 0.5
        rate = lr * correction / (1 - 0.9**step)
        for p, m, v, g in zip(parameters, firsts, seconds, gradients, strict=True):
            m *= 0.9
            m += g * 0.1
            v *= 0.999
            g *= g
            g *= 0.001
            v += g
            root = np.sqrt(v)
            root += 1e-8 * correction
            np.divide(m, root, out=root)
            root *= rate
            p -= root

    return move


PEERS: dict[str, Callable[[Workload], Step]] = {
    "backstory": backstory_step,
    "PyTorch": torch_step,
    "NumPy by hand": numpy_step,
}
