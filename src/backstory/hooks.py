"""Where hooks are kept, and the handles that remove them. What calls them is in ``autograd/hooks.py``."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

__all__ = ["Extra", "Handle", "LeafHooks", "structure"]

Hook = Callable[..., Any]
# How often modules and optimizers were changed in what they are, hooks included; compiled steps look here.
structure = [0]
_keys = itertools.count()


class Handle:
    """Removes a hook: by :meth:`remove`, or at the end of a ``with`` block.

    >>> hooks = {}
    >>> with Handle(hooks, print):
    ...     len(hooks)
    1
    >>> len(hooks)
    0
    """

    def __init__(self, hooks: dict[int, Any], hook: Any, first: bool = False) -> None:
        structure[0] += 1
        self._hooks, self._key = hooks, next(_keys)
        others = dict(hooks) if first else {}
        for key in others:
            del hooks[key]
        hooks[self._key] = hook
        hooks.update(others)

    def remove(self) -> None:
        """Forget the hook; once more does nothing."""
        structure[0] += 1
        self._hooks.pop(self._key, None)

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()


class Extra:
    """What few nodes have: hooks, the tensor that keeps its gradient, a custom function's call, an origin."""

    __slots__ = ("call", "origin", "posthooks", "prehooks", "retained", "tensor_hooks")

    def __init__(self) -> None:
        self.tensor_hooks: dict[int, Hook] = {}
        self.prehooks: dict[int, Hook] = {}
        self.posthooks: dict[int, Hook] = {}
        self.retained: Any = None  # a weak reference
        self.call: Any = None
        self.origin: Any = None


class LeafHooks:
    """The hooks of a leaf: on its gradient before it is accumulated, and on the leaf afterwards."""

    __slots__ = ("after", "before")

    def __init__(self) -> None:
        self.before: dict[int, Hook] = {}
        self.after: dict[int, Hook] = {}

    def functions(self) -> list[Hook]:
        """The hooks of both kinds."""
        return [*self.before.values(), *self.after.values()]
