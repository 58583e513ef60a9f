"""A call of a compiled function whose results have a history: one node of the graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from backstory.autograd.function import Function
from backstory.graph import context
from backstory.tensor import Tensor

__all__ = ["Call", "record"]


class Call(NamedTuple):
    """What one call leaves for its rule."""

    history: Any
    arrays: list[Any]
    numbers: list[Any]
    arguments: Any


def record(call: tuple[Any, ...], moving: list[Any], saved: list[Any], sources: Sequence[Any]) -> None:
    """Give the results ``moving`` of a call a node that leads to ``sources`` and reads what is ``saved``."""
    _Compiled.apply(Call(*call), moving, saved, *sources)


class _Compiled(Function):
    """One call of a compiled function, as a node."""

    @staticmethod
    def forward(ctx: Any, call: Call, outputs: list[Tensor], saved: list[Tensor], *sources: Tensor) -> Any:
        ctx.call, ctx.sources = call, sources
        ctx.save_for_backward(*saved)
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        _ = ctx.saved_tensors  # of a freed graph it is refused
        history = ctx.call.history
        if context().levels[0].grad_enabled or any(g.level for g in cotangents):
            parts = history.again(ctx.call, ctx.sources, cotangents)
        else:
            parts = history.pulled(ctx.call, cotangents)
        return (None, None, None, *parts)
