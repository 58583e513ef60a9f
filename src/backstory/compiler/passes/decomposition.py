"""Decomposition: what works on whole arrays as entries, views and reductions, which loops compute and fuse.

Exact to the bit: the same entries are compared, chosen and moved.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from backstory.compiler.graph import Number, Value
from backstory.compiler.passes.places import Checked, Writing, places, tail_of
from backstory.compiler.passes.rewriting import Emit, Rule, made
from backstory.compiler.primitives import BINARY, VIEWS, Slot

__all__ = ["decomposed"]

_OF_BOOLEANS = {
    "add": "bitwise_or",
    "maximum": "bitwise_or",
    "multiply": "bitwise_and",
    "minimum": "bitwise_and",
}
_COMPARISONS = ("less", "less_equal", "greater", "greater_equal", "equal", "not_equal")
# What comes of no entries.
_OF_NOTHING = dict.fromkeys(("sum", "squares", "any", "matmul", "add_slices", "fold", "scatter"), 0) | {
    "prod": 1,
    "all": 1,
}
_HIGHEST_POWER = 64


def decomposed() -> Rule:
    """Indices with arrays as gathers and sums at places; extremes' places, rolls, triangles, integer powers.

    What has no entries is computed by nobody.
    """
    checked = Checked()

    def rule(value: Value, emit: Emit) -> Value:
        if value.primitive == "check":
            return _check(value, checked)
        if value.primitive in _KEPT:
            return value
        write = Writing(value, emit)
        if value.size == 0:
            return _full(write, value, 0)
        if 0 in [x.size for x in value.values]:
            if value.primitive == "setitem":
                return value.inputs[0]
            start = _OF_NOTHING.get(value.primitive)
            return value if start is None else _full(write, value, start)
        if value.primitive in _INDEXED:
            return _INDEXED[value.primitive](write, value, checked)
        if value.primitive in _COMPARISONS:
            return _compared(write, value)
        if value.primitive in _OF_BOOLEANS and value.dtype == bool:
            return made(value, _OF_BOOLEANS[value.primitive], value.inputs)
        other = _RULES.get(value.primitive)
        return value if other is None else other(write, value)

    return rule


def _check(value: Value, checked: Checked) -> Value:
    """A check as far as its integers can be wrong; none where they cannot, or are known to be right."""
    x, params = value.inputs[0], dict(value.params)
    if x.dtype.kind in "iu":
        limits = np.iinfo(x.dtype)
        low, high = max(params["low"], limits.min), min(params["high"], limits.max)
        if (low, high) == (limits.min, limits.max):
            return x
        if (low, high) != (params["low"], params["high"]):
            value = made(value, "check", value.inputs, params | {"low": low, "high": high})
    known = params["low"], params["high"], params.get("sure", True)
    return value if x.size and checked.note(x, *known) else x


_KEPT = frozenset(("full", "constant", *VIEWS)) - {"getitem"}


def _full(write: Writing, value: Value, number: Any) -> Value:
    entry = np.asarray(number, value.dtype).item()
    return write("full", shape=value.shape, value=entry, dtype=value.dtype)


# Indices


def _take(write: Writing, value: Value, checked: Checked) -> Value:
    x, _ = value.inputs
    index = (slice(None),) * (value.params["axis"] % len(x.shape)) + (Slot(1),)
    return _gathered(write, value, index, checked)


def _getitem(write: Writing, value: Value, checked: Checked) -> Value:
    return _gathered(write, value, value.params["index"], checked) if len(value.inputs) > 1 else value


def _gathered(write: Writing, value: Value, index: Any, checked: Checked) -> Value:
    x = value.inputs[0]
    place = places(write, checked, x.shape, index, value.inputs)
    return value if place is None or place.shape != value.shape else write("gather", x, place)


def _add_slices(write: Writing, value: Value, checked: Checked) -> Value:
    index = (slice(None),) * (value.params["axis"] % len(value.shape)) + (Slot(1),)
    return _scattered(write, value, index, checked)


def _scatter(write: Writing, value: Value, checked: Checked) -> Value:
    return _scattered(write, value, value.params["index"], checked) if len(value.inputs) > 1 else value


def _scattered(write: Writing, value: Value, index: Any, checked: Checked) -> Value:
    found = _rows(write, value, value.inputs[0], index, checked)
    if found is None:
        return value
    rows, place = found
    added = write("scatter_add", rows, place, count=value.size // rows.shape[1])
    return write.shaped(added, value.shape)


def _setitem(write: Writing, value: Value, checked: Checked) -> Value:
    if len(value.inputs) == 2:
        return value
    found = _rows(write, value, value.inputs[1], value.params["index"], checked)
    if found is None:
        return value
    rows, place = found
    width = rows.shape[1]
    before = write.shaped(value.inputs[0], (value.size // width, width))
    return write.shaped(write("scatter_set", before, rows, place), value.shape)


def _rows(
    write: Writing, value: Value, values: Value, index: Any, checked: Checked
) -> tuple[Value, Value] | None:
    """Rows of the last axes, which the index takes whole, and the places that it names for them."""
    shape = value.shape
    tail = tail_of(shape, index)
    place = places(write, checked, shape, index, value.inputs, tail)
    if place is None:
        return None
    inside = shape[len(shape) - tail :]
    part = (*place.shape, *inside)
    if values.shape != part:
        if len(values.shape) > len(part):  # NumPy lets axes of one entry stand in front
            values = write.shaped(values, values.shape[len(values.shape) - len(part) :])
        values = write("broadcast_to", values, shape=part)
    return write.shaped(values, (place.size, math.prod(inside))), write.shaped(place, (place.size,))


# Places of extremes


def _extreme(write: Writing, value: Value) -> Value:
    """The first entry that equals the extreme; NaN, which equals nothing, before all others."""
    x, axis = value.inputs[0], value.params["axis"]
    if axis is None or not x.shape:
        x, axis = write.shaped(x, (x.size,)), 0
    axis %= len(x.shape)
    along = {"axis": (axis,), "keepdims": True}
    hit = write("equal", x, write(value.primitive.removeprefix("arg"), x, **along))
    if x.dtype.kind == "f":
        hit = write("bitwise_or", hit, write("not_equal", x, x))
    count = x.shape[axis]
    # Places no wider than entries, so that a loop takes as many of these at once as of those.
    narrow = np.dtype("int32" if x.dtype.itemsize <= 4 and count < 1 << 31 else "int64")
    place = write.constant(np.arange(count, dtype=narrow).reshape(count, *(1,) * (len(x.shape) - 1 - axis)))
    first = write("min", write("where", hit, place, count), **along)
    if narrow != value.dtype:
        first = write("astype", first, dtype=value.dtype)
    return write.shaped(first, value.shape)


# What is moved


def _flip(write: Writing, value: Value) -> Value:
    x, axis = value.inputs[0], value.params["axis"]
    rank = len(x.shape)
    axes = range(rank) if axis is None else np.lib.array_utils.normalize_axis_tuple(axis, rank)
    index = tuple(slice(None, None, -1) if a in axes else slice(None) for a in range(rank))
    return write("getitem", x, index=index) if rank else x


def _roll(write: Writing, value: Value) -> Value:
    x, shift, axis = value.inputs[0], value.params["shift"], value.params["axis"]
    if axis is None:
        x, axis = write.shaped(x, (x.size,)), 0
    shifts, axes = np.broadcast_arrays(shift, axis)
    for by, a in zip(shifts.reshape(-1).tolist(), axes.reshape(-1).tolist(), strict=True):
        a %= len(x.shape)
        cut = -by % x.shape[a]
        if cut:
            before = (slice(None),) * a
            parts = [write("getitem", x, index=(*before, s)) for s in (slice(cut, None), slice(0, cut))]
            x = write("concat", *parts, axis=a)
    return write.shaped(x, value.shape)


def _triangle(write: Writing, value: Value) -> Value:
    x, k = value.inputs[0], value.params["k"]
    if len(x.shape) < 2:
        return value
    rows, columns = x.shape[-2:]
    diagonal = write.constant(np.arange(rows).reshape(rows, 1) + k)
    column = write.constant(np.arange(columns))
    sides = (column, diagonal) if value.primitive == "tril" else (diagonal, column)
    return write("where", write("less_equal", *sides), x, np.zeros((), x.dtype).item())


# Entries


def _power(write: Writing, value: Value) -> Value:
    """xⁿ of integers as products, which wrap around as NumPy's."""
    x, n = value.inputs
    if value.dtype.kind not in "iu" or not isinstance(x, Value) or x.dtype != value.dtype:
        return value
    if type(n) is not int or not 0 <= n <= _HIGHEST_POWER:
        return value
    result: Value | None = None
    while n:
        if n & 1:
            result = x if result is None else write("multiply", result, x)
        n >>= 1
        x = write("multiply", x, x) if n else x
    return _full(write, value, 1) if result is None else result


