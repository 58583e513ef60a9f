"""Sweeps: nests that follow one another and touch nothing of each other's run side by side, as one entry.

An optimizer has one small nest for each parameter. Run one after the other, each would wait for its last
part; as one entry their parts are taken by whoever is free, so all cores are at work until the end.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from backstory.compiler.memory import Plan, Range
from backstory.compiler.nest import LARGE, Nest
from backstory.compiler.unit import Unit

__all__ = ["TOTAL", "Part", "divided", "sweeps"]

# So many parts for each thread: who has a short one takes another.
_PER_THREAD = 2
_MOST_TOTALS = 32

TOTAL = """
def total(block):
    n0 = integer(block, 0)
    a0 = array(block, 1, {0})
    a1 = array(block, 2, {0})
    t0 = {0}(0)
    for i0 in range(n0):
        t0 = t0 + a0[i0]
    a1[0] = t0
"""


class Part(NamedTuple):
    """A stretch of a unit's ``loop``, the outermost unless said: number ``place`` of ``among``."""

    unit: Unit
    start: int
    length: int
    place: int = 0
    among: int = 1
    loop: int = 0


def sweeps(order: Sequence[Unit], nests: Mapping[Unit, Nest], plan: Plan) -> list[list[Unit]]:
    """The units in their order, those that may run side by side together."""
    found: list[list[Unit]] = []
    read: list[Range] = []
    written: list[Range] = []
    for unit in order:
        if unit.kind != "loops":
            found.append([unit])
            continue
        reads, writes = _touched(nests[unit], plan)
        apart = not (_meet(writes, read) or _meet(writes, written) or _meet(reads, written))
        if found and found[-1][0].kind == "loops" and apart:
            found[-1].append(unit)
        else:
            found.append([unit])
            read, written = [], []
        read += reads
        written += writes
    return found


def _touched(nest: Nest, plan: Plan) -> tuple[list[Range], list[Range]]:
    """The memory that a nest reads, and that it writes."""
    reads: list[Range] = []
    writes: list[Range] = []
    for operand in nest.operands:
        where = plan.memory_at(operand)
        if where is not None:
            (writes if operand.writes else reads).append(where)
    return reads, writes


def _meet(some: Sequence[Range], others: Sequence[Range]) -> bool:
    return any(a[0] == b[0] and a[1] < b[2] and b[1] < a[2] for a in some for b in others)


def divided(units: Sequence[Unit], nests: Mapping[Unit, Nest], plan: Plan, threads: int) -> list[list[Part]]:
    """The entries that a sweep becomes: one of many parts where it is large, else one for each unit."""
    work = {unit: nests[unit].work for unit in units}
    whole = sum(work.values())
    together = threads > 1 and whole >= LARGE
    share = whole / threads / (_PER_THREAD if len(units) > 1 else 1) if together else math.inf
    same = {*plan.same, *plan.same.values()}
    found: list[list[Part]] = []
    for unit in units:
        nest = nests[unit]
        # Totals are added up in the same parts on any number of threads, so they are the same.
        count = min(work[unit] / LARGE, _MOST_TOTALS) if nest.totals else work[unit] / share
        splits = nest.splits and not any(nest.written[total] in same for total in nest.totals)
        found.append(_parts(unit, _length(nest), math.ceil(count) if splits else 1))
    if not together:
        return found
    # The longest first, so that what is left in the end is short.
    return [sorted(itertools.chain(*found), key=lambda part: -work[part.unit] / part.among)]


def _length(nest: Nest) -> int:
    return nest.size(nest.loops[0]) if nest.loops else 0


def _parts(unit: Unit, length: int, count: int) -> list[Part]:
    bounds = sorted({length * i // count // 16 * 16 for i in range(count)} | {length})
    pairs = list(itertools.pairwise(bounds)) or [(0, length)]
    return [Part(unit, a, b - a, i, len(pairs)) for i, (a, b) in enumerate(pairs)]
