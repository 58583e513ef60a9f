"""What users write as shapes, axes and indices, in the form that operations take."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from backstory.errors import ArgumentError, GraphError, ShapeError

__all__ = ["axes", "index_level", "ints", "lengths", "raw", "raw_index"]


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
    """The array of a tensor of level 0, or the value itself."""
    if getattr(value, "level", 0):
        raise GraphError(
            f"a tensor of a transform, of shape {value.shape}, where memory outside of it is changed",
            why="the change would outlive the transform, and its derivative would be lost",
            instead="a new tensor (x = x + y) that the function returns",
        )
    return getattr(value, "array", value)


def index_level(index: Any) -> int:
    """The highest level among the tensors that stand in an index."""
    if isinstance(index, tuple):
        return max(map(index_level, index), default=0)
    return getattr(index, "level", 0)


def raw_index(index: Any) -> Any:
    """An index in which lists and tensors are arrays, copied: what was recorded stays what it was."""
    if isinstance(index, tuple):
        return tuple(raw_index(part) for part in index)
    if isinstance(index, list):
        return np.asarray(index) if index else np.empty(0, np.int64)
    array = raw(index)
    return array.copy() if isinstance(array, np.ndarray) else array
