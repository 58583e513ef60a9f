"""Shape and dtype of what a primitive gives, found without computing it.

What does not fit is run on arrays of ones after all, so that NumPy itself says what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from backstory.compiler.graph import Number, Value, inferred
from backstory.compiler.primitives import ELEMENTWISE, REDUCTIONS, Slot, evaluate

__all__ = ["signature"]

Shape = tuple[int, ...]
Signature = tuple[Shape, np.dtype]
_LINEAR = (np.dtype("float32"), np.dtype("float64"))  # what NumPy's linear algebra takes


def signature(primitive: str, inputs: Sequence[Any], params: Mapping[str, Any]) -> Signature:
    """The shape and dtype of ``primitive`` of ``inputs``; NumPy's error where they do not fit.

    >>> x = Value("input", (), {}, (4, 3), np.dtype("float32"))
    >>> signature("sum", (x,), {"axis": (0,), "keepdims": False})
    ((3,), dtype('float32'))
    """
    if primitive in ELEMENTWISE:
        found = _entry_by_entry(primitive, inputs, params)
    elif primitive in REDUCTIONS:
        found = _reduced(primitive, inputs[0], params)
    else:
        rule = _RULES.get(primitive)
        found = None if rule is None else rule(*inputs, **params)
    return inferred(primitive, inputs, params) if found is None else found


def _entry_by_entry(primitive: str, inputs: Sequence[Any], params: Mapping[str, Any]) -> Signature | None:
    kinds = tuple(
        x.dtype if isinstance(x, Value) else x.kind if isinstance(x, Number) else type(x) for x in inputs
    )
    try:
        shape = np.broadcast_shapes(*(x.shape for x in inputs if isinstance(x, Value)))
    except ValueError:
        return None
    return shape, _entry_dtype(primitive, kinds, params.get("dtype"))


@lru_cache(maxsize=4096)
def _entry_dtype(primitive: str, kinds: tuple[Any, ...], dtype: Any) -> np.dtype:
    """The dtype of an elementwise primitive, found on one entry."""
    inputs = [np.ones(1, k) if isinstance(k, np.dtype) else None if k is type(None) else k(1) for k in kinds]
    with np.errstate(all="ignore"):
        result = evaluate(primitive, inputs, {} if dtype is None else {"dtype": dtype})
    return np.asarray(result).dtype


def _reduced(primitive: str, x: Value, params: Mapping[str, Any]) -> Signature | None:
    axes, keepdims = params["axis"], params["keepdims"]
    if primitive in ("max", "min") and not all(x.shape[a] for a in axes):
        return None
    shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape) if keepdims or i not in axes)
    return shape, _reduced_dtype(primitive, x.dtype)


@lru_cache(maxsize=256)
def _reduced_dtype(primitive: str, dtype: np.dtype) -> np.dtype:
    return np.asarray(evaluate(primitive, [np.ones(1, dtype)], {"axis": (0,), "keepdims": False})).dtype


def _like(x: Value, *others: Any, **params: Any) -> Signature:
    return x.shape, x.dtype


def _reshaped(x: Value, shape: Shape) -> Signature | None:
    return (shape, x.dtype) if prod(shape) == x.size else None


def _broadcast(x: Value, shape: Shape) -> Signature | None:
    extra = len(shape) - len(x.shape)
    fits = extra >= 0 and all(n in (1, m) for n, m in zip(x.shape, shape[extra:], strict=True))
    return (shape, x.dtype) if fits else None


def _permuted(x: Value, axes: tuple[int, ...]) -> Signature:
    return tuple(x.shape[a] for a in axes), x.dtype


def _blank(x: Value) -> np.ndarray:
    """An array of that shape and dtype that takes one entry of memory."""
    return np.broadcast_to(np.zeros((), x.dtype), x.shape)


def _indexed(x: Value, inputs: Sequence[Any], index: Any) -> Any:
    """The entries of ``x`` that an index names, whose arrays are zeros for now."""

    def part(slot: Any) -> Any:
        return _blank(inputs[slot.number]) if isinstance(slot, Slot) else slot

    return _blank(x)[tuple(map(part, index)) if isinstance(index, tuple) else part(index)]


def _getitem(x: Value, *parts: Any, index: Any) -> Signature | None:
    return np.shape(_indexed(x, (x, *parts), index)), x.dtype


def _setitem(x: Value, value: Any, *parts: Any, index: Any) -> Signature | None:
    target = np.shape(_indexed(x, (x, value, *parts), index))
    return (x.shape, x.dtype) if _broadcast(value, target) is not None else None


def _scattered(values: Value, *parts: Any, index: Any, shape: Shape) -> Signature:
    return shape, values.dtype


def _product(x: Value, y: Value) -> Signature | None:
    if not x.shape or not y.shape or x.dtype != y.dtype:
        return None
    a = x.shape if len(x.shape) > 1 else (1, *x.shape)
    b = y.shape if len(y.shape) > 1 else (*y.shape, 1)
    if a[-1] != b[-2]:
        return None
    try:
        batch = np.broadcast_shapes(a[:-2], b[:-2])
    except ValueError:
        return None
    rows = a[-2:-1] if len(x.shape) > 1 else ()
    columns = b[-1:] if len(y.shape) > 1 else ()
    return (*batch, *rows, *columns), x.dtype


def _solved(a: Value, b: Value) -> Signature | None:
    if a.dtype not in _LINEAR or b.dtype not in _LINEAR:
        return None
    if len(b.shape) < 2 or len(a.shape) < 2 or a.shape[-1] != a.shape[-2] or a.shape[-1] != b.shape[-2]:
        return None
    return (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), *b.shape[-2:]), np.result_type(a.dtype, b.dtype)


def _inverse(a: Value) -> Signature | None:
    square = len(a.shape) > 1 and a.shape[-1] == a.shape[-2]
    return (a.shape, a.dtype) if square and a.dtype in _LINEAR else None


def _along(x: Value, axis: int, length: Shape) -> Shape:
    axis %= len(x.shape)
    return (*x.shape[:axis], *length, *x.shape[axis + 1 :])


def _taken(x: Value, indices: Value, axis: int) -> Signature | None:
    if not x.shape or not -len(x.shape) <= axis < len(x.shape):
        return None
    return _along(x, axis, indices.shape), x.dtype


def _diagonal(x: Value, offset: int) -> Signature | None:
    if len(x.shape) < 2:
        return None
    rows, columns = x.shape[-2:]
    count = min(rows, columns - offset) if offset >= 0 else min(rows + offset, columns)
    return (*x.shape[:-2], max(count, 0)), x.dtype


def _unfolded(x: Value, windows: Any) -> Signature:
    return (*x.shape[:2], *windows.kernel, *windows.counts(x.shape[2:])), x.dtype


def _folded(x: Value, size: Any, windows: Any) -> Signature:
    return (*x.shape[:2], *size), x.dtype


_RULES: dict[str, Callable[..., Signature | None]] = {
    "add_slices": lambda values, index, length, axis: (_along(values, axis, (length,)), values.dtype),
    "argsort": lambda x, axis, descending: (x.shape, np.dtype(np.int64)),
    "broadcast_to": _broadcast,
    "check": _like,
    "cumulative_prod": lambda x, axis: _like(x) if x.dtype.kind == "f" and x.shape else None,
    "cumulative_sum": lambda x, axis: _like(x) if x.dtype.kind == "f" and x.shape else None,
    "diagonal": _diagonal,
    "flip": _like,
    "fold": _folded,
    "full": lambda shape, value, dtype: (shape, dtype),
    "gather": lambda x, place: (place.shape, x.dtype),
    "getitem": _getitem,
    "inv": _inverse,
    "matmul": _product,
    "permute_dims": _permuted,
    "reshape": _reshaped,
    "roll": _like,
    "scatter": _scattered,
    "scatter_set": lambda x, values, places: _like(x),
    "scatter_add": lambda values, places, count: ((count, values.shape[1]), values.dtype),
    "setitem": _setitem,
    "solve": _solved,
    "take": _taken,
    "tril": _like,
    "triu": _like,
    "unfold": _unfolded,
}
