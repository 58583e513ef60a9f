"""The cache of object code: across processes, many at once, bounded, and never wrong."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from backstory.compiler import cache
from backstory.compiler.cache import clear, contents, folder, object_of

KERNEL = """
import sys
from backstory.compiler.kernels import kernel
from backstory.compiler.table import Table
source = '''
def add_one(block):
    x = array(block, 0, int64)
    x[0] = x[0] + 1
'''
address = kernel("add_one", source)
import numpy as np
x = np.array([41])
table = Table()
table.add(address, [x.ctypes.data])
table.run()
print(x[0], "numba" in sys.modules)
"""


@pytest.fixture(autouse=True)
def own_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("BACKSTORY_CACHE", str(tmp_path))


def never() -> bytes:
    raise AssertionError("compiled again")


def start() -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", KERNEL], stdout=subprocess.PIPE, text=True)


def test_a_second_process_loads_what_the_first_compiled_without_numba():
    assert [start().communicate()[0].split() for _ in range(2)] == [["42", "True"], ["42", "False"]]


def test_processes_that_compile_the_same_at_once_do_not_disturb_each_other():
    processes = [start() for _ in range(3)]
    assert [process.communicate()[0].split()[0] for process in processes] == ["42"] * 3
    assert contents().objects == 2  # the kernel and the driver
    assert not list(folder().glob(".*"))


def test_an_object_is_made_once_for_the_same_source():
    assert object_of("some name!", "source", lambda: b"code") == b"code"
    assert object_of("some name!", "source", never) == b"code"
    assert object_of("some name!", "other source", lambda: b"other") == b"other"
    [file, _] = sorted(folder().glob("some_name_*"))
    assert file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "damage", [lambda c: c[:-1], lambda c: b"", lambda c: c[:-1] + b"X", lambda c: b"?" + c]
)
def test_a_damaged_file_counts_as_absent(damage):
    object_of("name", "source", lambda: b"code")
    [file] = folder().iterdir()
    file.write_bytes(damage(file.read_bytes()))
    assert object_of("name", "source", lambda: b"code again") == b"code again"


def test_what_was_used_longest_ago_goes_first(monkeypatch):
    monkeypatch.setattr(cache, "LIMIT", 3000)
    for number in range(3):
        object_of(f"n{number}", "", lambda: bytes(900))
        [file] = folder().glob(f"n{number}-*")
        os.utime(file, (number, number))
    object_of("n0", "", never)  # used again
    object_of("n3", "", lambda: bytes(900))
    assert sorted(file.name[:2] for file in folder().iterdir()) == ["n0", "n2", "n3"]


def test_the_folder_is_bounded_though_it_is_looked_through_only_now_and_then(monkeypatch):
    monkeypatch.setattr(cache, "LIMIT", 64_000)
    looks = []
    shrink = cache._shrink
    monkeypatch.setattr(cache, "_shrink", lambda newest: (looks.append(newest), shrink(newest)))
    most = 0
    for number in range(1000):
        object_of(f"n{number}", f"{number}", lambda: bytes(100))
        most = max(most, contents().size) if number % 20 == 0 else most
    assert 50 <= len(looks) <= 200
    assert most < 1.5 * 64_000


def test_an_object_larger_than_the_whole_cache_is_still_made(monkeypatch):
    monkeypatch.setattr(cache, "LIMIT", 10)
    assert object_of("large", "", lambda: bytes(100)) == bytes(100)


def test_where_nothing_can_be_written_everything_is_made_anew(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("BACKSTORY_CACHE", str(tmp_path / "file"))
    assert [object_of("name", "source", lambda: b"code") for _ in range(2)] == [b"code"] * 2
    assert contents().objects == 0


def test_clearing_leaves_nothing_and_tells_what_there_was():
    object_of("name", "source", lambda: b"code")
    before = clear()
    assert (before.objects, contents().objects) == (1, 0)
    assert before.size > 4
