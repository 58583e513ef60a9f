"""The level of a reverse derivative: tensors around tensors of lower levels, and a graph of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from backstory.core import apply, as_operand, record
from backstory.errors import GraphError
from backstory.graph import Level, context
from backstory.ops import Op
from backstory.promotion import promote
from backstory.tensor import Tensor, wrap

__all__ = ["GradLevel", "lift", "new_level", "promoted", "unlift"]


def promoted(op: Op, xp: Any, arrays: list[Any]) -> list[Any]:
    """``arrays`` at the dtype where ``op`` lets them meet."""
    if op.dtypes == "free":
        return arrays
    dtype: Any = None
    for a in arrays:
        if a.__class__ is not float and a.__class__ is not int and a is not None and a.__class__ is not bool:
            own = a.dtype
            if own is not dtype:
                if dtype is not None:
                    return promote(op.name, op.dtypes, xp, arrays)
                dtype = own
    return arrays if dtype.kind == "f" else promote(op.name, op.dtypes, xp, arrays)


def lift(x: Tensor, level: Level) -> Tensor:
    """A tensor of ``level`` around ``x``; changes of ``x`` in place are counted as changes of it."""
    lifted = wrap(x, level.number)
    lifted._counter = x._counter
    return lifted


def unlift(x: Tensor, level: Level) -> Tensor:
    """What ``x`` holds, if it is of ``level``, else ``x``: the way out of a transform."""
    if x.level > level.number:
        raise GraphError(
            f"a tensor of shape {x.shape} came back from inside a transform that has ended",
            why="nothing of a transform may outlive it",
            instead="the results that the inner transform returns",
        )
    return x.array if x.level == level.number else x


class GradLevel(Level):
    """Runs each operation one level down and records it, so that a walk back can follow."""

    __slots__ = ()

    def run(self, op: Op, args: Sequence[Any], params: Mapping[str, Any]) -> Tensor:
        arrays: list[Any] = []
        needing: list[int] = []
        tracked = op.differentiable and self.grad_enabled
        for i, a in enumerate(args):
            if isinstance(a, Tensor) and a.level == self.number:
                if a._requires_grad and tracked:
                    needing.append(i)
                a = a.array
            arrays.append(as_operand(a))
        # The kept inputs have the dtype that the rules expect.
        arrays = promoted(op, _tensors(), arrays)
        # The same record, not its rule: so the level below differentiates it as the table says.
        result = lift(apply(op, *arrays, **params), self)
        if needing:
            record(op, args, params, arrays, result, needing, None)
        return result

    def custom(self, function: Any, args: Sequence[Any], wanted: tuple[bool, ...]) -> Any:
        # Upwards: a function runs and records itself on each level.
        from backstory.autograd.function import recorded, run

        below = [a.array if isinstance(a, Tensor) and a.level == self.number else a for a in args]
        own = tuple(
            self.grad_enabled and isinstance(a, Tensor) and a.level == self.number and a.requires_grad
            for a in args
        )
        needs = tuple(a or b for a, b in zip(own, wanted, strict=True))
        outputs, single, fctx = run(function, below, needs)
        lifted = tuple(lift(x, self) if isinstance(x, Tensor) else x for x in outputs)
        fctx = fctx.lifted([*zip(below, args, strict=True), *zip(outputs, lifted, strict=True)], needs)
        if any(own):
            recorded(function, fctx, args, lifted, single, own)
        return lifted, single, fctx


def _tensors() -> Any:
    from backstory import array_api

    return array_api


@contextmanager
def new_level() -> Iterator[Level]:
    """A level of reverse differentiation above all present ones; what ``func.grad`` works in.

    Tensors of the level hold tensors of lower levels and must not outlive the block.
    """
    with context().inside(GradLevel()) as level:
        yield level
