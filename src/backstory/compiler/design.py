"""The design of a native program: which units compute a graph, in what order, where, and by which kernels.

It goes: passes, outputs of their own, fusion, an order, nests, the memory plan, the text of kernels, and what
threads share. Nothing of it is needed to run the program; who wants to read it designs it again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from backstory.compiler.chain import Chain, chains
from backstory.compiler.emit import Emitted, emitted
from backstory.compiler.fusion import fused
from backstory.compiler.graph import Graph
from backstory.compiler.layout import contiguous
from backstory.compiler.lowering import lowered
from backstory.compiler.memory import planned, roots_read
from backstory.compiler.nest import Nest
from backstory.compiler.order import ordered
from backstory.compiler.passes import simplified
from backstory.compiler.products import Factor, Product
from backstory.compiler.routines import Call, calls
from backstory.compiler.sweep import sweeps
from backstory.compiler.unit import Unit

if TYPE_CHECKING:
    from backstory.compiler.account import Account

__all__ = ["Design"]


class Design:
    """What is decided about a graph that so many ``threads`` will run.

    ``units`` stand in the order in which they run. ``entries`` are the same units as chains, and as sweeps
    between these. ``kernels`` and ``routines`` say what code computes nests and routines.
    """

    def __init__(self, graph: Graph, threads: int) -> None:
        self.threads = threads
        self.lowered = lowered(simplified(graph))
        self.fusion = fused(self.lowered)
        units, home = self.fusion.units, self.fusion.home
        nests = {unit: Nest(unit, self.fusion) for unit in units if unit.kind == "loops"}
        needs = {u: {home[r] for r in roots_read(u, self.fusion, nests) if r in home} - {u} for u in units}
        self.units = ordered(units, needs)
        self.nests = {unit: nests[unit] for unit in self.units if unit in nests}
        self.plan = planned(self.units, self.fusion, self.nests)
        self.kernels = {unit: emitted(nest, self.plan.same) for unit, nest in self.nests.items()}
        routines = (unit for unit in self.units if unit.kind == "routine")
        self.routines = {unit: calls(next(iter(unit.members)), self.fusion.layouts) for unit in routines}
        self.entries = list(self._arranged())

    @property
    def chains(self) -> list[Chain]:
        """The units that threads go through without waiting for each other."""
        return [entry for entry in self.entries if isinstance(entry, Chain)]

    def _arranged(self) -> Iterator[Chain | list[Unit]]:
        rest: list[Unit] = []
        if self.threads == 1:
            rest = self.units
        else:
            products = {unit: self.products(unit) for unit in self.units if unit.kind == "product"}
            single = {unit: found[0] for unit, found in products.items() if len(found) == found[0].batch == 1}
            for found in chains(self.units, self.nests, self.kernels, single, self.plan, self.threads):
                if isinstance(found, Unit):
                    rest.append(found)
                    continue
                yield from sweeps(rest, self.nests, self.plan)
                yield found
                rest = []
        yield from sweeps(rest, self.nests, self.plan)

    def products(self, unit: Unit, parts: int = 1) -> list[Product]:
        """The products of matrices as they lie, transposed or not, that make the value of a unit."""
        product, *behind = unit.ordered
        result, size = unit.ordered[-1], product.dtype.itemsize

        def factor(x: Any) -> Factor:
            root, offset, strides = self.fusion.layouts[x]
            return Factor(x.shape, strides, offset * size, root)

        a, b = map(factor, product.inputs)
        c = Factor(product.shape, contiguous(product.shape), 0, result)
        added = [x for value in behind for x in value.values if x not in unit.members]
        d = factor(added[0]).as_row_of(product.shape) if added else None
        return Product.all(a, b, c, product.dtype, parts, d, result.primitive == "maximum")

    # For people

    @property
    def codes(self) -> list[Emitted | Call]:
        """What is compiled."""
        return [*self.kernels.values(), *(call for found in self.routines.values() for call in found)]

    @property
    def sources(self) -> list[str]:
        """The text of every distinct kernel, in the order of first use."""
        return list(dict.fromkeys(code.source for code in self.codes))

    @property
    def source(self) -> str:
        """All units, and the Python text of all kernels, to be read."""
        from backstory.compiler.account import readable

        return readable(self.explain(), self.codes)

    def explain(self) -> Account:
        """What was fused, what runs on the host and why, the work and the memory."""
        from backstory.compiler.account import account

        place = {unit: i for i, unit in enumerate(self.units, 1)}
        chains = [(place[chain.units[0]], place[chain.units[-1]]) for chain in self.chains]
        count = len(self.sources)
        return account(self.units, self.fusion, self.nests, self.kernels, self.plan, count, chains)
