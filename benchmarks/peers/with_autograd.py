"""HIPS autograd, with its gradients moved by NumPy by hand."""

from __future__ import annotations

import autograd.numpy as anp
import numpy as np
from autograd import value_and_grad
from autograd.scipy.special import logsumexp
from autograd.tracer import getval
from workloads import Workload

from peers import by_hand
from peers.functional import grouped, mean_square, network, running, unit_statistics
from peers.training import Training, from_moments

__all__ = ["start"]


def start(workload: Workload) -> Training:
    """A training on HIPS autograd."""
    x, y = workload.data()
    parameters = [array for layer in workload.weights() for array in layer]
    move, moments = by_hand.optimizer(workload, parameters)
    rows = np.arange(workload.batch)
    state = unit_statistics(np, workload)

    def loss(parameters: list[np.ndarray]) -> np.floating:
        output, statistics = network(anp, workload, grouped(workload, parameters), x)
        for i, batch in enumerate(statistics):
            state[i] = running(workload, state[i], tuple(map(getval, batch)))
        if workload.loss == "mse":
            return mean_square(anp, output, y)
        return anp.mean(logsumexp(output, axis=1) - output[rows, y])

    both = value_and_grad(loss)

    def step() -> np.floating:
        value, gradients = both(parameters)
        move(gradients)
        return value

    return Training(step, lambda: from_moments(workload, moments))
