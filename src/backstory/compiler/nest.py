"""A nest of loops: a unit with the memory that it reads and writes, and the loops that are left of its dims.

Dims that all operands run through one after the other become one loop. The last loops run through a row; if
no value is one of a whole row, the last loop alone is the row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from backstory.compiler.fusion import Fusion
from backstory.compiler.graph import Value
from backstory.compiler.kinds import cost
from backstory.compiler.layout import Layout, contiguous
from backstory.compiler.passes.rewriting import splat
from backstory.compiler.unit import (
    AFTER,
    BEFORE,
    ENTRY,
    ROW,
    Placement,
    Unit,
    When,
    dims_of,
    is_axiswise,
    placed_input,
    reads_anywhere,
)

__all__ = ["LARGE", "STRETCH", "Index", "Nest", "Operand", "Scalar", "Source"]


@dataclass(eq=False, slots=True)
class Operand:
    """Memory of one value as a nest runs through it: ``steps`` says how far each dim moves, in entries.

    Scratch has no root: ``count`` entries that hold a row between two loops; without steps, one stretch of
    the only loop after the other. What is read ``anywhere`` is indexed by what the nest computes.
    """

    root: Value | None
    dtype: np.dtype
    offset: int
    steps: Mapping[int, int]
    count: int
    writes: bool = False
    level: int = ENTRY
    anywhere: bool = False


class Index(NamedTuple):
    """The entry is ``start + step · i`` for the count i of a loop."""

    dim: int
    start: int | float
    step: int | float
    dtype: np.dtype


class Scalar(NamedTuple):
    """A Python scalar or number, and the array's dtype if it stands for an array."""

    value: Any
    dtype: np.dtype | None


# Integers up to here are floats too.
_EXACT = 1 << 53
LARGE = 6_500.0
"""Nanoseconds of work that are worth waking another core for one sweep."""
# About how many nanoseconds an entry takes that is read or written, and an addition.
_MOVED, _ADDED = 0.03, 0.02
# So many entries are squared in their own dtype before it is asked whether its range has held them.
STRETCH = 512

Source = Value | Operand | Index | Scalar


