"""The memory plan: where every stored value lies, and which values share memory.

Values that live only within the step lie in one arena; when the last unit that reads a value has run, its
place is free for others. A nest writes over an array that it is the last to read where both move alike. What
goes out is written to its own array at once, and what goes into an input is written there at once if nobody
needs the old values any more; else it waits in the arena until the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from backstory.compiler.fusion import Fusion
from backstory.compiler.graph import Value
from backstory.compiler.nest import Nest, Operand
from backstory.compiler.unit import AFTER, ENTRY, Unit

__all__ = ["ALIGNMENT", "Arena", "Place", "Plan", "Range", "planned", "roots_read"]

ALIGNMENT = 64
Range = tuple[str, int, int]
"""Bytes of the arena from the first to before the last, or an input or output of that number as a whole."""


class Place(NamedTuple):
    """``kind`` is ``arena`` (``at`` counts bytes), ``input``, ``output`` (it says which) or ``constant``."""

    kind: str
    at: int = 0


class Arena:
    """Places in one piece of memory, handed out and taken back.

    >>> arena = Arena()
    >>> a, b = arena.take(100), arena.take(10)
    >>> arena.give(a, 100)
    >>> arena.take(60), arena.size
    (0, 192)
    """

    def __init__(self) -> None:
        self.size = 0
        self._free: list[tuple[int, int]] = []

    def take(self, count: int) -> int:
        """The beginning of ``count`` free bytes: the smallest gap that holds them, or new ones at the end."""
        count = _rounded(count)
        fitting = [(size, start) for start, size in self._free if size >= count]
        if fitting:
            size, start = min(fitting)
            self._free.remove((start, size))
            if size > count:
                self._free.append((start + count, size - count))
            return start
        last = next((gap for gap in self._free if sum(gap) == self.size), None)
        start = self.size
        if last is not None:
            self._free.remove(last)
            start = last[0]
        self.size = start + count
        return start

    def give(self, start: int, count: int) -> None:
        """These bytes are free again."""
        end = start + _rounded(count)
        for gap in list(self._free):
            if gap[0] == end or sum(gap) == start:
                self._free.remove(gap)
                start, end = min(start, gap[0]), max(end, sum(gap))
        self._free.append((start, end - start))


def _rounded(count: int) -> int:
    return max(-(-count // ALIGNMENT) * ALIGNMENT, ALIGNMENT)


@dataclass
class Plan:
    """Where values lie; ``same`` names operands that are written where another is read.

    ``late`` are outputs that are copied to their inputs when all is computed; ``early`` are those with memory
    of their own that are written before the last unit that may fail.
    """

    places: dict[Value, Place] = field(default_factory=dict)
    scratch: dict[Operand, int] = field(default_factory=dict)
    same: dict[Operand, Operand] = field(default_factory=dict)
    late: list[int] = field(default_factory=list)
    early: frozenset[int] = frozenset()
    arena: int = 0

    def memory_of(self, root: Value) -> Range | None:
        """The memory of a root, unless it is a constant, which nobody writes to."""
        place = self.places[root]
        if place.kind == "arena":
            return "arena", place.at, place.at + _bytes(root)
        return None if place.kind == "constant" else (place.kind, place.at, place.at + 1)

    def memory_at(self, operand: Operand) -> Range | None:
        """The same of what a nest reads or writes; scratch without steps is nobody else's."""
        if operand.root is not None:
            return self.memory_of(operand.root)
        at = self.scratch.get(operand)
        if at is None:
            return None
        return "arena", at, at + operand.count * operand.dtype.itemsize


def roots_read(unit: Unit, fusion: Fusion, nests: Mapping[Unit, Nest]) -> set[Value]:
    """The values whose memory a unit reads."""
    if unit.kind == "loops":
        return {x.root for x in nests[unit].operands if x.root is not None and not x.writes}
    given = (x for value in unit.members for x in value.values if x not in unit.members)
    return {fusion.layouts[x].root for x in given}


def planned(order: Sequence[Unit], fusion: Fusion, nests: Mapping[Unit, Nest]) -> Plan:
    """The plan for units that run in this order."""
    return _Planning(order, fusion, nests).plan


