"""Tables: kernels run in order with their words, alone and side by side."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from backstory.compiler.driver import address_of
from backstory.compiler.kernels import kernel
from backstory.compiler.table import Block, Table
from backstory.compiler.workers import Pool
from backstory.errors import ArgumentError

FILL = """
def fill(block):
    start, stop = integer(block, 0), integer(block, 1)
    value = number(block, 2)
    x = array(block, 3, float64)
    for i in range(start, stop):
        x[i] = x[i] * 10.0 + value
"""


@pytest.fixture
def pool():
    made = Pool(2)
    yield made
    made.stop()


def test_an_empty_table_runs():
    table = Table()
    table.run()
    assert len(table) == 0


def test_kernels_run_in_the_order_in_which_they_were_added():
    x = np.zeros(3)
    table = Table()
    for value in (1.0, 2.0, 3.0):
        table.add(kernel("fill", FILL), [0, 3, value, x.ctypes.data])
    table.run()
    assert x.tolist() == [123.0] * 3


def test_a_table_may_grow_between_runs():
    x = np.zeros(1)
    table = Table()
    for run in range(40):
        table.add(kernel("fill", FILL), [0, 1, 1.0, x.ctypes.data])
        x[:] = 0
        table.run()
        assert x[0] == pytest.approx(int("1" * (run + 1)))


def test_words_change_for_later_runs_and_keep_their_type():
    block = Block([1, 2.5, -3])
    block[0], block[1], block[2] = 7, np.float64(0.1), np.int64(9)
    assert (block[0], block.number(1), block[2], len(block)) == (7, 0.1, 9, 3)


def test_parts_side_by_side_do_what_they_do_alone(pool):
    fill = kernel("fill", FILL)
    alone, together = np.zeros(1000), np.zeros(1000)
    bounds = [0, 7, 400, 401, 1000]
    parts = list(itertools.pairwise(bounds))
    one, several = Table(pool), Table(pool)
    for value in (1.0, 2.0):
        one.add(fill, [0, 1000, value, alone.ctypes.data])
        several.add_parts([(fill, [start, stop, value, together.ctypes.data]) for start, stop in parts])
    for _ in range(200):
        alone[:] = together[:] = 0
        one.run()
        several.run()
        np.testing.assert_array_equal(alone, together)
    assert pool.running == 2


def test_an_entry_of_no_parts_is_refused():
    with pytest.raises(ArgumentError, match="from 1 to"):
        Table().add_parts([])


def test_a_table_lives_as_long_as_its_call():
    x = np.zeros(1)

    def table() -> Table:
        made = Table()
        made.add(kernel("fill", FILL), [0, 1, 1.0, x.ctypes.data])
        return made

    for _ in range(20):
        run = table().run
        filler = [np.full(6, -1) for _ in range(20)]
        run()
        del filler
    assert x[0] == pytest.approx(int("1" * 20))


def test_an_arrays_address_is_where_its_entries_begin():
    find = address_of()
    for x in (np.zeros(3), np.zeros((4, 5))[1:, 2], np.zeros((), np.int8), np.zeros(0), np.ma.zeros(3)):
        assert find(x) == x.ctypes.data
    for other in (3, [1.0], np.float32(2)):
        with pytest.raises(TypeError, match="takes NumPy arrays"):
            find(other)
