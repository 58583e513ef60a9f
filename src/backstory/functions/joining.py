"""Functions that join tensors, take them apart, and turn, shift or pad them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from backstory.core import apply, as_tensor
from backstory.errors import ArgumentError, BoundsError, ShapeError
from backstory.functions.shape import reshape, transpose, unsqueeze
from backstory.indexing import each_axis, ints, one_axis
from backstory.ops import TABLE

if TYPE_CHECKING:
    from backstory.tensor import Tensor

__all__ = [
    "atleast_1d",
    "atleast_2d",
    "cat",
    "chunk",
    "concat",
    "concatenate",
    "flip",
    "fliplr",
    "flipud",
    "hstack",
    "pad",
    "roll",
    "rot90",
    "split",
    "stack",
    "unbind",
    "vstack",
]


def cat(tensors: Any, dim: int = 0) -> Tensor:
    """The tensors one after the other along ``dim``; each takes its part of the upstream gradient.

    >>> cat([[[1, 2]], [[3, 4]]])
    tensor([[1, 2],
            [3, 4]])
    """
    found = _several("cat", tensors)
    if any(x.ndim == 0 for x in found):
        raise ShapeError(
            "cat received a tensor of shape ()", why="a number has no axis to join along", instead="stack()"
        )
    # As in PyTorch: vectors without entries join with everything.
    kept = [x for x in found if x.shape != (0,)] or found[:1]
    axis = one_axis("cat", kept[0], dim)
    shapes = {(*x.shape[:axis], *x.shape[axis + 1 :]) for x in kept}
    if len({x.ndim for x in kept}) > 1 or len(shapes) > 1:
        raise ShapeError(
            f"cat along axis {dim} received shapes {', '.join(str(x.shape) for x in found)}",
            why="they differ in another axis than the one that joins them",
            instead="tensors of one shape, except along that axis",
        )
    return apply(TABLE["concat"], *kept, axis=axis, sizes=tuple(x.shape[axis] for x in kept))


concat = concatenate = cat


def _several(name: str, tensors: Any) -> list[Any]:
    """A sequence of tensors, at least one."""
    if not isinstance(tensors, (list, tuple)):
        raise ArgumentError(
            f"{name} received {type(tensors).__name__}",
            why="it joins a list or tuple of tensors",
            instead=f"{name}([x, y])",
        )
    if not tensors:
        raise ArgumentError(f"{name} received no tensors", why="there is nothing to join", instead="[x]")
    return [as_tensor(x) for x in tensors]


def stack(tensors: Any, dim: int = 0) -> Tensor:
    """Tensors of one shape along a new axis ``dim``.

    >>> stack([[1, 2], [3, 4]], 1)
    tensor([[1, 3],
            [2, 4]])
    """
    found = _several("stack", tensors)
    if len({x.shape for x in found}) > 1:
        raise ShapeError(
            f"stack received shapes {', '.join(str(x.shape) for x in found)}",
            why="along a new axis only equal shapes fit",
            instead="tensors of one shape",
        )
    axis = one_axis("stack", found[0], dim, found[0].ndim + 1)
    return cat([unsqueeze(x, axis) for x in found], axis)


def atleast_1d(*tensors: Any) -> Any:
    """A number as a vector with one entry; all else as it is. Several tensors: a tuple."""
    return _each(lambda x: reshape(x, 1) if x.ndim == 0 else x, tensors)


def atleast_2d(*tensors: Any) -> Any:
    """A number or a vector as a matrix with one row; all else as it is. Several tensors: a tuple."""
    return _each(lambda x: reshape(x, (1, -1)) if x.ndim < 2 else x, tensors)


def _each(function: Any, tensors: tuple[Any, ...]) -> Any:
    if len(tensors) == 1 and not isinstance(tensors[0], (tuple, list)):
        return function(as_tensor(tensors[0]))
    given = tensors[0] if len(tensors) == 1 else tensors
    return tuple(function(as_tensor(x)) for x in given)


def hstack(tensors: Any) -> Tensor:
    """Side by side: vectors end to end, all else along the second axis."""
    found = [atleast_1d(x) for x in _several("hstack", tensors)]
    return cat(found, 0 if found[0].ndim == 1 else 1)


def vstack(tensors: Any) -> Tensor:
    """On top of each other, where a vector counts as a row."""
    return cat([atleast_2d(x) for x in _several("vstack", tensors)], 0)


def split(x: Any, split_size_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of the parts of ``x`` along ``dim``: of one size (the last may be smaller), or of given sizes.

    >>> [part.tolist() for part in split([1, 2, 3], 2)]
    [[1, 2], [3]]
    """
    x = as_tensor(x)
    axis = one_axis("split", x, dim)
    length = _length("split", x, axis)
    sizes = split_size_or_sections
    if isinstance(sizes, int):
        if sizes < 0 or (sizes == 0 and length):
            raise ArgumentError(
                f"split into parts of {sizes} entries",
                why="a part has some entries",
                instead="a size above 0",
            )
        sizes = [min(sizes, length - start) for start in range(0, length, sizes or 1)] or [0]
    sizes = list(ints((list(sizes),)))
    if any(n < 0 for n in sizes) or sum(sizes) != length:
        raise ShapeError(
            f"split of a tensor of shape {x.shape} along axis {dim} into {sizes}",
            why=f"the axis has {length} entries, and the parts {sum(sizes)}",
            instead="sizes that add up to the length of the axis",
        )
    ends = list(itertools.accumulate(sizes))
    return tuple(_between(x, axis, end - n, end) for n, end in zip(sizes, ends, strict=True))


