"""How dtypes meet: PyTorch's rules, in one place.

Categories bool < integer < float. The result has the highest category present; within it, arrays
with axes decide before 0-d arrays, and those before Python scalars, which never widen a dtype of
their own category.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from backstory.errors import DtypeError

__all__ = ["SUPPORTED", "checked_dtype", "get_default_dtype", "promote", "set_default_dtype"]

SUPPORTED = tuple(
    np.dtype(name)
    for name in ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")
)

_INT64 = np.dtype("int64")
_default = [np.dtype("float32")]


def get_default_dtype() -> np.dtype:
    """The dtype of floats that name none; float32 unless changed.

    >>> get_default_dtype()
    dtype('float32')
    """
    return _default[0]


def set_default_dtype(dtype: Any) -> None:
    """Make ``dtype`` (float32 or float64) what floats become that name none, in every thread."""
    chosen = np.dtype(dtype)
    if chosen not in (np.dtype("float32"), np.dtype("float64")):
        raise DtypeError(
            f"set_default_dtype received {chosen}",
            why="only float32 and float64 can be the default",
            instead="backstory.set_default_dtype(backstory.float64)",
        )
    _default[0] = chosen


def checked_dtype(dtype: Any) -> np.dtype:
    """``dtype`` as NumPy's, if tensors can hold it."""
    try:
        chosen = np.dtype(dtype)
    except TypeError as error:
        raise DtypeError(
            f"the dtype {dtype!r}", why=str(error), instead="backstory.float32, float64, int64 or bool"
        ) from error
    if chosen not in SUPPORTED:
        raise DtypeError(
            f"a tensor of {chosen}",
            why="tensors hold bools, integers and floats",
            instead="backstory.float32, float64, int64 or bool",
        )
    return chosen


def _category(kind: str) -> int:
    return {"b": 0, "u": 1, "i": 1}.get(kind, 2)


def _scalar_dtype(value: Any) -> np.dtype:
    if isinstance(value, bool):
        return np.dtype(bool)
    return np.dtype("int64") if isinstance(value, int) else get_default_dtype()


def result_dtype(values: Sequence[Any], floats: bool) -> np.dtype:
    """The dtype that ``values`` (arrays and Python scalars) meet at."""
    ranks: list[list[np.dtype]] = [[], [], []]
    for value in values:
        if isinstance(value, (bool, int, float)):
            ranks[2].append(_scalar_dtype(value))
        else:
            ranks[1 if len(value.shape) == 0 else 0].append(value.dtype)
    category = max(_category(d.kind) for rank in ranks for d in rank)
    for rank in ranks:
        of_category = [d for d in rank if _category(d.kind) == category]
        if of_category:
            chosen = of_category[0]
            for d in of_category[1:]:
                chosen = np.promote_types(chosen, d)
            return get_default_dtype() if floats and chosen.kind != "f" else chosen
    raise AssertionError("no value to take a dtype from")


def promote(name: str, rule: str, xp: Any, values: list[Any]) -> list[Any]:
    """``values`` with every array cast to the common dtype; scalars stay weak.

    ``rule`` is the operation's ``dtypes``: ``promote``, ``float``, ``same``, ``choice`` (the first value is
    a condition and the others meet), ``sum`` (what is no float becomes int64) or ``floats`` (nothing else).
    """
    if rule == "sum":
        return [v if v.dtype.kind == "f" or v.dtype == _INT64 else xp.astype(v, _INT64) for v in values]
    if rule == "floats":
        raise DtypeError(
            f"{name} received a tensor of {values[0].dtype}",
            why=f"the {name} of integers is not an integer",
            instead=f"x.to(backstory.float32).{name}()",
        )
    if rule == "choice":
        return [values[0], *promote(name, "promote", xp, values[1:])]
    arrays = [v for v in values if v is not None and not isinstance(v, (bool, int, float))]
    if rule == "same":
        found = sorted({str(a.dtype) for a in arrays})
        if len(found) > 1:
            raise DtypeError(
                f"{name} received dtypes {', '.join(str(a.dtype) for a in arrays)}",
                why="a matrix product multiplies numbers of one dtype",
                instead=f"convert one side first, for example x.to(backstory.{found[0]})",
            )
        return values
    dtype = result_dtype([v for v in values if v is not None], floats=rule == "float")
    return [
        v if v is None or isinstance(v, (bool, int, float)) or v.dtype == dtype else xp.astype(v, dtype)
        for v in values
    ]