def _absolute(write: Writing, value: Value) -> Value:
    return value.inputs[0] if value.dtype == bool else value


def _compared(write: Writing, value: Value) -> Value:
    """Integers beside a number that their dtype does not have: all of them are on one side."""
    dtype = np.result_type(*(x.dtype for x in value.values))
    if dtype.kind not in "iu" or any(isinstance(x, (float, Number)) for x in value.inputs):
        return value
    limits = np.iinfo(dtype)
    number = next((x for x in value.inputs if isinstance(x, int)), 0)
    if limits.min <= number <= limits.max:
        return value
    sides = [limits.min if isinstance(x, Value) else x for x in value.inputs]
    return _full(write, value, BINARY[value.primitive](*sides))


_INDEXED: dict[str, Callable[[Writing, Value, Checked], Value]] = {
    "add_slices": _add_slices,
    "getitem": _getitem,
    "scatter": _scatter,
    "setitem": _setitem,
    "take": _take,
}


def _squares(write: Writing, value: Value) -> Value:
    """Squares of float32 over all axes stay: a nest adds them up as they are, and minds their range."""
    x, axes = value.inputs[0], value.params["axis"]
    if x.dtype == np.float32 and all(a in axes for a in range(len(x.shape))):
        return value
    x = x if x.dtype == np.float64 else write("astype", x, dtype=np.dtype(np.float64))
    return write("sum", write("multiply", x, x), **value.params)


_RULES: dict[str, Callable[[Writing, Value], Value]] = {
    "abs": _absolute,
    "argmax": _extreme,
    "argmin": _extreme,
    "flip": _flip,
    "pow": _power,
    "roll": _roll,
    "squares": _squares,
    "tril": _triangle,
    "triu": _triangle,
}
