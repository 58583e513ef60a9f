"""The level of ``vmap``: it turns one operation on all samples into one operation on the level below."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from backstory.autograd.levels import promoted
from backstory.core import apply, as_operand
from backstory.errors import BackstoryError, ShapeError
from backstory.func import batched
from backstory.func.batched import Batched, along_axis, entrywise
from backstory.graph import Level
from backstory.ops import TABLE, Elementwise, Op
from backstory.tensor import Tensor, wrap

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
        except _REFUSED as e:
            import os
            if os.environ.get("DBG"): import traceback; traceback.print_exc()
            # What the namespace cannot do for all samples at once is done one by one; so is
            # what is wrong, for an error about the shapes of one sample.
            out = self.one_by_one(op, values, params)
        return wrap(out, self.number) if out.mapped else out.array

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
    if isinstance(op, Elementwise):
        return entrywise(op, values, params)
    own = RULES.get(op.name)
    if own is not None:
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


RULES: dict[str, Callable[[Op, list[Any], Mapping[str, Any]], Batched]] = {
    "cross_entropy": _cross_entropy,
    "linear": _linear,
}
