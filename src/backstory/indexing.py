"""What users write as shapes, axes and indices, in the form that operations take."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from backstory.errors import ArgumentError, ShapeError

__all__ = ["axes", "ints", "lengths", "raw", "raw_index"]


def axes(dim: Any) -> Any:
    """The reduced axes: an int, a tuple of ints or ``None``."""
    return tuple(dim) if isinstance(dim, list) else dim


def ints(shape: tuple[Any, ...]) -> tuple[int, ...]:
    """A shape given as one sequence or as several arguments.

    >>> ints((2, 3)), ints(([2, 3],))
    ((2, 3), (2, 3))
    """
    if len(shape) == 1 and isinstance(shape[0], Sequence):
        shape = tuple(shape[0])
    try:
        return tuple(operator.index(n) for n in shape)
    except TypeError as error:
        raise ArgumentError(
            f"the shape {shape!r}", why=str(error), instead="integers, or one sequence of them"
        ) from error


def lengths(shape: tuple[Any, ...]) -> tuple[int, ...]:
    """The shape of a new tensor: as :func:`ints`, and no axis is negative."""
    found = ints(shape)
    if any(n < 0 for n in found):
        raise ShapeError(
            f"a tensor of shape {found}", why="an axis has no negative length", instead="0 or more entries"
        )
    return found


def raw(value: Any) -> Any:
    """The array of a tensor, or the value itself."""
    return getattr(value, "array", value)


def raw_index(index: Any) -> Any:
    """An index with the arrays of its tensors."""
    if isinstance(index, tuple):
        return tuple(raw_index(part) for part in index)
    return np.asarray(index) if isinstance(index, list) else raw(index)
