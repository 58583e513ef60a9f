"""Emission: a nest of loops as a small Python function in the language of kernels.

The text knows no shape: sizes, steps, addresses and most numbers are words of the block, so that nests of
the same form share one kernel. What is computed where follows from :class:`~backstory.compiler.nest.Nest`:
before all loops, once in a row before and after each of its loops, for each entry, or after all loops.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from backstory.compiler.expressions import (
    combined,
    converted,
    expression,
    identity,
    input_dtypes,
    literal,
    type_name,
)
from backstory.compiler.graph import Number, Value
from backstory.compiler.nest import STRETCH, Index, Nest, Operand, Scalar, Source
from backstory.compiler.unit import AFTER, BEFORE, ENTRY, ROW, When

__all__ = ["Emitted", "Word", "emitted"]

# A word of a block: ("size" or "step", an integer), ("count" of entries or "memory", an operand), ("scalar",
# a Python scalar) or ("number", (a number, whether a float)).
Word = tuple[str, Any]


# A line of a kernel, and what it is about: a value, memory, or nothing that a comment would name.
Line = tuple[str, Value | Operand | None]


class Emitted(NamedTuple):
    """A kernel's text, its lines with what each is about, and the words of its block for this nest."""

    name: str
    source: str
    parts: Sequence[Line]
    words: tuple[Word, ...]
    nest: Nest

    @property
    def lines(self) -> list[tuple[str, str]]:
        """The lines of the text, with a comment each."""
        labels = {x.value: x.label or x.kind for x in self.nest.fusion.graph.inputs}
        return [(text, _comment(subject, labels)) for text, subject in self.parts]


def emitted(nest: Nest, same: Mapping[Operand, Operand]) -> Emitted:
    """The kernel of a nest. ``same`` names operands that are written where another is read."""
    return _Emission(nest, same).result()


@dataclass
class _Section:
    """Lines of one part of a kernel, with the variables that values have there."""

    depth: int
    lines: list[Line] = field(default_factory=list)
    names: dict[Any, str] = field(default_factory=dict)
    stores: list[Line] = field(default_factory=list)
    bases: int = 0


