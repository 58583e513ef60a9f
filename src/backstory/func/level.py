"""The level of ``vmap``: it turns one operation on all samples into one operation on the level below."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from backstory.autograd.function import run
from backstory.autograd.levels import promoted
from backstory.core import apply, as_operand
from backstory.errors import BackstoryError, ShapeError
from backstory.func import batched
from backstory.func.batched import Batched, along_axis, entrywise, first_axis
from backstory.func.custom import for_samples, one_of_samples
from backstory.func.windows import convolved, sliding
from backstory.graph import Level
from backstory.ops import TABLE, Elementwise, Op
from backstory.tensor import Tensor, as_tensor, wrap

__all__ = ["VmapLevel", "stacked"]

_REFUSED = (BackstoryError, AttributeError, TypeError, ValueError, IndexError)


class VmapLevel(Level):
    """Tensors of the level hold a :class:`~backstory.func.batched.Batched` of ``size`` samples."""

    __slots__ = ("randomness", "size")

    records = False

    def __init__(self, size: int, randomness: str = "error") -> None:
        super().__init__()
        self.size = size
        self.randomness = randomness

    def run(self, op: Op, args: Sequence[Any], params: Mapping[str, Any]) -> Tensor:
        values = [self.value(a) for a in args]
        try:
            out = lower(op, promoted(op, batched, values), params)
        except _REFUSED:
            # What the namespace cannot do for all samples at once is done one by one; so is
            # what is wrong, for an error about the shapes of one sample.
            out = self.one_by_one(op, values, params)
        return wrap(out, self.number) if out.mapped else out.array

    def below(self, x: Tensor) -> Tensor:
        return x.array.array

    def of_samples(self, x: Tensor) -> Tensor:
        return wrap(Batched(x), self.number)

    def custom(self, function: Any, args: Sequence[Any], wanted: tuple[bool, ...]) -> Any:
        values = [self.value(a) if isinstance(a, Tensor) else a for a in args]
        mapped = tuple(isinstance(v, Batched) and v.mapped for v in values)
        below = [v.array if isinstance(v, Batched) else v for v in values]
        outputs, single, fctx = run(for_samples(function, self, mapped), below, wanted)
        lifted = tuple(wrap(Batched(x), self.number) if isinstance(x, Tensor) else x for x in outputs)
        known = [*zip(below, args, strict=True), *zip(outputs, lifted, strict=True)]
        return lifted, single, one_of_samples(fctx, known, self)

    def value(self, x: Any) -> Any:
        """An argument as a member of the batched namespace; Python scalars and ``None`` as they are."""
        x = as_operand(x)
        if not isinstance(x, Tensor):
            return x
        return x.array if x.level == self.number else Batched(x, False)

    def one_by_one(self, op: Op, values: list[Any], params: Mapping[str, Any]) -> Batched:
        """``op`` on each sample alone."""
        if not self.size:
            raise ShapeError(
                f"{op.name} inside vmap over 0 samples",
                why="it runs sample by sample, and without one its shape is unknown",
                instead="at least one sample",
            )
        return Batched(
            stacked(
                [
                    apply(op, *(sample(v, place) if isinstance(v, Batched) else v for v in values), **params)
                    for place in range(self.size)
                ]
            )
        )


def sample(x: Batched, place: int) -> Tensor:
    """What one sample sees of ``x``."""
    return x.array[place] if x.mapped else x.array


def stacked(parts: Sequence[Tensor]) -> Tensor:
    """Tensors of one shape, joined along a new first axis."""
    rows = [apply(TABLE["reshape"], part, shape=(1, *part.shape)) for part in parts]
    return apply(TABLE["concat"], *rows, axis=0, sizes=(1,) * len(rows))


def lower(op: Op, values: list[Any], params: Mapping[str, Any]) -> Batched:
    """One operation on samples, in operations of the level below."""
    if op.__class__ is Elementwise:
        return entrywise(op, values, params)
    own = RULES.get(op.name)
    if own is not None and any(isinstance(v, Batched) and v.mapped for v in values):
        return own(op, values, params)
    arrays = [v for v in values if isinstance(v, Batched)]
    # The same record along a shifted axis, so that the level below differentiates it as the table says.
    if "axis" in _parameters(op) and len(arrays) == 1 and values[0] is arrays[0]:
        others = {key: value for key, value in params.items() if key != "axis"}
        return along_axis(op, arrays[0], params.get("axis", _parameters(op)["axis"].default), **others)
    out = op.forward(batched, *values, **params)
    return out[0] if op.residuals else out


@cache
def _parameters(op: Op) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(op.forward).parameters


def _linear(op: Op, values: list[Any], params: Mapping[str, Any]) -> Batched:
    """x Wᵀ + b with shared W and b: the samples' rows are rows of one product."""
    x, *others = values
    if any(v is not None and v.mapped for v in others) or not x.shape:
        return op.forward(batched, *values, **params)
    lead = x.array.shape[:-1]
    rows = x.array if len(lead) == 1 else apply(TABLE["reshape"], x.array, shape=(-1, x.shape[-1]))
    product = apply(op, rows, *(None if v is None else v.array for v in others), **params)
    if len(lead) > 1:
        product = apply(TABLE["reshape"], product, shape=(*lead, product.shape[-1]))
    return Batched(product)


