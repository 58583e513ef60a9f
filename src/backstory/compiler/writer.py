"""Functions in LLVM's language, written instruction by instruction.

Variables are memory on the stack, of which LLVM makes registers; so loops and branches need no thought about
which value comes from where.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Function", "Number"]

Number = str | int


class Function:
    """One function, whose first line is ``head``; ``str`` gives its text.

    >>> f = Function("define i64 @triangle(i64 %n)")
    >>> total = f.variable("i64", "0")
    >>> with f.loop(0, "%n") as i:
    ...     f.store("i64", f.add(f.load("i64", total), i), total)
    >>> f.do(f"ret i64 {f.load('i64', total)}")
    >>> import ctypes
    >>> from backstory.compiler.native import load, object_code
    >>> [triangle] = load(object_code(str(f)), ["triangle"])
    >>> ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(triangle)(5)
    10
    """

    def __init__(self, head: str) -> None:
        self._head = head
        self._variables: list[str] = []
        self._lines: list[str] = []
        self._names = itertools.count()

    def __str__(self) -> str:
        return "\n".join((f"{self._head} {{", *self._variables, *self._lines, "}"))

    # Instructions

    def do(self, code: str) -> None:
        """An instruction without a result."""
        self._lines.append(f"  {code}")

    def value(self, code: str) -> str:
        """An instruction; its result's name."""
        name = f"%v{next(self._names)}"
        self.do(f"{name} = {code}")
        return name

    def variable(self, kind: str, start: str | None = None) -> str:
        """Memory for one value of a type, which ``start`` is stored in: its address."""
        name = f"%v{next(self._names)}"
        self._variables.append(f"  {name} = alloca {kind}, align 64")
        if start is not None:
            self.store(kind, start, name)
        return name

    def load(self, kind: str, address: str, align: int | None = None) -> str:
        """What stands at an address."""
        return self.value(f"load {kind}, ptr {address}" + (f", align {align}" if align else ""))

    def store(self, kind: str, value: Number, address: str, align: int | None = None) -> None:
        """Put a value at an address."""
        self.do(f"store {kind} {value}, ptr {address}" + (f", align {align}" if align else ""))

    def entry(self, kind: str, address: str, *places: Number) -> str:
        """The address of an entry, so many entries of a type further on."""
        for place in places:
            if place != 0:
                address = self.value(f"getelementptr {kind}, ptr {address}, i64 {place}")
        return address

    def add(self, x: Number, y: Number) -> str:
        """x + y."""
        return self.value(f"add i64 {x}, {y}")

    def subtract(self, x: Number, y: Number) -> str:
        """x - y."""
        return self.value(f"sub i64 {x}, {y}")

    def multiply(self, x: Number, y: Number) -> str:
        """x · y."""
        return self.value(f"mul i64 {x}, {y}")

    def least(self, x: Number, y: Number) -> str:
        """The smaller of two."""
        return self.value(f"select i1 {self.compare('slt', x, y)}, i64 {x}, i64 {y}")

    def greatest(self, x: Number, y: Number) -> str:
        """The larger of two."""
        return self.value(f"select i1 {self.compare('slt', x, y)}, i64 {y}, i64 {x}")

    def floor(self, x: Number, step: int) -> str:
        """The largest multiple of a power of two that is not above x."""
        return self.value(f"and i64 {x}, {-step}")

    def compare(self, how: str, x: Number, y: Number) -> str:
        """Whether x is ``eq``, ``slt``, ``sge``, ... to y."""
        return self.value(f"icmp {how} i64 {x}, {y}")

    def spread(self, kind: str, lanes: int, value: str) -> str:
        """A vector with one value in all lanes."""
        vector = f"<{lanes} x {kind}>"
        one = self.value(f"insertelement {vector} poison, {kind} {value}, i32 0")
        return self.value(f"shufflevector {vector} {one}, {vector} poison, <{lanes} x i32> zeroinitializer")

    # The flow

    @contextmanager
    def loop(self, start: Number, stop: Number, step: Number = 1) -> Iterator[str]:
        """For i from ``start``, as long as it is below ``stop``."""
        at = self.variable("i64", str(start))
        head, inside, over = self._label(), self._label(), self._label()
        self.do(f"br label %{head}")
        self._begin(head)
        i = self.load("i64", at)
        self.do(f"br i1 {self.compare('slt', i, stop)}, label %{inside}, label %{over}")
        self._begin(inside)
        yield i
        self.store("i64", self.add(i, step), at)
        self.do(f"br label %{head}")
        self._begin(over)

    @contextmanager
    def when(self, condition: str) -> Iterator[None]:
        """Only where a condition holds."""
        inside, over = self._label(), self._label()
        self.do(f"br i1 {condition}, label %{inside}, label %{over}")
        self._begin(inside)
        yield
        self.do(f"br label %{over}")
        self._begin(over)

    def _label(self) -> str:
        return f"l{next(self._names)}"

    def _begin(self, label: str) -> None:
        self._lines.append(f"{label}:")
