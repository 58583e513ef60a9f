"""MyGrad, with its gradients moved by NumPy by hand."""

from __future__ import annotations

from typing import Any

import mygrad
import numpy as np
from mygrad.nnet.losses import softmax_crossentropy
from workloads import Workload

from peers import by_hand
from peers.functional import grouped, mean_square, network, running, unit_statistics
from peers.training import Training, from_moments

__all__ = ["start"]


def start(workload: Workload) -> Training:
    """A training on MyGrad, without its guard against changes of memory, which costs time."""
    mygrad.turn_memory_guarding_off()
    x, y = workload.data()
    tensors = [mygrad.tensor(array, copy=False) for layer in workload.weights() for array in layer]
    layers = grouped(workload, tensors)
    move, moments = by_hand.optimizer(workload, [p.data for p in tensors])
    state = unit_statistics(np, workload)

    def step() -> Any:
        output, statistics = network(mygrad, workload, layers, x)
        for i, (mean, variance) in enumerate(statistics):
            state[i] = running(workload, state[i], (mean.data, variance.data))
        mse = workload.loss == "mse"
        loss = mean_square(mygrad, output, y) if mse else softmax_crossentropy(output, y)
        loss.backward()
        move([p.grad for p in tensors])
        return loss

    return Training(step, lambda: from_moments(workload, moments))
