"""The native program: a graph as kernels, products and host steps, with all their memory laid out.

Building goes: passes, outputs of their own, fusion, an order, nests, the memory plan, kernels, and at last
blocks of arguments in tables. Setting an input patches its address in the blocks; a run calls the tables, and
in Python only what no kernel computes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from backstory.compiler.account import Account, account, readable
from backstory.compiler.chain import WHOLE, Chain, bands, chains
from backstory.compiler.driver import driver
from backstory.compiler.emit import Emitted, emitted
from backstory.compiler.expressions import type_name
from backstory.compiler.fusion import fused
from backstory.compiler.graph import Graph, Number, Value
from backstory.compiler.kernels import kernel
from backstory.compiler.log import Log
from backstory.compiler.lowering import lowered
from backstory.compiler.memory import planned, roots_read
from backstory.compiler.nest import Nest, Operand
from backstory.compiler.order import ordered
from backstory.compiler.passes import simplified
from backstory.compiler.products import ADDRESSES, Factor, Product, multiply
from backstory.compiler.replay import Program, computed
from backstory.compiler.routines import Call, Memory, calls
from backstory.compiler.storage import Slots, Storage
from backstory.compiler.sweep import TOTAL, Part, divided, sweeps
from backstory.compiler.table import Block, Table
from backstory.compiler.unit import Unit
from backstory.compiler.workers import threads

__all__ = ["Native", "build"]

# From so many multiplications on, the bands of a product are worth waking another core.
_LARGE_PRODUCT = 1 << 21


def build(graph: Graph) -> Program:
    """The graph as native code. Without Numba it raises :class:`~backstory.errors.MissingExtraError`."""
    return Native(graph)


class Native(Program):
    """A graph as native code; see :class:`~backstory.compiler.replay.Program` for its use.

    An input that is written to shares no memory with any other array that is set.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.numbers = [None] * len(graph.numbers)
        self._lowered = lowered(simplified(graph))
        self._fusion = fused(self._lowered)
        units = self._fusion.units
        self._nests = {unit: Nest(unit, self._fusion) for unit in units if unit.kind == "loops"}
        home = self._fusion.home
        needs = {
            u: {home[r] for r in roots_read(u, self._fusion, self._nests) if r in home} - {u} for u in units
        }
        self._order = ordered(units, needs)
        self._plan = planned(self._order, self._fusion, self._nests)
        self._inputs: list[Any] = [None] * len(graph.inputs)
        self._outputs: list[Any] = [None] * len(graph.outputs)
        self._storage = Storage(self._plan, self._fusion)
        self._slots = Slots(graph.numbers)
        nests = {unit: self._nests[unit] for unit in self._order if unit in self._nests}
        self.kernels = {unit: emitted(nest, self._plan.same) for unit, nest in nests.items()}
        self.early = self._plan.early
        self._kept: list[np.ndarray] = []
        self.routines: dict[Unit, list[Call]] = {}
        self._chains: list[Chain] = []
        self.steps = self._built()

    @property
    def units(self) -> list[Unit]:
        """The units in the order in which they run."""
        return self._order

    @property
    def sources(self) -> list[str]:
        """The text of every distinct kernel, in the order of first use."""
        return list(dict.fromkeys(code.source for code in self._codes()))

    def _codes(self) -> list[Emitted | Call]:
        return [*self.kernels.values(), *(call for found in self.routines.values() for call in found)]

    @property
    def source(self) -> str:
        """All units, and the Python text of all kernels, to be read."""
        return readable(self.explain(), self._codes())

    def explain(self) -> Account:
        """What was fused, what runs on the host and why, the work and the memory."""
        place = {unit: i for i, unit in enumerate(self._order, 1)}
        chains = [(place[chain.units[0]], place[chain.units[-1]]) for chain in self._chains]
        count = len(self.sources)
        return account(self._order, self._fusion, self._nests, self.kernels, self._plan, count, chains)

    # Building

    def _built(self) -> list[Callable[[], None]]:
        steps: list[Any] = []
        for found in self._arranged():
            if isinstance(found, Chain):
                self._add_chain(self._open_table(steps), found)
                continue
            unit = found[0]
            if unit.kind == "loops":
                self._add_sweep(self._open_table(steps), found)
            elif unit.kind == "product":
                self._add_product(self._open_table(steps), unit)
            elif unit.kind == "check":
                steps.append(self._check_step(unit))
            elif unit.kind == "routine":
                self._add_routine(self._open_table(steps), unit)
            elif unit.kind == "nothing":
                continue
            else:
                steps.append(self._host_step(unit))
        steps += [self._copy_step(j) for j in self._plan.late]
        self._tables = [step for step in steps if isinstance(step, Table)]
        return [step.run if isinstance(step, Table) else step for step in steps]

    def _arranged(self) -> Iterator[Chain | list[Unit]]:
        """The units in their order as chains, where there are several threads, and as sweeps between them."""
        rest: list[Unit] = []
        if threads() == 1:
            rest = self._order
        else:
            products = {unit: self._products(unit) for unit in self._order if unit.kind == "product"}
            single = {unit: found[0] for unit, found in products.items() if len(found) == found[0].batch == 1}
            for found in chains(self._order, self._nests, self.kernels, single, self._plan, threads()):
                if isinstance(found, Unit):
                    rest.append(found)
                    continue
                yield from sweeps(rest, self._nests, self._plan)
                yield found
                rest = []
        yield from sweeps(rest, self._nests, self._plan)

    def _open_table(self, steps: list[Any]) -> Table:
        if not steps or not isinstance(steps[-1], Table):
            steps.append(Table())
        return steps[-1]

    def _add_sweep(self, table: Table, units: Sequence[Unit]) -> None:
        """Nests that may run side by side: large ones in parts, whose totals are added up behind them."""
        totals: dict[Value, np.ndarray] = {}
        for parts in divided(units, self._nests, self._plan, threads()):
            codes = [self.kernels[part.unit] for part in parts]
            entries = [(kernel(code.name, code.source), [0] * len(code.words)) for code in codes]
            for block, part in zip(table.add_parts(entries), parts, strict=True):
                self._fill(block, part, totals)
        for value, sums in totals.items():
            self._kept.append(sums)
            source = TOTAL.format(type_name(value.dtype))
            block = table.add(kernel("total", source), [sums.size, sums.ctypes.data, 0])
            self._storage.point(block, 2, value, 0)

    def _fill(self, block: Block, part: Part, totals: dict[Value, np.ndarray]) -> None:
        """The words of one part of a nest; of several parts each has totals and scratch of its own."""
        nest = self._nests[part.unit]
        own = {nest.written[value]: value for value in nest.totals} if part.among > 1 else {}
        loop = nest.loops[part.loop] if nest.loops else ()
        is_part = part.length < nest.size(loop)
        for k, (what, value) in enumerate(self.kernels[part.unit].words):
            if what == "memory" and value in own:
                sums = totals.setdefault(own[value], np.zeros(part.among, value.dtype))
                block[k] = sums.ctypes.data + part.place * value.dtype.itemsize
            elif (
                what == "memory"
                and value.root is None
                and (not value.steps or (is_part and not nest.step(value, loop)))
            ):
                self._kept.append(np.empty(value.count, value.dtype))
                block[k] = self._kept[-1].ctypes.data
            elif what == "memory":
                start = part.start * nest.step(value, loop) if part.start else 0
                self._point(block, k, value, start)
            elif what == "count":
                block[k] = part.length * nest.step(value, loop) if is_part else value.count
            elif what == "number":
                block[k] = self._slots.address(*value)
            else:
                block[k] = value
        if nest.loops:
            block[part.loop] = part.length

    def _point(self, block: Block, word: int, operand: Operand, start: int) -> None:
        if operand.root is None:
            block[word] = self._storage.address + self._plan.scratch[operand] + start * operand.dtype.itemsize
        else:
            offset = (operand.offset + start) * operand.dtype.itemsize
            self._storage.point(block, word, operand.root, offset)

    def _products(self, unit: Unit, parts: int = 1) -> list[Product]:
        """The products of matrices as they lie, transposed or not, that make the value of a unit."""
        (value,) = unit.members
        layouts, size = self._fusion.layouts, value.dtype.itemsize

        def factor(x: Any) -> Factor:
            root, offset, strides = layouts[x]
            return Factor(x.shape, strides, offset * size, root)

        a, b, c = factor(value.inputs[0]), factor(value.inputs[1]), factor(value)
        return Product.all(a, b, c, value.dtype, parts)

    def _add_product(self, table: Table, unit: Unit) -> None:
        """A product by itself; large ones in bands."""
        (value,) = unit.members
        work = value.size * value.inputs[0].shape[-1]
        self._add_bands(table, value.dtype, self._products(unit, threads() if work >= _LARGE_PRODUCT else 1))

    def _add_bands(self, table: Table, dtype: np.dtype, products: Sequence[Product]) -> None:
        kernel = multiply(dtype)
        blocks = table.add_parts([(kernel, product.words()) for product in products])
        for block, product in zip(blocks, products, strict=True):
            for word, matrix in zip(ADDRESSES, (product.a, product.b, product.c), strict=True):
                self._storage.point(block, word, matrix.root, matrix.address)

    def _add_routine(self, table: Table, unit: Unit) -> None:
        """What a few kernels of its own compute, one after the other."""
        (value,) = unit.members
        self.routines[unit] = calls(value, self._fusion.layouts)
        for call in self.routines[unit]:
            block = table.add(kernel(call.name, call.source), [0] * len(call.words))
            for k, word in enumerate(call.words):
                if isinstance(word, Memory):
                    self._storage.point(block, k, word.root, word.offset * word.root.dtype.itemsize)
                else:
                    block[k] = word

    def _add_chain(self, table: Table, chain: Chain) -> None:
        """A table for each band of lanes, to be run side by side."""
        self._chains.append(chain)
        tables = [Table() for _ in range(threads())]
        for unit, cut in zip(chain.units, chain.cuts, strict=True):
            for own, (start, length) in zip(tables, bands(cut.lanes, len(tables)), strict=True):
                if unit.kind == "product":
                    (product,), dtype = self._products(unit), next(iter(unit.members)).dtype
                    self._add_bands(own, dtype, [product.band(cut.loop, start, length, dtype)])
                    continue
                nest, code = self._nests[unit], self.kernels[unit]
                part = Part(unit, 0, nest.size(nest.loops[0]) if nest.loops else 0)
                if cut.loop != WHOLE:
                    each = nest.size(nest.loops[cut.loop]) // cut.lanes
                    part = Part(unit, start * each, length * each, loop=cut.loop)
                self._fill(own.add(kernel(code.name, code.source), [0] * len(code.words)), part, {})
                if cut.loop == WHOLE:
                    break
        table.add_tables(tables)

    def _host_step(self, unit: Unit) -> Callable[[], None]:
        """A unit that NumPy computes."""
        (value,) = unit.members
        memory, numbers = self._storage, self.numbers
        readers: list[Callable[[], Any]] = []
        for x in value.inputs:
            if isinstance(x, Value):
                readers.append(memory.reader(x))
            elif isinstance(x, Number):
                readers.append(lambda place=x.place: numbers[place])
            else:
                readers.append(lambda x=x: x)
        target = memory.reader(value)

        def step() -> None:
            with np.errstate(all="ignore"):
                result = computed(value, [read() for read in readers])
            np.copyto(target(), result)

        return step

    def _check_step(self, unit: Unit) -> Callable[[], None]:
        """A check: its test runs where the kernel before it found something out of range."""
        (value,) = unit.members
        x, kept = (self._storage.reader(v) for v in value.inputs)
        test = value.params["test"]

        def step() -> None:
            if not kept()[()]:
                test(x())

        return step

    def _copy_step(self, j: int) -> Callable[[], None]:
        """What goes into an input at the end."""
        output = self._lowered.outputs[j]
        assert output.into is not None
        source, target = self._storage.reader(output.value), self._storage.reader(output.into.value)
        return lambda: np.copyto(target(), source())

    # Running

    def set_input(self, place: int, array: np.ndarray) -> None:
        self._storage.put("input", place, array)

    def set_output(self, place: int, array: np.ndarray) -> None:
        self._storage.put("output", place, array)

    def keep(self, log: Log, clock: np.ndarray) -> None:
        if not self._tables or self.steps[-1] is not self._tables[-1].run:
            self._tables.append(Table())
            self.steps.append(self._tables[-1].run)
        self._tables[-1].add(driver().note, log.words(clock))

    def set_numbers(self, *numbers: Any) -> None:
        self.numbers[:] = numbers
        self._slots.fill(numbers)
