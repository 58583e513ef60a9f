"""The terms of an optimizer's update: what gradient, momentum and weight decay each contribute.

The rules are PyTorch's, which backstory's own optimizers share. Adam divides all terms but AdamW's decay
by the same preconditioner √v̂ + ε, taken as a given factor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Before", "update_terms"]


@dataclass(frozen=True)
class Before:
    """One parameter as an update finds it: value, gradient, the optimizer's state and settings.

    ``rule`` is ``sgd``, ``adam``, ``adamw``, or ``None`` for an optimizer that is not known here, and
    ``optimizer`` its name. Arrays are NumPy's, or anything that NumPy reads row by row.
    """

    rule: str | None
    optimizer: str
    value: Any
    gradient: Any
    state: Mapping[str, Any]
    group: Mapping[str, Any]

    def terms(self, unit: int) -> dict[str, np.ndarray] | None:
        """The terms of the update of one unit's row, flat; none if it did not move, ``None`` if unknown."""
        if self.gradient is None:
            return {}
        state = {key: _row(value, unit) if _has_rows(value) else value for key, value in self.state.items()}
        with np.errstate(all="ignore"):
            return update_terms(
                self.rule, _row(self.value, unit), _row(self.gradient, unit), state, self.group
            )


def _has_rows(value: Any) -> bool:
    return len(getattr(value, "shape", ())) > 0


def _row(x: Any, unit: int) -> np.ndarray:
    return np.asarray(x[unit], np.float64).reshape(-1)


def update_terms(
    rule: str | None, p: Any, g: Any, state: Mapping[str, Any], group: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The terms of the change of ``p``, from gradient and state before the step; ``None`` for another rule.

    >>> settings = {"lr": 0.1, "momentum": 0.9, "dampening": 0, "weight_decay": 0, "nesterov": False}
    >>> update_terms("sgd", 1.0, 2.0, {"momentum_buffer": 1.0}, settings)
    {'gradient': -0.2, 'momentum': -0.09000000000000001}
    """
    if rule is None:
        return None
    g = -g if group.get("maximize") else g
    return _sgd(p, g, state, group) if rule == "sgd" else _adam(rule, p, g, state, group)


def _sgd(p: Any, g: Any, state: Mapping[str, Any], group: Mapping[str, Any]) -> dict[str, Any]:
    """v = μv + (1 − τ)(g + λp), and v = g + λp at first; −η·v, or −η(g + λp + μv) for Nesterov."""
    lr, momentum = float(group["lr"]), group["momentum"]
    first = state.get("step") == 0 or state.get("momentum_buffer") is None
    damping = 1.0 if first or momentum == 0 else 1.0 - group["dampening"]
    # How much of a new g + λp, and of the old v, is in this update.
    fresh, old = (1.0 + momentum * damping, momentum**2) if group["nesterov"] else (damping, momentum)
    terms = {"gradient": -lr * fresh * g}
    if momentum != 0 and not first:
        terms["momentum"] = -lr * old * state["momentum_buffer"]
    if group["weight_decay"] != 0:
        terms["weight decay"] = -lr * fresh * group["weight_decay"] * p
    return terms


def _adam(rule: str, p: Any, g: Any, state: Mapping[str, Any], group: Mapping[str, Any]) -> dict[str, Any]:
    """−η/(1 − β₁ᵗ)·(β₁m + (1 − β₁)g)/(√v̂ + ε), with λp in g, or for AdamW −ηλp apart."""
    lr, (beta1, beta2), decay = float(group["lr"]), map(float, group["betas"]), group["weight_decay"]
    decoupled = group.get("decoupled_weight_decay", rule == "adamw")
    step = int(state.get("step", 0)) + 1
    decayed = g + decay * p if decay and not decoupled else g
    m, v = (state.get(key, np.zeros_like(g)) for key in ("exp_avg", "exp_avg_sq"))
    v = beta2 * v + (1 - beta2) * decayed * decayed
    if group.get("amsgrad"):
        v = np.maximum(state.get("max_exp_avg_sq", v), v)
    rate = -lr / (1 - beta1**step) / (np.sqrt(v / (1 - beta2**step)) + group["eps"])
    terms = {"gradient": rate * (1 - beta1) * g}
    if step > 1:
        terms["momentum"] = rate * beta1 * m
    if decay:
        terms["weight decay"] = -lr * decay * p if decoupled else rate * (1 - beta1) * decay * p
    return terms
