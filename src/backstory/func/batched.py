"""The batched array namespace: the rules of the table run on it once for all samples of ``vmap``.

A :class:`Batched` holds a tensor of the level below. If it is *mapped*, the samples lie along axis 0 of
that tensor, and ``shape`` does not show it; else all samples share the value. Rules see shapes of one
sample throughout. What the namespace lacks raises, and ``vmap`` then runs the samples one by one.
"""

from __future__ import annotations

import builtins
import math
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np

from backstory.core import apply, as_tensor
from backstory.errors import GraphError
from backstory.graph import Held
from backstory.ops import TABLE, Elementwise, Op
from backstory.tensor import Tensor

__all__ = ["Batched", "along_axis", "entrywise", "first_axis"]

bool = np.dtype("bool")


def _operator(name: str, reflected: Any = False) -> Any:
    if reflected:
        return lambda self, other: entrywise(TABLE[name], [other, self])
    return lambda self, other: entrywise(TABLE[name], [self, other])


class Batched(Held):
    """One array per sample, or one that all samples share; with the operators that rules use."""

    __slots__ = ("mapped",)

    def __init__(self, array: Any, mapped: Any = True) -> None:
        self.array = array
        self.mapped = mapped
        self.shape = array.shape[1:] if mapped else array.shape
        self.dtype = array.dtype

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        import sys

        return sys.modules[__name__]

    def detach(self) -> Batched:
        """The same samples without history."""
        return Batched(self.array.detach(), self.mapped)

    def item(self) -> Any:
        """Refused: one number cannot stand for all samples."""
        raise GraphError(
            "item(), a tensor in `if`, or another way to one Python number, inside vmap",
            why="every sample has a number of its own, and the function runs once for all of them",
            instead="backstory.where(condition, x, y), or a loop over the samples instead of vmap",
        )

    tolist = item

    @property
    def ndim(self) -> int:
        """The number of axes of one sample."""
        return len(self.shape)

    __add__, __radd__ = _operator("add"), _operator("add", True)
    __sub__, __rsub__ = _operator("sub"), _operator("sub", True)
    __mul__, __rmul__ = _operator("mul"), _operator("mul", True)
    __truediv__, __rtruediv__ = _operator("div"), _operator("div", True)
    __pow__, __rpow__ = _operator("pow"), _operator("pow", True)
    __gt__, __ge__, __lt__, __le__ = (_operator(name) for name in ("gt", "ge", "lt", "le"))
    __eq__, __ne__ = _operator("eq"), _operator("ne")  # type: ignore[assignment]
    __and__, __or__ = _operator("logical_and"), _operator("logical_or")
    __hash__ = None  # type: ignore[assignment]

    def __neg__(self) -> Any:
        return entrywise(TABLE["neg"], [self])

    def __invert__(self) -> Any:
        return entrywise(TABLE["logical_not"], [self])

    def __getitem__(self, index: Any) -> Any:
        if not self.mapped:
            return Batched(self.array[index], False)
        parts = index if isinstance(index, tuple) else (index,)
        if scattered(parts):
            raise TypeError("indices that are apart move their axes to the front, where the batch is")
        return Batched(self.array[(slice(None), *parts)])


def scattered(parts: tuple[Any, ...]) -> Any:
    """Whether an array stands in the index and something else between it and another number or array."""
    kinds = [hasattr(part, "dtype") or isinstance(part, (int, list)) for part in parts]
    if not any(hasattr(part, "shape") or isinstance(part, list) for part in parts):
        return False
    places = [place for place, kind in enumerate(kinds) if kind]
    return places != list(range(places[0], places[0] + len(places)))


def lifted(x: Any) -> Batched:
    """``x`` as a member of the namespace; what is none yet, all samples share."""
    return x if isinstance(x, Batched) else Batched(as_tensor(x), False)


