"""Routines: kernels of their own for what moves or gathers up whole arrays, and is no loop that others join.

A routine is a few calls, one after the other: memory filled with one number, entries of one array set or
added to places of another that lie at regular distances, rows added at places that an array names, running
sums and products. The same few kernels do it for every shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from backstory.compiler.expressions import combined, converted, type_name
from backstory.compiler.graph import Value
from backstory.compiler.layout import Layout, Layouts, contiguous, part_of

__all__ = ["Call", "Memory", "calls"]


class Memory(NamedTuple):
    """In the words of a call: the address of entry ``offset`` of a value's memory."""

    root: Value
    offset: int


class Call(NamedTuple):
    """A kernel and the words of its block: integers, and :class:`Memory` where it is known later."""

    name: str
    source: str
    words: tuple[int | Memory, ...]

    @property
    def lines(self) -> tuple[tuple[str, str], ...]:
        """The lines of the text, with a comment each."""
        return tuple((line, "") for line in self.source.rstrip().split("\n"))


def calls(value: Value, layouts: Layouts) -> list[Call]:
    """What computes a value, in order."""
    return _RULES[value.primitive](value, layouts)


# Kernels


def _filled(value: Value, number: int) -> Call:
    """All entries of ``value`` ← a number."""
    typed = type_name(value.dtype)
    name = f"fill_{typed}"
    source = (
        f"def {name}(block):\n"
        f"    y = array(block, 1, {typed})\n"
        f"    number = {converted('integer(block, 2)', np.dtype('int64'), value.dtype)}\n"
        f"    for i in range(integer(block, 0)):\n"
        f"        y[i] = number\n"
    )
    return Call(name, source, (value.size, Memory(value, 0), number))


def _moved(value: Value, x: Layout, y: Layout, shape: tuple[int, ...], added: bool = False) -> Call:
    """The entries of ``x`` set, or added, to those of ``y``, which is in the memory of ``value``."""
    if not added:
        return _walk("copy", value, x, y, shape, "x[{x}]")
    return _walk("add", value, x, y, shape, combined(_sum_like(value), "y[{y}]", "x[{x}]", False))


def _walk(
    name: str,
    value: Value,
    x: Layout,
    y: Layout,
    shape: tuple[int, ...],
    entry: str,
    axis: int = -1,
    back: int = 0,
) -> Call:
    """A loop for every axis, which sets each entry of ``y`` to the text ``entry``; ``axis`` stays alone."""
    axes = _merged(shape, x.strides, y.strides, axis)
    typed, given = type_name(value.dtype), type_name(x.root.dtype)
    words: list[int | Memory] = [n for n, _, _ in axes]
    head, places = [], {"x": [], "y": []}
    for i, (_, *steps) in enumerate(axes):
        for letter, step in zip("xy", steps, strict=True):
            if step == 1 or step == 0:
                places[letter] += [f"i{i}"] if step else []
            else:
                places[letter].append(f"i{i} * {letter}{i}")
                head.append(f"{letter}{i} = integer(block, {len(words)})")
                words.append(step)
    if "{back}" in entry:
        head.append(f"back = integer(block, {len(words)})")
        words.append(back)
    head.append(f"x = array(block, {len(words)}, {given})")
    head.append(f"y = array(block, {len(words) + 1}, {typed})")
    words += [Memory(x.root, x.offset), Memory(y.root, y.offset)]
    at = {letter: " + ".join(found) or "0" for letter, found in places.items()}
    entry = entry.format(x=at["x"], y=at["y"], back=f"{at['y']} - back")
    loops = [f"{'    ' * i}for i{i} in range(integer(block, {i})):" for i in range(len(axes))]
    body = [*head, *loops, "    " * len(axes) + f"y[{at['y']}] = {entry}"]
    # Which steps are 1 or 0 stands in the text, so it belongs to the name.
    forms = "".join("_" + "".join(_form(step) for step in steps) for _, *steps in axes)
    full_name = f"{name}_{given}_{typed}{forms}"
    source = "\n".join((f"def {full_name}(block):", *(f"    {line}" for line in body))) + "\n"
    return Call(full_name, source, tuple(words))


def _form(step: int) -> str:
    return str(step) if step in (0, 1) else "n"


def _merged(
    shape: tuple[int, ...], x: tuple[int, ...], y: tuple[int, ...], alone: int
) -> list[tuple[int, int, int]]:
    """Sizes and steps without axes of one entry; axes that both run through as one become one."""
    axes: list[tuple[int, int, int]] = []
    joined = False
    for i, (n, a, b) in enumerate(zip(shape, x, y, strict=True)):
        if n == 1:
            continue
        if joined and i != alone:
            before, outer_a, outer_b = axes[-1]
            if outer_a == a * n and outer_b == b * n:
                axes[-1] = (before * n, a, b)
                continue
        axes.append((n, a, b))
        joined = i != alone
    return axes


# Routines


def _own(value: Value) -> Layout:
    return Layout(value, 0, contiguous(value.shape))


def _broadcast(layout: Layout, x: Value, shape: tuple[int, ...]) -> Layout:
    if x.size == 1:
        return layout._replace(strides=(0,) * len(shape))
    added = len(shape) - len(x.shape)
    kept = (0 if n == 1 else step for n, step in zip(x.shape, layout.strides, strict=True))
    return layout._replace(strides=(0,) * added + tuple(kept))


