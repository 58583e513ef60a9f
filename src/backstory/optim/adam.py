"""Adam and its kin: AdamW and NAdam."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from backstory.optim.optimizer import Optimizer, checked_rate
from backstory.tensor import Tensor

__all__ = ["Adam", "AdamW", "NAdam"]


class Adam(Optimizer):
    """m ← β₁m + (1 − β₁)g; v ← β₂v + (1 − β₂)g²; w ← w − η·m̂/(√v̂ + ε), with m̂ = m/(1 − β₁ᵗ), v̂ = v/(1 − β₂ᵗ).

    ``weight_decay`` λ adds λw to the gradient, as in PyTorch's Adam; with ``decoupled_weight_decay`` it
    takes ηλw off the parameter instead, as in :class:`AdamW`. With ``amsgrad`` the largest v so far stands
    for v; ``maximize`` takes −g for g. Kingma & Ba 2015 (arXiv:1412.6980); amsgrad: Reddi et al. 2018
    (arXiv:1904.09237).

    >>> import backstory
    >>> w = backstory.tensor([1.0, -1.0], requires_grad=True)
    >>> optimizer = Adam([w], lr=0.25)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([ 0.75, -0.75], requires_grad=True)
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "maximize": maximize,
                "decoupled_weight_decay": decoupled_weight_decay,
            },
        )

    def check(self, group: Mapping[str, Any]) -> None:
        """Refuse negative rates and betas outside [0, 1)."""
        check_adam(group)

    def initial_state(self, p: Tensor, group: Mapping[str, Any]) -> dict[str, Any]:
        """No step taken; both moments 0."""
        state = {"step": 0, "exp_avg": np.zeros_like(p.array), "exp_avg_sq": np.zeros_like(p.array)}
        return {**state, "max_exp_avg_sq": np.zeros_like(p.array)} if group["amsgrad"] else state

    def update(
        self, xp: Any, p: Any, g: Any, state: Mapping[str, Any], group: Mapping[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        """The change −η·m̂/(√v̂ + ε), less ηλw where the decay is decoupled, and the new moments."""
        step = state["step"] + 1
        beta1, beta2 = group["betas"]
        g = with_decay(p, g, group)
        m, v = state["exp_avg"], state["exp_avg_sq"]
        m = m + (g - m) * (1 - beta1)
        v = v * beta2 + g * g * (1 - beta2)
        new = {"step": step, "exp_avg": m, "exp_avg_sq": v}
        if group["amsgrad"]:
            v = new["max_exp_avg_sq"] = xp.maximum(state.get("max_exp_avg_sq", v), v)
        # η·m̂/(√v̂ + ε) with both corrections gathered into numbers: (η·c/(1 − β₁ᵗ))·m/(√v + ε·c).
        correction = (1 - beta2**step) ** 0.5
        rate = -group["lr"] * correction / (1 - beta1**step)
        change = m / (xp.sqrt(v) + group["eps"] * correction) * rate
        return decayed(p, change, group), new


class AdamW(Adam):
    """Adam whose weight decay leaves the moments alone: w ← w − ηλw − η·m̂/(√v̂ + ε).

    The arguments are those of :class:`Adam`, with λ = 0.01. Loshchilov & Hutter 2019 (arXiv:1711.05101).

    >>> import backstory
    >>> w = backstory.tensor([1.0], requires_grad=True)
    >>> optimizer = AdamW([w], lr=0.25, weight_decay=0.5)
    >>> w.sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([0.625], requires_grad=True)
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            maximize=maximize,
            decoupled_weight_decay=True,
        )


class NAdam(Optimizer):
    """Adam with Nesterov's look ahead: w ← w − η·(μₜ₊₁·m/(1 − ∏ᵗ⁺¹μ) + (1 − μₜ)·g/(1 − ∏ᵗμ))/(√v̂ + ε).

    m, v and v̂ are :class:`Adam`'s, and μₜ = β₁(1 − 0.5·0.96^(tψ)) with ψ the ``momentum_decay``.
    Dozat 2016, *Incorporating Nesterov Momentum into Adam*.

    >>> import backstory
    >>> w = backstory.tensor([1.0], requires_grad=True)
    >>> optimizer = NAdam([w], lr=0.25)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> 0.5 < w.item() < 1.0
    True
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "momentum_decay": momentum_decay,
                "decoupled_weight_decay": decoupled_weight_decay,
                "maximize": maximize,
            },
        )

    def check(self, group: Mapping[str, Any]) -> None:
        """Refuse negative rates and betas outside [0, 1)."""
        check_adam(group)
        checked_rate("momentum_decay", group["momentum_decay"])

    def initial_state(self, p: Tensor, group: Mapping[str, Any]) -> dict[str, Any]:
        """No step taken; both moments 0, and the product of no μ 1."""
        return {
            "step": 0,
            "mu_product": 1.0,
            "exp_avg": np.zeros_like(p.array),
            "exp_avg_sq": np.zeros_like(p.array),
        }

    def update(
        self, xp: Any, p: Any, g: Any, state: Mapping[str, Any], group: Mapping[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        """The change of the class's formula, less ηλw where the decay is decoupled, and the new moments."""
        step, (beta1, beta2), lr = state["step"] + 1, group["betas"], group["lr"]
        g = with_decay(p, g, group)
        mu, ahead = (beta1 * (1 - 0.5 * 0.96 ** (t * group["momentum_decay"])) for t in (step, step + 1))
        product = state["mu_product"] * mu
        m, v = state["exp_avg"], state["exp_avg_sq"]
        m = m + (g - m) * (1 - beta1)
        v = v * beta2 + g * g * (1 - beta2)
        direction = m * (ahead / (1 - product * ahead)) + g * ((1 - mu) / (1 - product))
        change = direction / (xp.sqrt(v / (1 - beta2**step)) + group["eps"]) * -lr
        new = {"step": step, "mu_product": product, "exp_avg": m, "exp_avg_sq": v}
        return decayed(p, change, group), new


def check_adam(group: Mapping[str, Any]) -> None:
    """Refuse negative rates and betas outside [0, 1)."""
    for name in ("lr", "eps", "weight_decay"):
        checked_rate(name, group[name])
    for i, beta in enumerate(group["betas"]):
        checked_rate(f"betas[{i}]", beta, upper=1.0)


def with_decay(p: Any, g: Any, group: Mapping[str, Any]) -> Any:
    """The gradient that the rule sees: −g to climb, and λw added unless the decay is decoupled."""
    if group["maximize"]:
        g = -g
    if group["weight_decay"] != 0 and not group.get("decoupled_weight_decay"):
        g = g + group["weight_decay"] * p
    return g


def decayed(p: Any, change: Any, group: Mapping[str, Any]) -> Any:
    """The change, less ηλw where the decay is decoupled."""
    if group["weight_decay"] != 0 and group["decoupled_weight_decay"]:
        return change - (group["lr"] * group["weight_decay"]) * p
    return change
