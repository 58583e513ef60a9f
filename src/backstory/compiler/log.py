"""The log of a program: what it notes in every run for one follower, a row per run.

The statistics of a step are fields of one *record*, which the program's kernels write like any output.
Where the follower has time, the program's last kernel appends the record to the log's rows, and what a call
costs in Python does not depend on how many statistics there are. Rows are read when somebody needs them.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from backstory.compiler.driver import address_of
from backstory.compiler.graph import Value

__all__ = ["NOTE", "Field", "Log", "Rows"]

NOTE = """
def note(block):
    words = integer(block, 0)
    most = integer(block, 1)
    place, record, rows = array(block, 2, int64), array(block, 3, int64), array(block, 4, int64)
    row = place[0]
    if row < most:
        start = row * words
        for i in range(words):
            rows[start + i] = record[i]
        place[0] = row + 1
"""
"""The kernel that appends a record of so many words to the rows, if these have a place for it."""

_BYTES, _MOST = 1 << 17, 512  # of the rows of a log, and how many there are at most


@dataclass(frozen=True)
class Field:
    """Stands in an event for an array of the step."""

    index: int


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows, taken out of a log: the number of each, and what it says."""

    numbers: np.ndarray
    rows: np.ndarray
    events: Sequence[tuple[Any, ...]]
    notes: list[tuple[int, Any]]

    def column(self, x: Any) -> np.ndarray:
        """What stands in the place of ``x``, a part of an event, in every row: (rows, …)."""
        return self.rows[f"f{x.index}"] if isinstance(x, Field) else np.full(len(self.rows), x)


@dataclass(eq=False)
class Log:
    """``events`` are what the follower is told of a run, with :class:`Field` where arrays stand.

    ``count`` rows are complete. Rows are appended and counted by the thread that runs the program; another
    one may take them meanwhile.
    """

    events: list[tuple[Any, ...]] = field(default_factory=list)
    count: int = 0
    limit: int = 0

    def __post_init__(self) -> None:
        self._values: list[Value] = []
        self._taken = 0
        self._spans: list[tuple[int, int]] = []  # from which row on which numbers are counted
        self._notes: list[tuple[int, Any]] = []
        self._lock = threading.RLock()

    def add(self, value: Value) -> Field:
        """One field more, for a value of the step."""
        self._values.append(value)
        return Field(len(self._values) - 1)

    def lay_out(self, waits: bool) -> list[np.ndarray]:
        """Make the record, and rows if the log ``waits``; the memory of each field in the record."""
        offsets, size = [], 0
        for value in self._values:
            offsets.append(size)
            size += -(-value.size * value.dtype.itemsize // 8) * 8
        size = max(size, 8)
        kind = np.dtype(
            {
                "names": [f"f{i}" for i in range(len(offsets))],
                "formats": [(value.dtype, value.shape) for value in self._values],
                "offsets": offsets,
                "itemsize": size,
            }
        )
        self.record = np.zeros(size // 8, np.int64)
        self.capacity = min(max(_BYTES // size, 1), _MOST) if waits else 0
        self.rows = np.zeros(self.capacity, kind)
        self.place = np.zeros(1, np.int64)
        self.reached = self.place.data
        self.limit = self.capacity
        self.fields = [
            np.ndarray(value.shape, value.dtype, self.record.data, at)
            for value, at in zip(self._values, offsets, strict=True)
        ]
        return self.fields

    def words(self) -> list[int]:
        """The block of :data:`NOTE`."""
        addresses = map(address_of(), (self.place, self.record, self.rows))
        return [self.record.size, self.capacity, *addresses]

    def append(self) -> None:
        """What :data:`NOTE` does."""
        row = self.reached[0]
        if row < self.capacity:
            self.rows.view(np.int64).reshape(self.capacity, -1)[row] = self.record
            self.reached[0] = row + 1

    # What was noted

    def told(self) -> list[tuple[Any, ...]]:
        """The events of the last run."""
        return [self._filled(event) for event in self.events]

    def _filled(self, part: Any) -> Any:
        if isinstance(part, Field):
            return self.fields[part.index].copy()
        return tuple(map(self._filled, part)) if isinstance(part, (tuple, list)) else part

    def count_from(self, row: int, number: int) -> None:
        """Row ``row`` has this number, and those behind it the numbers that follow."""
        if row != self.count:  # behind the run of another its call was interrupted
            self.rows[self.count] = self.rows[row]
            self.reached[0] = self.count + 1
        self._spans.append((self.count, number))

    def note(self, what: Any) -> None:
        """Something about the row that is to be counted, and those behind it."""
        if not (self._notes and self._notes[-1][1] is what):
            self._notes.append((self.count, what))

    def take(self) -> Rows | None:
        """Rows that nobody has taken yet."""
        with self._lock:
            start, end = self._taken, self.count
            if start == end:
                return None
            numbers = np.empty(end - start, np.int64)
            for row, number in list(self._spans):
                if row < end:
                    behind = max(row, start)
                    numbers[behind - start :] = np.arange(number + behind - row, number + end - row)
            notes = [(max(row, start) - start, what) for row, what in list(self._notes) if row < end]
            self._taken = end
            return Rows(numbers, self.rows[start:end].copy(), self.events, notes)

    def withdraw(self) -> None:
        """The last row does not count: its run is told in another way."""
        with self._lock:
            self.reached[0] = self.count

    def rewind(self) -> None:
        """All rows are taken: begin anew, and count from some number again."""
        with self._lock:
            self._notes, self._spans = [], []
            self.count = self._taken = self.reached[0] = 0
            self.limit = self.capacity
