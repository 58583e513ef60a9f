"""Assembly: a design as tables of kernels and host steps, with all their memory.

Each unit becomes blocks of arguments in a table. The memory of a run's own values is one arena; addresses of
inputs and outputs are patched in the blocks whenever their arrays are set.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from backstory.compiler.chain import WHOLE, Chain, bands
from backstory.compiler.design import Design
from backstory.compiler.expressions import type_name
from backstory.compiler.graph import Number, Value
from backstory.compiler.kernels import kernel
from backstory.compiler.layout import contiguous
from backstory.compiler.nest import Operand
from backstory.compiler.products import ADDRESSES, Product, multiply
from backstory.compiler.replay import computed
from backstory.compiler.routines import Memory
from backstory.compiler.storage import Slots, Storage
from backstory.compiler.sweep import TOTAL, Part, divided
from backstory.compiler.table import Block, Table
from backstory.compiler.unit import Unit

__all__ = ["Assembly"]

# From so many multiplications on, the bands of a product are worth waking another core.
_LARGE_PRODUCT = 1 << 21


class Assembly:
    """The steps of a program, one after the other: tables, and functions that Python calls.

    ``numbers`` is the list in which the program finds those of the host.
    """

    def __init__(self, design: Design, numbers: list[Any]) -> None:
        self.design, self.numbers = design, numbers
        self.storage, self.slots = Storage(design.plan.arena), Slots(design.lowered.numbers)
        self._constants: dict[Value, np.ndarray] = {}
        self.steps: list[Table | Callable[[], None]] = []
        for entry in design.entries:
            if isinstance(entry, Chain):
                self._add_chain(entry)
            elif entry[0].kind == "loops":
                self._add_sweep(entry)
            elif entry[0].kind != "nothing":
                self._add_unit(entry[0])
        self.steps += [self._copy_step(j) for j in design.plan.late]

    def _add_unit(self, unit: Unit) -> None:
        if unit.kind == "product":
            self._add_product(unit)
        elif unit.kind == "routine":
            self._add_routine(unit)
        else:
            self.steps.append(self._check_step(unit) if unit.kind == "check" else self._host_step(unit))

    def _table(self) -> Table:
        """The table that is added to: the last step, if it is one."""
        if not self.steps or not isinstance(self.steps[-1], Table):
            self.steps.append(Table())
        table = self.steps[-1]
        assert isinstance(table, Table)
        return table

    # Entries of tables

    def _add_sweep(self, units: Sequence[Unit]) -> None:
        """Nests that may run side by side: large ones in parts, whose totals are added up behind them."""
        design, table = self.design, self._table()
        totals: dict[Value, np.ndarray] = {}
        for parts in divided(units, design.nests, design.plan, design.threads):
            codes = [design.kernels[part.unit] for part in parts]
            entries = [(kernel(code.name, code.source), [0] * len(code.words)) for code in codes]
            for block, part in zip(table.add_parts(entries), parts, strict=True):
                self._fill(block, part, totals)
        for value, sums in totals.items():
            self.storage.kept.append(sums)
            source = TOTAL.format(type_name(value.dtype))
            block = table.add(kernel("total", source), [sums.size, sums.ctypes.data, 0])
            self._point(block, 2, value, 0)

    def _fill(self, block: Block, part: Part, totals: dict[Value, np.ndarray]) -> None:
        """The words of one part of a nest; of several parts each has totals and scratch of its own."""
        nest = self.design.nests[part.unit]
        own = {nest.written[value]: value for value in nest.totals} if part.among > 1 else {}
        loop = nest.loops[part.loop] if nest.loops else ()
        is_part = part.length < nest.size(loop)
        for k, (what, value) in enumerate(self.design.kernels[part.unit].words):
            if what == "memory" and value in own:
                sums = totals.setdefault(own[value], np.zeros(part.among, value.dtype))
                block[k] = sums.ctypes.data + part.place * value.dtype.itemsize
            elif (
                what == "memory"
                and value.root is None
                and (not value.steps or (is_part and not nest.step(value, loop)))
            ):
                self.storage.kept.append(np.empty(value.count, value.dtype))
                block[k] = self.storage.kept[-1].ctypes.data
            elif what == "memory":
                start = part.start * nest.step(value, loop) if part.start else 0
                self._point_at(block, k, value, start)
            elif what == "count":
                block[k] = part.length * nest.step(value, loop) if is_part else value.count
            elif what == "number":
                block[k] = self.slots.address(*value)
            else:
                block[k] = value
        if nest.loops:
            block[part.loop] = part.length

    def _add_product(self, unit: Unit) -> None:
        """A product by itself; large ones in bands."""
        product = unit.ordered[0]
        work = product.size * product.inputs[0].shape[-1]
        parts = self.design.threads if work >= _LARGE_PRODUCT else 1
        self._add_bands(self._table(), product.dtype, self.design.products(unit, parts))

    def _add_bands(self, table: Table, dtype: np.dtype, products: Sequence[Product]) -> None:
        kernel = multiply(dtype)
        blocks = table.add_parts([(kernel, product.words()) for product in products])
        for block, product in zip(blocks, products, strict=True):
            for word, matrix in zip(ADDRESSES, product.matrices, strict=True):
                if matrix.root is not None:
                    self._point(block, word, matrix.root, matrix.address)

    def _add_routine(self, unit: Unit) -> None:
        """What a few kernels of its own compute, one after the other."""
        for call in self.design.routines[unit]:
            block = self._table().add(kernel(call.name, call.source), [0] * len(call.words))
            for k, word in enumerate(call.words):
                if isinstance(word, Memory):
                    self._point(block, k, word.root, word.offset * word.root.dtype.itemsize)
                else:
                    block[k] = word

    def _add_chain(self, chain: Chain) -> None:
        """A table for each band of lanes, to be run side by side."""
        design, tables = self.design, [Table() for _ in range(self.design.threads)]
        for unit, cut in zip(chain.units, chain.cuts, strict=True):
            products = design.products(unit) if unit.kind == "product" else []
            for own, (start, length) in zip(tables, bands(cut.lanes, len(tables)), strict=True):
                for product in products:
                    dtype = next(iter(unit.members)).dtype
                    self._add_bands(own, dtype, [product.band(cut.loop, start, length, dtype)])
                if products:
                    continue
                nest, code = design.nests[unit], design.kernels[unit]
                part = Part(unit, 0, nest.size(nest.loops[0]) if nest.loops else 0)
                if cut.loop != WHOLE:
                    each = nest.size(nest.loops[cut.loop]) // cut.lanes
                    part = Part(unit, start * each, length * each, loop=cut.loop)
                self._fill(own.add(kernel(code.name, code.source), [0] * len(code.words)), part, {})
                if cut.loop == WHOLE:
                    break
        self._table().add_tables(tables)

    # Steps in Python

    def _host_step(self, unit: Unit) -> Callable[[], None]:
        """A unit that NumPy computes."""
        (value,) = unit.members
        numbers = self.numbers
        readers: list[Callable[[], Any]] = []
        for x in value.inputs:
            if isinstance(x, Value):
                readers.append(self._reader(x))
            elif isinstance(x, Number):
                readers.append(lambda place=x.place: numbers[place])
            else:
                readers.append(lambda x=x: x)
        target = self._reader(value)

        def step() -> None:
            with np.errstate(all="ignore"):
                result = computed(value, [read() for read in readers])
            np.copyto(target(), result)

        return step

    def _check_step(self, unit: Unit) -> Callable[[], None]:
        """A check: its test runs where the kernel before it found something out of range."""
        (value,) = unit.members
        x, kept = (self._reader(v) for v in value.inputs)
        test = value.params["test"]

        def step() -> None:
            if not kept()[()]:
                test(x())

        return step

    def _copy_step(self, j: int) -> Callable[[], None]:
        """What goes into an input at the end."""
        output = self.design.lowered.outputs[j]
        assert output.into is not None
        source, target = self._reader(output.value), self._reader(output.into.value)
        return lambda: np.copyto(target(), source())

    # Memory

    def _point_at(self, block: Block, word: int, operand: Operand, start: int) -> None:
        if operand.root is None:
            scratch = self.design.plan.scratch[operand]
            block[word] = self.storage.address + scratch + start * operand.dtype.itemsize
        else:
            self._point(block, word, operand.root, (operand.offset + start) * operand.dtype.itemsize)

    def _point(self, block: Block, word: int, root: Value, offset: int) -> None:
        """Let a word of a block be an address in the memory of a value, now and whenever its array is set."""
        place = self.design.plan.places[root]
        if place.kind == "arena":
            block[word] = self.storage.address + place.at + offset
        elif place.kind == "constant":
            block[word] = self._constant(root).ctypes.data + offset
        else:
            self.storage.point(block, word, place.kind, place.at, offset)

    def _constant(self, value: Value) -> np.ndarray:
        if value not in self._constants:
            if value.primitive == "full":
                array = np.full(value.shape, value.params["value"], value.dtype)
            else:
                array = np.ascontiguousarray(value.params["array"])
            self._constants[value] = array.reshape(value.shape)
            self.storage.kept.append(self._constants[value])
        return self._constants[value]

    def _base(self, root: Value) -> Callable[[], np.ndarray]:
        """The memory of a root as an array: fixed, or as it was set last."""
        place, shape = self.design.plan.places[root], root.shape
        if place.kind == "constant":
            array = self._constant(root)
            return lambda: array
        if place.kind == "arena":
            raw, start = self.storage.raw, self.storage.skip + place.at
            array = np.ndarray(shape, root.dtype, raw.data, start)
            return lambda: array
        key, given = (place.kind, place.at), self.storage.given
        # An output may go out in another shape than that in which it is computed.
        return lambda: given[key].reshape(shape)

    def _reader(self, value: Value) -> Callable[[], np.ndarray]:
        """A function that gives a value as an array."""
        root, offset, strides = self.design.fusion.layouts[value]
        base, shape, dtype = self._base(root), value.shape, value.dtype
        if root.shape == shape and offset == 0 and strides == contiguous(shape):
            return base
        if value.size == 0:
            empty = np.empty(shape, dtype)
            return lambda: empty
        begin, steps = offset * dtype.itemsize, tuple(dtype.itemsize * step for step in strides)
        return lambda: np.ndarray(shape, dtype, base(), begin, steps)
