"""What follows from what among units."""

from __future__ import annotations

import random

import pytest

from backstory.compiler.order import Reach
from backstory.compiler.unit import Unit


def test_what_leads_to_a_merged_unit_leads_where_both_parts_led():
    before, first, second, after, later = units = [Unit("loops") for _ in range(5)]
    reach = Reach()
    for unit in units:
        reach.add(unit)
    reach.connect(before, second)
    reach.connect(first, after)
    reach.connect(second, later)
    reach.merge(first, second)
    assert reach.leads(before, first)
    assert reach.leads(before, after)
    assert reach.leads(before, later)
    assert reach.leads(first, later)
    assert not reach.leads(first, before)


@pytest.mark.parametrize("seed", range(20))
def test_merged_and_connected_at_random_it_is_what_a_search_finds(seed):
    draw = random.Random(seed)
    units = [Unit("loops") for _ in range(12)]
    reach, edges = Reach(), set()
    for unit in units:
        reach.add(unit)

    def found(before):
        seen, todo = set(), [before]
        while todo:
            here = todo.pop()
            new = {b for a, b in edges if a is here} - seen
            seen |= new
            todo += new
        return seen

    for _ in range(40):
        first, second = draw.sample(units, 2)
        if reach.leads(second, first) or (reach.leads(first, second) and draw.random() < 0.5):
            continue
        if draw.random() < 0.3 and not reach.leads(first, second):
            reach.merge(first, second)
            units.remove(second)
            edges = {tuple(first if x is second else x for x in edge) for edge in edges}
        else:
            reach.connect(first, second)
            edges.add((first, second))
        assert all(reach.leads(a, b) == (b in found(a)) for a in units for b in units if a is not b)