def _cross_entropy(op: Op, values: list[Any], params: Mapping[str, Any]) -> Batched:
    """The samples' rows are rows of one table of losses."""
    logits, target = values
    reduction = params.get("reduction", "mean")
    size = (logits if logits.mapped else target).array.shape[0]
    rows, classes = logits.shape
    shapes = ((size, rows, classes), (size, rows))
    flat = [
        apply(TABLE["reshape"], _spread(v, shape), shape=(-1, *shape[2:]))
        for v, shape in zip(values, shapes, strict=True)
    ]
    losses = Batched(
        apply(TABLE["reshape"], apply(op, *flat, reduction="none"), shape=(size, rows)),
    )
    return losses if reduction == "none" else along_axis(TABLE[reduction], losses, 0, keepdims=False)


def _spread(x: Batched, shape: tuple[int, ...]) -> Any:
    return x.array if x.mapped else apply(TABLE["broadcast_to"], x.array, shape=shape)


def _take(op: Op, values: list[Any], params: Mapping[str, Any]) -> Batched:
    """The slices that each sample chooses, out of the slices of all samples in one row."""
    x, index = values
    axis, length = params["axis"] % len(x.shape), params["length"]
    if not index.mapped:
        return Batched(apply(op, x.array, index.array, axis=axis + 1, length=length))
    size, count = index.array.shape
    if not x.mapped:
        taken = apply(op, x.array, _flat(index.array, 0), axis=axis, length=length)
        lead = x.shape[:axis]
        apart = apply(TABLE["reshape"], taken, shape=(*lead, size, count, *x.shape[axis + 1 :]))
        return Batched(first_axis(apart, axis))
    rows = _rows_first(x.array, axis, length)
    taken = apply(op, rows, _flat(index.array, length), axis=0, length=size * length)
    return Batched(_rows_back(taken, (size, count), x.shape, axis))


def _index_add(op: Op, values: list[Any], params: Mapping[str, Any]) -> Batched:
    """The transpose of :func:`_take`."""
    x, index = values
    axis, length = params["axis"] % len(x.shape), params["length"]
    if not index.mapped:
        return Batched(apply(op, x.array, index.array, axis=axis + 1, length=length))
    size, count = index.array.shape
    rows = _rows_first(_spread(x, (size, *x.shape)), axis, count)
    added = apply(op, rows, _flat(index.array, length), axis=0, length=size * length)
    return Batched(_rows_back(added, (size, length), x.shape, axis))


def _flat(index: Tensor, length: int) -> Tensor:
    """The samples' indices in one row, each sample's moved behind those before it by ``length``."""
    if length:
        offsets = as_tensor(np.arange(index.shape[0], dtype=index.dtype).reshape(-1, 1) * length)
        index = apply(TABLE["add"], index, offsets)
    return apply(TABLE["reshape"], index, shape=(-1,))


def _rows_first(x: Tensor, axis: int, length: int) -> Tensor:
    """(B, …, n, …) → (B·n, …)"""
    order = (0, axis + 1, *(a for a in range(1, x.ndim) if a != axis + 1))
    moved = apply(TABLE["permute"], x, axes=order)
    return apply(TABLE["reshape"], moved, shape=(x.shape[0] * length, *moved.shape[2:]))


def _rows_back(rows: Tensor, lead: tuple[int, int], shape: tuple[int, ...], axis: int) -> Tensor:
    """(B·k, …) → (B, …, k, …)"""
    apart = apply(TABLE["reshape"], rows, shape=(*lead, *rows.shape[1:]))
    order = [0, *range(2, len(shape) + 1)]
    order.insert(axis + 1, 1)
    return apply(TABLE["permute"], apart, axes=tuple(order))


def _concat(op: Op, values: list[Any], params: Mapping[str, Any]) -> Batched:
    """Joined along an axis behind the batch."""
    size = next(v.array.shape[0] for v in values if v.mapped)
    axis = params["axis"] % len(values[0].shape) + 1
    parts = [_spread(v, (size, *v.shape)) for v in values]
    return Batched(apply(op, *parts, axis=axis, sizes=params["sizes"]))


RULES: dict[str, Callable[[Op, list[Any], Mapping[str, Any]], Batched]] = {
    "concat": _concat,
    "conv": convolved,
    "cross_entropy": _cross_entropy,
    "fold": sliding,
    "index_add": _index_add,
    "linear": _linear,
    "take": _take,
    "unfold": sliding,
}
