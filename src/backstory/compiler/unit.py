"""A unit: values that one nest of loops computes, and the order in which that nest can do it.

Its *dims* are loops, from the outermost in. Each member is *placed*: every axis of it is run through by one
loop, or by none where the axis has one entry. A reduction has placed axes, and loops that it adds up over.

The last ``inner`` loops run through a *row*. In each row there may be several loops one after the other, so
that what a row was reduced to (its maximum, say) is used for the same row while it is in the cache.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from backstory.compiler.graph import Value
from backstory.compiler.layout import is_transparent
from backstory.compiler.primitives import REDUCTIONS, VIEWS, may_fail

__all__ = [
    "BEFORE",
    "ENTRY",
    "ROW",
    "Placement",
    "Unit",
    "When",
    "dims_of",
    "is_axiswise",
    "placed_input",
    "reads_anywhere",
]

Placement = tuple[int | None, ...]
BEFORE, ROW, ENTRY, AFTER = range(4)
_ids = itertools.count()


class When(NamedTuple):
    """When a member is computed: before all loops, once in a row, for an entry, or after all loops.

    ``stage`` counts the loops of a row that were run before.
    """

    level: int
    stage: int = 0


@dataclass(eq=False)
class Unit:
    """Values that are computed together; ``kind`` is ``loops`` or what :func:`~.kinds.kind` names.

    Members that are ``once`` are stored: no loop that does not run through them may compute them again.
    """

    kind: str
    members: dict[Value, Placement] = field(default_factory=dict)
    reduced: dict[Value, tuple[int, ...]] = field(default_factory=dict)
    once: set[Value] = field(default_factory=set)
    sizes: dict[int, int] = field(default_factory=dict)
    dims: list[int] = field(default_factory=list)
    inner: int = 1
    number: int = field(default_factory=_ids.__next__)

    @property
    def ordered(self) -> list[Value]:
        """The members as the program has them."""
        return sorted(self.members, key=lambda value: value.order)

    @property
    def may_fail(self) -> bool:
        """Whether it depends on the numbers if it can be computed at all."""
        return any(may_fail(value) for value in self.members)

    def new_dim(self, size: int) -> int:
        """One more loop, not yet among ``dims``."""
        dim = next(_ids)
        self.sizes[dim] = size
        return dim

    def schedule(self) -> dict[Value, When] | None:
        """When each member is computed, with as short rows as will do; ``None`` if no nest computes them."""
        for inner in range(min(1, len(self.dims)), len(self.dims) + 1):
            found = self._schedule(inner)
            if found is not None:
                self.inner = inner
                return found
        return None

    def _schedule(self, inner: int) -> dict[Value, When] | None:
        row = frozenset(self.dims[len(self.dims) - inner :])
        when: dict[Value, When] = {}
        for value in self.ordered:
            found = self._when(value, when, row)
            if found is None or (value in self.once and self._is_repeated(value, found, row)):
                return None
            when[value] = found
        return when

    def _when_reduced(self, value: Value, entry: When, row: frozenset[int]) -> When | None:
        """When a reduction is done. Every entry must be met once, and not again in loops that it lacks."""
        placed, over = dims_of(self.members[value]), frozenset(self.reduced[value])
        if over == row and not placed & row and value.primitive != "squares":
            return When(ROW, entry.stage + 1)
        loops = frozenset(self.dims) if entry.level == ENTRY else frozenset(self.dims) - row
        return When(AFTER) if placed | over == loops else None

    def _is_repeated(self, value: Value, when: When, row: frozenset[int]) -> bool:
        """Whether loops that do not run through a value compute it again and again."""
        placed = dims_of(self.members[value])
        if when.level == ENTRY:
            return len(placed) < len(self.dims)
        return when.level == ROW and len(placed) < len(self.dims) - len(row)

    def _when(self, value: Value, when: Mapping[Value, When], row: frozenset[int]) -> When | None:
        """When a member is computed, given that of the members before it."""
        inputs = [when[x] for x in value.values if x in when] if is_axiswise(value) else []
        levels, stage = [x.level for x in inputs], max([x.stage for x in inputs], default=0)
        if value in self.reduced:
            read = inputs[0] if inputs else _level(dims_of(placed_input(self, value, 0)), row)
            return None if AFTER in levels else self._when_reduced(value, read, row)
        placed = dims_of(self.members[value])
        if AFTER in levels:
            plain = not placed and ROW not in levels and ENTRY not in levels
            return When(AFTER) if plain else None
        if not placed.isdisjoint(row):
            return When(ENTRY, stage)
        return When(ROW, stage) if placed or stage else When(BEFORE)


def _level(dims: frozenset[int], row: frozenset[int]) -> When:
    return When(ENTRY if dims & row else ROW if dims else BEFORE)


def dims_of(placement: Iterable[int | None]) -> frozenset[int]:
    """The loops that run through a placed value."""
    return frozenset([dim for dim in placement if dim is not None])


def is_axiswise(value: Value) -> bool:
    """Whether the axes of a member are those of its inputs; not so where an index fills memory."""
    return value.primitive not in VIEWS or is_transparent(value)


def reads_anywhere(value: Value, i: int) -> bool:
    """Whether a member reads input ``i`` at places that it computes, so that all of it is in memory."""
    return value.primitive == "gather" and i == 0


def placed_input(unit: Unit, consumer: Value, i: int) -> Placement:
    """How input ``i`` of a member is placed by it: broadcasting, order of axes and reduction undone."""
    placed, x = unit.members[consumer], consumer.inputs[i]
    name = consumer.primitive
    if name == "permute_dims":
        axes = consumer.params["axes"]
        found: list[Any] = [None] * len(axes)
        for axis, dim in zip(axes, placed, strict=True):
            found[axis] = dim
        return tuple(found)
    if name == "reshape":
        left = iter([dim for n, dim in zip(consumer.shape, placed, strict=True) if n != 1])
        return tuple([None if n == 1 else next(left) for n in x.shape])
    if name in REDUCTIONS:
        return _placed_by_reduction(unit, consumer, x.shape)
    if x.shape == consumer.shape:
        return placed
    aligned = placed[len(placed) - len(x.shape) :]
    return tuple([None if n == 1 else dim for n, dim in zip(x.shape, aligned, strict=True)])


def _placed_by_reduction(unit: Unit, reduction: Value, shape: tuple[int, ...]) -> Placement:
    over = iter(unit.reduced[reduction])
    axes = reduction.params["axis"]
    placed = unit.members[reduction]
    if reduction.params.get("keepdims"):
        placed = tuple(dim for axis, dim in enumerate(placed) if axis not in axes)
    kept = iter(placed)
    result = []
    for axis, n in enumerate(shape):
        if axis in axes:
            result.append(None if n == 1 else next(over))
        else:
            result.append(next(kept))
    return tuple(result)