def aligned(values: list[Any]) -> list[Any]:
    """What ``values`` hold, with axes of length 1 behind the batch, so that samples broadcast."""
    rank = builtins.max((len(v.shape) for v in values if isinstance(v, Batched)), default=0)
    return [_padded(v, rank) if isinstance(v, Batched) else v for v in values]


def _padded(x: Batched, rank: int) -> Any:
    missing = rank - len(x.shape)
    if not (x.mapped and missing):
        return x.array
    return apply(TABLE["reshape"], x.array, shape=(x.array.shape[0], *(1,) * missing, *x.shape))


def entrywise(op: Op, values: list[Any], params: Any = None) -> Batched:
    """The same operation one level down, sample by sample aligned."""
    mapped = any(isinstance(v, Batched) and v.mapped for v in values)
    return Batched(apply(op, *aligned(values), **(params or {})), mapped)


def along_axis(op: Op, x: Batched, axis: Any, **params: Any) -> Batched:
    """``op`` along an axis of each sample: an int, a tuple, or ``None`` for all (or the flattened sample)."""
    if not x.mapped:
        return Batched(apply(op, x.array, axis=axis, **params), False)
    rank = len(x.shape)
    if not rank:
        raise TypeError("a number has no axis")
    if axis is None:
        flat = Batched(apply(op, reshape(x, (-1,)).array, axis=1, **params))
        return reshape(flat, (1,) * rank) if params.get("keepdims") else flat
    many = isinstance(axis, tuple)
    axes = tuple(axis) if many else (axis,)
    if not all(-rank <= a < rank for a in axes):
        raise IndexError(f"axis {axis} of a sample with {rank} axes")
    shifted = tuple(a % rank + 1 for a in axes)
    return Batched(apply(op, x.array, axis=shifted if many else shifted[0], **params))


def __getattr__(name: str) -> Any:
    op = TABLE.get(name)
    if not isinstance(op, Elementwise):
        raise AttributeError(f"the batched namespace has no {name!r}")

    def function(*values: Any) -> Batched:
        return entrywise(op, [v if isinstance(v, (int, float)) else lifted(v) for v in values])

    return function


# Reductions


def sum(x: Any, axis: Any = None, keepdims: Any = False) -> Batched:
    """Σ x over ``axis`` of each sample."""
    return along_axis(TABLE["sum"], x, axis, keepdims=keepdims) if x.shape else x


def max(x: Any, axis: Any = None, keepdims: Any = False) -> Batched:
    """The largest entry over ``axis`` of each sample."""
    return along_axis(TABLE["max"], x, axis, keepdims=keepdims) if x.shape else x


def argmax(x: Any, axis: Any = None, keepdims: Any = False) -> Batched:
    """Where the largest entry of each sample stands."""
    return along_axis(TABLE["argmax"], x, axis, keepdims=keepdims)


# Shapes


def reshape(x: Any, shape: Any) -> Batched:
    """The entries of each sample in another shape."""
    if not x.mapped:
        return Batched(apply(TABLE["reshape"], x.array, shape=shape), False)
    wanted = list(shape)
    if -1 in wanted:
        others = math.prod(n for n in wanted if n != -1)
        wanted[wanted.index(-1)] = math.prod(x.shape) // others if others else -1
    if math.prod(wanted) != math.prod(x.shape):
        raise ValueError(f"cannot reshape a sample of shape {x.shape} into {tuple(shape)}")
    if tuple(wanted) == x.shape:
        return x
    return Batched(apply(TABLE["reshape"], x.array, shape=(x.array.shape[0], *wanted)))


def permute_dims(x: Any, axes: Any) -> Batched:
    """The axes of each sample in another order."""
    if not x.mapped:
        return Batched(apply(TABLE["permute"], x.array, axes=axes), False)
    rank = len(x.shape)
    if sorted(a % rank if rank else a for a in axes) != list(range(rank)):
        raise ValueError(f"axes {axes} of a sample with {rank} axes")
    return Batched(apply(TABLE["permute"], x.array, axes=(0, *(a % rank + 1 for a in axes))))


