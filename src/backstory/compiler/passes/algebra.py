"""Algebra that is exact in floating point: for NaN, infinities and −0 as well, and in every rounding.

So x·1 is x, and x·0 is left alone (x may be infinite); x + (−0) is x, and x + 0 is left alone (−0 + 0 is 0).
Nothing is reassociated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backstory.compiler.graph import Value
from backstory.compiler.passes.rewriting import Emit, Rule, is_scalar, made, splat

__all__ = ["algebra"]


def algebra() -> Rule:
    """x·1, x/1, x − 0, x + (−0), −(−x), not (not x), x¹, x², choices that are decided, and views of views."""
    return _rule


def _rule(value: Value, emit: Emit) -> Value:
    rule = _RULES.get(value.primitive)
    if rule is None:
        return value
    result = rule(value)
    # An identity holds only where the rest says by itself what shape and dtype the result has.
    return result if result.shape == value.shape and result.dtype == value.dtype else value


def _add(value: Value) -> Value:
    x, y = value.inputs
    for one, other in ((x, y), (y, x)):
        if isinstance(one, Value) and is_scalar(other, -0.0) and value.dtype.kind == "f":
            return one
        if isinstance(one, Value) and is_scalar(other, 0) and value.dtype.kind in "iu":
            return one
    return value


def _subtract(value: Value) -> Value:
    x, y = value.inputs
    return x if isinstance(x, Value) and is_scalar(y, 0) else value


def _multiply(value: Value) -> Value:
    x, y = value.inputs
    for one, other in ((x, y), (y, x)):
        if isinstance(one, Value) and is_scalar(other, 1):
            return one
        if isinstance(one, Value) and is_scalar(other, -1) and value.dtype.kind == "f":
            return made(value, "negative", (one,)) if one.dtype == value.dtype else value
    return value


def _divide(value: Value) -> Value:
    x, y = value.inputs
    return x if isinstance(x, Value) and is_scalar(y, 1) else value


def _pow(value: Value) -> Value:
    """The exponents that NumPy computes without a power."""
    x, y = value.inputs
    if not isinstance(x, Value) or value.dtype.kind != "f" or x.dtype != value.dtype:
        return value
    if is_scalar(y, 1):
        return x
    if is_scalar(y, 2):
        return made(value, "multiply", (x, x))
    if is_scalar(y, -1):
        return made(value, "divide", (1, x))
    return made(value, "sqrt", (x,)) if is_scalar(y, 0.5) else value


def _undone(value: Value) -> Value:
    x = value.inputs[0]
    return x.inputs[0] if isinstance(x, Value) and x.primitive == value.primitive else value


def _where(value: Value) -> Value:
    condition, x, y = value.inputs
    if x is y and isinstance(x, Value):
        return x
    decided = splat(condition)
    chosen = None if decided is None else (x if decided else y)
    return chosen if isinstance(chosen, Value) else value


def _reshape(value: Value) -> Value:
    x = value.inputs[0]
    if x.primitive == "reshape":
        x = x.inputs[0]
    return x if x.shape == value.shape else _viewed(value, x, {"shape": value.shape})


def _permute(value: Value) -> Value:
    x, axes = value.inputs[0], value.params["axes"]
    if x.primitive == "permute_dims":
        inner = x.params["axes"]
        x, axes = x.inputs[0], tuple(inner[i] for i in axes)
    if tuple(axes) == tuple(range(len(axes))):
        return x
    return _viewed(value, x, {"axes": tuple(axes)})


def _broadcast(value: Value) -> Value:
    x = value.inputs[0]
    if x.primitive == "broadcast_to":
        x = x.inputs[0]
    return x if x.shape == value.shape else _viewed(value, x, {"shape": value.shape})


def _viewed(value: Value, x: Value, params: Mapping[str, Any]) -> Value:
    """A view as one of ``x``."""
    return value if x is value.inputs[0] else made(value, value.primitive, (x,), params)


def _getitem(value: Value) -> Value:
    """An index that takes everything, as it stands."""
    x, index = value.inputs[0], value.params["index"]
    parts = index if isinstance(index, tuple) else (index,)
    whole = all(part is Ellipsis or (isinstance(part, slice) and part == slice(None)) for part in parts)
    return x if whole and len(value.inputs) == 1 else value


def _reduction(value: Value) -> Value:
    """Over axes of one entry each: the entries themselves."""
    x, axes = value.inputs[0], value.params["axis"]
    if x.size == value.size and x.size and all(x.shape[i] == 1 for i in axes) and x.dtype == value.dtype:
        return x if x.shape == value.shape else made(value, "reshape", (x,), {"shape": value.shape})
    return value


_RULES: dict[str, Any] = {
    "add": _add,
    "subtract": _subtract,
    "multiply": _multiply,
    "divide": _divide,
    "pow": _pow,
    "negative": _undone,
    "bitwise_invert": _undone,
    "where": _where,
    "reshape": _reshape,
    "permute_dims": _permute,
    "broadcast_to": _broadcast,
    "getitem": _getitem,
    "max": _reduction,
    "min": _reduction,
}
