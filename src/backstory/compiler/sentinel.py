"""Whether many places in Python's objects still hold what they held: asked at once, in native code.

A call of a compiled step depends on the arrays of parameters, states of optimizers, names, and on who holds
gradients. Between two calls next to nothing of it changes; so it is noted which *objects* are where (not what
they are worth), and as long as each is in its place, nothing more need be asked. It is C's doing alone, a few
nanoseconds for a place: :file:`sentinel.ll`.

>>> names = {"x": 1.0, "y": 2.0}
>>> sentinel = Sentinel()
>>> sentinel.entry(names, "x")
>>> sentinel.seal()
>>> sentinel.holds(), sentinel.note(), sentinel.confirm(), sentinel.holds()
(False, True, None, True)
>>> names["y"] = 3.0
>>> sentinel.holds()
True
>>> names["x"] = 3.0
>>> sentinel.holds()
False
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import CellType
from typing import Any

from backstory.compiler.cache import object_of
from backstory.compiler.driver import builtin, exported
from backstory.compiler.native import load, object_code
from backstory.compiler.table import Block
from backstory.core import Core

__all__ = ["Sentinel"]

_WORD, _ENTRY, _ITEM = range(3)
_SLOTS = ("array", "_grad")
_FROM_PYTHON = (
    "PyBool_FromLong",
    "PyDict_GetItemWithError",
    "PyErr_Clear",
    "PyList_GetItem",
    "PyList_Size",
    "PyLong_AsVoidPtr",
)


class _Header(int):
    """The address of a header, which keeps alive what its rows name."""

    parts: Any


class Sentinel:
    """Places, added before :meth:`seal`. Objects that rows are moved to are kept alive by who moves them.

    ``note()`` notes what is there now, ``confirm()`` says that it is as it should be, and from then on
    ``holds()`` tells whether it is still there. Where memory cannot be read so, it never holds.
    """

    holds: Callable[[], bool]
    note: Callable[[], bool]

    def __init__(self) -> None:
        self._rows: list[int] = []
        self._owners: list[Any] = []
        self._array_at = slot_at("array")

    def _add(self, owner: Any, kind: int, where: int, key: int = 0) -> int:
        self._owners.append(owner)
        self._rows += (kind, where, key, 0)
        return len(self._rows) // 4 - 1

    def slot(self, x: Core, name: str) -> None:
        """An attribute of a tensor: ``array`` or ``_grad``."""
        self._add(x, _WORD, id(x) + slot_at(name))

    def cell(self, cell: CellType) -> None:
        """An enclosing variable."""
        self._add(cell, _WORD, id(cell) + object.__basicsize__)

    def item(self, items: list[Any], i: int) -> None:
        """An item of a list, or that there is none."""
        self._add(items, _ITEM, id(items), i)

    def entry(self, mapping: dict[Any, Any], key: Any) -> None:
        """An entry of a dict, or that there is none."""
        self._add((mapping, key), _ENTRY, id(mapping), id(key))

    def movable(self, key: Any) -> int:
        """An entry of that dict which :meth:`move` says. The number of its row."""
        return self._add(key, _ENTRY, 0, id(key))

    def move(self, row: int, where: int) -> None:
        """It is the dict at this address."""
        self._block.words[4 * row + 1] = where

    def held(self) -> int:
        """Who holds a tensor, and its array: which one :meth:`hold` says. The number of its first row."""
        first, *_ = (self._add(None, _WORD, 0) for _ in range(3))
        return first

    def hold(self, row: int, x: Core) -> None:
        """It is this tensor."""
        words, at, here = self._block.words, 4 * row + 1, id(x)
        words[at], words[at + 4], words[at + 8] = here + self._array_at, here, id(x.array)

    def seal(self) -> None:
        """No more places."""
        self._block = Block(self._rows)
        self._header = Block([self._block.address, len(self._rows) // 4, 0])
        del self._rows  # integers of Python take five times as much
        if not readable():
            self.holds = self.note = lambda: False
            return
        header = _Header(self._header.address)
        header.parts = (self._block, self._header, self._owners)
        holds, note = _loaded()
        self.holds, self.note = builtin("holds", holds, header), builtin("note", note, header)

    def confirm(self) -> None:
        """What was noted is as it should be."""
        self._header[2] = 1

    def doubt(self) -> None:
        """It does not hold, whatever there is."""
        self._header[2] = 0


@cache
def _loaded() -> list[int]:
    text = Path(__file__).with_name("sentinel.ll").read_text(encoding="utf-8")
    return load(
        object_of("sentinel", text, lambda: object_code(text)), ["holds", "note"], exported(_FROM_PYTHON)
    )


def _word(address: int) -> int:
    return ctypes.c_size_t.from_address(address).value


@cache
def slot_at(name: str) -> int:
    """How many bytes behind the beginning of a tensor an attribute stands; 0 where that cannot be found."""
    kind = Core.kind
    probe, value = kind.__new__(kind), object()
    setattr(probe, name, value)
    places = range(object.__basicsize__, kind.__basicsize__, 8)
    found = [place for place in places if _word(id(probe) + place) == id(value)]
    return found[0] if len(found) == 1 else 0


@cache
def readable() -> bool:
    """Whether objects lie in memory as rows take it: so it is in CPython, where one thread runs at a time."""
    if not getattr(sys, "_is_gil_enabled", lambda: True)() or sys.implementation.name != "cpython":
        return False
    value = object()
    before = _word(id(value))
    cell = CellType(value)
    counted = _word(id(value)) == before + 1
    return counted and _word(id(cell) + object.__basicsize__) == id(value) and all(map(slot_at, _SLOTS))
