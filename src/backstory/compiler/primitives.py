"""The primitives of a traced graph: the functions of an array namespace, and how each is computed in NumPy.

A primitive is named as the Array API standard names it. What the standard writes as an operator has its
function's name (``x + y`` is ``add``); what it lacks has the name in :mod:`backstory.arrays`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backstory import arrays
from backstory.arrays import eager
from backstory.arrays.windows import fold, unfold

__all__ = [
    "BINARY",
    "CHECKS",
    "ELEMENTWISE",
    "HOST",
    "REDUCTIONS",
    "UNARY",
    "VIEWS",
    "Slot",
    "evaluate",
    "may_fail",
]


@dataclass(frozen=True)
class Slot:
    """In the parameters of a primitive: its ``number``-th input, such as an array that stands in an index."""

    number: int


def _filled(slots: Any, inputs: Sequence[Any]) -> Any:
    """``slots`` with every :class:`Slot` in it replaced by the input that it stands for."""
    if isinstance(slots, Slot):
        return inputs[slots.number]
    if isinstance(slots, tuple):
        return tuple(_filled(part, inputs) for part in slots)
    return slots


def _getitem(x: Any, *parts: Any, index: Any) -> Any:
    return x[_filled(index, (x, *parts))]


def _setitem(x: Any, value: Any, *parts: Any, index: Any) -> Any:
    result = x.copy()
    result[_filled(index, (x, value, *parts))] = value
    return result


def _scatter(values: Any, *parts: Any, index: Any, shape: Any) -> Any:
    return arrays.scatter(eager, values, _filled(index, (values, *parts)), shape)


def _scatter_add(values: Any, places: Any, *, count: int) -> Any:
    result = np.zeros((count, values.shape[1]), values.dtype)
    np.add.at(result, places, values)
    return result


def _scatter_set(x: Any, values: Any, places: Any) -> Any:
    result = x.copy()
    result[places] = values
    return result


def _squares(x: Any, *, axis: Any, keepdims: bool = False) -> Any:
    return eager.sum(np.square(x.astype(np.float64)), axis=axis, keepdims=keepdims)


def _check(x: Any, *, low: Any, high: Any, test: Callable[[Any], None], sure: bool = True) -> Any:
    eager.assume(x, low, high, test)
    return x


BINARY: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "floor_divide": operator.floordiv,
    "remainder": np.remainder,
    "fmod": np.fmod,
    "pow": operator.pow,
    "atan2": np.atan2,
    "hypot": np.hypot,
    "logaddexp": np.logaddexp,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "less": operator.lt,
    "less_equal": operator.le,
    "greater": operator.gt,
    "greater_equal": operator.ge,
    "equal": operator.eq,
    "not_equal": operator.ne,
    "bitwise_and": operator.and_,
    "bitwise_or": operator.or_,
    "bitwise_xor": operator.xor,
}
UNARY: dict[str, Callable[..., Any]] = {
    "negative": operator.neg,
    "bitwise_invert": operator.invert,
    "round": eager.round,
    "erf": lambda x: arrays.erf(eager, x),
    "erfc": lambda x: arrays.erfc(eager, x),
    **{
        name: getattr(np, name)
        for name in (
            "abs",
            "acos",
            "acosh",
            "asin",
            "asinh",
            "atan",
            "atanh",
            "ceil",
            "cos",
            "cosh",
            "exp",
            "expm1",
            "floor",
            "isfinite",
            "isinf",
            "isnan",
            "log",
            "log10",
            "log1p",
            "log2",
            "logical_not",
            "sign",
            "sin",
            "sinh",
            "sqrt",
            "tan",
            "tanh",
            "trunc",
        )
    },
}
# Entry by entry, with broadcasting; ``astype`` has the parameter ``dtype``.
ELEMENTWISE: dict[str, Callable[..., Any]] = {
    **BINARY,
    **UNARY,
    "where": np.where,
    "astype": lambda x, dtype: x.astype(dtype),
    "copy": lambda x: x.copy(),
}
# With the parameters ``axis`` (a sorted tuple of axes, counted from 0) and ``keepdims``. ``squares`` adds up
# squares in float64, whatever the entries are.
REDUCTIONS: dict[str, Callable[..., Any]] = {
    "all": eager.all,
    "any": eager.any,
    "max": eager.max,
    "min": eager.min,
    "prod": eager.prod,
    "squares": _squares,
    "sum": eager.sum,
}
# The same entries seen otherwise: reshape(shape), permute_dims(axes), broadcast_to(shape), diagonal(offset),
# unfold(windows), and getitem(index) without inputs in its index.
VIEWS: dict[str, Callable[..., Any]] = {
    "reshape": eager.reshape,
    "permute_dims": eager.permute_dims,
    "broadcast_to": np.broadcast_to,
    "getitem": _getitem,
    "diagonal": eager.linalg.diagonal,
    "unfold": lambda x, windows: unfold(eager, x, windows),
}
# Of whole arrays.
HOST: dict[str, Callable[..., Any]] = {
    "add_slices": lambda values, index, length, axis: arrays.add_slices(eager, values, index, length, axis),
    "argmax": eager.argmax,
    "argmin": eager.argmin,
    "argsort": eager.argsort,
    "concat": lambda *parts, axis: eager.concat(parts, axis=axis),
    "cumulative_prod": eager.cumulative_prod,
    "cumulative_sum": eager.cumulative_sum,
    "flip": eager.flip,
    "fold": lambda x, size, windows: fold(eager, x, size, windows),
    # The entries of a flat array that places name: x[place].
    "gather": lambda x, place: x.reshape(-1)[place],
    "full": lambda shape, value, dtype: np.full(shape, value, dtype),
    "inv": eager.linalg.inv,
    "matmul": eager.matmul,
    "roll": eager.roll,
    "scatter": _scatter,
    # Zeros (count, n) with the k-th row of values (K, n) added to the row places[k].
    "scatter_add": _scatter_add,
    # An array (m, n) with the k-th row of values (K, n) in place of the row places[k]; the last one stays.
    "scatter_set": _scatter_set,
    "setitem": _setitem,
    "solve": eager.linalg.solve,
    "take": eager.take,
    "tril": eager.tril,
    "triu": eager.triu,
}
# ``check`` gives its input. Unless low <= input <= high everywhere, ``test(input)`` is called, which may
# raise, and always does where the check is ``sure``.
CHECKS: dict[str, Callable[..., Any]] = {"check": _check}


def may_fail(value: Any) -> bool:
    """Whether NumPy refuses some numbers: singular matrices, places that are none, negative powers."""
    name = value.primitive
    if name == "pow":
        return value.dtype.kind in "iu"
    given = {"getitem": 1, "setitem": 2}  # inputs that are no indices
    return name in ("check", "inv", "solve") or len(value.inputs) > given.get(name, len(value.inputs))


_ALL = {**ELEMENTWISE, **REDUCTIONS, **VIEWS, **HOST, **CHECKS}


def evaluate(primitive: str, inputs: Sequence[Any], params: Any) -> Any:
    """What ``primitive`` gives in NumPy for arrays and Python scalars."""
    return _ALL[primitive](*inputs, **params)
