"""The log of a program: what it notes in every run for one follower, a row per run.

The statistics of a step are fields of one *record*, which the program's kernels write like any output; its
first word is the step's number. Where the follower has time, the driver's ``note`` runs behind the last
kernel: it moves the follower's clock on and appends the record to the log's rows. So a call costs nothing
in Python for what it notes, and rows are read when somebody needs them.

A clock is two int64: how many steps there have been, and whether the follower has to look after something
before the next one, as when a log is full.
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

__all__ = ["Field", "Log", "Rows"]

_BYTES, _MOST = 1 << 19, 1024  # of the rows of a log, and how many there are at most
_SPARE = 16
_ALIGNMENT = 64  # bytes


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
    """Some rows, taken out of a log: the number of each step, and what the rows say."""

    numbers: np.ndarray
    table: np.ndarray
    events: Sequence[tuple[Any, ...]]
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
    """``events`` are what the follower is told of a run, with :class:`Field` where arrays or numbers stand.

    Rows are appended by the thread that runs the program; another one may take them meanwhile.
    """

    events: list[tuple[Any, ...]] = field(default_factory=list)
    capacity: int = 0

    def __post_init__(self) -> None:
        self._size = 8
        self._taken = 0
        self._lock = threading.RLock()
        self._spare: list[np.ndarray] = []  # memory that is known to the system, which new memory is not

    def add(self, dtype: np.dtype, shape: tuple[int, ...] = ()) -> Field:
        """One field more, for a value of the step. Long ones begin where vectors of a processor do."""
        size = dtype.itemsize * math.prod(shape)
        step = _ALIGNMENT if size >= _ALIGNMENT else dtype.itemsize
        field = Field(dtype, shape, -(-self._size // step) * step)
        self._size = field.at + size
        return field

    def lay_out(self, waits: bool) -> None:
        """Make the record, and rows if the log ``waits``."""
        words = -(-self._size // 8)
        raw = np.zeros(words + _ALIGNMENT // 8, np.int64)
        skip = -raw.ctypes.data % _ALIGNMENT // 8
        self.record = raw[skip : skip + words]
        self.capacity = min(max(_BYTES // (8 * words), 1), _MOST) if waits else 0
        self.rows = np.zeros((self.capacity, words), np.int64)
        self.place = np.zeros(1, np.int64)

    def memory(self, field: Field) -> np.ndarray:
        """Where the record has a field."""
        return np.ndarray(field.shape, field.dtype, self.record.data, field.at)

    def words(self, clock: np.ndarray) -> list[int]:
        """The block of the driver's ``note``."""
        addresses = map(address_of(), (clock, self.place, self.record, self.rows))
        return [self.record.size, self.capacity, *addresses]

    def append(self, clock: np.ndarray) -> None:
        """What the driver's ``note`` does."""
        clock[0] += 1
        row = self.place[0]
        if row < self.capacity:
            self.record[0] = clock[0]
            self.rows[row] = self.record
            self.place[0] = row + 1
        clock[1] |= row + 1 >= self.capacity

    # What was noted

    def told(self) -> list[tuple[Any, ...]]:
        """The events of the last run."""
        return [self._filled(event) for event in self.events]

    def _filled(self, part: Any) -> Any:
        if isinstance(part, Field):
            return part.of(self.record[None])[0].copy()
        return tuple(map(self._filled, part)) if isinstance(part, (tuple, list)) else part

    def take(self) -> Rows | None:
        """Rows that nobody has taken yet."""
        end = int(self.place[0])
        with self._lock:
            start = self._taken
            if start >= end:
                return None
            self._taken = end
            memory = self._spare.pop() if self._spare else np.empty_like(self.rows)
            table = memory[: end - start]
            table[:] = self.rows[start:end]
            return Rows(table[:, 0].copy(), table, self.events, partial(self._release, memory))

    def _release(self, memory: np.ndarray) -> None:
        if len(self._spare) < _SPARE:
            self._spare.append(memory)

    def rewind(self) -> None:
        """Begin anew, if all rows are taken; the program does not run meanwhile."""
        with self._lock:
            if self._taken == self.place[0]:
                self._taken = self.place[0] = 0
