"""Where the entries of a value lie: in the memory of which value, from where on, and how far apart.

A view has no memory of its own. Its layout names its root, the value whose memory it shows; roots lie in C
order. Only where entries in the asked order are no regular walk through that memory (a reshape of a
transposed matrix), or where a gather could not read them, is a view stored like a
computed value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from backstory.compiler.graph import Graph, Value

__all__ = ["Layout", "Layouts", "contiguous", "is_transparent", "part_of"]


class Layout(NamedTuple):
    """Entry (i, j, …) is at ``offset + i·strides[0] + j·strides[1] + …`` of ``root``, all in entries."""

    root: Value
    offset: int
    strides: tuple[int, ...]


def contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of C order, in entries.

    >>> contiguous((2, 3, 4))
    (12, 4, 1)
    """
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


def is_transparent(value: Value) -> bool:
    """Whether a view only orders, repeats, adds or drops axes, so that each axis remains one.

    >>> import numpy as np
    >>> x = Value("input", (), {}, (4, 1), np.dtype("f4"))
    >>> is_transparent(Value("reshape", (x,), {"shape": (4,)}, (4,), x.dtype))
    True
    >>> is_transparent(Value("reshape", (x,), {"shape": (2, 2)}, (2, 2), x.dtype))
    False
    """
    if value.primitive == "reshape":
        before, after = value.inputs[0].shape, value.shape
        return [n for n in before if n != 1] == [n for n in after if n != 1]
    return value.primitive in ("permute_dims", "broadcast_to")


class Layouts:
    """The layouts of all values of a graph. ``stored`` are the views that need memory of their own."""

    def __init__(self, graph: Graph) -> None:
        self.stored: set[Value] = set()
        self._of: dict[Value, Layout] = {}
        self._sweep(graph)
        sources = [v.inputs[0] for v in graph.values if v.primitive == "gather"]
        wanting = {x for x in sources if x in self._of and not _equal(self[x].strides, x.shape)}
        if not wanting <= self.stored:
            self.stored |= wanting
            self._of = {}
            self._sweep(graph)

    def __getitem__(self, value: Value) -> Layout:
        found = self._of.get(value)
        if found is None or value in self.stored:
            return Layout(value, 0, contiguous(value.shape))
        return found

    def shown(self, view: Value) -> Layout:
        """The layout of a view, also of one that has memory of its own, to be filled by it."""
        return self._of[view]

    def is_view(self, value: Value) -> bool:
        """Whether a value is a view that has no memory of its own."""
        return value in self._of and value not in self.stored

    def is_whole(self, value: Value) -> bool:
        """Whether a value has exactly the entries of its root, in their order."""
        root, offset, strides = self[value]
        return root.size == value.size and offset == 0 and _equal(strides, value.shape)

    def _sweep(self, graph: Graph) -> None:
        for value in graph.values:
            if value.primitive in _VIEWS and len(value.inputs) == 1:
                self._add(value)

    def _add(self, value: Value) -> None:
        x = value.inputs[0]
        layout = _VIEWS[value.primitive](self[x], x, value)
        if layout is None:
            if x in self._of:
                self.stored.add(x)
                layout = _VIEWS[value.primitive](self[x], x, value)
            if layout is None:
                return  # an index that is no view
        self._of[value] = layout


def _equal(strides: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether strides are those of C order, where they matter."""
    return all(n == 1 or a == b for n, a, b in zip(shape, strides, contiguous(shape), strict=True))


def _reshape(layout: Layout, x: Value, value: Value) -> Layout | None:
    if is_transparent(value):
        steps = [step for n, step in zip(x.shape, layout.strides, strict=True) if n != 1]
        left = iter(steps)
        return layout._replace(strides=tuple(0 if n == 1 else next(left) for n in value.shape))
    if _equal(layout.strides, x.shape):
        return layout._replace(strides=contiguous(value.shape))
    return None


def _permute(layout: Layout, x: Value, value: Value) -> Layout:
    return layout._replace(strides=tuple(layout.strides[i] for i in value.params["axes"]))


def _broadcast(layout: Layout, x: Value, value: Value) -> Layout:
    added = len(value.shape) - len(x.shape)
    kept = (
        step if n == m else 0 for n, m, step in zip(x.shape, value.shape[added:], layout.strides, strict=True)
    )
    return layout._replace(strides=(0,) * added + tuple(kept))


def _getitem(layout: Layout, x: Value, value: Value) -> Layout | None:
    return part_of(layout, x.shape, value.params["index"])


def part_of(layout: Layout, shape: tuple[int, ...], index: Any) -> Layout | None:
    """Where the part lies that an index names; ``None`` if it is no regular walk.

    >>> import numpy as np
    >>> x = Value("input", (), {}, (3, 4), np.dtype("f4"))
    >>> part_of(Layout(x, 0, (4, 1)), (3, 4), (slice(1, None), -1))[1:]
    (7, (4,))
    """
    parts = list(index) if isinstance(index, tuple) else [index]
    if any(
        isinstance(p, bool) or not (p is None or p is Ellipsis or isinstance(p, (int, slice))) for p in parts
    ):
        return None
    taken = sum(1 for p in parts if p is not None and p is not Ellipsis)
    if not any(p is Ellipsis for p in parts):
        parts.append(Ellipsis)
    offset, strides, axis = layout.offset, [], 0
    for part in parts:
        if part is None:
            strides.append(0)
        elif part is Ellipsis:
            rest = len(shape) - taken
            strides += layout.strides[axis : axis + rest]
            axis += rest
        elif isinstance(part, slice):
            start, _, step = part.indices(shape[axis])
            offset += start * layout.strides[axis]
            strides.append(step * layout.strides[axis])
            axis += 1
        else:
            offset += (part % shape[axis]) * layout.strides[axis]
            axis += 1
    return Layout(layout.root, offset, tuple(strides))


def _diagonal(layout: Layout, x: Value, value: Value) -> Layout:
    offset, (*before, down, right) = value.params["offset"], layout.strides
    start = offset * right if offset >= 0 else -offset * down
    return Layout(layout.root, layout.offset + start, (*before, down + right))


def _unfold(layout: Layout, x: Value, value: Value) -> Layout:
    windows, (*before, down, right) = value.params["windows"], layout.strides
    inside = (windows.dilation[0] * down, windows.dilation[1] * right)
    return layout._replace(strides=(*before, *inside, windows.stride[0] * down, windows.stride[1] * right))


_VIEWS: Mapping[str, Any] = {
    "reshape": _reshape,
    "permute_dims": _permute,
    "broadcast_to": _broadcast,
    "getitem": _getitem,
    "diagonal": _diagonal,
    "unfold": _unfold,
}
