"""What one entry of each primitive is in the language of kernels, and how dtypes are converted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from backstory.compiler.graph import Value
from backstory.compiler.kinds import COMPARISONS, computing_dtype
from backstory.compiler.primitives import VIEWS

__all__ = [
    "WRITTEN_OUT",
    "combined",
    "converted",
    "expression",
    "identity",
    "input_dtypes",
    "literal",
    "type_name",
]

# Numbers that stand in the code; any other is an argument, so that it makes no kernel of its own.
WRITTEN_OUT = frozenset((-2, -1, -0.5, 0, 0.5, 1, 2))
_BOOL = np.dtype(bool)

_INFIX = {
    "add": "+",
    "subtract": "-",
    "multiply": "*",
    "divide": "/",
    "less": "<",
    "less_equal": "<=",
    "greater": ">",
    "greater_equal": ">=",
    "equal": "==",
    "not_equal": "!=",
    "bitwise_and": "&",
    "bitwise_or": "|",
    "bitwise_xor": "^",
}


@cache
def type_name(dtype: np.dtype) -> str:
    """The name of a dtype in kernels.

    >>> type_name(np.dtype(bool)), type_name(np.dtype("f4"))
    ('bool8', 'float32')
    """
    return "bool8" if dtype == _BOOL else dtype.name


def literal(value: Any, dtype: np.dtype) -> str | None:
    """A number as it stands in the code, or ``None`` if it is an argument."""
    if dtype == _BOOL:
        return str(bool(value))
    number = dtype.type(value).item()
    if number not in WRITTEN_OUT:
        return None
    return f"{type_name(dtype)}({number!r})"


def converted(text: str, source: np.dtype, target: np.dtype) -> str:
    """An entry in another dtype.

    >>> converted("x", np.dtype("i8"), np.dtype("f4"))
    'float32(x)'
    """
    if source == target:
        return text
    if target == _BOOL:
        return f"({text} != 0)"
    return f"{type_name(target)}({text})"


def input_dtypes(value: Value) -> list[np.dtype]:
    """The dtypes that the inputs of an elementwise value are converted to."""
    if value.primitive == "where":
        return [_BOOL, value.dtype, value.dtype]
    if value.primitive in ("astype", "copy"):
        return [value.inputs[0].dtype]
    if value.primitive == "gather":
        return [value.dtype, np.dtype("int64")]
    return [computing_dtype(value)] * len(value.inputs)


def expression(value: Value, inputs: Sequence[str]) -> str:
    """One entry of a value, of entries of its inputs that have the dtypes of :func:`input_dtypes`."""
    name, dtype = value.primitive, value.dtype
    if name == "astype":
        return converted(inputs[0], value.inputs[0].dtype, dtype)
    special = _SPECIAL.get(name)
    if special is not None:
        return special(value, inputs)
    if name in _INFIX:
        found = f"{inputs[0]} {_INFIX[name]} {inputs[1]}"
        # Python's integers have 64 bits; those of arrays wrap around sooner.
        narrow = dtype.kind in "iu" and name not in COMPARISONS and dtype.itemsize < 8
        return f"{type_name(dtype)}({found})" if narrow else found
    if name in VIEWS:
        return inputs[0]
    return f"{name}({', '.join(inputs)})"


def _inverted(value: Value, inputs: Sequence[str]) -> str:
    return f"not {inputs[0]}" if value.dtype == _BOOL else f"{type_name(value.dtype)}(~{inputs[0]})"


def _negative(value: Value, inputs: Sequence[str]) -> str:
    return f"-{inputs[0]}" if value.dtype.kind == "f" else f"{type_name(value.dtype)}(-{inputs[0]})"


def _abs(value: Value, inputs: Sequence[str]) -> str:
    x, name = inputs[0], type_name(value.dtype)
    return f"abs({x})" if value.dtype.kind == "f" else f"where({x} < 0, {name}(-{x}), {x})"


def _whole(value: Value, inputs: Sequence[str]) -> str:
    """Rounding of integers changes nothing."""
    return f"{value.primitive}({inputs[0]})" if value.dtype.kind == "f" else inputs[0]


def _sign(value: Value, inputs: Sequence[str]) -> str:
    x, name = inputs[0], type_name(value.dtype)
    if value.dtype.kind == "f":
        return f"sign({x})"
    return f"where({x} > 0, {name}(1), where({x} < 0, {name}(-1), {name}(0)))"


def _told(value: Value, inputs: Sequence[str]) -> str:
    if computing_dtype(value).kind == "f":
        return f"{value.primitive}({inputs[0]})"
    return str(value.primitive == "isfinite")


def _not(value: Value, inputs: Sequence[str]) -> str:
    return f"not {inputs[0]}" if computing_dtype(value) == _BOOL else f"{inputs[0]} == 0"


_SPECIAL: dict[str, Callable[[Value, Sequence[str]], str]] = {
    "abs": _abs,
    "gather": lambda value, inputs: f"{inputs[0]}[{inputs[1]}]",
    "bitwise_invert": _inverted,
    "ceil": _whole,
    "copy": lambda value, inputs: inputs[0],
    "floor": _whole,
    "isfinite": _told,
    "isinf": _told,
    "isnan": _told,
    "logical_not": _not,
    "negative": _negative,
    "round": _whole,
    "sign": _sign,
    "trunc": _whole,
}


def identity(reduction: Value) -> str:
    """What a reduction starts from."""
    name, dtype = reduction.primitive, reduction.dtype
    typed = type_name(dtype)
    if name in ("all", "any"):
        return str(name == "all")
    if name in ("sum", "prod"):
        return f"{typed}({0 if name == 'sum' else 1})"
    if dtype.kind == "f":
        return f"{typed}({'-' if name == 'max' else ''}INFINITY)"
    if dtype == _BOOL:
        return str(name == "min")
    limits = np.iinfo(dtype)
    return f"{typed}({limits.min if name == 'max' else limits.max})"


def combined(reduction: Value, total: str, entry: str, free: bool) -> str:
    """A reduction with one more entry; ``free`` says that a sum may be taken in any order."""
    name, dtype = reduction.primitive, reduction.dtype
    if name in ("all", "any") or dtype == _BOOL:
        return f"{total} {'&' if name in ('all', 'min', 'prod') else '|'} {entry}"
    if name == "sum":
        return f"accumulate({total}, {entry})" if free else f"{total} + {entry}"
    if name == "prod":
        return f"{total} * {entry}"
    return f"{name}imum({total}, {entry})"
