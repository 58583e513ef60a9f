"""Vectors in memory, in LLVM's language: how they are read and written, also where a row ends within one."""

from __future__ import annotations

from dataclasses import dataclass

from backstory.compiler.writer import Function

__all__ = ["Lanes"]


@dataclass(frozen=True)
class Lanes:
    """Vectors of ``lanes`` entries of a type, ``float`` or ``double``."""

    kind: str
    lanes: int

    @property
    def size(self) -> int:
        """Bytes of an entry."""
        return 4 if self.kind == "float" else 8

    @property
    def vector(self) -> str:
        """The type of a vector."""
        return f"<{self.lanes} x {self.kind}>"

    @property
    def suffix(self) -> str:
        """What LLVM's names of functions of vectors end with."""
        return f"v{self.lanes}f{8 * self.size}"

    @property
    def declared(self) -> str:
        """LLVM's functions of vectors that a module needs."""
        vector, mask = self.vector, f"<{self.lanes} x i1>"
        functions = (
            f"{vector} @llvm.fmuladd.{self.suffix}({vector}, {vector}, {vector})",
            f"{vector} @llvm.masked.load.{self.suffix}.p0(ptr, i32, {mask}, {vector})",
            f"void @llvm.masked.store.{self.suffix}.p0({vector}, ptr, i32, {mask})",
        )
        return "\n".join(f"declare {function}" for function in functions)

    def masks(self, f: Function, vectors: int, width: str = "%width") -> list[str]:
        """Which lanes of so many vectors, one after the other, lie within ``width`` columns."""
        integers, width = f"<{self.lanes} x i64>", f.spread("i64", self.lanes, width)
        found = []
        for v in range(vectors):
            columns = ", ".join(f"i64 {v * self.lanes + i}" for i in range(self.lanes))
            found.append(f.value(f"icmp slt {integers} <{columns}>, {width}"))
        return found

    def read(self, f: Function, address: str, mask: str | None) -> str:
        """The vector at an address, with zeros where a mask says no: nothing is read there."""
        if mask is None:
            return f.load(self.vector, address, self.size)
        return f.value(
            f"call {self.vector} @llvm.masked.load.{self.suffix}.p0(ptr {address}, i32 {self.size}, "
            f"<{self.lanes} x i1> {mask}, {self.vector} zeroinitializer)"
        )

    def write(self, f: Function, value: str, address: str, mask: str | None) -> None:
        """Put a vector at an address, unless a mask says no."""
        if mask is None:
            f.store(self.vector, value, address, self.size)
        else:
            f.do(
                f"call void @llvm.masked.store.{self.suffix}.p0({self.vector} {value}, ptr {address}, "
                f"i32 {self.size}, <{self.lanes} x i1> {mask})"
            )
