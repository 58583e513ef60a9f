"""What each value of a graph is for the compiler: a loop, a matrix product, the host's work, or nothing."""

from __future__ import annotations

from typing import Any

import numpy as np

from backstory.compiler.graph import Value
from backstory.compiler.hosted import has_routine, why_hosted
from backstory.compiler.layout import Layouts, is_transparent
from backstory.compiler.passes.rewriting import splat
from backstory.compiler.primitives import REDUCTIONS

__all__ = ["COMPARISONS", "computing_dtype", "cost", "kind"]

COMPARISONS = frozenset(("less", "less_equal", "greater", "greater_equal", "equal", "not_equal"))
_COSTS = {
    **dict.fromkeys(("divide", "sqrt", "gather"), 4),
    **dict.fromkeys(("exp", "expm1", "pow", "hypot", "atan2", "logaddexp"), 20),
    **dict.fromkeys(("sin", "cos", "tan", "asin", "acos", "atan"), 20),
    **dict.fromkeys(("sinh", "cosh", "asinh", "acosh", "atanh"), 20),
    **dict.fromkeys(("log", "log1p", "log2", "log10", "tanh"), 25),
    **dict.fromkeys(("erf", "erfc"), 50),
    **dict.fromkeys(("fmod", "floor_divide", "remainder"), 500),
}


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
    if not value.size:
        return "nothing"
    if why_hosted(value):
        return "host"
    if name == "matmul":
        return "product"
    if has_routine(value):
        return "routine"
    return "reduction" if name in REDUCTIONS else "loop"


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
    return _COSTS.get(value.primitive, 1)
