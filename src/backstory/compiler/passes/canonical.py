"""Canonical form: one way to write what can be written in several."""

from __future__ import annotations

import math

from backstory.compiler.graph import Value
from backstory.compiler.passes.rewriting import Emit, Rule, made, splat

__all__ = ["canonical"]

_SWAPPED = {"greater": "less", "greater_equal": "less_equal"}
_COMPARED = ("less", "less_equal", "equal", "not_equal")
# Where an array of one number repeated may stand as that number, a weak Python scalar.
_SAME_DTYPE = frozenset(
    ("add", "subtract", "multiply", "divide", "pow", "fmod", "remainder", "maximum", "minimum", *_COMPARED)
)


def canonical() -> Rule:
    """Comparisons by < and ≤; copies are the value itself; arrays of one number repeated are that number;
    products of many rows have two axes; what was checked is read where it was checked.
    """
    return _rule


def _rule(value: Value, emit: Emit) -> Value:
    name = value.primitive
    if name in _SWAPPED:
        value = made(value, _SWAPPED[name], (value.inputs[1], value.inputs[0]))
    elif name == "copy" or (name == "astype" and value.inputs[0].dtype == value.dtype):
        return value.inputs[0]
    elif name == "matmul":
        return _product(value, emit)
    elif name in ("sum", "prod", "any", "all"):
        return _reduction(value, emit)
    elif name == "check":
        emit(value)
        return value.inputs[0]
    if value.primitive in _SAME_DTYPE:
        return _with_numbers(value)
    if name == "where":
        return _choice(value)
    return value


def _with_numbers(value: Value) -> Value:
    """``x ∘ ones`` is ``x ∘ 1`` where the other array alone says what shape and dtype the result has."""
    x, y = value.inputs
    if not (isinstance(x, Value) and isinstance(y, Value)) or x.dtype != y.dtype:
        return value
    for i, (other, kept) in enumerate(((x, y), (y, x))):
        if kept.shape == value.shape and (number := splat(other)) is not None and splat(kept) is None:
            return made(value, value.primitive, (number, kept) if i == 0 else (kept, number))
    return value


def _choice(value: Value) -> Value:
    """``where(c, x, zeros)`` is ``where(c, x, 0)`` where c and x say what shape and dtype the result has."""
    condition, x, y = value.inputs
    if not (isinstance(x, Value) and isinstance(y, Value)) or x.dtype != y.dtype:
        return value
    shape = getattr(condition, "shape", ())
    for i, (other, kept) in enumerate(((x, y), (y, x))):
        if value.shape in (shape, kept.shape) and (number := splat(other)) is not None:
            return made(value, "where", (condition, number, kept) if i == 0 else (condition, kept, number))
    return value


def _reduction(value: Value, emit: Emit) -> Value:
    """Over axes of one entry each nothing is added up; but a sum starts at 0, and 0 + −0 is 0."""
    x = value.inputs[0]
    if x.size == 0 or any(x.shape[axis] != 1 for axis in value.params["axis"]):
        return value
    entries = Value("reshape", (x,), {"shape": value.shape}, value.shape, x.dtype, value.origin)
    if x.dtype == value.dtype and value.primitive == "prod":
        return entries
    entries = emit(entries)
    if value.primitive in ("any", "all"):
        return made(value, "not_equal", (entries, 0))
    if x.dtype != value.dtype:
        return made(value, "astype", (entries,), {"dtype": value.dtype})
    return made(value, "add", (entries, 0.0 if value.dtype.kind == "f" else 0))


def _product(value: Value, emit: Emit) -> Value:
    """(…, n, k) times (k, m) is (… n, k) times (k, m)."""
    x, y = value.inputs
    if not (isinstance(x, Value) and isinstance(y, Value) and len(x.shape) > 2 and len(y.shape) == 2):
        return value
    rows = math.prod(x.shape[:-1])
    flat = (rows, x.shape[-1])
    folded = emit(Value("reshape", (x,), {"shape": flat}, flat, x.dtype, value.origin))
    shape = (rows, y.shape[-1])
    product = emit(Value("matmul", (folded, y), {}, shape, value.dtype, value.origin))
    return made(value, "reshape", (product,), {"shape": value.shape})
