"""What users write as shapes, axes and indices, in the form that operations take."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from backstory.errors import ArgumentError, BoundsError, GraphError, ShapeError
from backstory.graph import context

__all__ = ["axes", "each_axis", "index_level", "ints", "lengths", "one_axis", "raw", "raw_index"]


def axes(dim: Any) -> Any:
    """The reduced axes: an int, a tuple of ints or ``None`` for all, which an empty tuple means too.

    >>> axes([0, 1]), axes((2,)), axes(())
    ((0, 1), 2, None)
    """
    if isinstance(dim, (list, tuple)):
        return tuple(dim) if len(dim) > 1 else (dim[0] if dim else None)
    return dim


def one_axis(name: str, x: Any, dim: Any, count: int | None = None) -> int:
    """The axis that ``dim`` names, counted from the front, of a tensor with ``count`` axes (its own).

    A number has no axis, and may be treated as if it had one.
    """
    count = x.ndim if count is None else count
    try:
        axis = operator.index(dim)
    except TypeError as error:
        raise ArgumentError(
            f"{name} received the axis {dim!r}", why=str(error), instead="an integer"
        ) from error
    bound = count or 1
    if not -bound <= axis < bound:
        raise BoundsError(
            f"{name} received the axis {dim} of a tensor of shape {x.shape}",
            why=f"there are {count} axes to choose from",
            instead=f"an axis from {-bound} to {bound - 1}",
        )
    return axis % bound


def each_axis(name: str, x: Any, dims: Any) -> tuple[int, ...]:
    """The axes that ``dims`` (one or several) names, counted from the front, each once."""
    found = tuple(one_axis(name, x, d) for d in (dims if isinstance(dims, (tuple, list)) else (dims,)))
    if len(set(found)) < len(found):
        raise ShapeError(
            f"{name} received the axes {tuple(dims)} of a tensor of shape {x.shape}",
            why="one of them is named twice",
            instead="each axis once",
        )
    return found


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
    trace = context().trace
    if trace is not None and hasattr(value, "level"):
        trace.lift(value)
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
    if isinstance(index, np.integer):
        return int(index)
    array = raw(index)
    trace = context().trace
    if trace is not None and hasattr(array, "shape"):
        return trace.copied(array, None)
    if not isinstance(array, np.ndarray):
        return array
    return array.item() if array.ndim == 0 and array.dtype.kind in "iu" else array.copy()
