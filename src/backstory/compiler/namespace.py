"""The symbolic array namespace: its functions write the step down instead of computing it.

The names are the Array API standard's, as rules use them, and ``backstory_extras`` has what the standard
lacks. Each function adds one value to the trace; shape functions give views, which share memory as NumPy's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from backstory.compiler.primitives import ELEMENTWISE, REDUCTIONS, Slot
from backstory.compiler.symbols import Symbol, no_numbers

__all__ = ["Namespace"]


class Namespace:
    """The functions of the standard for the symbols of one trace."""

    bool = np.dtype("bool")

    def __init__(self, trace: Any) -> None:
        self._trace = trace
        self.linalg = SimpleNamespace(
            inv=lambda a: trace.run("inv", (a,)),
            solve=lambda a, b: trace.run("solve", (a, b)),
            diagonal=lambda x, offset=0: trace.run("diagonal", (x,), offset=offset),
        )
        self.backstory_extras = SimpleNamespace(
            scatter=self._scatter,
            add_slices=lambda values, index, length, axis: trace.run(
                "add_slices", (values, index), length=length, axis=axis
            ),
            erf=lambda x: trace.run("erf", (x,)),
            erfc=lambda x: trace.run("erfc", (x,)),
            fmod=lambda x, y: trace.run("fmod", (x, y)),
            unfold=lambda x, windows: trace.run("unfold", (x,), windows=windows),
            fold=lambda x, size, windows: trace.run("fold", (x,), size=size, windows=windows),
        )

    def __getattr__(self, name: str) -> Any:
        """Elementwise functions and reductions, each made when it is first asked for."""
        if name in REDUCTIONS:
            function = self._reduction(name)
        elif name in ELEMENTWISE:
            function = self._entry_by_entry(name)
        else:
            raise AttributeError(name)
        setattr(self, name, function)
        return function

    def _entry_by_entry(self, name: str) -> Callable[..., Any]:
        return lambda *inputs, **params: self._trace.run(name, inputs, **params)

    def _reduction(self, name: str) -> Callable[..., Any]:
        def function(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
            rank = len(x.shape)
            if axis is None:
                axes = tuple(range(rank))
            else:
                given = axis if isinstance(axis, tuple) else (axis,)
                axes = tuple(sorted(np.lib.array_utils.normalize_axis_tuple(given, rank)))
            return self._trace.run(name, (x,), axis=axes, keepdims=bool(keepdims))

        return function

    # Entries

    def astype(self, x: Any, dtype: Any) -> Any:
        return self._trace.run("astype", (x,), dtype=np.dtype(dtype))

    def asarray(self, x: Any, copy: Any = None) -> Any:
        if isinstance(x, Symbol):
            return self._trace.copied(x, None) if copy else x
        return self._trace.constant(np.asarray(x))

    # What the engine asks of a namespace besides

    def draw(self, generator: Any, function: Any) -> Any:
        """Random numbers, drawn anew in each call."""
        return self._trace.draw(generator, function)

    def assume(self, x: Any, low: Any, high: Any, test: Any) -> Any:
        """Whether the step may take low ≤ x ≤ high for granted; each call checks it."""
        return self._trace.assume(x, low, high, test)

    # Shapes: views

    def reshape(self, x: Any, shape: Any) -> Any:
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        if -1 in shape:
            rest = -math.prod(shape)
            if shape.count(-1) > 1 or rest == 0 or x.size % rest:
                raise ValueError(f"cannot reshape array of size {x.size} into shape {shape}")
            shape = tuple(x.size // rest if n == -1 else n for n in shape)
        x = self._trace.symbol(x)
        if x._of is not None and not np.may_share_memory(_laid_out(x), _laid_out(x).reshape(shape)):
            return self._trace.run("reshape", (x,), shape=shape)  # NumPy would copy here
        return self._trace.view("reshape", x, shape=shape)

    def permute_dims(self, x: Any, axes: Any) -> Any:
        axes = tuple(int(a) for a in np.lib.array_utils.normalize_axis_tuple(tuple(axes), len(x.shape)))
        return self._trace.view("permute_dims", x, axes=axes)

    def matrix_transpose(self, x: Any) -> Any:
        rank = len(x.shape)
        if rank < 2:
            raise ValueError("matrix transpose with ndim < 2 is undefined")
        return self.permute_dims(x, (*range(rank - 2), rank - 1, rank - 2))

    def broadcast_to(self, x: Any, shape: Any) -> Any:
        return self._trace.view("broadcast_to", x, shape=tuple(shape))

    def getitem(self, x: Any, index: Any) -> Any:
        parts, arrays = _split(index, 1)
        if not arrays:
            return self._trace.view("getitem", x, index=parts)
        return self._trace.run("getitem", (x, *arrays), index=parts)

    def setitem(self, x: Symbol, index: Any, value: Any) -> None:
        parts, arrays = _split(index, 2)
        if not arrays and parts == (...,):
            x.write(value)
            return
        target = self._trace.run("setitem", (x, self._trace.converted(value, x.dtype), *arrays), index=parts)
        x.write(target)

    def concat(self, arrays: Any, axis: int = 0) -> Any:
        return self._trace.run("concat", tuple(arrays), axis=axis)

    def flip(self, x: Any, axis: Any = None) -> Any:
        return self._trace.run("flip", (x,), axis=axis)

    def roll(self, x: Any, shift: Any, axis: Any = None) -> Any:
        return self._trace.run("roll", (x,), shift=shift, axis=axis)

    def tril(self, x: Any, k: int = 0) -> Any:
        return self._trace.run("tril", (x,), k=k)

    def triu(self, x: Any, k: int = 0) -> Any:
        return self._trace.run("triu", (x,), k=k)

    # Whole arrays

    def matmul(self, x: Any, y: Any) -> Any:
        return self._trace.run("matmul", (x, y))

    def take(self, x: Any, indices: Any, axis: int) -> Any:
        return self._trace.run("take", (x, indices), axis=axis)

    def argmax(self, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        return self._trace.run("argmax", (x,), axis=axis, keepdims=keepdims)

    def argmin(self, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        return self._trace.run("argmin", (x,), axis=axis, keepdims=keepdims)

    def argsort(self, x: Any, axis: int = -1, descending: bool = False, stable: bool = True) -> Any:
        return self._trace.run("argsort", (x,), axis=axis, descending=descending)

    def cumulative_sum(self, x: Any, axis: Any) -> Any:
        return self._trace.run("cumulative_sum", (x,), axis=axis)

    def cumulative_prod(self, x: Any, axis: Any) -> Any:
        return self._trace.run("cumulative_prod", (x,), axis=axis)

    def _scatter(self, values: Any, index: Any, shape: Any) -> Any:
        parts, arrays = _split(index, 1)
        return self._trace.run("scatter", (values, *arrays), index=parts, shape=tuple(shape))

    # Constants

    def zeros(self, shape: Any, dtype: Any = None) -> Any:
        return self._full(shape, 0, dtype or np.float64)

    def full(self, shape: Any, value: Any, dtype: Any) -> Any:
        return self._full(shape, value, dtype)

    def zeros_like(self, x: Any) -> Any:
        return self._full(x.shape, 0, x.dtype)

    def ones_like(self, x: Any) -> Any:
        return self._full(x.shape, 1, x.dtype)

    def full_like(self, x: Any, value: Any) -> Any:
        if not isinstance(value, (bool, int, float)):
            return self._trace.run("broadcast_to", (self.astype(value, x.dtype),), shape=x.shape)
        return self._full(x.shape, value, x.dtype)

    def _full(self, shape: Any, value: Any, dtype: Any) -> Any:
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        entry = np.asarray(value, np.dtype(dtype)).item()
        return self._trace.run("full", (), shape=shape, value=entry, dtype=np.dtype(dtype))

    def arange(self, *args: Any, **keywords: Any) -> Any:
        return self._trace.constant(np.arange(*args, **keywords))

    def eye(self, *args: Any, **keywords: Any) -> Any:
        return self._trace.constant(np.eye(*args, **keywords))

    @staticmethod
    def isdtype(dtype: Any, kind: Any) -> Any:
        return np.isdtype(dtype, kind)


def _split(index: Any, first: int) -> tuple[Any, tuple[Any, ...]]:
    """An index with a :class:`Slot` for each array in it, counted from ``first``, and the arrays."""
    arrays: list[Any] = []

    def part(value: Any) -> Any:
        if isinstance(value, (Symbol, np.ndarray)):
            if value.dtype == bool:
                raise no_numbers("how many entries a mask chooses, where it stands as the index")
            arrays.append(value)
            return Slot(first + len(arrays) - 1)
        if isinstance(value, list):
            arrays.append(np.asarray(value))
            return Slot(first + len(arrays) - 1)
        return value

    parts = index if isinstance(index, tuple) else (index,)
    return tuple(map(part, parts)), tuple(arrays)


def _laid_out(x: Symbol) -> np.ndarray:
    """An array that lies in memory as the view ``x`` would, with nothing in it."""
    if x._of is None:
        return np.empty(x.shape, x.dtype)
    of = _laid_out(x._of)
    if x._primitive == "reshape":
        return of.reshape(x.shape)
    if x._primitive == "permute_dims":
        return of.transpose(x._params["axes"])
    if x._primitive == "broadcast_to":
        return np.broadcast_to(of, x.shape)
    return of[x._params["index"]]
