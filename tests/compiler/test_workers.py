"""Worker threads: started when needed, asleep when not, safe at forks, at exits and with several callers."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from backstory.compiler.kernels import kernel
from backstory.compiler.table import Table
from backstory.compiler.workers import Pool, threads

ADD = """
def add(block):
    x = array(block, 0, int64)
    for i in range(integer(block, 1), integer(block, 2)):
        x[i] = x[i] + i
"""
PROGRAM = """
import os, sys
import numpy as np
from backstory.compiler.kernels import kernel
from backstory.compiler.table import Table
from backstory.compiler.workers import Pool

x, pool = np.zeros(1000, np.int64), Pool(2)
table = Table(pool)
add = kernel("add", '''{add}''')
table.add_parts([(add, [x.ctypes.data, i, i + 250]) for i in range(0, 1000, 250)])
for _ in range(100):
    table.run()
"""


@pytest.fixture
def pool():
    made = Pool(2)
    yield made
    made.stop()


def table_of(x: np.ndarray, pool: Pool, parts: int) -> Table:
    table = Table(pool)
    step = len(x) // parts
    address = kernel("add", ADD)
    table.add_parts([(address, [x.ctypes.data, i * step, (i + 1) * step]) for i in range(parts)])
    return table


def program(rest: str) -> subprocess.CompletedProcess:
    text = PROGRAM.format(add=ADD) + rest
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=100)


def test_workers_start_with_the_first_entry_of_several_parts(pool):
    x = np.zeros(10, np.int64)
    table_of(x, pool, 1).run()
    assert pool.running == 0
    table_of(x, pool, 2).run()
    assert pool.running == 2


def test_a_stopped_pool_starts_again_when_it_is_needed(pool):
    x = np.zeros(1200, np.int64)
    table = table_of(x, pool, 3)
    for run in range(1, 20):
        table.run()
        assert x[-1] == 1199 * run
        pool.stop()
        assert pool.running == 0


def test_parked_workers_wake(pool):
    pool.patience = 0
    x = np.zeros(1200, np.int64)
    table = table_of(x, pool, 3)
    for run in range(1, 500):
        table.run()
        np.testing.assert_array_equal(x, run * np.arange(1200))


def test_more_parts_than_threads_are_all_done(pool):
    x = np.zeros(3000, np.int64)
    table_of(x, pool, 1000).run()
    np.testing.assert_array_equal(x, np.arange(3000))


def test_two_threads_may_run_tables_at_once(pool):
    arrays = [np.zeros(9000, np.int64) for _ in range(3)]
    tables = [table_of(x, pool, 3) for x in arrays]

    def call(table: Table) -> None:
        for _ in range(300):
            table.run()

    callers = [threading.Thread(target=call, args=(table,)) for table in tables]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for x in arrays:
        np.testing.assert_array_equal(x, 300 * np.arange(9000))


def test_a_table_without_workers_runs_its_parts_one_by_one():
    x = np.zeros(9, np.int64)
    pool = Pool(0)
    table_of(x, pool, 3).run()
    np.testing.assert_array_equal(x, np.arange(9))
    assert pool.running == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_the_child_of_a_fork_starts_its_own():
    done = program("""
child = os.fork()
assert pool.running == (2 if child else 0)
table.run()
assert pool.running == 2 and x[999] == 101 * 999
if not child:
    pool.stop()
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
print("done")
""")
    assert (done.stdout.strip(), done.stderr, done.returncode) == ("done", "", 0)


@pytest.mark.parametrize("sleep", [0, 0.05], ids=["looking", "parked"])
def test_a_process_ends_while_workers_look_or_sleep(sleep):
    done = program(f"import time; time.sleep({sleep}); print(pool.running)")
    assert (done.stdout.strip(), done.stderr, done.returncode) == ("2", "", 0)


def test_the_process_ends_also_by_an_exception_or_at_once():
    assert program("raise SystemExit(3)").returncode == 3
    assert program("os._exit(4)").returncode == 4


def test_as_many_threads_as_asked_for_and_never_more_than_cores(monkeypatch):
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    monkeypatch.delenv("BACKSTORY_NUM_THREADS", raising=False)
    for wanted, count in (("", cores), ("1", 1), ("1,2", 1), ("100000", cores), ("0", cores), ("x", cores)):
        monkeypatch.setenv("OMP_NUM_THREADS", wanted)
        assert threads() == count
    monkeypatch.setenv("BACKSTORY_NUM_THREADS", "1")
    assert threads() == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_a_process_bound_to_one_core_has_one_thread(monkeypatch):
    for variable in ("BACKSTORY_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(variable, raising=False)
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert threads() == 1
    finally:
        os.sched_setaffinity(0, before)
