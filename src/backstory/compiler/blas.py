"""Matrix products by the BLAS that NumPy has loaded, called from tables by address.

Another BLAS beside NumPy's would bring a second pool of threads, and pools that take turns cost a hundred
times what a product does. While a table with products runs, BLAS uses one thread per product; a large product
uses the cores as parts of one entry, which the engine's own workers take (:meth:`Product.split`).

NumPy may be built with any BLAS. Where it is not OpenBLAS, or its functions are not found,
:func:`available` is false, and products belong to NumPy.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from backstory.compiler.cache import object_of
from backstory.compiler.native import load, object_code
from backstory.errors import DtypeError

__all__ = ["Library", "Matrix", "Product", "available", "is_product", "library", "multiply", "one_thread"]

# How OpenBLAS's names are decorated: as wheels of NumPy bring it, with 64-bit integers, with 32-bit integers.
_DECORATIONS = (("scipy_", "64_"), ("", "64_"), ("", ""))
_KERNELS = """
declare void @sgemm(ptr, ptr, ptr, ptr, ptr, ptr, ptr, ptr, ptr, ptr, ptr, ptr, ptr)
declare void @dgemm(ptr, ptr, ptr, ptr, ptr, ptr, ptr, ptr, ptr, ptr, ptr, ptr, ptr)
"""
_KERNEL = """
define void @{name}(i64 %address) {{
  %block = inttoptr i64 %address to ptr
  %sizes1 = getelementptr i64, ptr %block, i64 1
  %sizes2 = getelementptr i64, ptr %block, i64 2
  %sizes3 = getelementptr i64, ptr %block, i64 3
  %sizes4 = getelementptr i64, ptr %block, i64 4
  %a_at = getelementptr i64, ptr %block, i64 5
  %a_stride = getelementptr i64, ptr %block, i64 6
  %b_at = getelementptr i64, ptr %block, i64 7
  %b_stride = getelementptr i64, ptr %block, i64 8
  %c_at = getelementptr i64, ptr %block, i64 9
  %c_stride = getelementptr i64, ptr %block, i64 10
  %alpha_at = getelementptr i64, ptr %block, i64 11
  %beta_at = getelementptr i64, ptr %block, i64 12
  %a = load ptr, ptr %a_at
  %b = load ptr, ptr %b_at
  %c = load ptr, ptr %c_at
  %alpha_double = load double, ptr %alpha_at
  %beta_double = load double, ptr %beta_at
  %alpha = alloca {kind}
  %beta = alloca {kind}
  {convert}
  store {kind} %alpha_value, ptr %alpha
  store {kind} %beta_value, ptr %beta
  call void @{name}gemm(ptr %block, ptr %sizes1, ptr %sizes2, ptr %sizes3, ptr %sizes4, ptr %alpha,
    ptr %a, ptr %a_stride, ptr %b, ptr %b_stride, ptr %beta, ptr %c, ptr %c_stride)
  ret void
}}
"""
_CONVERT = {
    "float": """%alpha_value = fptrunc double %alpha_double to float
  %beta_value = fptrunc double %beta_double to float""",
    "double": """%alpha_value = fadd double %alpha_double, -0.0
  %beta_value = fadd double %beta_double, -0.0""",
}


@dataclass(frozen=True)
class Library:
    """Addresses in the loaded BLAS: two products, and its number of threads, read and set."""

    sgemm: int
    dgemm: int
    get_threads: int
    set_threads: int


@cache
def library() -> Library | None:
    """The OpenBLAS that NumPy computes with, or None where that is another BLAS."""
    from numpy.linalg import _umath_linalg  # type: ignore[attr-defined]

    try:
        loaded = ctypes.CDLL(_umath_linalg.__file__)  # names are looked for in what it depends on, too
    except OSError:
        return None
    for before, after in _DECORATIONS:
        names = (
            f"{before}sgemm_{after}",
            f"{before}dgemm_{after}",
            f"{before}openblas_get_num_threads{after}",
            f"{before}openblas_set_num_threads{after}",
        )
        found = [
            ctypes.cast(getattr(loaded, name), ctypes.c_void_p).value
            for name in names
            if hasattr(loaded, name)
        ]
        if len(found) == len(names):
            return Library(*(address or 0 for address in found))
    return None


def available() -> bool:
    """Whether products can run in tables."""
    return library() is not None


@contextmanager
def one_thread() -> Iterator[None]:
    """Within, NumPy's products use one thread, for all threads of the process; afterwards as many as before.

    >>> with one_thread():
    ...     _ = np.ones((2, 2)) @ np.ones((2, 2))
    """
    found = library()
    if found is None:
        yield
        return
    get = ctypes.CFUNCTYPE(ctypes.c_int)(found.get_threads)
    set_threads = ctypes.CFUNCTYPE(None, ctypes.c_int)(found.set_threads)
    before = get()
    set_threads(1)
    try:
        yield
    finally:
        set_threads(before)


_multiply: dict[np.dtype, int] = {}


def _load() -> None:
    """Fill ``_multiply`` with the kernels' addresses, where there are any."""
    found = library()
    if found is None or _multiply:
        return
    text = _KERNELS + "".join(
        _KERNEL.format(name=name, kind=kind, convert=_CONVERT[kind])
        for name, kind in (("s", "float"), ("d", "double"))
    )
    code = object_of("products", text, lambda: object_code(text))
    single, double = load(code, ["s", "d"], {"sgemm": found.sgemm, "dgemm": found.dgemm})
    _multiply.update({np.dtype(np.float32): single, np.dtype(np.float64): double})