def matrix_transpose(x: Any) -> Batched:
    """The last two axes of each sample swapped."""
    rank = len(x.shape)
    return permute_dims(x, (*range(rank - 2), rank - 1, rank - 2))


def broadcast_to(x: Any, shape: Any) -> Batched:
    """Axes of each sample repeated without copying."""
    if not x.mapped:
        return Batched(apply(TABLE["broadcast_to"], x.array, shape=shape), False)
    if len(shape) < len(x.shape):
        raise ValueError(f"a sample of shape {x.shape} does not broadcast to {shape}")
    padded = _padded(x, len(shape))
    return Batched(apply(TABLE["broadcast_to"], padded, shape=(padded.shape[0], *shape)))


# Matrix products


def matmul(x: Any, y: Any) -> Batched:
    """The matrix product of each sample: one product for all of them where a side is shared."""
    if not (x.mapped or y.mapped):
        return Batched(apply(TABLE["matmul"], x.array, y.array), False)
    if len(x.shape) == 1:
        row = matmul(reshape(x, (1, -1)), y)
        return reshape(row, (*row.shape[:-2], row.shape[-1]))
    if len(y.shape) == 1:
        column = matmul(x, reshape(y, (-1, 1)))
        return reshape(column, column.shape[:-1])
    if x.shape[-1] != y.shape[-2]:
        raise ValueError(f"the product of samples of shapes {x.shape} and {y.shape}")
    if x.mapped and not y.mapped and len(y.shape) == 2:
        return _rows_times(x, y)
    if y.mapped and not x.mapped and len(x.shape) == 2:
        return matrix_transpose(_rows_times(matrix_transpose(y), matrix_transpose(x)))
    return entrywise(TABLE["matmul"], [x, y])


def _rows_times(x: Any, y: Any) -> Batched:
    """The rows of all samples, stacked, times one shared matrix."""
    stacked = apply(TABLE["reshape"], x.array, shape=(math.prod(x.array.shape[:-1]), x.shape[-1]))
    product = apply(TABLE["matmul"], stacked, y.array)
    return Batched(apply(TABLE["reshape"], product, shape=(*x.array.shape[:-1], y.shape[-1])))


# Types and constants


def astype(x: Any, dtype: Any) -> Batched:
    """The entries converted to ``dtype``."""
    return Batched(x.array.to(dtype), x.mapped)


def asarray(x: Any, copy: Any = None) -> Batched:
    """``x`` itself, or a copy."""
    x = lifted(x)
    return Batched(apply(TABLE["clone"], x.array), x.mapped) if copy else x


def full_like(x: Any, value: Any) -> Batched:
    """``value`` everywhere in the shape and dtype of a sample; all samples share it."""
    return lifted(np.full(x.shape, value, x.dtype))


zeros_like, ones_like = partial(full_like, value=0), partial(full_like, value=1)


def arange(stop: int) -> Batched:
    """0, 1, …, stop − 1; all samples share it."""
    return lifted(np.arange(stop))


def first_axis(x: Tensor, axis: int) -> Tensor:
    """``x`` with ``axis`` moved to the front."""
    if axis % x.ndim == 0:
        return x
    others = [a for a in range(x.ndim) if a != axis % x.ndim]
    return apply(TABLE["permute"], x, axes=(axis % x.ndim, *others))


def _scatter(values: Any, index: Any, shape: tuple[int, ...]) -> Batched:
    if not values.mapped:
        return Batched(apply(TABLE["put"], values.array, index=index, shape=shape), False)
    parts = index if isinstance(index, tuple) else (index,)
    if scattered(parts):
        raise TypeError("indices that are apart move their axes to the front, where the batch is")
    size = values.array.shape[0]
    placed = apply(TABLE["put"], values.array, index=(slice(None), *parts), shape=(size, *shape))
    return Batched(placed)


backstory_extras = SimpleNamespace(scatter=_scatter)
