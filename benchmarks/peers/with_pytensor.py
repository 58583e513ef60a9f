"""PyTensor in its Numba mode: the whole step is one function, its state is shared and updated in place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from workloads import Workload

from peers.functional import adam, grouped, mean_square, network, running, sgd, unit_statistics
from peers.training import Training, from_moments

__all__ = ["start"]


def start(workload: Workload) -> Training:
    """A training compiled by PyTensor."""
    pytensor.config.floatX = "float32"
    shared = pytensor.shared
    data = workload.data()
    x, y = (pt.tensor(shape=array.shape, dtype=array.dtype) for array in data)
    parameters = [shared(array) for layer in workload.weights() for array in layer]
    first, second = ([shared(np.zeros_like(p.get_value())) for p in parameters] for _ in range(2))
    statistics = [tuple(map(shared, pair)) for pair in unit_statistics(np, workload)]
    count = shared(np.float32(0))

    output, batch = network(pt, workload, grouped(workload, parameters), x)
    if workload.loss == "mse":
        loss = mean_square(pt, output, y)
    else:
        loss = -pt.mean(pt.special.log_softmax(output, axis=1)[pt.arange(workload.batch), y])
    updates: list[tuple[Any, Any]] = [(count, count + np.float32(1))]
    for p, g, m, v in zip(parameters, pytensor.grad(loss, parameters), first, second, strict=True):
        if workload.optimizer == "adam":
            new, moments = adam(pt, workload, count + np.float32(1), p, g, (m, v))
            updates += [(p, new), (m, moments[0]), (v, moments[1])]
        else:
            updates += zip((p, m), sgd(workload, p, g, m), strict=True)
    for old, new in zip(statistics, batch, strict=True):
        updates += zip(old, running(workload, old, new), strict=True)
    step = pytensor.function(
        [pytensor.In(x, borrow=True), pytensor.In(y, borrow=True)],
        loss,
        updates=[(old, pt.cast(new, "float32")) for old, new in updates],
        mode="NUMBA",
        trust_input=True,
    )
    return Training(lambda: step(*data), lambda: from_moments(workload, [m.get_value() for m in first]))