def multiply(dtype: Any) -> int:
    """The address of the kernel of matrix products in this dtype; its words are :meth:`Product.words`."""
    _load()
    try:
        return _multiply[np.dtype(dtype)]
    except KeyError as error:
        raise DtypeError(
            f"a matrix product of {np.dtype(dtype)}",
            why="BLAS multiplies float32 and float64" if available() else "NumPy's BLAS is not OpenBLAS",
            instead="NumPy's matmul, between tables",
        ) from error


def is_product(kernel: int) -> bool:
    """Whether a kernel's address is that of :func:`multiply` in some dtype."""
    return kernel in _multiply.values()


@dataclass(frozen=True)
class Matrix:
    """A matrix in memory: contiguous rows (columns, if it is ``transposed``), ``stride`` entries apart.

    >>> Matrix.of(np.zeros((3, 4)).T).transposed
    True
    """

    address: int
    stride: int
    transposed: bool = False

    @classmethod
    def of(cls, array: np.ndarray) -> Matrix:
        """The matrix that an array of two axes is."""
        rows, columns = array.strides
        size = array.itemsize
        for first, second, transposed in ((rows, columns, False), (columns, rows, True)):
            lines, length = array.shape[::-1] if transposed else array.shape
            if (
                (second == size or length == 1)
                and first % size == 0
                and (first >= size * length or lines == 1)
            ):
                return cls(array.ctypes.data, max(first // size, length, 1), transposed)
        raise DtypeError(
            f"a matrix of shape {array.shape} with strides {array.strides}",
            why="neither its rows nor its columns are contiguous",
            instead="np.ascontiguousarray",
        )

    def at(self, row: int, column: int, itemsize: int) -> Matrix:
        """The part that begins at an entry."""
        step, entry = (column, row) if self.transposed else (row, column)
        return replace(self, address=self.address + (step * self.stride + entry) * itemsize)


@dataclass(frozen=True)
class Product:
    """c ← alpha · a b + beta · c, for a (rows, inner), b (inner, columns) and c (rows, columns).

    With ``beta`` 0, c is not read.

    >>> a, b = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(4, 3)
    >>> c = np.empty((2, 4))
    >>> product = Product(2, 4, 3, Matrix.of(a), Matrix.of(b.T), Matrix.of(c))
    >>> from backstory.compiler.table import Table
    >>> table = Table()
    >>> block = table.add(multiply(np.float64), product.words())
    >>> table.run()
    >>> np.array_equal(c, a @ b.T)
    True
    """

    rows: int
    columns: int
    inner: int
    a: Matrix
    b: Matrix
    c: Matrix
    alpha: float = 1.0
    beta: float = 0.0

    @property
    def transposed(self) -> Product:
        """The same product of the transposed matrices: cᵀ ← alpha · bᵀ aᵀ + beta · cᵀ."""
        a, b, c = (replace(x, transposed=not x.transposed) for x in (self.a, self.b, self.c))
        return replace(self, rows=self.columns, columns=self.rows, a=b, b=a, c=c)

    def words(self) -> list[int | float]:
        """The words of the kernel's block.

        They are: two letters that say what is transposed (in the lowest bytes), three sizes, the addresses
        and strides of the three matrices, alpha and beta. BLAS counts in columns, so the kernel's first
        matrix is the second one here: words 5, 7 and 9 are the addresses of b, a and c, unless c is
        transposed.
        """
        if self.c.transposed:
            return self.transposed.words()
        b, a, c = self.b, self.a, self.c
        return [
            *(ord("T" if x.transposed else "N") for x in (b, a)),
            *(self.columns, self.rows, self.inner),
            *(b.address, b.stride, a.address, a.stride, c.address, c.stride),
            *(float(self.alpha), float(self.beta)),
        ]

    def split(self, parts: int, itemsize: int) -> list[Product]:
        """The product as up to so many that can run side by side: bands of c, along its longer side.

        Bands are multiples of 16 wide, as wide as BLAS's own blocks are.
        """
        if self.columns > self.rows:
            return [part.transposed for part in self.transposed.split(parts, itemsize)]
        blocks = -(-self.rows // 16)
        bounds = [min(blocks * i // parts * 16, self.rows) for i in range(parts + 1)]
        return [
            replace(self, rows=stop - start, a=self.a.at(start, 0, itemsize), c=self.c.at(start, 0, itemsize))
            for start, stop in itertools.pairwise(bounds)
            if stop > start
        ]
