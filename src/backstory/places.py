"""Indexing by tensors of a transform: which entries are chosen may differ from sample to sample."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from backstory.core import apply, as_tensor
from backstory.errors import BoundsError, DtypeError
from backstory.functions.shape import permute, reshape
from backstory.ops import TABLE

if TYPE_CHECKING:
    from backstory.tensor import Tensor

__all__ = ["take_at"]


def take_at(x: Any, index: Any) -> Tensor:
    """``x[index]`` for an index of tensors (of integers), integers, slices, ``...`` and ``None``.

    The tensors of the index are arguments of the operation ``take``, so every transform sees them.
    """
    parts = _expanded(x, index if isinstance(index, tuple) else (index,))
    picks = [(place, part) for place, part in enumerate(parts) if _picks(part)]
    rest = x[tuple(slice(None) if _picks(part) else part for part in parts)]
    # Every remaining part is a slice or None, so part and axis have the same number.
    places = [place for place, _ in picks]
    adjacent = places == list(range(places[0], places[0] + len(places)))
    front = places[0] if adjacent else 0
    others = [axis for axis in range(rest.ndim) if axis not in places]
    lengths = [rest.shape[axis] for axis in places]
    rows = reshape(permute(rest, *places, *others), (math.prod(lengths), *(rest.shape[a] for a in others)))
    flat: Any = 0
    for (_, part), length in zip(picks, lengths, strict=True):
        place = _integers(x, part)
        flat = flat * length + apply(TABLE["where"], place < 0, place + length, place)
    chosen = apply(TABLE["take"], rows, reshape(flat, -1), axis=0, length=rows.shape[0])
    lead = len(flat.shape)
    result = reshape(chosen, (*flat.shape, *rows.shape[1:]))
    order = [*range(lead, lead + front), *range(lead), *range(lead + front, result.ndim)]
    return permute(result, *order) if front and lead else result


def _picks(part: Any) -> bool:
    return not (part is None or isinstance(part, slice))


def _expanded(x: Tensor, parts: tuple[Any, ...]) -> list[Any]:
    """The index with one part per axis of ``x`` (and ``None`` for each new axis)."""
    used = sum(part is not None and part is not ... for part in parts)
    if used > x.ndim:
        raise BoundsError(
            f"an index of {used} parts for a tensor of shape {x.shape}",
            why=f"it has {x.ndim} axes",
            instead="an index for each axis at most",
        )
    full: list[Any] = []
    for part in parts:
        full += [slice(None)] * (x.ndim - used) if part is ... else [part]
    if not any(part is ... for part in parts):
        full += [slice(None)] * (x.ndim - used)
    return full


def _integers(x: Tensor, part: Any) -> Tensor:
    place = as_tensor(np.asarray(part) if isinstance(part, (int, list)) else part)
    if place.dtype.kind not in "iu":
        raise DtypeError(
            f"an index of {place.dtype} into a tensor of shape {x.shape}, inside a transform",
            why="how many entries a mask chooses would differ from sample to sample",
            instead="backstory.where(mask, x, y), or an index of integers",
        )
    return place
