"""Changes in place inside transforms: a tensor comes to stand for a new value, and so do all that share it.

Tensors of a transform are values, and have no memory of their own. A change gives the tensor the changed
value and its history; the whole that it is part of, and all other living parts of that, are made anew by the
operations that made them. Nothing that a node kept is touched: gradients are right whatever is changed when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from backstory.core import apply
from backstory.errors import GraphError
from backstory.graph import context
from backstory.history import check_changeable
from backstory.ops import TABLE

if TYPE_CHECKING:
    from backstory.tensor import Tensor

__all__ = ["check_rebindable", "overwritten", "rebind"]

Write = Callable[[Any, str, Any], Any]


def overwritten(x: Tensor, value: Any, index: Any = ...) -> Tensor:
    """``x`` with ``value``, of the shape of x[index], at that place."""
    return apply(TABLE["overwrite"], x, value, view=TABLE["getitem"], of={"index": index})


def check_rebindable(x: Tensor, name: str) -> None:
    """Refuse a change that somebody would not see who should, before anything is changed."""
    ctx = context()
    level = ctx.level(x.level, name)
    if level is not ctx.levels[-1]:
        raise GraphError(
            f"{name} on a tensor of shape {x.shape} of an outer transform",
            why="the change would depend on the inner transform, and outlive it",
            instead="x = x + y (a new tensor)",
        )
    whole = _whole(x, name)
    if whole._requires_grad and whole._grad_fn is None:
        what = "an argument" if whole is x else "a view of an argument"
        raise GraphError(
            f"{name} on {what} of shape {x.shape} that a gradient is taken of",
            why="the gradient would belong to a value that is no longer there",
            instead="x = x + y (a new tensor)",
        )
    origin = whole._view.origin if whole._view is not None else None
    if origin is not None and (origin.level or len(ctx.levels) > 2):
        raise GraphError(
            f"{name} on an argument of shape {x.shape} of a transform inside another",
            why="the memory is that of whoever called the transform, and would have to change too",
            instead="x = x + y (a new tensor)",
        )
    if not ctx.recording.grad_enabled and not level.records and level.below(whole).requires_grad:
        raise GraphError(
            f"{name} under no_grad on a tensor of shape {x.shape} of a transform",
            why="the transform runs on tensors with a history, and the change would lose it",
            instead="x = x.detach() + y (a new tensor)",
        )
    if origin is not None:
        check_changeable(origin, name)
    if any(part._view.op is None for part in _parts(whole)):
        raise GraphError(
            f"{name} on a tensor of shape {x.shape} whose detach() is still in use",
            why="both are one memory, and the detached tensor is to have no history",
            instead="x = x + y (a new tensor)",
        )


def _whole(x: Any, name: str) -> Any:
    """What ``x`` is part of, if it is."""
    recording = context().recording.grad_enabled
    whole: Any = x
    while whole._view is not None and whole._view.parent is not None:
        shared, whole = whole._view, whole._view.parent
        if shared.op is not None and x.numel() > whole.numel():
            raise GraphError(
                f"{name} on an expanded tensor of shape {x.shape}",
                why="an expanded tensor has one number for many entries",
                instead="x = x.clone(), which has memory of its own",
            )
        if recording and not shared.recorded:
            raise GraphError(
                f"{name} on a view of shape {x.shape} that was made under no_grad",
                why="the view has no history, and the change would be missing from that of its base",
                instead="the view and the change on the same side of `with backstory.no_grad():`",
            )
    return whole


def _parts(whole: Any) -> Iterator[Any]:
    """All living tensors that share the value of ``whole``, each after what it is part of."""
    waiting = [whole]
    while waiting:
        x = waiting.pop()
        if x._view is not None:
            found = [part for part in (ref() for ref in x._view.parts) if part is not None]
            yield from found
            waiting.extend(found)


def rebind(x: Tensor, value: Tensor, name: str, write: Write) -> None:
    """Make ``x`` stand for ``value``, and all that shares its value for what follows.

    ``write(tensor, name, value)`` changes memory outside of transforms: that of an argument.
    """
    level = context().levels[-1]
    recorded = not level.records or level.grad_enabled
    whole: Any = x
    while whole._view is not None and whole._view.parent is not None:
        shared = whole._view
        whole = shared.parent
        value = apply(TABLE["overwrite"], whole, value, view=shared.op, of=shared.params)
    if whole._view is not None and whole._view.origin is not None:
        write(whole._view.origin, name, level.below(value))
    _become(whole, value, recorded)
    for part in list(_parts(whole)):
        shared = part._view
        _become(part, apply(shared.op, shared.parent, **shared.params), recorded and shared.recorded)


def _become(x: Any, value: Any, recorded: bool) -> None:
    x.array = value.array
    if recorded:
        x._grad_fn, x._requires_grad = value._grad_fn, value._requires_grad
