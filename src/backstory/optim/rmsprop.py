"""RMSprop and Adagrad: gradients divided by the root of what their squares were so far."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from backstory.optim.adam import with_decay
from backstory.optim.optimizer import Optimizer, checked_rate
from backstory.tensor import Tensor

__all__ = ["Adagrad", "RMSprop"]


class RMSprop(Optimizer):
    """v ← αv + (1 − α)g²; w ← w − η·g/(√v + ε); with momentum μ: b ← μb + g/(√v + ε), w ← w − ηb.

    ``centered`` takes off the square of the running mean a ← αa + (1 − α)g: √(v − a²). ``weight_decay``
    adds λw to the gradient, ``maximize`` takes −g for g. Tieleman & Hinton 2012 (Coursera, lecture 6.5);
    centered: Graves 2013 (arXiv:1308.0850).

    >>> import backstory
    >>> w = backstory.tensor([1.0], requires_grad=True)
    >>> optimizer = RMSprop([w], lr=0.25, alpha=0.75)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([0.5], requires_grad=True)
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "alpha": alpha,
                "eps": eps,
                "weight_decay": weight_decay,
                "momentum": momentum,
                "centered": centered,
                "maximize": maximize,
            },
        )

    def check(self, group: Mapping[str, Any]) -> None:
        """Refuse negative rates."""
        for name in ("lr", "alpha", "eps", "weight_decay", "momentum"):
            checked_rate(name, group[name])

    def initial_state(self, p: Tensor, group: Mapping[str, Any]) -> dict[str, Any]:
        """No step taken; all means 0."""
        names = ["square_avg"]
        names += ["momentum_buffer"] if group["momentum"] > 0 else []
        names += ["grad_avg"] if group["centered"] else []
        return {"step": 0, **{name: np.zeros_like(p.array) for name in names}}

    def update(
        self, xp: Any, p: Any, g: Any, state: Mapping[str, Any], group: Mapping[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        """The change −η·g/(√v + ε), or −η times its momentum, and the new means."""
        alpha = group["alpha"]
        g = with_decay(p, g, group)
        new = {**state, "step": state["step"] + 1}
        v = new["square_avg"] = state["square_avg"] * alpha + g * g * (1 - alpha)
        if group["centered"]:
            a = state["grad_avg"] if "grad_avg" in state else xp.zeros_like(g)
            a = new["grad_avg"] = a + (g - a) * (1 - alpha)
            v = v - a * a
        direction = g / (xp.sqrt(v) + group["eps"])
        if group["momentum"] > 0:
            b = state["momentum_buffer"] if "momentum_buffer" in state else xp.zeros_like(g)
            direction = new["momentum_buffer"] = b * group["momentum"] + direction
        return direction * -group["lr"], new


class Adagrad(Optimizer):
    """s ← s + g²; w ← w − η/(1 + (t − 1)δ)·g/(√s + ε), with δ the ``lr_decay``.

    s starts at ``initial_accumulator_value``. ``weight_decay`` adds λw to the gradient, ``maximize`` takes
    −g for g. Duchi, Hazan & Singer 2011 (JMLR 12, 2121–2159).

    >>> import backstory
    >>> w = backstory.tensor([1.0], requires_grad=True)
    >>> optimizer = Adagrad([w], lr=0.25)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([0.75], requires_grad=True)
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "lr_decay": lr_decay,
                "weight_decay": weight_decay,
                "initial_accumulator_value": initial_accumulator_value,
                "eps": eps,
                "maximize": maximize,
            },
        )

    def check(self, group: Mapping[str, Any]) -> None:
        """Refuse negative rates."""
        for name in ("lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps"):
            checked_rate(name, group[name])

    def initial_state(self, p: Tensor, group: Mapping[str, Any]) -> dict[str, Any]:
        """No step taken; the sum of squares at its initial value."""
        return {"step": 0, "sum": np.full_like(p.array, group["initial_accumulator_value"])}

    def update(
        self, xp: Any, p: Any, g: Any, state: Mapping[str, Any], group: Mapping[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        """The change −η′·g/(√s + ε) and the new sum."""
        g = with_decay(p, g, group)
        s = state["sum"] + g * g
        rate = -group["lr"] / (1 + state["step"] * group["lr_decay"])
        return g / (xp.sqrt(s) + group["eps"]) * rate, {"step": state["step"] + 1, "sum": s}