def _length(name: str, x: Tensor, axis: int) -> int:
    if x.ndim == 0:
        raise ShapeError(f"{name} of a number", why="it has no axis", instead="a tensor of at least one axis")
    return x.shape[axis]


def _between(x: Tensor, axis: int, start: int, end: int) -> Tensor:
    return apply(TABLE["getitem"], x, index=(*(slice(None),) * axis, slice(start, end)))


def chunk(x: Any, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most ``chunks`` views of equal size along ``dim``; the last may be smaller."""
    x = as_tensor(x)
    if chunks <= 0:
        raise ArgumentError(f"chunk into {chunks} parts", why="there is at least one", instead="chunks=1")
    length = _length("chunk", x, one_axis("chunk", x, dim))
    if length == 0:
        return split(x, [0] * chunks, dim)
    return split(x, math.ceil(length / chunks), dim)


def unbind(x: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """The slices along ``dim``, each without that axis: views."""
    x = as_tensor(x)
    axis = one_axis("unbind", x, dim)
    place = (slice(None),) * axis
    return tuple(apply(TABLE["getitem"], x, index=(*place, i)) for i in range(_length("unbind", x, axis)))


def flip(x: Any, dims: Any, *more: int) -> Tensor:
    """A copy in which the entries along ``dims`` run backwards."""
    x = as_tensor(x)
    return apply(TABLE["flip"], x, axes=each_axis("flip", x, ints((dims, *more))))


def fliplr(x: Any) -> Tensor:
    """The second axis flipped."""
    return flip(_of_rank("fliplr", as_tensor(x), 2), 1)


def flipud(x: Any) -> Tensor:
    """The first axis flipped."""
    return flip(_of_rank("flipud", as_tensor(x), 1), 0)


def _of_rank(name: str, x: Tensor, least: int) -> Tensor:
    if x.ndim < least:
        raise ShapeError(
            f"{name} of shape {x.shape}", why=f"it has {x.ndim} axes", instead=f"{least} or more"
        )
    return x


def roll(x: Any, shifts: Any, dims: Any = None) -> Tensor:
    """The entries moved ``shifts`` places along ``dims``; without ``dims`` all in a row.

    >>> roll([1, 2, 3, 4], 1)
    tensor([4, 1, 2, 3])
    """
    x = as_tensor(x)
    moves = tuple(shifts) if isinstance(shifts, (tuple, list)) else (shifts,)
    if dims is None:
        if len(moves) != 1:
            raise ArgumentError(
                f"roll({shifts}) without axes", why="one shift moves all entries in a row", instead="dims=..."
            )
        return reshape(apply(TABLE["roll"], reshape(x, -1), shifts=moves, axes=(0,)), x.shape)
    named = dims if isinstance(dims, (tuple, list)) else (dims,)
    axes = tuple(one_axis("roll", x, d) for d in named)
    if len(moves) != len(axes) or not axes or x.ndim == 0:
        raise ShapeError(
            f"roll({shifts}, {dims}) of a tensor of shape {x.shape}",
            why=f"{len(moves)} shifts for {len(axes)} axes",
            instead="one shift for each axis, and at least one axis",
        )
    return apply(TABLE["roll"], x, shifts=moves, axes=axes)


def rot90(x: Any, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
    """Turned by ``k`` quarter turns in the plane of two axes, from the first towards the second."""
    x = as_tensor(x)
    if len(dims) != 2 or x.ndim < 2:
        raise ShapeError(
            f"rot90(dims={tuple(dims)}) of a tensor of shape {x.shape}",
            why="a plane has two axes",
            instead="two axes of a tensor of at least two",
        )
    first, second = each_axis("rot90", x, dims)
    turns = k % 4
    if turns == 0:
        return apply(TABLE["clone"], x)
    if turns == 2:
        return flip(x, first, second)
    if turns == 1:
        return transpose(flip(x, second), first, second)
    return transpose(flip(x, first), first, second)


def pad(x: Any, pad: Any, mode: str = "constant", value: float | None = None) -> Tensor:
    """More entries around: ``pad`` is (before, after) of the last axis, then of the last but one, ….

    ``mode`` is ``constant`` (entries of ``value``; negative numbers cut), ``reflect`` (mirrored at the
    outermost entry), ``replicate`` (the outermost entry again) or ``circular``.

    >>> pad([1, 2], (1, 2))
    tensor([0, 1, 2, 0, 0])
    >>> pad([1, 2, 3], (1, 1), mode="reflect")
    tensor([2, 1, 2, 3, 2])
    """
    x, sizes = as_tensor(x), ints((list(pad),))
    if len(sizes) % 2 or len(sizes) > 2 * x.ndim:
        raise ShapeError(
            f"pad({sizes}) of a tensor of shape {x.shape}",
            why="each axis has one number before it and one after it",
            instead=f"an even number of integers, {2 * x.ndim} at most",
        )
    pairs = {x.ndim - 1 - i: sizes[2 * i : 2 * i + 2] for i in range(len(sizes) // 2)}
    for axis, (before, after) in pairs.items():
        if x.shape[axis] + before + after < 0:
            raise ShapeError(
                f"pad({sizes}) of a tensor of shape {x.shape}",
                why=f"axis {axis} would have a negative length",
                instead="to cut no more than there is",
            )
    if mode == "constant":
        return _constant_pad(x, pairs, 0 if value is None else value)
    if mode not in _PLACES or value:
        raise ArgumentError(
            f"pad(mode={mode!r}, value={value})",
            why="there are four modes, and only one of them has a value",
            instead="mode='constant', 'reflect', 'replicate' or 'circular'",
        )
    for axis, (before, after) in pairs.items():
        if mode == "circular" and min(before, after) < 0:  # PyTorch cuts first
            x = _between(x, axis, max(-before, 0), x.shape[axis] + min(after, 0))
            before, after = max(before, 0), max(after, 0)
        places = _PLACES[mode](x, axis, before, after)
        x = apply(TABLE["take"], x, places, axis=axis, length=x.shape[axis])
    return x


def _constant_pad(x: Tensor, pairs: dict[int, tuple[int, ...]], value: float) -> Tensor:
    cut: list[Any] = [slice(None)] * x.ndim
    place: list[Any] = [slice(None)] * x.ndim
    shape = list(x.shape)
    for axis, (before, after) in pairs.items():
        kept = shape[axis] + min(before, 0) + min(after, 0)
        start = -min(before, 0)
        cut[axis] = slice(start, start + max(kept, 0))
        place[axis] = slice(max(before, 0), max(before, 0) + max(kept, 0))
        shape[axis] += before + after
    if any(s != slice(None) for s in cut):
        x = apply(TABLE["getitem"], x, index=tuple(cut))
    padded = apply(TABLE["put"], x, index=tuple(place), shape=tuple(shape))
    if value == 0:
        return padded
    frame = np.full(shape, value, x.dtype)
    frame[tuple(place)] = 0
    return padded + as_tensor(frame)


def _reflected(x: Tensor, axis: int, before: int, after: int) -> np.ndarray:
    length = x.shape[axis]
    if max(before, after) >= length:
        raise BoundsError(
            f"pad(mode='reflect') by ({before}, {after}) of an axis of length {length}",
            why="there are no more entries to mirror than the axis has beside the outermost one",
            instead=f"at most {length - 1}, or mode='replicate'",
        )
    period = max(2 * (length - 1), 1)
    places = np.arange(-before, length + after) % period
    return np.where(places < length, places, period - places)


def _replicated(x: Tensor, axis: int, before: int, after: int) -> np.ndarray:
    return np.clip(np.arange(-before, x.shape[axis] + after), 0, x.shape[axis] - 1)


def _circular(x: Tensor, axis: int, before: int, after: int) -> np.ndarray:
    length = x.shape[axis]
    if max(before, after) > length:
        raise BoundsError(
            f"pad(mode='circular') by ({before}, {after}) of an axis of length {length}",
            why="it would go round more than once",
            instead=f"at most {length}",
        )
    return np.arange(-before, length + after) % length


_PLACES = {"reflect": _reflected, "replicate": _replicated, "circular": _circular}
