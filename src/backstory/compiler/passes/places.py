"""Indices with arrays in them, as places: which entry of the flat array each entry of the result is.

NumPy's rules hold: what stands for one axis each, arrays and integers together, is broadcast to one block of
axes; these come where the first of them stands, or first of all if something stands between them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backstory.compiler.graph import Value
from backstory.compiler.primitives import Slot
from backstory.compiler.replay import Failed
from backstory.compiler.signatures import signature

__all__ = ["Checked", "Writing", "places", "tail_of"]

_INT = np.dtype("int64")


class Writing:
    """Values that a rule writes down, all from where ``like`` comes from; shapes and dtypes follow."""

    def __init__(self, like: Value, emit: Callable[[Value], Value]) -> None:
        self._like, self._emit = like, emit

    def __call__(self, primitive: str, *inputs: Any, **params: Any) -> Value:
        shape, dtype = signature(primitive, inputs, params)
        return self._emit(Value(primitive, inputs, params, shape, dtype, self._like.origin))

    def constant(self, array: np.ndarray) -> Value:
        """An array that is known."""
        return self._emit(
            Value("constant", (), {"array": array}, array.shape, array.dtype, self._like.origin)
        )

    def shaped(self, x: Value, shape: tuple[int, ...]) -> Value:
        """The same entries in another shape."""
        return x if x.shape == shape else self("reshape", x, shape=shape)


class Checked:
    """Which values are known to lie in which range, because a check says so."""

    def __init__(self) -> None:
        self._ranges: dict[Value, tuple[int, int]] = {}

    def note(self, x: Value, low: int, high: int, sure: bool = True) -> bool:
        """Remember that a check assures low ≤ x ≤ high, if it does; whether that is new."""
        source = _source(x)
        known = self._ranges.get(source, (-math.inf, math.inf))
        if low <= known[0] and known[1] <= high:
            return False
        if sure:
            self._ranges.setdefault(source, (low, high))
        return True

    def lowest(self, x: Value, count: int) -> int | None:
        """The lowest place that an index may name, if none is out of range."""
        low, high = self._ranges.get(_source(x), (-math.inf, math.inf))
        return int(low) if -count <= low and high < count else None

    def assure(self, write: Writing, x: Value, count: int) -> int:
        """Check an index of an axis with ``count`` entries, unless it was; the lowest that it may name."""
        lowest = self.lowest(x, count)
        if lowest is None:
            lowest = -count
            write("check", x, low=lowest, high=count - 1, test=_refuse)
            self.note(x, lowest, count - 1)
        return lowest


def _source(x: Value) -> Value:
    """What holds the numbers that a view or a wider dtype shows."""
    while x.primitive in ("reshape", "permute_dims", "broadcast_to", "check", "copy") or (
        x.primitive == "astype" and x.dtype == _INT and x.inputs[0].dtype.kind in "iu"
    ):
        x = x.inputs[0]
    return x


def _refuse(index: np.ndarray) -> None:
    raise Failed


@dataclass(frozen=True)
class _Axis:
    """One part of an index: a slice of ``count`` entries, or what stands for one entry (``index``).

    Every step moves ``step`` entries in the flat array, from ``start`` on.
    """

    count: int = 1
    start: int = 0
    step: int = 0
    index: Any = None
    length: int = 0


def places(
    write: Writing,
    checked: Checked,
    shape: tuple[int, ...],
    index: Any,
    inputs: Sequence[Any],
    tail: int = 0,
) -> Value | None:
    """The places that an index names in an array of ``shape``; ``None`` if only NumPy knows.

    The last ``tail`` axes, which the index takes whole, are left out of the result, and counted as one entry.
    """
    parts = _parts(shape[: len(shape) - tail], index, inputs, tail)
    if parts is None:
        return None
    chosen = [k for k, part in enumerate(parts) if part is not None and part.index is not None]
    block = np.broadcast_shapes(*(getattr(parts[k].index, "shape", ()) for k in chosen))  # type: ignore[union-attr]
    together = chosen[-1] - chosen[0] + 1 == len(chosen)
    slices = [part for part in parts if part is not None and part.index is None]
    before = sum(1 for part in parts[: chosen[0]] if part is not None) if together else 0
    counts = [part.count for part in slices]
    found = (*counts[:before], *block, *counts[before:])
    terms: list[Any] = [_slice(write, part, len(slices) - i) for i, part in enumerate(slices)]
    entry = _block(write, checked, [parts[k] for k in chosen], len(slices) - before)
    if entry is None:
        return None
    # A slice in front of the block has the block's axes behind it too.
    for i in range(before):
        if isinstance(terms[i], Value):
            terms[i] = write.shaped(terms[i], (*terms[i].shape, *(1,) * len(block)))
    total: Any = 0
    for term in (*terms[:before], entry, *terms[before:]):
        total = _sum(write, total, term)
    if not isinstance(total, Value):
        total = write.constant(np.full(found, total, _INT))
    return total if total.shape == found else write("broadcast_to", total, shape=found)


def tail_of(shape: tuple[int, ...], index: Any) -> int:
    """How many of the last axes an index takes whole."""
    parts = list(index if isinstance(index, tuple) else (index,))
    named = sum(1 for part in parts if part is not None and part is not Ellipsis)
    if not any(part is Ellipsis for part in parts):
        parts.append(Ellipsis)
    count = 0
    for part in reversed(parts):
        n = shape[-1 - count] if count < len(shape) else 0
        if part is Ellipsis:
            count += len(shape) - named
        elif isinstance(part, slice) and part.indices(n) == (0, n, 1):
            count += 1
        else:
            break
    return count


def _parts(shape: tuple[int, ...], index: Any, inputs: Sequence[Any], tail: int) -> list[_Axis | None] | None:
    """The parts of an index, an ellipsis written out; ``None`` in the list stands between others."""
    given = list(index if isinstance(index, tuple) else (index,))
    rank = len(shape) + tail
    named = sum(1 for part in given if part is not None and part is not Ellipsis)
    if not any(part is Ellipsis for part in given):
        given.append(Ellipsis)
    strides = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    parts: list[_Axis | None] = []
    axis = 0
    for part in given:
        if part is None:
            parts.append(_Axis())
            continue
        if part is Ellipsis:
            parts.append(None)
            whole = rank - named
            parts += [_Axis(shape[a], 0, strides[a]) for a in range(axis, min(axis + whole, len(shape)))]
            axis += whole
            continue
        if axis >= len(shape):
            axis += 1
            continue
        n, step = shape[axis], strides[axis]
        if isinstance(part, slice):
            start, stop, stride = part.indices(n)
            parts.append(_Axis(len(range(start, stop, stride)), start * step, stride * step))
        elif isinstance(part, (int, np.integer)) and not isinstance(part, (bool, np.bool_)):
            parts.append(_Axis(step=step, index=int(part), length=n))
        elif isinstance(part, Slot) and inputs[part.number].dtype.kind in "iu":
            parts.append(_Axis(step=step, index=inputs[part.number], length=n))
        else:
            return None
        axis += 1
    return parts


def _slice(write: Writing, part: _Axis, behind: int) -> Any:
    """The places of a slice with ``behind`` axes of slices from its own on."""
    if part.count == 1:
        return part.start
    steps = np.arange(part.count) * part.step + part.start
    return write.constant(steps.reshape(part.count, *(1,) * (behind - 1)))


def _block(write: Writing, checked: Checked, parts: Sequence[Any], behind: int) -> Any:
    """The places of all that stands for one entry each, with ``behind`` axes of one entry after them."""
    total: Any = 0
    for part in parts:
        place = _wrapped(write, checked, part.index, part.length)
        if place is None:
            return None
        if isinstance(place, Value):
            place = place if part.step == 1 else write("multiply", place, part.step)
        else:
            place *= part.step
        total = _sum(write, total, place)
    if isinstance(total, Value) and behind:
        total = write.shaped(total, (*total.shape, *(1,) * behind))
    return total


def _wrapped(write: Writing, checked: Checked, index: Any, count: int) -> Any:
    """An index counted from the front, and within the axis whatever it says."""
    if not isinstance(index, Value):
        return index % count if -count <= index < count else None
    if index.primitive == "constant":
        array = index.params["array"].astype(_INT)
        inside = not array.size or (array.min() >= -count and array.max() < count)
        return write.constant(np.where(array < 0, array + count, array)) if inside else None
    if index.size == 0:
        return None
    lowest = checked.assure(write, index, count)
    index = index if index.dtype == _INT else write("astype", index, dtype=_INT)
    if lowest < 0:
        index = write("where", write("less", index, 0), write("add", index, count), index)
    # The check may run after what is read here: nothing outside of the memory is ever read.
    return write("minimum", write("maximum", index, 0), count - 1)


def _sum(write: Writing, x: Any, y: Any) -> Any:
    if not isinstance(x, Value) and not isinstance(y, Value):
        return x + y
    if not isinstance(x, Value) and x == 0:
        return y
    return x if not isinstance(y, Value) and y == 0 else write("add", x, y)
