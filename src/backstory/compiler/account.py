"""What a native program is made of, for people: its units, their work, its memory, and its code."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from backstory.compiler.emit import Emitted
from backstory.compiler.fusion import Fusion
from backstory.compiler.graph import Value
from backstory.compiler.hosted import why_hosted
from backstory.compiler.memory import Plan, roots_read
from backstory.compiler.nest import Nest
from backstory.compiler.primitives import VIEWS
from backstory.compiler.routines import Call
from backstory.compiler.unit import Unit, dims_of

__all__ = ["Account", "Part", "account", "readable"]


@dataclass(frozen=True)
class Part:
    """One unit: what computes it, what was fused in it, and the least that it must do.

    ``kind`` is a kernel's name, ``product``, ``routine``, ``check``, ``nothing`` or ``host``; ``shape`` is
    that of the whole nest of loops or of the result; ``why`` says why a unit of the host has no kernel.
    """

    kind: str
    shape: tuple[int, ...]
    computes: tuple[str, ...]
    origins: tuple[str, ...]
    flops: int
    bytes: int
    why: str = ""

    def __str__(self) -> str:
        shape = "×".join(map(str, self.shape)) or "one entry"
        what = ", ".join(dict.fromkeys(self.computes))
        return f"{self.kind}, {shape}: {what}" + (f" [{'; '.join(self.origins)}]" if self.origins else "")


@dataclass(frozen=True)
class Account:
    """All units of a program in their order. ``arena`` counts the bytes of what lives only within a run.

    ``peak`` adds the inputs, outputs and constants. ``chains`` are the first and last units, counted from 1,
    that threads go through without waiting for each other.
    """

    parts: tuple[Part, ...]
    kernels: int
    arena: int
    peak: int
    chains: tuple[tuple[int, int], ...] = ()

    @property
    def flops(self) -> int:
        """Additions, multiplications and functions of one entry, each counted as one."""
        return sum(part.flops for part in self.parts)

    @property
    def bytes(self) -> int:
        """What all units together read and write, every array counted once in each unit."""
        return sum(part.bytes for part in self.parts)

    @property
    def host(self) -> tuple[Part, ...]:
        """The units that run in Python, each with the reason."""
        return tuple(part for part in self.parts if part.why)

    def __str__(self) -> str:
        lines = [
            f"{len(self.parts)} units, {self.kernels} kernels, {self.flops:,} FLOPs, {self.bytes:,} bytes",
            f"memory: {self.arena:,} bytes within the step, {self.peak:,} with all inputs and outputs",
            *(f"{i:4}  {part}" for i, part in enumerate(self.parts, 1)),
        ]
        if self.chains:
            which = ", ".join(f"{first}–{last}" for first, last in self.chains)
            lines.insert(2, f"divided among the threads, which meet behind units {which}")
        if self.host:
            lines += ["on the host:", *(f"      {part.computes[0]}: {part.why}" for part in self.host)]
        return "\n".join(lines)


def account(
    order: Sequence[Unit],
    fusion: Fusion,
    nests: Mapping[Unit, Nest],
    kernels: Mapping[Unit, Emitted],
    plan: Plan,
    count: int,
    chains: Sequence[tuple[int, int]],
) -> Account:
    """The account of units in this order; ``count`` says how many kernels they share."""
    parts = tuple(_part(unit, fusion, nests, kernels.get(unit)) for unit in order)
    outside = {x for x, place in plan.places.items() if place.kind != "arena"}
    peak = plan.arena + sum(_bytes(x) for x in outside)
    return Account(parts, count, plan.arena, peak, tuple(chains))


def _part(unit: Unit, fusion: Fusion, nests: Mapping[Unit, Nest], code: Emitted | None) -> Part:
    members = [value for value in unit.ordered if value.primitive not in VIEWS]
    written = [value for value in members if fusion.home.get(value) is unit]
    moved = sum(_bytes(x) for x in roots_read(unit, fusion, nests)) + sum(_bytes(x) for x in written)
    kind, shape, why = unit.kind, unit.ordered[-1].shape, ""
    if code is not None:
        kind, shape = code.name, tuple(unit.sizes[dim] for dim in unit.dims)
    elif unit.kind == "host":
        why = why_hosted(unit.ordered[-1])
    computes = tuple(value.primitive for value in members) or ("copy",)
    flops = sum(_flops(value, unit) for value in members)
    return Part(kind, shape, computes, _origins(unit), flops, moved, why)


def _origins(unit: Unit) -> tuple[str, ...]:
    """Where the members come from: operations by place and phase."""
    found: dict[str, list[str]] = {}
    for value in unit.ordered:
        origin = value.origin
        if origin.operation:
            place = f" {origin.path}" if origin.path else ""
            names = found.setdefault(f"{place}, {origin.phase}", [])
            if origin.operation not in names:
                names.append(origin.operation)
    return tuple(f"{', '.join(names)}{place}" for place, names in found.items())


def _flops(value: Value, unit: Unit) -> int:
    if value.primitive == "matmul":
        return 2 * value.size * value.inputs[0].shape[-1]
    if value in unit.reduced:
        dims = (*dims_of(unit.members[value]), *unit.reduced[value])
        return math.prod(unit.sizes[dim] for dim in dims)
    return 0 if value.primitive in ("copy", "astype") else value.size


def _bytes(value: Value) -> int:
    return value.size * value.dtype.itemsize


def readable(given: Account, kernels: Sequence[Emitted | Call]) -> str:
    """The code as text: every unit as a comment, in order, and then every kernel once.

    A kernel's comments name what its first unit computes.
    """
    lines = [f"# {line}" for line in str(given).split("\n")]
    seen: set[str] = set()
    for code in kernels:
        if code.source in seen:
            continue
        seen.add(code.source)
        lines += ["", ""]
        width = max((len(text) for text, comment in code.lines if comment), default=0)
        lines += [f"{text:<{width}}  # {comment}" if comment else text for text, comment in code.lines]
    return "\n".join(lines) + "\n"