class Nest:
    """What a unit of kind ``loops`` needs to become code.

    ``sources`` says of each member where each of its inputs comes from: another member, an operand, a count
    of a loop, a number. ``loops`` are groups of dims, outermost first; the last ``inner`` of them run through
    a row.
    """

    def __init__(self, unit: Unit, fusion: Fusion) -> None:
        self.unit, self.fusion = unit, fusion
        when = unit.schedule()
        assert when is not None, f"no order for {unit.ordered}"
        self.when = when
        self.operands: list[Operand] = []
        self.sources: dict[Value, list[Source]] = {}
        self._read: dict[Any, Operand] = {}
        self.written: dict[Value, Operand] = {}
        self.values = [value for value in unit.ordered if not self._is_shown(value)]
        for value in self.values:
            self.sources[value] = self._inputs(value)
        read = [self.input_when(value) for value in unit.reduced]
        self.stages = 1 + max((w.stage for w in (*when.values(), *read) if w.level == ENTRY), default=-1)
        self.carried = self._carried()
        for value in self.values:
            if value in fusion.stored or value in self.carried:
                self._write(value)
        self.loops, self.inner = self._loops()
        self._keep_squared()

    # Memory

    def _is_shown(self, value: Value) -> bool:
        """Whether a member is a view of what the nest has otherwise."""
        return self.fusion.layouts.is_view(value)

    def _inputs(self, value: Value) -> list[Source]:
        layouts = self.fusion.layouts
        if not is_axiswise(value):
            # A view that memory is filled with, such as every other row: what it shows, entry by entry.
            return [self._operand(layouts.shown(value), value, self.unit.members[value])]
        found = []
        for i, x in enumerate(value.inputs):
            if isinstance(x, Value) and reads_anywhere(value, i):
                found.append(self._whole(x))
            elif isinstance(x, Value):
                found.append(self._source(x, placed_input(self.unit, value, i)))
            else:
                found.append(Scalar(x, None))
        return found

    def _source(self, x: Value, placed: Placement) -> Source:
        """Where an input comes from that the nest reads entry by entry as ``placed``."""
        if x in self.unit.members:
            if self._is_shown(x):
                return self._source(x.inputs[0], placed_input(self.unit, x, 0))
            return x
        number = splat(x)
        if number is not None:
            return Scalar(number, x.dtype)
        return _count(x, placed) or self._operand(self.fusion.layouts[x], x, placed)

    def _operand(self, layout: Layout, x: Value, placed: Placement) -> Operand:
        steps: dict[int, int] = {}
        for dim, step in zip(placed, layout.strides, strict=True):
            if dim is not None:
                steps[dim] = steps.get(dim, 0) + step
        key = (layout.root, layout.offset, tuple(sorted(steps.items())))
        if key not in self._read:
            operand = Operand(layout.root, x.dtype, layout.offset, steps, layout.root.size)
            operand.level = self._level(steps)
            self._read[key] = operand
            self.operands.append(operand)
        return self._read[key]

    def _whole(self, x: Value) -> Operand:
        layout = self.fusion.layouts[x]
        key = (layout.root, layout.offset)
        if key not in self._read:
            operand = Operand(layout.root, x.dtype, layout.offset, {}, layout.root.size, anywhere=True)
            self._read[key] = operand
            self.operands.append(operand)
        return self._read[key]

    def _level(self, steps: Mapping[int, int]) -> int:
        row = self.unit.dims[len(self.unit.dims) - self.unit.inner :]
        if any(steps.get(dim) for dim in row):
            return ENTRY
        return ROW if any(steps.values()) else BEFORE

    def _write(self, value: Value) -> None:
        """The memory that a value is written to: its own, or scratch that holds one row."""
        placed, unit = self.unit.members[value], self.unit
        stored = value in self.fusion.stored
        shape = value.shape
        if not stored:
            row = unit.dims[len(unit.dims) - unit.inner :]
            placed = tuple(dim for dim in row if dim in placed)
            shape = tuple(unit.sizes[dim] for dim in placed if dim is not None)
        steps = {dim: s for dim, s in zip(placed, contiguous(shape), strict=True) if dim is not None}
        operand = Operand(value if stored else None, value.dtype, 0, steps, math.prod(shape), writes=True)
        operand.level = self._level(steps)
        self.written[value] = operand
        self.operands.append(operand)

    # Several loops in a row

    def _carried(self) -> set[Value]:
        """Entries computed in one loop of a row and read in a later one, where memory is cheaper."""
        carried: set[Value] = set()
        for stage in range(1, self.stages):
            todo = [v for v in self.values if self._ends_in(v, stage)]
            seen: set[Value] = set()
            while todo:
                value = todo.pop()
                for x in self.sources[value]:
                    if not isinstance(x, Value) or x in seen or self.when[x].level != ENTRY:
                        continue
                    seen.add(x)
                    if self.when[x].stage < stage and (cost(x) > 1 or x in self.fusion.stored):
                        carried.add(x)
                    else:
                        todo.append(x)
        return carried

    def _ends_in(self, value: Value, stage: int) -> bool:
        """Whether loop ``stage`` of a row runs for this value: it is stored, or adds up entries."""
        if value in self.unit.reduced:
            return self.input_when(value).stage == stage
        return self.when[value] == When(ENTRY, stage)

    def input_when(self, reduction: Value) -> When:
        """When the entries are there that a reduction adds up."""
        x: Value = reduction.inputs[0]
        found = self.when.get(x)
        if found is not None:
            return found
        steps = dict.fromkeys(dims_of(placed_input(self.unit, reduction, 0)), 1)
        return When(self._level(steps))

    def _keep_squared(self) -> None:
        """Have memory hold the entries whose squares are added up: they may be squared once more.

        ``stretched`` says that the only loop is run through by stretches, and ``reread`` what nobody
        overwrites until then.
        """
        squares = [
            v for v in self.unit.reduced if v.primitive == "squares" and self.input_when(v).level == ENTRY
        ]
        self.stretched = bool(squares) and len(self.loops) == self.stages == 1 and not self._has_rows()
        self.reread: set[Operand] = set()
        for value in squares:
            x = self.sources[value][0]
            if isinstance(x, Operand):
                self.reread.add(x)
            elif isinstance(x, Value) and x not in self.written:
                steps, count = {}, STRETCH
                if not self.stretched:
                    loops = self.loops[len(self.loops) - self.inner :]
                    row, sizes = [loop[-1] for loop in loops], tuple(map(self.size, loops))
                    steps, count = dict(zip(row, contiguous(sizes), strict=True)), math.prod(sizes)
                self.written[x] = Operand(None, x.dtype, 0, steps, count, writes=True)
                self.operands.append(self.written[x])

    # Loops

    def _loops(self) -> tuple[list[tuple[int, ...]], int]:
        """Dims that can be run through as one, and how many of these loops are the row."""
        dims, sizes = self.unit.dims, self.unit.sizes
        boundary = len(dims) - self.unit.inner if self._has_rows() else len(dims)
        counted = {x.dim for found in self.sources.values() for x in found if isinstance(x, Index)}
        groups: list[list[int]] = []
        for i, dim in enumerate(dims):
            if groups and i != boundary and dim not in counted and groups[-1][-1] not in counted:
                before = groups[-1][-1]
                whole = all(x.steps.get(before, 0) == x.steps.get(dim, 0) * sizes[dim] for x in self.operands)
                if whole and all((before in over) == (dim in over) for over in self.unit.reduced.values()):
                    groups[-1].append(dim)
                    continue
            groups.append([dim])
        loops = [tuple(group) for group in groups]
        row = set(dims[boundary:])
        return loops, sum(1 for group in loops if group[0] in row) if row else min(1, len(loops))

    def _has_rows(self) -> bool:
        """Whether some value is one of a whole row, and read for its entries or by others of its kind."""
        return any(w.level == ROW for w in self.when.values())

    @property
    def work(self) -> float:
        """About how many nanoseconds it takes on one core."""
        computed = sum(cost(value) for value in self.values if self.when[value].level == ENTRY)
        moved = sum(any(self.step(x, loop) for loop in self.loops) for x in self.operands)
        each = _MOVED * moved + _ADDED * computed
        return math.prod(map(self.size, self.loops)) * each

    @property
    def totals(self) -> list[Value]:
        """Sums of all entries, of which nothing else is computed: each part of the nest may have its own."""
        after = [value for value in self.values if self.when[value].level == AFTER]
        plain = all(
            value in self.unit.reduced
            and value in self.written
            and value.size == 1
            and value.primitive in ("sum", "squares")
            and value.dtype.kind == "f"
            for value in after
        )
        return after if plain else []

    @property
    def splits(self) -> bool:
        """Whether stretches of the outermost loop can run side by side, each with totals of its own."""
        totals = self.totals
        added = any(v not in totals and self.when[v].level == AFTER for v in self.unit.reduced)
        return bool(self.loops) and not added and self.divides(0, totals)

    def divides(self, i: int, totals: Sequence[Value] = ()) -> bool:
        """Whether stretches of loop ``i`` can run side by side, where each has ``totals`` of its own.

        Not if entries of different ones are added up otherwise, or written to one place. Each has scratch of
        its own.
        """
        loop, own = self.loops[i], [self.written[v] for v in totals]
        added = any(v not in totals and loop[0] in over for v, over in self.unit.reduced.items())
        written = [x for x in self.operands if x.writes and x.root is not None]
        shared = any(not self.step(x, loop) and x not in own for x in written)
        found = (x for sources in self.sources.values() for x in sources)
        counted = any(isinstance(x, Index) and x.dim in loop for x in found)
        return not (added or shared or counted)

    def size(self, loop: tuple[int, ...]) -> int:
        """How often a loop runs."""
        return math.prod(self.unit.sizes[dim] for dim in loop)

    def step(self, operand: Operand, loop: tuple[int, ...]) -> int:
        """How far a loop moves in an operand, in entries."""
        return operand.steps.get(loop[-1], 0)


def _count(x: Value, placed: Placement) -> Index | None:
    """A constant 0, 1, 2, … (or with another start and step) as the count of the loop along it."""
    dims = [dim for dim in placed if dim is not None]
    if x.primitive != "constant" or len(dims) != 1 or x.size != max(x.shape):
        return None
    array = x.params["array"].reshape(-1)
    start = array[0].item()
    step = array[1].item() - start if x.dtype.kind != "b" else 0
    if x.dtype.kind not in "iuf" or not all(math.isfinite(n) and n == int(n) for n in (start, step)):
        return None
    if abs(start) + abs(step) * x.size > _EXACT:
        return None
    expected = np.arange(x.size) * int(step) + int(start)
    return Index(dims[0], int(start), int(step), x.dtype) if np.array_equal(array, expected) else None
