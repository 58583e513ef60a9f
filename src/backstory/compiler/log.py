"""The log of a program: what it notes in every run for one follower, a row per run.

The statistics of a step are fields of one *record*, which the program's kernels write like any output.
Where the follower has time, the program's last kernel appends the record to the log's rows, and what a call
costs in Python does not depend on how many statistics there are. Rows are read when somebody needs them.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
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

_BYTES, _MOST = 1 << 19, 1024  # of the rows of a log, and how many there are at most
_SPARE = 16


@dataclass(frozen=True)
class Field:
    """Stands in an event for an array of the step: what it is, and which byte of the record it begins at."""

    dtype: np.dtype
    shape: tuple[int, ...]
    at: int

    def of(self, table: np.ndarray) -> np.ndarray:
        """The field in every row of a table of records."""
        size = self.dtype.itemsize
        count = math.prod(self.shape)
        part = table.view(self.dtype)[:, self.at // size : self.at // size + count]
        return part.reshape(len(table), *self.shape)


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows, taken out of a log: the number of each, and what it says."""

    numbers: np.ndarray
    table: np.ndarray
    events: Sequence[tuple[Any, ...]]
    notes: list[tuple[int, Any]]
    release: Callable[[], None]  # when all is read: the memory is taken for other rows

    def column(self, field: Field) -> np.ndarray:
        """A field in every row: (rows, …)."""
        return field.of(self.table)

    def columns(self, fields: Sequence[Field]) -> np.ndarray:
        """Several fields of one entry and one dtype in every row: (rows, fields)."""
        kind = fields[0].dtype
        return self.table.view(kind)[:, [field.at // kind.itemsize for field in fields]]


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
        self._size = 0
        self._fields: list[Field] = []
        self._taken = 0
        self._spans: list[tuple[int, int]] = []  # from which row on which numbers are counted
        self._notes: list[tuple[int, Any]] = []
        self._lock = threading.RLock()
        self._spare: list[np.ndarray] = []  # memory that is known to the system, which new memory is not

    def add(self, value: Value) -> Field:
        """One field more, for a value of the step."""
        width = value.dtype.itemsize
        field = Field(value.dtype, value.shape, -(-self._size // width) * width)
        self._fields.append(field)
        self._size = field.at + value.size * width
        return field

    def lay_out(self, waits: bool) -> list[np.ndarray]:
        """Make the record, and rows if the log ``waits``; the memory of each field in the record."""
        size = max(-(-self._size // 8) * 8, 8)
        self.record = np.zeros((1, size // 8), np.int64)
        self.capacity = min(max(_BYTES // size, 1), _MOST) if waits else 0
        self.rows = np.zeros((self.capacity, size // 8), np.int64)
        self.place = np.zeros(1, np.int64)
        self.reached = self.place.data
        self.limit = self.capacity
        return [np.ndarray(x.shape, x.dtype, self.record.data, x.at) for x in self._fields]

    def words(self) -> list[int]:
        """The block of :data:`NOTE`."""
        addresses = map(address_of(), (self.place, self.record, self.rows))
        return [self.record.size, self.capacity, *addresses]

    def append(self) -> None:
        """What :data:`NOTE` does."""
        row = self.reached[0]
        if row < self.capacity:
            self.rows[row] = self.record[0]
            self.reached[0] = row + 1

    # What was noted

    def told(self) -> list[tuple[Any, ...]]:
        """The events of the last run."""
        return [self._filled(event) for event in self.events]

    def _filled(self, part: Any) -> Any:
        if isinstance(part, Field):
            return part.of(self.record)[0].copy()
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
            rows, firsts = np.array([span for span in list(self._spans) if span[0] < end], np.int64).T
            lengths = np.diff(np.maximum(rows, start), append=end)
            numbers = np.arange(start, end) + np.repeat(firsts - rows, lengths)
            notes = [(max(row, start) - start, what) for row, what in list(self._notes) if row < end]
            self._taken = end
            memory = self._spare.pop() if self._spare else np.empty_like(self.rows)
            table = memory[: end - start]
            table[:] = self.rows[start:end]
            return Rows(numbers, table, self.events, notes, partial(self._release, memory))

    def _release(self, memory: np.ndarray) -> None:
        if len(self._spare) < _SPARE:
            self._spare.append(memory)

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