class _Emission:
    def __init__(self, nest: Nest, same: Mapping[Operand, Operand]) -> None:
        self.nest, self.same = nest, same
        self.words: list[Word] = []
        self.head: list[Line] = []
        self._places: dict[Any, str] = {}
        self._count = 0
        self._named_so: dict[str, int] = {}
        self.outer = len(nest.loops) - nest.inner
        self.sizes = [
            self._argument("n", "size", nest.size(loop), ("size", i)) for i, loop in enumerate(nest.loops)
        ]
        self.before = _Section(1)
        deeper = 1 + nest.stretched
        self.rows = [_Section(deeper + self.outer) for _ in range(nest.stages + 1)]
        self.entries = [_Section(deeper + len(nest.loops)) for _ in range(nest.stages)]
        self.after = _Section(1)
        self.arrays = self._arrays()

    # Words

    def _argument(
        self,
        letter: str,
        what: str,
        value: Any,
        key: Any,
        read: str = "integer(block, {})",
        subject: Operand | None = None,
    ) -> str:
        """The variable of a word, read at the head of the kernel; equal keys are one word."""
        if key not in self._places:
            count = self._named_so.get(letter, 0)
            self._named_so[letter] = count + 1
            self._places[key] = name = f"{letter}{count}"
            self.head.append((f"{name} = {read.format(len(self.words))}", subject))
            self.words.append((what, value))
        return self._places[key]

    def _arrays(self) -> dict[Operand, str]:
        found: dict[Operand, str] = {}
        for operand in self.nest.operands:
            first = self.same.get(operand, operand)
            read = f"array(block, {{}}, {type_name(operand.dtype)})"
            found[operand] = self._argument("a", "memory", first, first, read, first)
        return found

    def _step(self, operand: Operand, i: int) -> str | None:
        """How far loop ``i`` moves in an operand, as text; ``None`` if not at all."""
        step = self.nest.step(operand, self.nest.loops[i])
        if step == 0:
            return None
        if step == 1:
            return "1"
        return self._argument("s", "step", step, ("step", i, step))

    def _place(self, operand: Operand) -> str:
        """The index of the entry of an operand in the innermost loop that moves in it."""
        if operand.root is None and not operand.steps:
            return "j0"
        outer: list[str] = []
        inner: list[str] = []
        for i in range(len(self.nest.loops)):
            step = self._step(operand, i)
            if step is not None:
                (outer if i < self.outer else inner).append(f"i{i}" if step == "1" else f"i{i} * {step}")
        if len(outer) == 1 and not inner:
            return outer[0]
        return " + ".join(([self._base(" + ".join(outer))] if outer else []) + inner) or "0"

    def _base(self, text: str) -> str:
        """Where a row begins in an operand: one variable for all operands whose rows begin alike."""
        if text == f"i{self.outer - 1}":
            return text
        section = self.rows[0]
        if text not in section.names:
            section.names[text] = name = f"p{section.bases}"
            section.lines.insert(section.bases, (f"{name} = {text}", None))
            section.bases += 1
        return section.names[text]

    # Values

    def _section(self, when: When) -> _Section:
        if when.level == BEFORE:
            return self.before
        if when.level == ROW:
            return self.rows[when.stage]
        return self.after if when.level == AFTER else self.entries[when.stage]

    def _named(self, section: _Section, key: Any, text: str, subject: Value | None, letter: str = "v") -> str:
        name = f"{letter}{self._count}"
        self._count += 1
        section.lines.append((f"{name} = {text}", subject))
        section.names[key] = name
        return name

    def source(self, source: Source, stage: int, dtype: np.dtype) -> str:
        """The text of what an input is, for a reader in loop ``stage`` of a row, converted to ``dtype``."""
        if isinstance(source, Scalar):
            return self._scalar(source, dtype)
        if isinstance(source, Index):
            i = next(i for i, loop in enumerate(self.nest.loops) if source.dim in loop)
            text = f"i{i}" if source.step == 1 else f"i{i} * {source.step}"
            text = text if source.start == 0 else f"{text} + {source.start}"
            if dtype.kind == "f" and source.dtype.kind == "f":
                return converted(text, np.dtype("int64"), dtype)
            return converted(converted(text, np.dtype("int64"), source.dtype), source.dtype, dtype)
        if isinstance(source, Operand) and source.anywhere:
            return self.arrays[source]
        if isinstance(source, Operand):
            return converted(self.load(source, stage), source.dtype, dtype)
        return converted(self.value(source, stage), source.dtype, dtype)

    def _scalar(self, scalar: Scalar, dtype: np.dtype) -> str:
        value, typed = scalar.value, type_name(dtype)
        if isinstance(value, Number):
            real = dtype.kind == "f" or value.kind is float
            read = f"{typed}({'number' if real else 'integer'}(integer(block, {{}}), 0))"
            return self._argument("c", "number", (value, real), ("number", value, dtype), read)
        if scalar.dtype is not None:
            value = scalar.dtype.type(value).item()
        text = literal(value, dtype)
        if text is not None:
            return text
        cast = dtype.type(value).item()
        read = f"{typed}({'number' if dtype.kind == 'f' else 'integer'}(block, {{}}))"
        if dtype == np.int32:
            read = "integer32(block, {})"
        return self._argument("c", "scalar", cast, ("scalar", repr(cast), dtype), read)

    def load(self, operand: Operand, stage: int) -> str:
        """The variable that an entry of an operand was read into."""
        level = operand.level
        section = self._section(When(level, stage if level == ENTRY else 0))
        if operand not in section.names:
            text = f"{self.arrays[operand]}[{self._place(operand)}]"
            return self._named(section, operand, text, None, "x")
        return section.names[operand]

    def value(self, value: Value, stage: int) -> str:
        """The variable of a member, computed where it belongs; in a later loop of a row again, or read."""
        when = self.nest.when[value]
        section = self._section(When(ENTRY, stage) if when.level == ENTRY else when)
        if value in section.names:
            return section.names[value]
        if when.level == ENTRY and when.stage < stage and value in self.nest.carried:
            return self.load(self.nest.written[value], stage)
        assert value not in self.nest.unit.reduced, f"{value!r} is read before it is reduced"
        own = stage if when.level == ENTRY else when.stage
        dtypes = input_dtypes(value)
        texts = [self.source(x, own, d) for x, d in zip(self.nest.sources[value], dtypes, strict=True)]
        if value in section.names:
            return section.names[value]
        name = self._named(section, value, expression(value, texts), value)
        if value in self.nest.written and (when.level != ENTRY or stage == when.stage):
            self._store(self.nest.written[value], section, name)
        return name

    def _store(self, operand: Operand, section: _Section, name: str) -> None:
        section.stores.append((f"{self.arrays[operand]}[{self._place(operand)}] = {name}", None))

    # Reductions

    def reduce(self, value: Value) -> None:
        """Add up (or gather otherwise) the entries of a reduction's input, and store the result."""
        nest, when = self.nest, self.nest.when[value]
        if value.primitive == "squares":
            self._square(value)
            return
        from_when = nest.input_when(value)
        stage = from_when.stage
        entry = self.source(nest.sources[value][0], stage, self._reduced_dtype(value))
        in_row = when.level == ROW
        start = self.rows[stage] if in_row or self.outer else self.before
        if from_when.level == ENTRY and not self._moves(value):
            total = self._named(start, ("total", value), identity(value), value, "t")
            self.entries[stage].stores.insert(0, (f"{total} = {combined(value, total, entry, True)}", None))
            if in_row:
                self._finish(value, self.rows[stage + 1], total)
                return
            entry, section = total, self.rows[stage + 1]
            if not self.outer:
                self._finish(value, self.after, total)
                return
        else:
            section = self.entries[stage] if from_when.level == ENTRY else self.rows[stage]
        if value.size == 1:
            whole = self._named(self.before, ("total", value), identity(value), value, "t")
            section.stores.append((f"{whole} = {combined(value, whole, entry, False)}", None))
            self._finish(value, self.after, whole)
            return
        self._gather(value, entry, section)

    def _square(self, value: Value) -> None:
        """Add up squares, each stretch in float32, and where that does not hold them again in float64."""
        x, from_when = self.nest.sources[value][0], self.nest.input_when(value)
        entry = self.source(x, from_when.stage, value.inputs[0].dtype)
        whole = self._named(self.before, ("total", value), "float64(0)", value, "t")
        self._finish(value, self.after, whole)
        if from_when.level != ENTRY:
            text = f"{whole} = {whole} + float64({entry}) * float64({entry})"
            self._section(from_when).stores.append((text, None))
            return
        start, end = self.rows[from_when.stage : from_when.stage + 2]
        part = self._named(start, ("part", value), "float32(0)", value, "t")
        self.entries[from_when.stage].stores.insert(
            0, (f"{part} = accumulate({part}, {entry} * {entry})", None)
        )
        held = self.nest.written.get(x) if isinstance(x, Value) else x
        again = f"{self.arrays[held]}[{self._place(held)}]" if isinstance(held, Operand) else entry
        loops, depth = self._inner(1)
        end.lines += [
            (f"if {part} > float32(1e-30) and {part} < float32(1e38):", None),
            (f"    {whole} = {whole} + float64({part})", None),
            ("else:", None),
            *loops,
            ("    " * depth + f"y = float64({again})", None),
            ("    " * depth + f"{whole} = accumulate({whole}, y * y)", None),
        ]

    def _reduced_dtype(self, value: Value) -> np.dtype:
        return np.dtype(bool) if value.primitive in ("any", "all") else value.dtype

    def _moves(self, value: Value) -> bool:
        """Whether the last loops move from entry to entry of a reduction's result."""
        placed = self.nest.unit.members[value]
        return any(dim in placed for loop in self.nest.loops[self.outer :] for dim in loop)

    def _finish(self, value: Value, section: _Section, name: str) -> None:
        section.names[value] = name
        if value in self.nest.written:
            self._store(self.nest.written[value], section, name)

    def _gather(self, value: Value, entry: str, section: _Section) -> None:
        """Add to the result in memory, which begins with what the reduction starts from."""
        operand = self.nest.written[value]
        array, place = self.arrays[operand], self._place(operand)
        count = self._argument("n", "count", operand, ("count", value))
        self.before.lines.append((f"for i in range({count}):", value))
        self.before.lines.append((f"    {array}[i] = {identity(value)}", None))
        section.stores.append(
            (f"{array}[{place}] = {combined(value, f'{array}[{place}]', entry, False)}", None)
        )

    # The whole

    def result(self) -> Emitted:
        """Emit all that is stored or reduced, in the program's order, and put the parts together."""
        nest = self.nest
        for value in nest.values:
            if value in nest.unit.reduced:
                self.reduce(value)
            elif value in nest.written:
                self.value(value, nest.when[value].stage)
        body = [*self._indented(self.before), *self._nested(), *self._indented(self.after)]
        name = _kernel_name(nest)
        lines = [(f"def {name}(block):", None), *[(f"    {text}", x) for text, x in self.head], *body]
        source = "\n".join([text for text, _ in lines]) + "\n"
        return Emitted(name, source, lines, tuple(self.words), nest)

    def _indented(self, section: _Section) -> list[Line]:
        indent = "    " * section.depth
        return [(indent + text, subject) for text, subject in (*section.lines, *section.stores)]

    def _inner(self, depth: int) -> tuple[list[Line], int]:
        """The loops of a row or a stretch, so deep in other lines, and how deep what they run is."""
        if self.nest.stretched:
            lines = ["for j0 in range(m0):", "    i0 = b0 + j0"]
            return [("    " * depth + text, None) for text in lines], depth + 1
        loops = range(self.outer, len(self.nest.loops))
        return [self._loop(i, depth + k) for k, i in enumerate(loops)], depth + len(loops)

    def _loop(self, i: int, depth: int) -> Line:
        return ("    " * depth + f"for i{i} in range({self.sizes[i]}):", None)

    def _nested(self) -> list[Line]:
        body: list[Line] = []
        for stage in range(self.nest.stages + 1):
            body += self._indented(self.rows[stage])
            if stage < self.nest.stages:
                inner = self._indented(self.entries[stage])
                if inner:
                    body += [*self._inner(self.rows[stage].depth)[0], *inner]
        if not body:
            return []
        if self.nest.stretched:
            size = self.sizes[0]
            head = [
                f"    for b0 in range(0, {size}, {STRETCH}):",
                f"        m0 = minimum({size} - b0, {STRETCH})",
            ]
            return [*((text, None) for text in head), *body]
        return [*(self._loop(i, 1 + i) for i in range(self.outer)), *body]


def _comment(subject: Value | Operand | None, labels: Mapping[Value, str]) -> str:
    """What a value or memory is to people."""
    if isinstance(subject, Value):
        primitive, origin = subject.primitive, subject.origin
        parts = [primitive if primitive != origin.operation else "", origin.operation, origin.path]
        return " · ".join(part for part in parts if part)
    if subject is None:
        return ""
    if subject.root is None:
        return "one row, between two loops" if subject.steps else "one stretch, while it is squared"
    shape = "×".join(map(str, subject.root.shape)) or "one entry"
    return f"{labels.get(subject.root) or _comment(subject.root, labels)}: {shape}"


def _kernel_name(nest: Nest) -> str:
    """A name for people, from what the kernel computes: the same for the same form."""
    names = [value.primitive for value in nest.values]
    found = list(dict.fromkeys(name for name in names if name not in ("copy", "reshape", "astype")))
    return "_".join(
        ["loops", *(found[:4] or ["copy"]), *([f"and_{len(found) - 4}_more"] if len(found) > 4 else [])]
    )
