"""Scalar code in LLVM's language, written by running ordinary Python on :class:`Float` and :class:`Word`.

Operators and functions append instructions to a :class:`Writer`; there are no branches and no calls but of
LLVM's own intrinsics, so a loop around such code is vectorised once it is inlined.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

__all__ = ["Condition", "Float", "Width", "Word", "Writer"]


@dataclass(frozen=True)
class Width:
    """A floating-point format: LLVM's names, and what its bits mean."""

    name: str
    type: str
    word: str
    bits: int
    fraction: int
    bias: int
    struct: str

    def literal(self, value: float) -> str:
        """``value`` rounded to this format, as LLVM writes it: the bits of the double of the same value."""
        rounded = value if self.bits == 64 else struct.unpack("f", struct.pack("f", value))[0]
        return f"0x{struct.pack('>d', rounded).hex().upper()}"

    @property
    def magic(self) -> float:
        """Added to a number, it rounds it to an integer, which then stands in the lowest bits."""
        return 1.5 * 2.0**self.fraction


@dataclass
class Writer:
    """The body of one function, instruction by instruction, and the intrinsics that it declares."""

    width: Width
    lines: list[str] = field(default_factory=list)
    declared: set[str] = field(default_factory=set)

    def emit(self, instruction: str) -> str:
        """Append an instruction; returns the name of its value."""
        name = f"%v{len(self.lines)}"
        self.lines.append(f"  {name} = {instruction}")
        return name

    def intrinsic(self, name: str, *arguments: Float) -> Float:
        """Call ``llvm.name`` of floats."""
        return self._call(f"@llvm.{name}.f{self.width.bits}", arguments)

    def library(self, name: str, *arguments: Float) -> Float:
        """Call the C library's function of that name."""
        return self._call(f"@{name}{'f' if self.width.bits == 32 else ''}", arguments, " nounwind")

    def _call(self, function: str, arguments: tuple[Float, ...], attributes: str = "") -> Float:
        kind = self.width.type
        self.declared.add(f"declare {kind} {function}({', '.join([kind] * len(arguments))}){attributes}")
        listed = ", ".join(f"{kind} {x.name}" for x in arguments)
        return Float(self, self.emit(f"call {kind} {function}({listed})"))

    def float(self, value: float | Float) -> Float:
        """A constant, or the number itself."""
        return value if isinstance(value, Float) else Float(self, self.width.literal(value))

    def fused(self, a: Float, b: float | Float, c: float | Float) -> Float:
        """a · b + c, rounded once where the processor can."""
        return self.intrinsic("fmuladd", a, self.float(b), self.float(c))

    def polynomial(self, x: Float, coefficients: tuple[float, ...]) -> Float:
        """c₀ + c₁ x + c₂ x² + …, by Horner's rule."""
        value = self.float(coefficients[-1])
        for c in reversed(coefficients[:-1]):
            value = self.fused(value, x, c)
        return value

    def choose(self, condition: Condition, yes: float | Float, no: float | Float) -> Float:
        """``yes`` where the condition holds, else ``no``."""
        kind = self.width.type
        a, b = self.float(yes), self.float(no)
        return Float(self, self.emit(f"select i1 {condition.name}, {kind} {a.name}, {kind} {b.name}"))


@dataclass(frozen=True)
class Condition:
    """A truth value in the code."""

    writer: Writer
    name: str

    def __and__(self, other: Condition) -> Condition:
        return Condition(self.writer, self.writer.emit(f"and i1 {self.name}, {other.name}"))

    def __xor__(self, other: Condition) -> Condition:
        return Condition(self.writer, self.writer.emit(f"xor i1 {self.name}, {other.name}"))


@dataclass(frozen=True)
class Float:
    """A floating-point number in the code that a writer writes."""

    writer: Writer
    name: str

    def _with(self, operation: str, other: float | Float, swapped: bool = False) -> Float:
        a, b = self, self.writer.float(other)
        if swapped:
            a, b = b, a
        return Float(
            self.writer, self.writer.emit(f"{operation} {self.writer.width.type} {a.name}, {b.name}")
        )

    def __add__(self, other: float | Float) -> Float:
        return self._with("fadd", other)

    def __sub__(self, other: float | Float) -> Float:
        return self._with("fsub", other)

    def __rsub__(self, other: float | Float) -> Float:
        return self._with("fsub", other, swapped=True)

    def __mul__(self, other: float | Float) -> Float:
        return self._with("fmul", other)

    __radd__, __rmul__ = __add__, __mul__

    def __truediv__(self, other: float | Float) -> Float:
        return self._with("fdiv", other)

    def __rtruediv__(self, other: float | Float) -> Float:
        return self._with("fdiv", other, swapped=True)

    def __neg__(self) -> Float:
        return Float(self.writer, self.writer.emit(f"fneg {self.writer.width.type} {self.name}"))

    def __abs__(self) -> Float:
        return self.writer.intrinsic("fabs", self)

    def compare(self, relation: str, other: float | Float) -> Condition:
        """LLVM's ordered comparison (``olt``, ``oeq``, …): false where either is NaN."""
        kind, other = self.writer.width.type, self.writer.float(other)
        return Condition(self.writer, self.writer.emit(f"fcmp {relation} {kind} {self.name}, {other.name}"))

    def __lt__(self, other: float | Float) -> Condition:
        return self.compare("olt", other)

    def __gt__(self, other: float | Float) -> Condition:
        return self.compare("ogt", other)

    def __ge__(self, other: float | Float) -> Condition:
        return self.compare("oge", other)

    def equals(self, other: float | Float) -> Condition:
        """Whether both are the same number."""
        return self.compare("oeq", other)

    def differs(self, other: float | Float) -> Condition:
        """Whether they are not the same number: true where either is NaN."""
        return self.compare("une", other)

    def clamped(self, low: float, high: float) -> Float:
        """Within [low, high]; NaN stays NaN."""
        above = self.writer.choose(self < low, low, self)
        return self.writer.choose(above > high, high, above)

    @property
    def bits(self) -> Word:
        """The number's bits."""
        width = self.writer.width
        return Word(self.writer, self.writer.emit(f"bitcast {width.type} {self.name} to {width.word}"))

    def with_sign_of(self, other: Float) -> Float:
        """Its magnitude, with the sign of ``other``."""
        return self.writer.intrinsic("copysign", self, other)


@dataclass(frozen=True)
class Word:
    """The bits of a number, as an integer of the same width that wraps around."""

    writer: Writer
    name: str

    def _with(self, operation: str, other: int | Word) -> Word:
        operand = other.name if isinstance(other, Word) else str(other)
        return Word(
            self.writer, self.writer.emit(f"{operation} {self.writer.width.word} {self.name}, {operand}")
        )

    def __add__(self, other: int | Word) -> Word:
        return self._with("add", other)

    def __and__(self, other: int | Word) -> Word:
        return self._with("and", other)

    def __or__(self, other: int | Word) -> Word:
        return self._with("or", other)

    def __lshift__(self, places: int) -> Word:
        return self._with("shl", places)

    def __rshift__(self, places: int) -> Word:
        return self._with("lshr", places)

    @property
    def float(self) -> Float:
        """The number that has these bits."""
        width = self.writer.width
        return Float(self.writer, self.writer.emit(f"bitcast {width.word} {self.name} to {width.type}"))
