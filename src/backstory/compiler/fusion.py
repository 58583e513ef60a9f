"""Fusion: which values are computed in one nest of loops, and which have memory at all.

The values are looked at from the last to the first, so that everything that reads a value has its place
already. A value joins the loops that read it; where several do, these become one, if one nest can run them
and nothing between them needs the one before the other. What is cheap to compute is computed wherever it is
read, and never stored for the loops alone: the gate of an activation, for one. What has to be in memory (for
a matrix product, for an output) is stored by the loops it joined.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from backstory.compiler.graph import Graph, Value
from backstory.compiler.kinds import cost, kind
from backstory.compiler.layout import Layouts
from backstory.compiler.order import Reach
from backstory.compiler.passes.rewriting import is_scalar
from backstory.compiler.primitives import REDUCTIONS
from backstory.compiler.unit import Placement, Unit, dims_of, is_axiswise, placed_input, reads_anywhere

__all__ = ["Fusion", "fused"]

# An input this many times smaller than a value costs next to nothing to read.
_SMALL = 4


def fused(graph: Graph) -> Fusion:
    """The units of a graph, in an order in which they can run."""
    fusion = Fusion(graph)
    fusion.run()
    return fusion


class Fusion:
    """The units of a graph. ``stored`` are the values that have memory; ``home`` says who computes them."""

    def __init__(self, graph: Graph) -> None:
        for i, value in enumerate(graph.values):
            value.order = i
        self.graph = graph
        self.layouts = Layouts(graph)
        self.kinds = {value: kind(value, self.layouts) for value in graph.values}
        self.readers = graph.uses()
        self.reach = Reach()
        self.units: list[Unit] = []
        self.where: dict[Value, list[Unit]] = {}
        self.home: dict[Value, Unit] = {}
        self.stored: set[Value] = set()
        # The units that read a value from memory.
        self.outside: dict[Value, dict[Unit, None]] = {}
        self._outputs = {self.layouts[x.value].root for x in graph.outputs}

    def run(self) -> None:
        """Give every value its place, from the last to the first."""
        for value in reversed(self.graph.values):
            self._place(value)

    def _place(self, value: Value) -> None:
        if value in self.where:
            return  # with what lies behind a product
        inside, outside = self._read_by(value)
        self._merge_readers(value, inside)
        what = self.kinds[value]
        if what in ("leaf", "other view"):
            self.outside[value] = outside | dict.fromkeys(inside)
        elif what == "view":
            self._place_view(value, inside, outside)
        elif what in ("product", "routine", "host", "check", "nothing"):
            self._alone(what, value, outside | dict.fromkeys(inside))
        else:
            self._place_computed(value, inside, outside)

    def _read_by(self, value: Value) -> tuple[dict[Unit, Placement], dict[Unit, None]]:
        """The nests that read a value entry by entry, and how they place it; the units that read memory."""
        inside: dict[Unit, Placement] = {}
        outside: dict[Unit, None] = {}
        for reader in self.readers.get(value, ()):
            if self.kinds[reader] in ("view", "other view"):
                outside |= self.outside[reader]
            for unit in self.where.get(reader, ()):
                if unit.kind != "loops" or not is_axiswise(reader):
                    outside[unit] = None
                    continue
                for i, x in enumerate(reader.inputs):
                    if x is value and reads_anywhere(reader, i):
                        outside[unit] = None
                    elif x is value:
                        placed = placed_input(unit, reader, i)
                        if inside.setdefault(unit, placed) != placed:
                            outside[unit] = None
        for unit in outside:
            inside.pop(unit, None)
        return inside, outside

    def _place_view(self, value: Value, inside: dict[Unit, Placement], outside: dict[Unit, None]) -> None:
        for unit, placed in inside.items():
            unit.members[value] = placed
        self.where[value] = list(inside)
        self.outside[value] = outside

    def _alone(self, what: str, value: Value, outside: dict[Unit, None]) -> Unit:
        """A unit of one value, which the units ``outside`` read."""
        unit = Unit(what, {value: ()})
        self._begin(unit, value, outside)
        return unit

    def _begin(self, unit: Unit, value: Value, outside: dict[Unit, None]) -> None:
        self.units.append(unit)
        self.reach.add(unit)
        self._store(unit, value, outside)

    def _store(self, unit: Unit, value: Value, outside: Iterable[Unit]) -> None:
        """Have ``unit`` write a value to memory, where the units ``outside`` read it."""
        self.where[value] = [unit]
        self.home[value] = unit
        self.stored.add(value)
        self.outside[value] = dict.fromkeys(outside)
        for reader in outside:
            self.reach.connect(unit, reader)

    def _place_computed(self, value: Value, inside: dict[Unit, Placement], outside: dict[Unit, None]) -> None:
        needed = bool(outside) or value in self._outputs
        if not needed and len(inside) > 1 and value.size == 1 and value.primitive not in REDUCTIONS:
            self._recompute(value, inside)
            return
        if not needed and len(inside) == 1:
            unit, placed = next(iter(inside.items()))
            if self._joins(unit, value, placed):
                self.where[value] = [unit]
                return
        elif not needed and self._is_cheap(value) and inside:
            self._recompute(value, inside)
            return
        product = self._product_behind(value) if needed else None
        if product is not None:
            unit = Unit("product", dict.fromkeys(product, ()))
            self._begin(unit, value, outside | dict.fromkeys(inside))
            self.where.update({x: [unit] for x in product})
        else:
            self._place_stored(value, inside, outside)

    def _product_behind(self, value: Value) -> list[Value] | None:
        """A product whose kernel can do all the rest (add a row, then clip at 0), and what that goes through.

        Nobody else reads any of it.
        """
        found = [value]
        if value.primitive == "maximum" and any(is_scalar(x, 0) for x in value.inputs):
            found += self._seen_through(value.values[0])
        last = found[-1]
        if last.primitive == "add":
            for x, row in itertools.permutations(last.values, 2):
                seen = self._seen_through(x)
                is_product = self.kinds.get(seen[-1]) == "product" and x.size == last.size
                if is_product and x is not row and self._is_row_of(row, last):
                    found += seen
                    break
        between = found[1:]
        if not between or self.kinds.get(between[-1]) != "product":
            return None
        whole = all(self.layouts.is_whole(x) and x.dtype == value.dtype for x in between)
        alone = all(len(self.readers[x]) == 1 and self.layouts[x].root not in self._outputs for x in between)
        return found if whole and alone else None

    def _seen_through(self, x: Value) -> list[Value]:
        """A value and, if it is a view, what it shows."""
        found = [x]
        while self.kinds.get(found[-1]) in ("view", "other view"):
            found.append(found[-1].inputs[0])
        return found

    def _is_row_of(self, row: Value, value: Value) -> bool:
        """Whether a product's kernel can add a value to each row of another."""
        fits = row.shape and row.size == row.shape[-1] == value.shape[-1] and row.dtype == value.dtype
        return bool(fits and row.size > 1 and self.layouts[row].strides[-1] == 1)

    def _recompute(self, value: Value, inside: dict[Unit, Placement]) -> None:
        for unit, placed in inside.items():
            unit.members[value] = placed
        self.where[value] = list(inside)

    def _place_stored(self, value: Value, inside: dict[Unit, Placement], outside: dict[Unit, None]) -> None:
        """Compute a value in the first nest that can, for all others to read."""
        for unit, placed in inside.items():
            others = [u for u in (*inside, *outside) if u is not unit]
            if any(self.reach.leads(other, unit) for other in others):
                continue
            if self._joins(unit, value, placed, once=True):
                self._store(unit, value, others)
                return
        unit = Unit("loops")
        placement = tuple(None if n == 1 else unit.new_dim(n) for n in value.shape)
        unit.dims = [dim for dim in placement if dim is not None]
        self._begin(unit, value, outside | dict.fromkeys(inside))
        joined = self._joins(unit, value, placement, once=True)
        assert joined, f"no loops for {value!r} alone"

    def _is_cheap(self, value: Value) -> bool:
        """Whether computing a value again costs no more than reading it: one large input, or none."""
        if cost(value) > 1 or value.primitive in REDUCTIONS:
            return False
        return sum(1 for x in value.values if x.size * _SMALL > value.size) <= 1

    # Joining

    def _joins(self, unit: Unit, value: Value, placed: Placement, once: bool = False) -> bool:
        """Make a value a member of a nest that reads it, or say that the nest cannot compute it.

        What is stored is computed ``once``.
        """
        if once:
            unit.once.add(value)
        if value.primitive in REDUCTIONS:
            joined = self._joins_reduction(unit, value, placed)
        elif unit.members and placed and self._is_repeated(unit, value, placed):
            joined = False
        else:
            unit.members[value] = placed
            joined = not once or unit.schedule() is not None
            if not joined:
                del unit.members[value]
        if not joined:
            unit.once.discard(value)
        return joined

    def _is_repeated(self, unit: Unit, value: Value, placed: Placement) -> bool:
        """Whether a dear value would be computed once more for every row, though rows do not change it."""
        dims = dims_of(placed)
        if cost(value) == 1 or not unit.dims or len(dims) == len(unit.dims):
            return False
        return unit.dims[-1] in dims

    def _joins_reduction(self, unit: Unit, value: Value, placed: Placement) -> bool:
        over = self._reduced_dims(unit, value, placed)
        if over is None:
            return False
        before = unit.dims
        unit.members[value], unit.reduced[value] = placed, over
        if any(dim not in before for dim in over):
            unit.dims = [dim for dim in placed_input(unit, value, 0) if dim is not None]
        if unit.schedule() is None:
            del unit.members[value], unit.reduced[value]
            unit.dims = before
            return False
        return True

    def _reduced_dims(self, unit: Unit, value: Value, placed: Placement) -> tuple[int, ...] | None:
        """The loops of ``unit`` that a reduction adds up over; new ones where all that it has are kept."""
        x: Value = value.inputs[0]
        sizes = [x.shape[axis] for axis in value.params["axis"] if x.shape[axis] != 1]
        kept = dims_of(placed)
        left = [dim for dim in unit.dims if dim not in kept]
        if not left:
            return tuple(unit.new_dim(n) for n in sizes)
        for other in self.readers.get(x, ()):
            anywhere = reads_anywhere(other, other.inputs.index(x))
            if other is not value and other in unit.members and not anywhere:
                told = placed_input(unit, other, other.inputs.index(x))
                over = tuple(told[axis] for axis in value.params["axis"] if x.shape[axis] != 1)
                if kept.isdisjoint(over) and None not in over:
                    return over  # type: ignore[return-value]
        return _matched(sizes, left, unit)

    # Making one nest of several

    def _merge_readers(self, value: Value, inside: dict[Unit, Placement]) -> None:
        """Make the nests that read a value entry by entry as few as can be; ``inside`` follows."""
        if not any(n != 1 for n in value.shape):
            return
        for unit in list(inside)[1:]:
            for first in inside:
                if first is unit:
                    break
                if self._merged(first, unit, inside[first], inside[unit]):
                    del inside[unit]
                    break

    def _merged(self, first: Unit, second: Unit, placed: Placement, other: Placement) -> bool:
        """Make ``second`` part of ``first``, which place one value as ``placed`` and ``other``."""
        if self.reach.leads(first, second) or self.reach.leads(second, first):
            return False
        whole = _union(first, second, dict(zip(other, placed, strict=True)))
        if whole is None or whole.schedule() is None:
            return False
        for value in second.members:
            units = [first if unit is second else unit for unit in self.where[value]]
            self.where[value] = list(dict.fromkeys(units))
            if self.home.get(value) is second:
                self.home[value] = first
        for readers in self.outside.values():
            if second in readers:
                del readers[second]
                readers[first] = None
        first.members, first.reduced = whole.members, whole.reduced
        first.sizes, first.dims, first.inner, first.once = whole.sizes, whole.dims, whole.inner, whole.once
        self.units.remove(second)
        self.reach.merge(first, second)
        return True


