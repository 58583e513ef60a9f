"""Adam."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from backstory.optim.optimizer import Optimizer, checked_rate
from backstory.tensor import Tensor

__all__ = ["Adam"]


class Adam(Optimizer):
    """m ← β₁m + (1 − β₁)g; v ← β₂v + (1 − β₂)g²; w ← w − η·m̂/(√v̂ + ε), with m̂ = m/(1 − β₁ᵗ), v̂ = v/(1 − β₂ᵗ).

    ``weight_decay`` λ adds λw to the gradient, as in PyTorch's Adam. Kingma & Ba 2015 (arXiv:1412.6980).
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def check(self, group: Mapping[str, Any]) -> None:
        """Refuse negative rates and betas outside [0, 1)."""
        for name in ("lr", "eps", "weight_decay"):
            checked_rate(name, group[name])
        for i, beta in enumerate(group["betas"]):
            checked_rate(f"betas[{i}]", beta, upper=1.0)

    def initial_state(self, p: Tensor, group: Mapping[str, Any]) -> dict[str, Any]:
        """No step taken; both moments 0."""
        return {"step": 0, "exp_avg": np.zeros_like(p.array), "exp_avg_sq": np.zeros_like(p.array)}

    def update(
        self, xp: Any, p: Any, g: Any, state: Mapping[str, Any], group: Mapping[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        """The change −η·m̂/(√v̂ + ε) and the new moments."""
        step = state["step"] + 1
        beta1, beta2 = group["betas"]
        if group["weight_decay"] != 0:
            g = g + group["weight_decay"] * p
        m, v = state["exp_avg"], state["exp_avg_sq"]
        m = m + (g - m) * (1 - beta1)
        v = v * beta2 + g * g * (1 - beta2)
        # η·m̂/(√v̂ + ε) with both corrections gathered into numbers: (η·c/(1 − β₁ᵗ))·m/(√v + ε·c).
        correction = math.sqrt(1 - beta2**step)
        rate = -group["lr"] * correction / (1 - beta1**step)
        change = m / (xp.sqrt(v) + group["eps"] * correction) * rate
        return change, {"step": step, "exp_avg": m, "exp_avg_sq": v}