class _Planning:
    def __init__(self, order: Sequence[Unit], fusion: Fusion, nests: Mapping[Unit, Nest]) -> None:
        self.order, self.fusion, self.nests = order, fusion, nests
        self.plan, self.arena = Plan(), Arena()
        self.reads = [roots_read(unit, fusion, nests) for unit in order]
        self.last: dict[Value, int] = {}
        for k, roots in enumerate(self.reads):
            self.last.update(dict.fromkeys(roots, k))
        self.checked = max((k for k, unit in enumerate(order) if unit.may_fail), default=-1)
        self._place_fixed()
        for k, unit in enumerate(order):
            self._place_unit(k, unit)
        self.plan.arena = self.arena.size
        before = (value for unit in order[: max(self.checked, 0)] for value in unit.members)
        places = (self.plan.places.get(value) for value in before)
        self.plan.early = frozenset(x.at for x in places if x is not None and x.kind == "output")

    def _place_fixed(self) -> None:
        """Inputs, constants, and outputs with an array of their own."""
        graph, places = self.fusion.graph, self.plan.places
        for i, x in enumerate(graph.inputs):
            places[x.value] = Place("input", i)
        for value in graph.values:
            if self.fusion.kinds[value] == "leaf":
                places[value] = Place("constant")
        for j, output in enumerate(graph.outputs):
            if output.into is None:
                places[self.fusion.layouts[output.value].root] = Place("output", j)
        self.into = {
            self.fusion.layouts[output.value].root: (j, output.into.value)
            for j, output in enumerate(graph.outputs)
            if output.into is not None
        }

    def _place_unit(self, k: int, unit: Unit) -> None:
        """Give a unit's values their places, and take back those that nobody reads after it."""
        freed = {root for root in self.reads[k] if self.last[root] == k and self._is_free(root)}
        written = [value for value in unit.ordered if self.fusion.home.get(value) is unit]
        for value in written:
            place = (
                self.plan.places.get(value) or self._into(k, unit, value) or self._over(unit, value, freed)
            )
            if place is None:
                place = Place("arena", self.arena.take(_bytes(value)))
            self.plan.places[value] = place
        operands = self.nests[unit].operands if unit.kind == "loops" else ()
        scratch = [x for x in operands if x.root is None and x.steps]
        for operand in scratch:
            self.plan.scratch[operand] = self.arena.take(operand.count * operand.dtype.itemsize)
        for operand in scratch:
            self.arena.give(self.plan.scratch[operand], operand.count * operand.dtype.itemsize)
        for root in freed:
            self.arena.give(self.plan.places[root].at, _bytes(root))
        for value in written:
            if value not in self.last and self._is_free(value):
                self.arena.give(self.plan.places[value].at, _bytes(value))

    def _is_free(self, root: Value) -> bool:
        """Whether a value's memory is the arena's to reuse once nobody reads it."""
        return self.plan.places[root].kind == "arena" and root not in self.into

    def _into(self, k: int, unit: Unit, value: Value) -> Place | None:
        """The input that a value goes into, if it can be written there at once."""
        if value not in self.into:
            return None
        j, target = self.into[value]
        free = k > self.checked and self.last.get(target, -1) <= k
        if free and target in self.reads[k]:
            free = unit.kind == "host" or (unit.kind == "loops" and self._overwrites(unit, value, target))
        if free:
            return self.plan.places[target]
        self.plan.late.append(j)
        return None

    def _over(self, unit: Unit, value: Value, freed: set[Value]) -> Place | None:
        """The place of an array that the unit is the last to read, if it can be overwritten."""
        if unit.kind != "loops":
            return None
        for root in sorted(freed, key=lambda root: root.order):
            if root.size == value.size and root.dtype == value.dtype and self._overwrites(unit, value, root):
                freed.remove(root)
                return self.plan.places[root]
        return None

    def _overwrites(self, unit: Unit, value: Value, root: Value) -> bool:
        """Whether a nest may write a value over the one array that it reads of ``root``, entry by entry."""
        nest = self.nests[unit]
        written = nest.written[value]
        read = [x for x in nest.operands if x.root is root]
        if (
            len(read) != 1
            or read[0] in self.plan.same.values()
            or read[0].offset
            or read[0].anywhere
            or read[0] in nest.reread
            or root.dtype != value.dtype
        ):
            return False
        when = nest.when[value]
        gathered = value in unit.reduced and when.level == AFTER and value.size > 1
        early = when.level == ENTRY and when.stage < nest.stages - 1
        if gathered or early or _moving(read[0], unit) != _moving(written, unit):
            return False
        self.plan.same[written] = read[0]
        return True


def _moving(operand: Operand, unit: Unit) -> dict[int, int]:
    return {dim: step for dim, step in operand.steps.items() if unit.sizes[dim] > 1}


def _bytes(value: Value) -> int:
    return value.size * value.dtype.itemsize
