"""What follows from what among units."""

from __future__ import annotations

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
