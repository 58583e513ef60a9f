"""Constant folding: what depends on constants alone is computed now."""

from __future__ import annotations

import numpy as np

from backstory.compiler.graph import Number, Value
from backstory.compiler.passes.rewriting import Emit, Rule, constant
from backstory.compiler.primitives import evaluate

__all__ = ["folded"]

# Larger results are computed in every run rather than kept in memory.
LARGEST = 4096


def folded() -> Rule:
    """Small values of constants and Python scalars alone become constants."""
    return _rule


def _rule(value: Value, emit: Emit) -> Value:
    if value.primitive in ("constant", "check") or value.size > LARGEST:
        return value
    inputs = []
    for x in value.inputs:
        if isinstance(x, Number) or (isinstance(x, Value) and x.primitive != "constant"):
            return value
        inputs.append(x.params["array"] if isinstance(x, Value) else x)
    with np.errstate(all="ignore"):
        array = np.array(evaluate(value.primitive, inputs, value.params))
    if array.shape != value.shape or array.dtype != value.dtype:
        return value
    return constant(array, value)
