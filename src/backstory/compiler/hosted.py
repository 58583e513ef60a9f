"""What NumPy computes between the native parts of a program, and why. All else is native.

>>> why_hosted(Value("inv", (), {}, (2, 2), np.dtype("f4")))
'LAPACK solves equations'
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from backstory.compiler.graph import Value
from backstory.compiler.primitives import ELEMENTWISE, REDUCTIONS, VIEWS
from backstory.compiler.products import DTYPES

__all__ = ["HOSTED", "Hosted", "has_routine", "why_hosted"]

_KERNEL_DTYPES = frozenset(
    map(np.dtype, ("bool", "int8", "int16", "int32", "int64", "uint8", "float32", "float64"))
)


def has_routine(value: Value) -> bool:
    """Whether :mod:`~.routines` computes a value."""
    fits = _ROUTINES.get(value.primitive)
    return fits is not None and fits(value)


def _same_dtypes(value: Value) -> bool:
    return all(isinstance(x, Value) and x.dtype == value.dtype for x in value.inputs)


def _is_regular(index: Any) -> bool:
    """Whether an index names entries at regular distances."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(
        p is None or p is Ellipsis or (isinstance(p, (int, slice)) and not isinstance(p, bool)) for p in parts
    )


def _is_put(value: Value) -> bool:
    """Whether what is written where an index says fits there by broadcasting."""
    index = value.params["index"]
    if not _is_regular(index) or not _same_dtypes(value):
        return False
    part = np.broadcast_to(np.empty((), bool), value.shape)[index]
    return value.inputs[-1].size == 1 or len(value.inputs[-1].shape) <= part.ndim


def _is_scan(value: Value) -> bool:
    return bool(value.shape) and value.dtype.kind in "fi" and value.inputs[0].dtype.kind in "fiub"


_ROUTINES: dict[str, Callable[[Value], bool]] = {
    "concat": _same_dtypes,
    "cumulative_prod": _is_scan,
    "cumulative_sum": _is_scan,
    "fold": _same_dtypes,
    "scatter": _is_put,
    "scatter_add": lambda value: value.inputs[0].dtype == value.dtype,
    "scatter_set": lambda value: value.inputs[0].dtype == value.inputs[1].dtype,
    "setitem": _is_put,
}


class Hosted(NamedTuple):
    """``what`` stays on the host, in the user's words; ``why``; and whether it ``holds`` for a value."""

    what: str
    why: str
    holds: Callable[[Value], bool]


def _is_strange(value: Value) -> bool:
    return any(x.dtype not in _KERNEL_DTYPES for x in (value, *value.values))


def _is_product(value: Value) -> bool:
    return value.primitive == "matmul" and not all(
        x.dtype == value.dtype and x.dtype in DTYPES for x in (value, *value.values)
    )


def _is_cut_off(value: Value) -> bool:
    return (
        value.primitive == "astype"
        and value.dtype.kind in "iu"
        and any(x.dtype.kind == "f" for x in value.values)
    )


def _is_unknown(value: Value) -> bool:
    name = value.primitive
    if name == "getitem":
        return len(value.inputs) > 1 or not _is_regular(value.params["index"])
    loops = name in ELEMENTWISE or name in REDUCTIONS or name in VIEWS or name in ("gather", "matmul")
    return not (loops or has_routine(value))


HOSTED = (
    Hosted(
        "`argsort`, and what is made of it: `sort`, `topk`, `kthvalue`, `median`",
        "no kernel sorts",
        lambda value: value.primitive == "argsort",
    ),
    Hosted(
        "`linalg.inv`, `linalg.solve`",
        "LAPACK solves equations",
        lambda value: value.primitive in ("inv", "solve"),
    ),
    Hosted(
        "what reads or gives `float16`, `uint16`, `uint32` or `uint64`",
        "kernels know bool, int8 to int64, uint8, float32 and float64",
        _is_strange,
    ),
    Hosted("products of matrices of integers", "the kernel of products is one of floats", _is_product),
    Hosted(
        "`x ** y` of integers, unless y is a constant from 0 to 64",
        "it may be refused, entry by entry",
        lambda value: value.primitive == "pow" and value.dtype.kind in "iu",
    ),
    Hosted(
        "floats as integers: `x.long()`, `x.int()`",
        "beyond the range of the integers every processor gives others",
        _is_cut_off,
    ),
    Hosted("`True` or `False` within an index", "only NumPy knows what it names", _is_unknown),
)
"""In the order in which they are asked; the last is whatever else has neither a loop nor a routine."""


def why_hosted(value: Value) -> str:
    """Why NumPy computes a value; empty if a kernel does."""
    return next((x.why for x in HOSTED if x.holds(value)), "")
