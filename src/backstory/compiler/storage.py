"""The memory of a native program: its arena, arrays from outside, and the numbers of the host.

Kernels find all of it by addresses in words of their blocks. Words that depend on an array from outside are
kept, and patched when another array is set.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from backstory.compiler.driver import address_of
from backstory.compiler.graph import Number
from backstory.compiler.memory import ALIGNMENT
from backstory.compiler.table import Block

__all__ = ["Slots", "Storage"]


class Slots:
    """Where kernels read the numbers of the host: all as float64, and behind them the integers as int64."""

    def __init__(self, numbers: Sequence[Number]) -> None:
        whole = [x.place for x in numbers if x.kind is not float]
        self._whole = {place: at for at, place in enumerate(whole, len(numbers))}
        self._block = Block([0] * (len(numbers) + len(whole)))
        self._layout = struct.Struct(f"{len(numbers)}d{len(whole)}q")

    def address(self, number: Number, real: bool) -> int:
        """Where the number stands."""
        return self._block.address + 8 * (number.place if real else self._whole[number.place])

    def fill(self, numbers: Sequence[Any]) -> None:
        """Put all numbers where kernels read them."""
        self._layout.pack_into(self._block.words, 0, *numbers, *[int(numbers[i]) for i in self._whole])


class Storage:
    """The arrays of a program, and the words of blocks with their addresses; ``address`` is the arena's.

    ``raw`` has the arena ``skip`` bytes further on. ``kept`` are arrays whose addresses stand in blocks,
    ``given`` those that were set last, by kind and place.
    """

    def __init__(self, arena: int) -> None:
        self.raw = np.empty(arena + ALIGNMENT, np.uint8)
        start = self.raw.ctypes.data
        self.skip = -start % ALIGNMENT
        self.address = start + self.skip
        self.kept: list[np.ndarray] = []
        self.given: dict[tuple[str, int], np.ndarray] = {}
        self._words: dict[tuple[str, int], list[tuple[Block, int, int]]] = {}
        self._address_of = address_of()

    def point(self, block: Block, word: int, kind: str, place: int, offset: int) -> None:
        """Let a word of a block be an address in an input or output, whenever that is set."""
        self._words.setdefault((kind, place), []).append((block, word, offset))

    def put(self, kind: str, place: int, array: np.ndarray) -> None:
        """Set an input or an output."""
        if self.given.get((kind, place)) is array:
            return
        self.given[kind, place] = array
        words = self._words.get((kind, place), ())
        if words:
            address = self._address_of(array)
            for block, word, offset in words:
                block[word] = address + offset