def _matched(sizes: Sequence[int], dims: Sequence[int], unit: Unit) -> tuple[int, ...] | None:
    """Of ``dims`` the first that have these sizes, in their order."""
    left, found = iter(dims), []
    for n in sizes:
        dim = next((dim for dim in left if unit.sizes[dim] == n), None)
        if dim is None:
            return None
        found.append(dim)
    return tuple(found)


def _union(first: Unit, second: Unit, same: dict[int | None, int | None]) -> Unit | None:
    """Both units as one, the loops ``same`` of the second being those of the first."""
    names = {dim: own for dim, own in same.items() if dim is not None and own is not None}
    ours = [dim for dim in first.dims if dim not in names.values()]
    theirs = [dim for dim in second.dims if dim not in names]
    for dim in list(theirs):
        own = next((own for own in ours if first.sizes[own] == second.sizes[dim]), None)
        if own is not None:
            names[dim] = own
            ours.remove(own)
            theirs.remove(dim)
    if ours and theirs:
        return None  # no one nest runs through what only the first, and what only the second, runs through
    members, reduced = dict(first.members), dict(first.reduced)
    for value, placed in second.members.items():
        placed = tuple(None if dim is None else names.get(dim, dim) for dim in placed)
        if members.setdefault(value, placed) != placed:
            return None
    for value, over in second.reduced.items():
        over = tuple(names.get(dim, dim) for dim in over)
        if reduced.setdefault(value, over) != over:
            return None
    order = [names.get(dim, dim) for dim in second.dims] if theirs else first.dims
    if len(set(order)) < len(order):
        return None
    return Unit("loops", members, reduced, first.once | second.once, first.sizes | second.sizes, order)
