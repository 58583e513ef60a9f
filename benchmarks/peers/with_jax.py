"""JAX: the whole step under ``jit``, its state donated, so that it is updated in place."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from workloads import Workload

from peers.functional import adam, grouped, mean_square, network, running, sgd, unit_statistics
from peers.training import Training, from_moments

__all__ = ["start"]


def start(workload: Workload) -> Training:
    """A training under ``jax.jit``."""
    x, y = map(jnp.asarray, workload.data())
    parameters = [jnp.asarray(array) for layer in workload.weights() for array in layer]
    both = workload.optimizer == "adam"
    moments = [(jnp.zeros_like(p), jnp.zeros_like(p)) if both else jnp.zeros_like(p) for p in parameters]
    state: Any = (parameters, moments, unit_statistics(jnp, workload), jnp.float32(0))
    compiled = jax.jit(lambda state, x, y: _step(workload, state, x, y), donate_argnums=0)

    def step() -> Any:
        nonlocal state
        state, loss = compiled(state, x, y)
        return loss

    return Training(step, lambda: from_moments(workload, [m[0] if both else m for m in state[1]]))


def _step(workload: Workload, state: Any, x: Any, y: Any) -> tuple[Any, Any]:
    parameters, moments, statistics, count = state

    def loss_of(parameters: list[Any]) -> tuple[Any, Any]:
        output, batch = network(jnp, workload, grouped(workload, parameters), x)
        if workload.loss == "mse":
            return mean_square(jnp, output, y), batch
        chosen = jnp.take_along_axis(jax.nn.log_softmax(output), y[:, None], axis=1)
        return -chosen.mean(), batch

    (loss, batch), gradients = jax.value_and_grad(loss_of, has_aux=True)(parameters)
    count = count + 1
    moved = [
        adam(jnp, workload, count, p, g, m) if workload.optimizer == "adam" else sgd(workload, p, g, m)
        for p, g, m in zip(parameters, gradients, moments, strict=True)
    ]
    statistics = [running(workload, old, new) for old, new in zip(statistics, batch, strict=True)]
    return ([p for p, _ in moved], [m for _, m in moved], statistics, count), loss
