"""The forward walk over a derivation: the tangent of every quantity, by the records' jvp rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from backstory.arrays import eager
from backstory.graph import context
from backstory.insight.explanation.derivation import Derivation, Quantity, Step

__all__ = ["push_forward", "step_forward"]


def push_forward(derivation: Derivation, seeds: Mapping[Quantity, np.ndarray]) -> dict[Quantity, np.ndarray]:
    """The derivative of everything in the direction of ``seeds``; what is missing does not depend on them."""
    tangents = dict(seeds)
    for step in derivation.steps:
        known = [tangents.get(q) for q in step.inputs]
        if any(t is not None for t in known):
            tangents[step.result] = step_forward(step, known)
    return tangents


def step_forward(step: Step, known: list[Any]) -> np.ndarray:
    """The tangent of one step's result from those of its inputs, of which ``None`` is zero."""
    values = [q.value.item() if q.kind == "number" else q.value for q in step.inputs]  # type: ignore[union-attr]
    run = context().quiet.copy().run
    return np.asarray(run(step.op.jvp, eager, known, step.result.value, values, step.node.params))
