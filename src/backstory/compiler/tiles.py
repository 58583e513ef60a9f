"""The kernel of matrix products, in LLVM's language.

C ← A B goes through memory much as in BLAS libraries (Goto and van de Geijn, 2008, "Anatomy of
high-performance matrix multiplication"): B is copied in *panels*, a few vectors wide and up to :data:`DEPTH`
rows deep, as many as the second cache holds. A *strip* of A's rows, which stays in the first cache, makes
with each panel a *tile* of C, whose entries are summed up in registers. So each entry of A comes from far
away once for all these panels, while the last strip's tiles are computed. A is read as it lies, since each of
its entries is spread over a vector anyway, unless its columns are so far apart that caches keep few of them.
Where the matrices are small this costs less than a library's call, and it needs no threads of its own.

What is added to C, and a ReLU, are done to each tile while it is in registers.

A block's words are, for ``batch`` products one after the other: batch, rows, columns, inner; the address of A
and the entries from one matrix, row and column to the next; the same of B; the address of C and the entries
from one matrix and one row to the next; the same of D; and whether C is clipped: it becomes A B + D, or the
maximum of that and 0. The rows of C and D are contiguous. At address 0 there is no D.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from backstory.compiler.lanes import Lanes
from backstory.compiler.writer import Function, Number

__all__ = ["DEPTH", "PANELS", "Tiles"]

DEPTH = 384
PANELS = 288 << 10
"""So many bytes of panels are kept at a time."""
_FEW = 4
"""For so few strips only as many panels are kept at a time as the first cache holds."""
_ALIASED = 256
"""Columns of A a multiple of so many bytes apart compete for the same places of the first cache."""


@dataclass(frozen=True)
class Tiles(Lanes):
    """The sizes of tiles for a type: ``lanes`` entries in a vector, ``rows`` and ``vectors`` in a tile.

    A tile's vectors, a row of the panel and one entry of A must fit into the registers at once.
    """

    rows: int = 6
    vectors: int = 2

    @classmethod
    def of(cls, kind: str, features: str) -> Tiles:
        """The tiles for a processor with these features, as LLVM names them."""
        size = 4 if kind == "float" else 8
        has = set(features.split(","))
        if "+avx512f" in has:
            return cls(kind, 64 // size, rows=12)
        return cls(kind, (32 if "+avx" in has else 16) // size)

    @property
    def width(self) -> int:
        """How many columns a panel has."""
        return self.lanes * self.vectors

    def cost(self, rows: int, columns: int, inner: int) -> int:
        """About how long a product takes: the vectors of its tiles multiplied, and of its panels copied."""
        panels, tiles = -(-columns // self.width), -(-rows // self.rows)
        return panels * inner * self.vectors * (tiles * self.rows + 4)

    @cached_property
    def module(self) -> str:
        """The module, which defines ``void product(i64 block)``."""
        heights = range(1, self.rows + 1)
        parts = [self._tile(rows, vectors) for vectors in (1, self.vectors) for rows in heights]
        parts += [self._row(rows) for rows in heights]
        parts += [self._panel(), self._panels(), self._strip(), self._product()]
        return "\n".join((self.declared, *map(str, parts)))

    # A tile

    def _tile(self, rows: int, vectors: int) -> Function:
        """``rows`` rows of C, so many vectors wide, from as many rows of A and a panel."""
        f = Function(
            f"define internal void @tile{rows}x{vectors}(ptr %a, i64 %a_row, i64 %a_column, ptr %panel, "
            "ptr %c, i64 %c_row, i64 %inner, i64 %width, i1 %more, "
            "ptr %d, i64 %d_row, i1 %adds, i1 %clips) noinline"
        )
        sums = [[f.variable(self.vector, "zeroinitializer") for _ in range(vectors)] for _ in range(rows)]
        with f.loop(0, "%inner") as k:
            at = f.entry(self.kind, "%panel", f.multiply(k, self.width))
            right = [
                f.load(self.vector, f.entry(self.kind, at, v * self.lanes), self.size * self.lanes)
                for v in range(vectors)
            ]
            column = f.entry(self.kind, "%a", f.multiply(k, "%a_column"))
            for i, row in enumerate(sums):
                entry = f.load(self.kind, f.entry(self.kind, column, f.multiply("%a_row", i)))
                left = f.spread(self.kind, self.lanes, entry)
                for y, total in zip(right, row, strict=True):
                    operands = (
                        f"{self.vector} {left}, {self.vector} {y}, {self.vector} {f.load(self.vector, total)}"
                    )
                    new = f.value(f"call {self.vector} @llvm.fmuladd.{self.suffix}({operands})")
                    f.store(self.vector, new, total)
        whole = vectors * self.lanes
        with f.when(f.compare("sge", "%width", whole)):
            self._leave(f, sums, [None] * vectors)
        with f.when(f.compare("slt", "%width", whole)):
            self._leave(f, sums, self.masks(f, vectors))
        f.do("ret void")
        return f

    def _leave(self, f: Function, sums: list[list[str]], masks: list[str] | list[None]) -> None:
        """Add to the sums what C has of the inner entries before, and D; clip them, and store them."""
        entries = [(i, v, total) for i, row in enumerate(sums) for v, total in enumerate(row)]

        def place(matrix: str, i: int, v: int) -> str:
            return f.entry(self.kind, f"%{matrix}", f.multiply(f"%{matrix}_row", i), v * self.lanes)

        for matrix, condition in (("c", "%more"), ("d", "%adds")):
            with f.when(condition):
                for i, v, total in entries:
                    found = self.read(f, place(matrix, i, v), masks[v])
                    new = f.value(f"fadd {self.vector} {found}, {f.load(self.vector, total)}")
                    f.store(self.vector, new, total)
        with f.when("%clips"):
            for _, _, total in entries:
                x = f.load(self.vector, total)
                kept = f.value(f"fcmp ugt {self.vector} {x}, zeroinitializer")  # NaN, too
                choice = f"<{self.lanes} x i1> {kept}, {self.vector} {x}, {self.vector} zeroinitializer"
                f.store(self.vector, f.value(f"select {choice}"), total)
        for i, v, total in entries:
            self.write(f, f.load(self.vector, total), place("c", i, v), masks[v])

    # Panels

    def _panels(self) -> Function:
        """Copy ``%columns`` columns of B as panels one after the other."""
        f = Function(
            "define internal void @panels(ptr %b, i64 %b_row, i64 %b_column, i64 %inner, i64 %columns, "
            "ptr %panels) noinline"
        )
        in_rows = f.compare("eq", "%b_column", 1)
        whole = f.value(f"select i1 {in_rows}, i64 {f.floor('%columns', self.width)}, i64 0")
        # Rows across all panels: of rows far apart, a panel's part is too short to be fetched ahead.
        with f.loop(0, "%inner") as k:
            source = f.entry(self.kind, "%b", f.multiply(k, "%b_row"))
            target = f.entry(self.kind, "%panels", f.multiply(k, self.width))
            with f.loop(0, whole, self.width) as j:
                to = f.entry(self.kind, target, f.multiply(j, "%inner"))
                self._copy(f, f.entry(self.kind, source, j), to, [None] * self.vectors)
        with f.loop(whole, "%columns", self.width) as j:
            source = f.entry(self.kind, "%b", f.multiply(j, "%b_column"))
            target = f.entry(self.kind, "%panels", f.multiply(j, "%inner"))
            wide = f.least(f.subtract("%columns", j), self.width)
            sizes = f"i64 %b_row, i64 %b_column, i64 %inner, i64 {wide}"
            f.do(f"call void @panel(ptr {source}, {sizes}, ptr {target})")
        f.do("ret void")
        return f

    def _copy(self, f: Function, source: str, target: str, masks: list[str] | list[None]) -> None:
        """Copy vectors, with zeros for what is masked."""
        for v, mask in enumerate(masks):
            found = self.read(f, f.entry(self.kind, source, v * self.lanes), mask)
            f.store(self.vector, found, f.entry(self.kind, target, v * self.lanes), self.size)

    def _panel(self) -> Function:
        """Copy ``%inner`` rows of B, ``%width`` columns of them, and fill the panel's width with zeros."""
        f = Function(
            "define internal void @panel(ptr %b, i64 %b_row, i64 %b_column, i64 %inner, i64 %width, "
            "ptr %panel) noinline"
        )
        in_rows = f.compare("eq", "%b_column", 1)
        with f.when(in_rows):
            with f.when(f.compare("sge", "%width", self.width)):
                self._copy_rows(f, [None] * self.vectors)
            with f.when(f.compare("slt", "%width", self.width)):
                self._copy_rows(f, self.masks(f, self.vectors))
        with f.when(f.value(f"xor i1 {in_rows}, true")):
            self._copy_columns(f)
        f.do("ret void")
        return f

    def _copy_rows(self, f: Function, masks: list[str] | list[None]) -> None:
        with f.loop(0, "%inner") as k:
            source = f.entry(self.kind, "%b", f.multiply(k, "%b_row"))
            self._copy(f, source, f.entry(self.kind, "%panel", f.multiply(k, self.width)), masks)

    def _copy_columns(self, f: Function) -> None:
        """Squares of contiguous columns are transposed in registers; the rest goes entry by entry."""
        contiguous = f.compare("eq", "%b_row", 1)
        wide, deep = (
            f.value(f"select i1 {contiguous}, i64 {f.floor(x, self.lanes)}, i64 0")
            for x in ("%width", "%inner")
        )
        with f.loop(0, wide, self.lanes) as j:
            with f.loop(0, deep, self.lanes) as k:
                self._transpose(f, k, j)
            with f.loop(deep, "%inner") as k, f.loop(j, f.add(j, self.lanes)) as column:
                self._copy_entry(f, k, column)
        with f.loop(wide, "%width") as j, f.loop(0, "%inner") as k:
            self._copy_entry(f, k, j)
        with f.loop("%width", self.width) as j, f.loop(0, "%inner") as k:
            f.store(self.kind, "0.0", self._in_panel(f, k, j))

    def _copy_entry(self, f: Function, k: str, j: str) -> None:
        f.store(self.kind, f.load(self.kind, self._in_b(f, k, j)), self._in_panel(f, k, j))

    def _in_b(self, f: Function, k: str, j: str) -> str:
        return f.entry(self.kind, "%b", f.multiply(k, "%b_row"), f.multiply(j, "%b_column"))

    def _in_panel(self, f: Function, k: str, j: str) -> str:
        return f.entry(self.kind, "%panel", f.multiply(k, self.width), j)

    def _transpose(self, f: Function, k: str, j: str) -> None:
        """A square of B with its corner at (k, j): exchange halves, then quarters, ..., then neighbours."""
        n, vector = self.lanes, self.vector
        rows = [f.load(vector, self._in_b(f, k, f.add(j, i)), self.size) for i in range(n)]
        step = 1
        while step < n:
            for i in range(n):
                if not i & step:
                    first, second = rows[i], rows[i + step]
                    upper = [n + (c ^ step) if c & step else c for c in range(n)]
                    lower = [n + c if c & step else c ^ step for c in range(n)]
                    rows[i], rows[i + step] = (
                        f.value(
                            f"shufflevector {vector} {first}, {vector} {second}, "
                            f"<{n} x i32> <{', '.join(f'i32 {c}' for c in order)}>"
                        )
                        for order in (upper, lower)
                    )
            step *= 2
        for i, row in enumerate(rows):
            f.store(vector, row, self._in_panel(f, f.add(k, i), j), self.size * n)

    # A strip and its tiles

    def _strip(self) -> Function:
        """Copy the first rows of A, whose columns are contiguous, as columns as high as a tile.

        Whole vectors are copied, which the next column overwrites again; A has ``%width`` rows.
        """
        f = Function(
            "define internal void @strip(ptr %a, i64 %a_column, i64 %inner, i64 %width, ptr %strip) noinline"
        )
        vectors = -(-self.rows // self.lanes)
        whole = f.compare("sge", "%width", vectors * self.lanes)
        cut = f.value(f"xor i1 {whole}, true")
        for condition, masks in ((whole, [None] * vectors), (cut, self.masks(f, vectors))):
            with f.when(condition), f.loop(0, "%inner") as k:
                source = f.entry(self.kind, "%a", f.multiply(k, "%a_column"))
                self._copy(f, source, f.entry(self.kind, "%strip", f.multiply(k, self.rows)), masks)
        f.do("ret void")
        return f

    def _row(self, height: int) -> Function:
        """The tiles that a strip of A makes with all panels; ``%below`` rows of A begin with the strip."""
        f = Function(
            f"define internal void @row{height}(ptr %a, i64 %a_row, i64 %a_column, i64 %below, i1 %copies, "
            "ptr %strip, ptr %panels, ptr %c, i64 %c_row, i64 %inner, i64 %columns, i1 %more, "
            "ptr %d, i64 %d_row, i1 %adds, i1 %clips) noinline"
        )
        with f.when("%copies"):
            f.do("call void @strip(ptr %a, i64 %a_column, i64 %inner, i64 %below, ptr %strip)")
        a = f.value("select i1 %copies, ptr %strip, ptr %a")
        a_column = f.value(f"select i1 %copies, i64 {self.rows}, i64 %a_column")

        def tile(vectors: int, j: str, width: str | int) -> None:
            panel = f.entry(self.kind, "%panels", f.multiply(j, "%inner"))
            f.do(
                f"call void @tile{height}x{vectors}(ptr {a}, i64 %a_row, i64 {a_column}, ptr {panel}, "
                f"ptr {f.entry(self.kind, '%c', j)}, i64 %c_row, i64 %inner, i64 {width}, i1 %more, "
                f"ptr {f.entry(self.kind, '%d', j)}, i64 %d_row, i1 %adds, i1 %clips)"
            )

        whole = f.floor("%columns", self.width)
        left = f.subtract("%columns", whole)
        with f.loop(0, whole, self.width) as j:
            tile(self.vectors, j, self.width)
        with f.when(f.compare("sgt", left, self.lanes)):
            tile(self.vectors, whole, left)
        narrow = f.compare("sle", left, self.lanes)
        with f.when(f.value(f"select i1 {f.compare('sgt', left, 0)}, i1 {narrow}, i1 false")):
            tile(1, whole, left)
        f.do("ret void")
        return f

    # The product

    def _product(self) -> Function:
        f = Function("define void @product(i64 %address)")
        room = PANELS // self.size
        panels = f.variable(f"[{room} x {self.kind}]")
        strip = f.variable(f"[{DEPTH * self.rows + 2 * self.lanes} x {self.kind}]")
        block = f.value("inttoptr i64 %address to ptr")
        words = [f.load("i64", f.entry("i64", block, i)) for i in range(19)]
        batch, rows, columns, inner = words[:4]
        a, b, c, d = (words[4:8], words[8:12], words[12:15], words[15:18])
        added, clipped = (f.compare("ne", x, 0) for x in (d[0], words[18]))
        depth = self._share(f, inner, DEPTH, 1)
        few = f.compare("sle", rows, _FEW * self.rows)
        space = f.value(f"select i1 {few}, i64 {room // 16}, i64 {room}")
        most = f.greatest(f.floor(f.value(f"sdiv i64 {space}, {depth}"), self.width), self.width)
        group = self._share(f, columns, most, self.width)
        copies = self._copies(f, a, columns)
        with f.loop(0, batch) as n:
            a_at, b_at, c_at, d_at = (
                f.entry(self.kind, f.value(f"inttoptr i64 {x[0]} to ptr"), f.multiply(n, x[1]))
                for x in (a, b, c, d)
            )
            with f.loop(0, inner, depth) as k, f.loop(0, columns, group) as j:
                deep = f.least(f.subtract(inner, k), depth)
                wide = f.least(f.subtract(columns, j), group)
                source = f.entry(self.kind, b_at, f.multiply(k, b[2]), f.multiply(j, b[3]))
                sizes = f"i64 {deep}, i64 {wide}"
                f.do(f"call void @panels(ptr {source}, i64 {b[2]}, i64 {b[3]}, {sizes}, ptr {panels})")
                more, last = f.compare("sgt", k, 0), f.compare("sge", f.add(k, depth), inner)
                adds, clips = (f.value(f"and i1 {last}, {x}") for x in (added, clipped))
                left = f.entry(self.kind, a_at, f.multiply(k, a[3]))
                self._rows(
                    f,
                    rows,
                    (left, a[2], f"i64 {a[2]}, i64 {a[3]}"),
                    f"i1 {copies}, ptr {strip}, ptr {panels}",
                    (f.entry(self.kind, c_at, j), c[2], f"i64 {c[2]}, {sizes}, i1 {more}"),
                    (f.entry(self.kind, d_at, j), d[2], f"i64 {d[2]}, i1 {adds}, i1 {clips}"),
                )
        f.do("ret void")
        return f

    def _share(self, f: Function, count: str, most: Number, step: int) -> str:
        """How much of ``count`` to take at a time: equal shares of at most ``most``, in whole steps."""
        shares = f.value(f"sdiv i64 {f.add(count, f.subtract(most, 1))}, {most}")
        share = f.value(f"sdiv i64 {f.add(count, f.subtract(shares, 1))}, {shares}")
        return f.floor(f.add(share, step - 1), step)

    def _copies(self, f: Function, a: list[str], columns: str) -> str:
        """Whether strips of A are copied: they are read often, and lie where caches would not keep them."""
        apart = f.value(f"and i64 {a[3]}, {_ALIASED // self.size - 1}")
        aliased = f.compare("eq", f.value(f"or i64 {apart}, {f.subtract(a[2], 1)}"), 0)
        return f.value(f"and i1 {aliased}, {f.compare('sge', columns, 8 * self.width)}")

    def _rows(
        self,
        f: Function,
        rows: str,
        a: tuple[str, ...],
        between: str,
        c: tuple[str, ...],
        d: tuple[str, ...],
    ) -> None:
        """All strips below each other: as high ones as there are, and one of the rows that are left.

        ``a``, ``c`` and ``d`` are where a matrix begins, how far its rows are apart, and what else is told.
        """

        def row(height: int, i: str) -> None:
            a_at, c_at, d_at = (f.entry(self.kind, x[0], f.multiply(i, x[1])) for x in (a, c, d))
            below = f.subtract(rows, i)
            f.do(
                f"call void @row{height}(ptr {a_at}, {a[2]}, i64 {below}, {between}, ptr {c_at}, {c[2]}, "
                f"ptr {d_at}, {d[2]})"
            )

        left = f.value(f"srem i64 {rows}, {self.rows}")
        high = f.subtract(rows, left)
        with f.loop(0, high, self.rows) as i:
            row(self.rows, i)
        for height in range(1, self.rows):
            with f.when(f.compare("eq", left, height)):
                row(height, high)
