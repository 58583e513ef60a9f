"""Which unit must run before which: kept up to date while units are joined, and at last their order."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Mapping, Sequence

from backstory.compiler.unit import Unit

__all__ = ["Reach", "ordered"]


class Reach:
    """What follows from each unit, as bits: asked often, and changed only by adding.

    >>> reach = Reach()
    >>> a, b, c = (Unit("loops") for _ in range(3))
    >>> for unit in (c, b, a):
    ...     reach.add(unit)
    >>> reach.connect(b, c)
    >>> reach.connect(a, b)
    >>> reach.leads(a, c), reach.leads(c, a)
    (True, False)
    """

    def __init__(self) -> None:
        self._place: dict[Unit, int] = {}
        self._after: dict[Unit, int] = {}
        self._count = itertools.count()

    def add(self, unit: Unit) -> None:
        """A unit that nothing follows from yet."""
        self._place[unit] = next(self._count)
        self._after[unit] = 0

    def connect(self, before: Unit, after: Unit) -> None:
        """``after`` reads what ``before`` writes."""
        if before is after:
            return
        new = self._after[after] | 1 << self._place[after]
        self._spread(self._place[before], before, new)

    def merge(self, first: Unit, second: Unit) -> None:
        """Both are one unit, ``first``, from now on."""
        bit, own = 1 << self._place[second], 1 << self._place[first]
        after = (self._after.pop(second) | self._after[first]) & ~bit & ~own
        self._after[first] = after
        for unit, found in self._after.items():
            if found & (bit | own):  # what led to the one leads to all that follows from the other
                self._after[unit] = found & ~bit | own | after
        del self._place[second]

    def leads(self, before: Unit, after: Unit) -> bool:
        """Whether ``after`` needs, through whatever others, what ``before`` computes."""
        return bool(self._after[before] >> self._place[after] & 1)

    def _spread(self, place: int, unit: Unit, new: int) -> None:
        if self._after[unit] | new == self._after[unit]:
            return
        self._after[unit] |= new
        for other, after in self._after.items():
            if after >> place & 1:
                self._after[other] = after | new


def ordered(units: Sequence[Unit], needs: Mapping[Unit, set[Unit]]) -> list[Unit]:
    """The units in the program's order: each after those it needs, what may fail as early as can be."""
    urgent: set[Unit] = set()
    todo = [unit for unit in units if unit.may_fail]
    while todo:
        unit = todo.pop()
        if unit not in urgent:
            urgent.add(unit)
            todo += needs[unit]
    left = {unit: len(needs[unit]) for unit in units}
    readers: dict[Unit, list[Unit]] = {unit: [] for unit in units}
    for unit in units:
        for before in needs[unit]:
            readers[before].append(unit)
    ready = [_key(unit, urgent) for unit in units if not left[unit]]
    heapq.heapify(ready)
    found: list[Unit] = []
    while ready:
        unit = heapq.heappop(ready)[-1]
        found.append(unit)
        for reader in readers[unit]:
            left[reader] -= 1
            if not left[reader]:
                heapq.heappush(ready, _key(reader, urgent))
    assert len(found) == len(units), "units need each other"
    return found


def _key(unit: Unit, urgent: set[Unit]) -> tuple[bool, int, int, Unit]:
    return unit not in urgent, max(value.order for value in unit.members), unit.number, unit
