"""Hooks on modules: before and after a call, and when gradients pass through it (:mod:`~.gates`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from backstory.errors import GraphError
from backstory.hooks import Handle

__all__ = ["ModuleHooks", "call_with_hooks"]

Hook = Callable[..., Any]


class ModuleHooks:
    """The hooks of one module, each with whether it receives keyword arguments too."""

    __slots__ = ("after", "backward", "backward_before", "before")

    def __init__(self) -> None:
        self.before: dict[int, tuple[Hook, bool]] = {}
        self.after: dict[int, tuple[Hook, bool]] = {}
        self.backward_before: dict[int, Hook] = {}
        self.backward: dict[int, Hook] = {}

    def add(self, kind: str, hook: Any, first: bool) -> Handle:
        """Register a hook of the kind that a slot names."""
        return Handle(getattr(self, kind), hook, first)

    def functions(self) -> list[Hook]:
        """The hooks of all kinds."""
        around = [hook for hook, _ in (*self.before.values(), *self.after.values())]
        return [*around, *self.backward_before.values(), *self.backward.values()]


def call_with_hooks(module: Any, hooks: ModuleHooks, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``module.forward`` with the hooks around it."""
    for hook, with_kwargs in tuple(hooks.before.values()):
        args, kwargs = _before(module, hook, with_kwargs, args, kwargs)
    gates = None
    if hooks.backward or hooks.backward_before:
        from backstory.nn.gates import Gates

        gates = Gates(module, hooks)
        args = gates.enter(args)
    out = module.forward(*args, **kwargs)
    for hook, with_kwargs in tuple(hooks.after.values()):
        changed = hook(module, args, kwargs, out) if with_kwargs else hook(module, args, out)
        out = out if changed is None else changed
    return out if gates is None else gates.leave(out)


def _before(
    module: Any, hook: Hook, with_kwargs: bool, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if not with_kwargs:
        changed = hook(module, args)
        if changed is None:
            return args, kwargs
        return (changed if isinstance(changed, tuple) else (changed,)), kwargs
    changed = hook(module, args, kwargs)
    if changed is None:
        return args, kwargs
    if not (isinstance(changed, tuple) and len(changed) == 2):
        raise GraphError(
            f"a forward pre-hook of {type(module).__name__} returned {type(changed).__name__}",
            why="with_kwargs=True it decides about both kinds of arguments",
            instead="None, or (args, kwargs)",
        )
    return changed
