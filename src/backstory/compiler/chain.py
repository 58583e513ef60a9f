"""Chains: units that follow one another and are divided alike, so that no thread waits between them.

A *cut* divides a unit into lanes: stretches of one loop of a nest, or the rows or columns of a product. What
a lane reads of what another unit wrote, and writes where another unit reads, must belong to the same lane of
that unit: columns of a batch on their way through a normalisation and its statistics, or rows of a batch on
their way through layer after layer. Then each thread takes a band of lanes through all units of the chain,
while what they hand on stays in its cache, and only at the chain's end the threads meet. Where a unit needs
what all lanes made, the chain ends. Of the cuts that make a chain as long as it can be, the one of the least
estimated time is taken.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from backstory.compiler.emit import Emitted
from backstory.compiler.memory import Plan, Range
from backstory.compiler.nest import Nest, Operand
from backstory.compiler.products import Product
from backstory.compiler.unit import Unit

__all__ = ["FEWEST", "LEAST", "WHOLE", "Access", "Chain", "Cut", "bands", "chains", "lane"]

LEAST = 32_000.0
"""Nanoseconds of work that are worth waking another core: with half or twice as many, steps of 50 to 300
microseconds took up to a fifth longer on two cores of a shared machine."""
FEWEST = 2
"""So many lanes a band has at least."""
WHOLE = -1
"""Instead of a loop: the whole unit is done with the first band."""
_MOST_WHOLE = 500.0
_STATES = 6

Lane = tuple[int, int]


class Access(NamedTuple):
    """Memory that a unit reads or writes.

    ``lane`` is how many bytes each lane has in one place, and how many lanes; None if lanes share them.
    """

    where: Range
    writes: bool
    lane: Lane | None


class Cut(NamedTuple):
    """A way to divide a unit into ``lanes``: of a nest's ``loop``, or a product's rows (0) or columns (1)."""

    loop: int
    lanes: int
    accesses: tuple[Access, ...]
    cost: float


class Chain(NamedTuple):
    """Units in their order, each with its cut, and about how many nanoseconds all of them take."""

    units: tuple[Unit, ...]
    cuts: tuple[Cut, ...]
    work: float


def bands(lanes: int, parts: int) -> list[tuple[int, int]]:
    """The lanes of each part, as beginning and length: long ones end where a cache line does.

    >>> bands(256, 2), bands(100, 3)
    ([(0, 128), (128, 128)], [(0, 33), (33, 33), (66, 34)])
    """
    step = 16 if lanes >= 128 * parts else 1
    bounds = [lanes * i // parts // step * step for i in range(parts)] + [lanes]
    return [(a, b - a) for a, b in itertools.pairwise(bounds)]


def lane(start: int, step: int, lanes: int, others: Sequence[tuple[int, int]]) -> Lane | None:
    """The lane of memory whose entries lie ``step`` bytes further in each lane.

    ``others`` are the sizes and steps of what is gone through within a lane: all in one place of so many
    bytes, or also in places as far apart as all lanes are long.

    >>> lane(0, 4, 256, [(128, 1024), (1, 4)]), lane(0, 1024, 128, [(256, 4)]), lane(0, 4, 256, [(128, 512)])
    ((4, 256), (1024, 128), None)
    """
    if step <= 0 or any(far < 0 for _, far in others):
        return None
    within = start % (step * lanes) + sum((n - 1) * far for n, far in others if far % (step * lanes))
    return (step, lanes) if within < step else None


def _alike(where: Range, own: Lane | None, other: Range, theirs: Lane | None) -> bool:
    """Whether each byte that is in both is in the same lane of both."""
    return own is not None and own == theirs and (where[1] - other[1]) % (own[0] * own[1]) == 0


def chains(
    order: Sequence[Unit],
    nests: Mapping[Unit, Nest],
    codes: Mapping[Unit, Emitted],
    products: Mapping[Unit, Product],
    plan: Plan,
    parts: int,
) -> Iterator[Chain | Unit]:
    """The units in their order, those that make a chain worth being divided together."""
    cutting = _Cutting(nests, codes, products, plan, parts)
    at = 0
    while at < len(order):
        states, length = [_State()], 0
        while at + length < len(order):
            longer = cutting.extended(states, order[at + length])
            if not longer:
                break
            states, length = longer, length + 1
        units = order[at : at + length]
        work = sum(map(cutting.work, units))
        if length > 1 and work >= LEAST:
            best = min(states, key=lambda state: state.cost)
            yield Chain(tuple(units), best.cuts, work)
        else:
            units = order[at : at + max(length, 1)]
            yield from units
        at += len(units)


class _State(NamedTuple):
    """Cuts of the units so far: what they touched, whether they wrote it, and the lane all of them had."""

    cuts: tuple[Cut, ...] = ()
    touched: Mapping[Range, tuple[bool, Lane | None]] = MappingProxyType({})
    cost: float = 0.0

    def joined(self, cut: Cut, meeting: Mapping[Range, Sequence[Range]]) -> _State | None:
        """With one more unit; None where its lanes need what other lanes write, or the other way round."""
        for where, writes, own in cut.accesses:
            for other in meeting[where]:
                wrote, theirs = self.touched.get(other, (False, None))
                if (writes or wrote) and other in self.touched and not _alike(where, own, other, theirs):
                    return None
        touched = dict(self.touched)
        for where, writes, own in cut.accesses:
            wrote, theirs = touched.get(where, (False, own))
            touched[where] = (wrote or writes, own if own == theirs else None)
        return _State((*self.cuts, cut), touched, self.cost + cut.cost)


class _Cutting:
    """The cuts of units, and which memory is the same."""

    def __init__(
        self,
        nests: Mapping[Unit, Nest],
        codes: Mapping[Unit, Emitted],
        products: Mapping[Unit, Product],
        plan: Plan,
        parts: int,
    ) -> None:
        self.nests, self.codes, self.products, self.plan, self.parts = nests, codes, products, plan, parts
        self._cuts: dict[Unit, list[Cut]] = {}
        self._meeting: dict[Range, list[Range]] = {}

    def extended(self, states: Sequence[_State], unit: Unit) -> list[_State]:
        """The states with a unit joined in all ways that are possible, the cheapest of them."""
        cuts = self._cuts_of(unit)
        longer = (state.joined(cut, self._meeting) for state in states for cut in cuts)
        return sorted((state for state in longer if state), key=lambda state: state.cost)[:_STATES]

    def work(self, unit: Unit) -> float:
        """About how many nanoseconds a unit takes on one core."""
        if unit in self.products:
            return self.products[unit].cost(next(iter(unit.members)).dtype)
        return self.nests[unit].work if unit in self.nests else 0.0

    def _cuts_of(self, unit: Unit) -> list[Cut]:
        if unit not in self._cuts:
            found = list(self._product_cuts(unit) if unit in self.products else self._nest_cuts(unit))
            for access in (access for cut in found for access in cut.accesses):
                self._meet(access.where)
            self._cuts[unit] = [cut for cut in found if cut.loop == WHOLE or self._is_sound(cut)]
        return self._cuts[unit]

    def _meet(self, where: Range) -> None:
        if where not in self._meeting:
            self._meeting[where] = []
            for other, known in self._meeting.items():
                if where[0] == other[0] and where[1] < other[2] and other[1] < where[2]:
                    known.append(where)
                    if other != where:
                        self._meeting[where].append(other)

    def _is_sound(self, cut: Cut) -> bool:
        """Whether the lanes of one unit have nothing to do with each other."""
        for access in cut.accesses:
            where, writes, own = access
            if not writes:
                continue
            meeting = self._meeting[where]
            for other in cut.accesses:
                if other.where in meeting and not _alike(where, own, other.where, other.lane):
                    return False
        return True

    # Nests

    def _nest_cuts(self, unit: Unit) -> Iterator[Cut]:
        nest = self.nests.get(unit)
        if nest is None:
            return
        for i, loop in enumerate(nest.loops):
            if not self._divides(unit, nest, i):
                continue
            lanes = 1
            for dim in loop:
                lanes *= nest.unit.sizes[dim]
                longest = max(n for _, n in bands(lanes, self.parts))
                if lanes >= FEWEST * self.parts:
                    accesses = self._accesses(nest, i, lanes)
                    yield Cut(i, lanes, accesses, self.work(unit) * longest / lanes)
        if self.work(unit) <= _MOST_WHOLE:
            yield Cut(WHOLE, 1, self._accesses(nest, WHOLE, 1), self.work(unit))

    def _divides(self, unit: Unit, nest: Nest, i: int) -> bool:
        """Whether stretches of a loop are nests by themselves, also in what they set to 0 to add up in."""
        loop, n = nest.loops[i], nest.size(nest.loops[i])
        begun = [x for what, x in self.codes[unit].words if what == "count"]
        return nest.divides(i) and all(nest.step(x, loop) * n == x.count for x in begun)

    def _accesses(self, nest: Nest, i: int, lanes: int) -> tuple[Access, ...]:
        found = []
        for x in nest.operands:
            where = self.plan.memory_at(x)
            private = x.root is None and i != WHOLE and not nest.step(x, nest.loops[i])
            if where is not None and not private:
                found.append(Access(where, x.writes, self._lane(nest, x, i, lanes) if i != WHOLE else None))
        return tuple(found)

    def _lane(self, nest: Nest, x: Operand, i: int, lanes: int) -> Lane | None:
        size, loop = x.dtype.itemsize, nest.loops[i]
        each = nest.size(loop) // lanes
        others = [(nest.size(y), nest.step(x, y) * size) for y in nest.loops if y is not loop]
        others.append((each, nest.step(x, loop) * size))
        return lane(x.offset * size, nest.step(x, loop) * size * each, lanes, others)

    # Products

    def _product_cuts(self, unit: Unit) -> Iterator[Cut]:
        product, dtype = self.products[unit], next(iter(unit.members)).dtype
        a, b, c, d = product.matrices
        rows, columns, inner = product.rows, product.columns, product.inner
        # How far a matrix moves from lane to lane, and what is gone through in each lane.
        moves = (
            ((a, a.row, inner, a.column), (b, 0, 0, 0), *((x, x.row, columns, x.column) for x in (c, d))),
            ((a, 0, 0, 0), (b, b.column, inner, b.row), *((x, x.column, rows, x.row) for x in (c, d))),
        )
        for axis, lanes in enumerate((rows, columns)):
            if lanes < FEWEST * self.parts:
                continue
            accesses = []
            for matrix, step, n, far in moves[axis]:
                where = None if matrix.root is None else self.plan.memory_of(matrix.root)
                if where is not None:
                    size = dtype.itemsize
                    own = lane(matrix.address, step * size, lanes, [(n, far * size)])
                    accesses.append(Access(where, matrix is c, own))
            longest = max(n for _, n in bands(lanes, self.parts))
            cost = product.band(axis, 0, longest, dtype).cost(dtype)
            yield Cut(axis, lanes, tuple(accesses), cost)
