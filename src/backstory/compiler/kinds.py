"""What each value of a graph is for the compiler: a loop, a matrix product, the host's work, or nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from backstory.compiler.graph import Value
from backstory.compiler.layout import Layouts, is_transparent
from backstory.compiler.passes.rewriting import splat
from backstory.compiler.primitives import ELEMENTWISE, REDUCTIONS
from backstory.compiler.products import DTYPES

__all__ = ["COMPARISONS", "KERNEL_DTYPES", "computing_dtype", "cost", "is_routine", "kind", "why_host"]

KERNEL_DTYPES = frozenset(
    map(np.dtype, ("bool", "int8", "int16", "int32", "int64", "uint8", "float32", "float64"))
)
COMPARISONS = frozenset(("less", "less_equal", "greater", "greater_equal", "equal", "not_equal"))
_FLOAT_ONLY = frozenset(("divide", "pow", "hypot", "atan2", "logaddexp"))
_BITWISE = frozenset(("bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_invert"))
_NOT_OF_BOOLEANS = frozenset(("add", "subtract", "multiply", "negative", "maximum", "minimum", "abs"))
_DEAR = frozenset(
    (
        *("exp", "expm1", "log", "log1p", "log2", "log10", "tanh", "erf", "erfc", "pow", "hypot", "atan2"),
        *("sin", "cos", "tan", "sinh", "cosh", "asin", "acos", "atan", "asinh", "acosh", "atanh"),
        *("fmod", "floor_divide", "remainder", "logaddexp"),
    )
)


def kind(value: Value, layouts: Layouts) -> str:
    """``leaf``, ``view`` (each axis remains one), ``other view``, ``loop``, ``reduction``, ``product``,
    ``routine``, ``check``, ``nothing`` (no entries) or ``host``.
    """
    name = value.primitive
    if name in ("input", "constant") or (name == "full" and splat(value) is not None):
        return "leaf"
    if name == "check":
        return "check"
    if layouts.is_view(value):
        return "view" if is_transparent(value) else "other view"
    if not value.size and name != "host":
        return "nothing"
    if why_host(value, layouts):
        return "host"
    if name == "matmul":
        return "product"
    if is_routine(value):
        return "routine"
    return "reduction" if name in REDUCTIONS else "loop"


def why_host(value: Value, layouts: Layouts) -> str:
    """Why a value is computed by NumPy and not natively; empty if it is native."""
    name = value.primitive
    arrays = list(value.values)
    routine = is_routine(value)
    loops = name in ELEMENTWISE or name in REDUCTIONS or name == "gather" or value in layouts.stored
    known = loops or routine or name == "matmul"
    if not known:
        return f"there is no loop for {name}"
    strange = next((x.dtype for x in (value, *arrays) if x.dtype not in KERNEL_DTYPES), None)
    if strange is not None:
        return f"no loops for {strange}"
    if name == "matmul":
        return _why_no_product(value)
    if name in REDUCTIONS or routine:
        return ""
    return _why_no_entry(value, arrays)


def is_routine(value: Value) -> bool:
    """Whether a value has a routine (:mod:`~.routines`), if its dtypes are those of kernels."""
    fits = _ROUTINES.get(value.primitive)
    return fits is not None and fits(value)


def _same_dtypes(value: Value) -> bool:
    return all(isinstance(x, Value) and x.dtype == value.dtype for x in value.inputs)


def _is_put(value: Value) -> bool:
    """Whether an index names a regular walk, and what is written there fits by broadcasting."""
    index = value.params["index"]
    parts = index if isinstance(index, tuple) else (index,)
    plain = all(
        p is None or p is Ellipsis or (isinstance(p, (int, slice)) and not isinstance(p, bool)) for p in parts
    )
    if not plain or not _same_dtypes(value):
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


def _why_no_product(value: Value) -> str:
    x, y = value.inputs
    if value.dtype not in DTYPES or x.dtype != value.dtype or y.dtype != value.dtype:
        return f"there are no products of {x.dtype} and {y.dtype}"
    return ""


def _why_no_entry(value: Value, arrays: list[Value]) -> str:
    name = value.primitive
    computing = computing_dtype(value)
    if computing not in KERNEL_DTYPES:
        return f"no loops for {computing}"
    if name in _FLOAT_ONLY and computing.kind != "f":
        return f"{name} of {computing}"
    if name in _BITWISE and computing.kind == "f":
        return f"{name} of {computing}"
    if name == "astype" and arrays[0].dtype.kind == "f" and value.dtype.kind in "iu":
        return f"{arrays[0].dtype} to {value.dtype}, which no machine does alike beyond the range"
    if computing.kind == "b" and name in _NOT_OF_BOOLEANS:
        return f"{name} of booleans"
    if name in COMPARISONS and computing.kind in "iu" and _out_of_range(value, computing):
        return "a comparison with a number outside of the dtype"
    return ""


def _out_of_range(value: Value, dtype: np.dtype) -> bool:
    limits = np.iinfo(dtype)
    return any(isinstance(x, int) and not limits.min <= x <= limits.max for x in value.inputs)


def computing_dtype(value: Value) -> np.dtype:
    """The dtype that entries are converted to before a primitive is applied to them."""
    name = value.primitive
    if name == "where":
        return value.dtype
    if name in COMPARISONS or name in ("isnan", "isinf", "isfinite", "logical_not"):
        return np.result_type(*(_weak(x) for x in value.inputs))
    return value.dtype


def _weak(x: Any) -> Any:
    """What stands for an input when dtypes meet: a Python scalar is weak, and so is a number of the host."""
    if isinstance(x, Value):
        return x.dtype
    return x.kind(1) if hasattr(x, "kind") else x


def cost(value: Value) -> int:
    """About how much longer than an addition one entry takes."""
    if value.primitive in _DEAR:
        return 20
    return 4 if value.primitive in ("divide", "sqrt", "gather") else 1
