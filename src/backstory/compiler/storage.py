"""The memory of a native program: arena, constants, arrays from outside, and the numbers of the host.

Kernels find all of it by addresses in words of their blocks. Words that depend on an array from outside are
kept, and patched when another array is set.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from backstory.compiler.driver import address_of
from backstory.compiler.fusion import Fusion
from backstory.compiler.graph import Number, Value
from backstory.compiler.layout import contiguous
from backstory.compiler.memory import ALIGNMENT, Place, Plan
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
    """The arrays of a program, and the words of blocks with their addresses; ``address`` is the arena's."""

    def __init__(self, plan: Plan, fusion: Fusion) -> None:
        self._plan, self._fusion = plan, fusion
        self._raw = np.empty(plan.arena + ALIGNMENT, np.uint8)
        start = self._raw.ctypes.data
        self._skip = -start % ALIGNMENT
        self.address = start + self._skip
        self._arrays: dict[tuple[str, int], np.ndarray] = {}
        self._words: dict[tuple[str, int], list[tuple[Block, int, int]]] = {}
        self._constants: dict[Value, np.ndarray] = {}
        self._address_of = address_of()

    def point(self, block: Block, word: int, root: Value, offset: int) -> None:
        """Let a word of a block be an address in the memory of a value, now and whenever its array is set."""
        place = self._plan.places[root]
        if place.kind == "arena":
            block[word] = self.address + place.at + offset
        elif place.kind == "constant":
            block[word] = self._constant(root).ctypes.data + offset
        else:
            self._words.setdefault((place.kind, place.at), []).append((block, word, offset))

    def put(self, kind: str, place: int, array: np.ndarray) -> None:
        """Set an input or an output."""
        if self._arrays.get((kind, place)) is array:
            return
        self._arrays[kind, place] = array
        words = self._words.get((kind, place), ())
        if words:
            address = self._address_of(array)
            for block, word, offset in words:
                block[word] = address + offset

    def _constant(self, value: Value) -> np.ndarray:
        if value not in self._constants:
            if value.primitive == "full":
                array = np.full(value.shape, value.params["value"], value.dtype)
            else:
                array = np.ascontiguousarray(value.params["array"])
            self._constants[value] = array.reshape(value.shape)
        return self._constants[value]

    def _base(self, root: Value) -> Callable[[], np.ndarray]:
        """The memory of a root as an array: fixed, or as it was set last."""
        place: Place = self._plan.places[root]
        if place.kind == "constant":
            array = self._constant(root)
            return lambda: array
        if place.kind == "arena":
            array = np.ndarray(root.shape, root.dtype, self._raw.data, self._skip + place.at)
            return lambda: array
        key, arrays = (place.kind, place.at), self._arrays
        # An output may go out in another shape than that in which it is computed.
        return lambda: arrays[key].reshape(root.shape)

    def reader(self, value: Value) -> Callable[[], np.ndarray]:
        """A function that gives a value as an array."""
        root, offset, strides = self._fusion.layouts[value]
        base, size = self._base(root), value.dtype.itemsize
        if root.shape == value.shape and offset == 0 and strides == contiguous(value.shape):
            return base
        if value.size == 0:
            empty = np.empty(value.shape, value.dtype)
            return lambda: empty
        steps = tuple(size * step for step in strides)

        def read() -> np.ndarray:
            return np.ndarray(value.shape, value.dtype, base(), offset * size, steps)

        return read
