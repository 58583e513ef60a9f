"""tinygrad: the whole step under ``TinyJit``."""

from __future__ import annotations

from typing import Any

from tinygrad import Tensor, TinyJit, nn
from tinygrad.helpers import Context
from workloads import Workload

from peers.functional import grouped
from peers.training import MOMENTUM, Training, from_moments

__all__ = ["start"]


def start(workload: Workload) -> Training:
    """A training under ``TinyJit``."""
    x, y = (Tensor(array).realize() for array in workload.data())
    parameters = [Tensor(array).realize() for layer in workload.weights() for array in layer]
    layers = grouped(workload, parameters)
    norms = [nn.BatchNorm(size) for size in workload.sizes[1:-1]] if workload.normalised else []
    for i, norm in enumerate(norms):
        _, norm.weight, norm.bias = layers[i]
    if workload.optimizer == "adam":
        optimizer: Any = nn.optim.Adam(parameters, lr=workload.lr)
        moments = optimizer.m
    else:
        optimizer = nn.optim.SGD(parameters, lr=workload.lr, momentum=MOMENTUM)
        moments = optimizer.b
    running = [array for norm in norms for array in (norm.running_mean, norm.running_var)]

    @TinyJit
    def compiled() -> Tensor:
        optimizer.zero_grad()
        output = _network(workload, layers, norms, x)
        mse = workload.loss == "mse"
        loss = (output - y).square().mean() if mse else output.sparse_categorical_crossentropy(y)
        loss.backward()
        return loss.realize(*optimizer.schedule_step(), *running)

    def step() -> Tensor:
        with Context(TRAINING=1):
            return compiled()

    return Training(
        step,
        lambda: from_moments(workload, [m.numpy() for m in moments]),
        lambda loss: float(loss.item()),
    )


def _network(workload: Workload, layers: list[list[Any]], norms: list[Any], x: Tensor) -> Tensor:
    h = x
    *hidden, (last_weight, last_bias) = layers
    for i, (weight, *rest) in enumerate(hidden):
        z = h @ weight.T
        a = (norms[i](z) if norms else z + rest[0]).relu()
        h = h + a if workload.residual(i) else a
    return h @ last_weight.T + last_bias
