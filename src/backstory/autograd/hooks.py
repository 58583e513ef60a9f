"""Calling hooks: what a walk hands to them, and what it does with what they return."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from backstory.errors import GraphError, ShapeError
from backstory.graph import Node, context
from backstory.hooks import Extra, LeafHooks
from backstory.tensor import Tensor, wrap

__all__ = ["arrive_at_leaf", "arrive_at_node", "replaced", "seen", "unseen"]

Hook = Callable[..., Any]


def seen(g: Any, place: Any, create_graph: bool) -> Tensor:
    """A cotangent of the walk as users see it: a tensor of the level that the walk is on."""
    if isinstance(g, Tensor) and (create_graph or g.level >= place.level):
        return g
    return wrap(g if isinstance(g, Tensor) else context().xp.asarray(g), place.level)


def unseen(g: Tensor, place: Any, create_graph: bool) -> Any:
    """The way back: what :func:`seen` was made from."""
    return g.array if g.level == place.level and not create_graph else g


def arrive_at_node(extra: Extra, node: Node, g: Any, create_graph: bool) -> Any:
    """The cotangent of a node's output after the hooks on that tensor, kept where it is to be."""
    for hook in tuple(extra.tensor_hooks.values()):
        g = _replaced_one(hook, g, node, create_graph)
    tensor = None if extra.retained is None else extra.retained()
    if tensor is not None:
        part = seen(g, node, create_graph)
        if not create_graph:
            part = wrap(
                context().xp.asarray(part.array, copy=True) if part.level == 0 else part.array, part.level
            )
        tensor._grad = part if tensor._grad is None else tensor._grad + part
    return g


def arrive_at_leaf(hooks: LeafHooks, leaf: Tensor, g: Any, create_graph: bool) -> Any:
    """The gradient of a leaf after the hooks on it."""
    for hook in tuple(hooks.before.values()):
        g = _replaced_one(hook, g, leaf, create_graph)
    return g


def _replaced_one(hook: Hook, g: Any, place: Any, create_graph: bool) -> Any:
    shown = seen(g, place, create_graph)
    result = hook(shown)
    if result is None:
        return g
    new = _fitting(result, shown, f"a hook on a tensor of shape {place.shape}")
    return unseen(new, place, create_graph)


def replaced(
    hook: Hook, values: list[Any], others: tuple[Any, ...], node: Node, create_graph: bool
) -> list[Any]:
    """What a hook on a node made of the cotangents of its inputs or outputs; ``None`` stands for none."""
    shown = tuple(None if v is None else seen(v, node, create_graph) for v in values)
    result = hook(shown, *others)
    if result is None:
        return values
    results = result if isinstance(result, (tuple, list)) else (result,)
    if len(results) != len(shown):
        raise GraphError(
            f"a hook on {node!r} returned {len(results)} gradients",
            why=f"it received {len(shown)}, and what it returns takes their place",
            instead="None, or as many gradients as it received",
        )
    return [
        None
        if new is None or old is None
        else unseen(_fitting(new, old, f"a hook on {node!r}"), node, create_graph)
        for new, old in zip(results, shown, strict=True)
    ]


def _fitting(result: Any, shown: Tensor, what: str) -> Tensor:
    if not isinstance(result, Tensor):
        raise GraphError(
            f"{what} returned {type(result).__name__}",
            why="what a hook returns takes the place of the gradient",
            instead="None, or a tensor of the gradient's shape",
        )
    if result.shape != shown.shape:
        raise ShapeError(
            f"{what} returned a tensor of shape {result.shape}",
            why=f"the gradient has shape {shown.shape}",
            instead="None, or a tensor of the gradient's shape",
        )
    return result if result.dtype == shown.dtype else result.to(shown.dtype)