def _concat(value: Value, layouts: Layouts) -> list[Call]:
    axis, at = value.params["axis"] % len(value.shape), 0
    found = []
    for x in value.values:
        whole = _own(value)
        place = whole._replace(offset=at * whole.strides[axis])
        if x.size:
            found.append(_moved(value, layouts[x], place, x.shape))
        at += x.shape[axis]
    return found


def _set(value: Value, layouts: Layouts) -> list[Call]:
    x, part = value.inputs
    place, shape = _part(value)
    found = [_moved(value, layouts[x], _own(value), x.shape)]
    if math.prod(shape):
        found.append(_moved(value, _broadcast(layouts[part], part, shape), place, shape))
    return found


def _put(value: Value, layouts: Layouts) -> list[Call]:
    (x,) = value.inputs
    place, shape = _part(value)
    found = [_filled(value, 0)]
    if x.size and math.prod(shape):
        found.append(_moved(value, _broadcast(layouts[x], x, shape), place, shape))
    return found


def _part(value: Value) -> tuple[Layout, tuple[int, ...]]:
    """Where the part of a value is that its index names, and its shape."""
    index = value.params["index"]
    shape = np.broadcast_to(np.empty((), bool), value.shape)[index].shape
    layout = part_of(_own(value), value.shape, index)
    assert layout is not None
    return layout, shape


def _fold(value: Value, layouts: Layouts) -> list[Call]:
    x, windows = value.inputs[0], value.params["windows"]
    whole = _own(value)
    *before, down, right = whole.strides
    inside = (windows.dilation[0] * down, windows.dilation[1] * right)
    steps = (*before, *inside, windows.stride[0] * down, windows.stride[1] * right)
    found = [_filled(value, 0)]
    if x.size:
        found.append(_moved(value, layouts[x], whole._replace(strides=steps), x.shape, added=True))
    return found


def _added_rows(value: Value, layouts: Layouts) -> list[Call]:
    total = combined(_sum_like(value), "y[q + j]", "x[p + j * n3]", False)
    return [_filled(value, 0), _rows(f"add_rows_{type_name(value.dtype)}", total, value, layouts)]


def _set_rows(value: Value, layouts: Layouts) -> list[Call]:
    before = value.inputs[0]
    rows = _rows(f"set_rows_{type_name(value.dtype)}", "x[p + j * n3]", value, layouts)
    return [_moved(value, layouts[before], _own(value), before.shape), rows]


def _rows(name: str, entry: str, value: Value, layouts: Layouts) -> Call:
    """Row after row, so that what meets in one place is added in order, or the last one stays."""
    x, places = value.inputs[-2:]
    lies, where = layouts[x], layouts[places]
    typed = type_name(value.dtype)
    loop, indent = "for j in range(n1):", "    "
    if x.shape[1] == 1:  # a loop takes longer than its one entry
        name, loop, indent = f"{name}_of_one", "j = 0", ""
    source = (
        f"def {name}(block):\n"
        f"    n1, n2, n3, n4 = integer(block, 1), integer(block, 2), integer(block, 3), integer(block, 4)\n"
        f"    places, x = array(block, 5, int64), array(block, 6, {typed})\n"
        f"    y = array(block, 7, {typed})\n"
        f"    for i in range(integer(block, 0)):\n"
        f"        p, q = i * n2, places[i * n4] * n1\n"
        f"        {loop}\n"
        f"        {indent}y[q + j] = {entry}\n"
    )
    words = (*x.shape, *lies.strides, *where.strides)
    memory = (Memory(where.root, where.offset), Memory(lies.root, lies.offset), Memory(value, 0))
    return Call(name, source, (*words, *memory))


def _sum_like(value: Value) -> Value:
    return Value("sum", (), {}, value.shape, value.dtype)


def _running(value: Value, layouts: Layouts) -> list[Call]:
    """The first entries, and then each from the one before it."""
    x, name = value.inputs[0], value.primitive.removeprefix("cumulative_")
    axis = value.params["axis"] % len(value.shape)
    lies, whole = layouts[x], _own(value)
    typed = type_name(value.dtype)
    entry = "x[{x}]" if x.dtype == value.dtype else f"{typed}(x[{{x}}])"
    first = (*value.shape[:axis], 1, *value.shape[axis + 1 :])
    rest = (*value.shape[:axis], value.shape[axis] - 1, *value.shape[axis + 1 :])
    found = [_walk("convert" if x.dtype != value.dtype else "copy", value, lies, whole, first, entry)]
    if rest[axis]:
        lies = lies._replace(offset=lies.offset + lies.strides[axis])
        step = whole.strides[axis]
        there = whole._replace(offset=step)
        text = f"y[{{back}}] {'+' if name == 'sum' else '*'} {entry}"
        found.append(_walk(f"running_{name}", value, lies, there, rest, text, axis, step))
    return found


_RULES: dict[str, Callable[[Value, Layouts], list[Call]]] = {
    "concat": _concat,
    "cumulative_prod": _running,
    "cumulative_sum": _running,
    "fold": _fold,
    "scatter": _put,
    "scatter_add": _added_rows,
    "scatter_set": _set_rows,
    "setitem": _set,
}
