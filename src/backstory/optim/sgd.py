"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from backstory.errors import ArgumentError
from backstory.optim.optimizer import Optimizer, checked_rate
from backstory.tensor import Tensor

__all__ = ["SGD"]


class SGD(Optimizer):
    """d = g + λw; v ← μv + (1 − τ)d (v = d at the first step); w ← w − η·v, as PyTorch has it.

    η is ``lr``, μ ``momentum``, τ ``dampening``, λ ``weight_decay``. With ``nesterov`` the step is
    −η(d + μv); ``maximize`` takes −g for g, and so climbs.

    >>> import backstory
    >>> w = backstory.tensor([1.0], requires_grad=True)
    >>> optimizer = SGD([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([0.8], requires_grad=True)
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
                "maximize": maximize,
            },
        )

    def check(self, group: Mapping[str, Any]) -> None:
        """Refuse negative rates, and Nesterov without momentum or with dampening."""
        for name in ("lr", "momentum", "weight_decay"):
            checked_rate(name, group[name])
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ArgumentError(
                f"SGD(nesterov=True, momentum={group['momentum']}, dampening={group['dampening']})",
                why="Nesterov's step looks ahead along the momentum, undamped",
                instead="SGD(params, lr=…, momentum=0.9, nesterov=True)",
            )

    def initial_state(self, p: Tensor, group: Mapping[str, Any]) -> dict[str, Any]:
        """No step taken, and no momentum."""
        if group["momentum"] == 0:
            return {"step": 0}
        return {"step": 0, "momentum_buffer": np.zeros_like(p.array)}

    def update(
        self, xp: Any, p: Any, g: Any, state: Mapping[str, Any], group: Mapping[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        """The change −η·v and the new v."""
        step, lr, momentum = state["step"], group["lr"], group["momentum"]
        if group["maximize"]:
            g = -g
        if group["weight_decay"] != 0:
            g = g + group["weight_decay"] * p
        if momentum == 0:
            return g * -lr, {**state, "step": step + 1}
        # Momentum that is switched on later starts as at the first step, which is not damped.
        if "momentum_buffer" not in state:
            velocity = g + xp.zeros_like(g)
        else:
            whole = group["dampening"] == 0 or step == 0
            velocity = state["momentum_buffer"] * momentum + (g if whole else g * (1 - group["dampening"]))
        direction = g + momentum * velocity if group["nesterov"] else velocity
        return direction * -lr, {"step": step + 1, "momentum_buffer": velocity}
