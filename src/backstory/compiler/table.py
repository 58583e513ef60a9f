"""A plan as a table: kernels and the blocks of their arguments, run in order by one loop of native code.

**The calling convention.** A kernel is a C function ``void kernel(int64 block)``. Its only argument is the
address of its *block*: a row of 64-bit words, each an integer (a size, a stride counted in entries, the
address of an array's first entry) or a float64, as its bits stand in memory. What the words mean is agreed
between who writes the kernel and who fills the block. Kernels written in Python read them by place, in the
words of :mod:`backstory.compiler.language`: ``integer(block, 0)``, ``number(block, 1)``,
``array(block, 2, float32)``.

>>> from backstory.compiler.kernels import kernel
>>> scale = kernel("scale", '''
... def scale(block):
...     count = integer(block, 0)
...     factor = float32(number(block, 1))
...     x, y = array(block, 2, float32), array(block, 3, float32)
...     for i in range(count):
...         y[i] = x[i] * factor
... ''')
>>> x, y = np.arange(4, dtype=np.float32), np.empty(4, np.float32)
>>> table = Table()
>>> entry = table.add(scale, [4, 0.5, x.ctypes.data, y.ctypes.data])
>>> table.run()
>>> y
array([0. , 0.5, 1. , 1.5], dtype=float32)

A word is changed for later runs by assignment; a float is told from an integer by its type:

>>> entry[1] = 2.0
>>> table.run()
>>> y
array([0., 2., 4., 6.], dtype=float32)

Several blocks make one entry whose parts may run side by side, on as many threads as there are
(:mod:`backstory.compiler.workers`): halves of one loop, or kernels that have nothing to do with each other.
Each part has all its words to itself, so a part that sums can write its sum to a place of its own.

>>> halves = table.add_parts([
...     (scale, [2, 10.0, x.ctypes.data, y.ctypes.data]),
...     (scale, [2, 10.0, x.ctypes.data + 8, y.ctypes.data + 8]),
... ])
>>> table.run()
>>> y
array([ 0., 10., 20., 30.], dtype=float32)

A table does not own the arrays whose addresses stand in it: who fills it keeps them alive.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Sequence

import numpy as np

from backstory.compiler.driver import builtin, driver
from backstory.compiler.workers import Pool, pool
from backstory.errors import ArgumentError

__all__ = ["Block", "Table"]

_MOST_PARTS = 2**16 - 1


class Block:
    """The words that a kernel reads: assign to change one. ``address`` is where they stand.

    >>> block = Block([3, 0.5])
    >>> block[0], block.number(1)
    (3, 0.5)
    """

    __slots__ = ("address", "words")

    def __init__(self, words: Sequence[int | float]) -> None:
        self.words = array("q", list(map(_bits, words)))  # of an iterator it would be larger than need be
        self.address = self.words.buffer_info()[0]

    def __setitem__(self, place: int, word: int | float) -> None:
        self.words[place] = _bits(word)

    def __getitem__(self, place: int) -> int:
        return self.words[place]

    def number(self, place: int) -> float:
        """The word as a float64."""
        return struct.unpack("d", struct.pack("q", self.words[place]))[0]

    def __len__(self) -> int:
        return len(self.words)


def _bits(word: int | float) -> int:
    """A word as an integer: a float64 as its bits stand in memory."""
    return struct.unpack("q", struct.pack("d", word))[0] if isinstance(word, float) else word


class _Memory(int):
    """The address of a header, which keeps alive all that is reached from it: a call in progress has it."""

    header: np.ndarray
    rows: np.ndarray
    blocks: list[Block | _Memory]
    pool: Pool

    @property
    def address(self) -> int:
        """The header's."""
        return int(self)

    @classmethod
    def of(cls, pool: Pool) -> _Memory:
        header = np.zeros(4, np.int64)
        memory = cls(header.ctypes.data)
        memory.header, memory.rows, memory.blocks, memory.pool = header, np.zeros((16, 3), np.int64), [], pool
        header[2] = pool.address
        return memory


class Table:
    """Kernels with their blocks, run in order. ``run()`` runs them all, without the GIL.

    Entries are added before or between runs, never during one, and a table is run by one thread at a time.
    ``workers`` is the pool that takes parts of entries; unless given it is the process's own.
    """

    def __init__(self, workers: Pool | None = None) -> None:
        self._memory = _Memory.of(workers or pool())
        self.run: Callable[[], None] = builtin("run", driver().call, self._memory)

    def __len__(self) -> int:
        """How many kernels one run calls."""
        return len(self._memory.blocks)

    def add(self, kernel: int, words: Sequence[int | float]) -> Block:
        """Append a call of the kernel at address ``kernel`` with a block of ``words``, which is returned."""
        return self.add_parts([(kernel, words)])[0]

    def add_parts(self, parts: Sequence[tuple[int, Sequence[int | float]]]) -> list[Block]:
        """Append calls that may run side by side: none writes what another reads or writes."""
        if not 0 < len(parts) <= _MOST_PARTS:
            raise ArgumentError(
                f"add_parts with {len(parts)} parts",
                why=f"an entry has from 1 to {_MOST_PARTS} parts",
                instead="fewer and larger parts; as many as there are threads are enough",
            )
        blocks = [Block(words) for _, words in parts]
        self._append([(kernel, block) for (kernel, _), block in zip(parts, blocks, strict=True)])
        return blocks

    def add_tables(self, tables: Sequence[Table]) -> None:
        """Append tables as parts that may run side by side, each in its own order.

        They are complete, and none of them has parts that would run side by side in turn.
        """
        assert not any(table._memory.header[3] for table in tables)
        self._append([(driver().run, table._memory) for table in tables])

    def _append(self, parts: Sequence[tuple[int, Block | _Memory]]) -> None:
        memory = self._memory
        start, end = len(memory.blocks), len(memory.blocks) + len(parts)
        if end > len(memory.rows):
            memory.rows = np.resize(memory.rows, (2 * end, 3))
        for row, (kernel, block) in enumerate(parts, start):
            memory.rows[row] = (kernel, block.address, 1)
        memory.rows[start, 2] = len(parts)
        memory.blocks += [block for _, block in parts]
        memory.header[:2] = (memory.rows.ctypes.data, end)
        memory.header[3] |= len(parts) > 1
