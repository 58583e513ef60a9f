"""The base of every optimizer: groups of parameters, state from construction on, a pure rule per kind.

A rule is a function of an array namespace and arrays that returns the *change* of the parameter and
the new state. The change itself is what observers see, so that gradient and update stay apart.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from backstory.arrays import eager
from backstory.errors import ArgumentError, GraphError
from backstory.graph import context
from backstory.history import count_change, user_line
from backstory.nn.module import clear_grad
from backstory.tensor import Tensor

__all__ = ["Handle", "Optimizer", "checked_rate"]


class Handle:
    """Removes what a ``register_…`` call added."""

    def __init__(self, hooks: list[Any], hook: Any) -> None:
        self._hooks, self._hook = hooks, hook

    def remove(self) -> None:
        """Remove it; a second call does nothing."""
        if self._hook in self._hooks:
            self._hooks.remove(self._hook)


def checked_rate(name: str, value: float, upper: float = float("inf")) -> float:
    """``value`` if 0 ≤ value < upper (and finite), else an error that names it."""
    if not 0.0 <= value < upper:
        bound = "" if upper == float("inf") else f" and below {upper:g}"
        raise ArgumentError(
            f"{name}={value}",
            why=f"it must be a finite number of at least 0{bound}"
            + ("; a negative rate would climb the loss" if name == "lr" else ""),
            instead={"lr": "lr=0.01", "momentum": "momentum=0.9"}.get(name, f"{name} in that range"),
        )
    return value


class Optimizer(ABC):
    """Holds parameters in groups (``param_groups``) and moves them in ``step()``.

    ``state`` maps each parameter to its arrays (momentum and the like), which exist from the start.
    """

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        if isinstance(params, Tensor):
            raise ArgumentError(
                f"{type(self).__name__} received one tensor",
                why="an optimizer takes the parameters as a collection",
                instead=f"{type(self).__name__}([w], …) or {type(self).__name__}(model.parameters(), …)",
            )
        groups = list(params)
        if not groups:
            raise ArgumentError(
                f"{type(self).__name__} received no parameters",
                why="there is nothing to move (an iterator of parameters can be used up once)",
                instead="model.parameters(), called anew",
            )
        if not isinstance(groups[0], Mapping):
            groups = [{"params": groups}]
        self.param_groups: list[dict[str, Any]] = []
        self.state: dict[Tensor, dict[str, Any]] = {}
        for group in groups:
            full = {**defaults, **group, "params": list(group["params"])}
            self.check(full)
            for p in full["params"]:
                self._adopt(p, full)
            self.param_groups.append(full)
        self._before: list[Callable[[Optimizer], None]] = []
        self._after: list[Callable[[Optimizer], None]] = []
        self.changes: dict[Tensor, np.ndarray] | None = None

    def _adopt(self, p: Any, group: Mapping[str, Any]) -> None:
        if not isinstance(p, Tensor) or not p.is_leaf:
            raise GraphError(
                f"{type(self).__name__} received {type(p).__name__} as a parameter",
                why="only a leaf tensor can be moved: the result of an operation is computed anew each time",
                instead="model.parameters()",
            )
        if p in self.state:
            raise ArgumentError(
                f"{type(self).__name__} received one parameter twice, of shape {p.shape}",
                why="it would be moved twice in a step",
                instead="each parameter in one group",
            )
        self.state[p] = self.initial_state(p, group)

    @abstractmethod
    def check(self, group: Mapping[str, Any]) -> None:
        """Refuse settings that make no sense, before anything is built."""

    @abstractmethod
    def initial_state(self, p: Tensor, group: Mapping[str, Any]) -> dict[str, Any]:
        """The state of a parameter before the first step."""

    @abstractmethod
    def update(self, xp: Any, p: Any, g: Any, state: Mapping[str, Any], group: Mapping[str, Any]) -> Any:
        """The change of ``p`` and the new state, from the gradient ``g``; pure."""

    def step(self) -> None:
        """Move every parameter that has a gradient, once."""
        for group in self.param_groups:
            self.check(group)
        for hook in tuple(self._before):
            hook(self)
        quiet = context().quiet.copy()
        for group in self.param_groups:
            quiet.run(self._move, group)
        for hook in tuple(self._after):
            hook(self)

    def _move(self, group: Mapping[str, Any]) -> None:
        """Move the parameters of one group."""
        states, update, seen, here = self.state, self.update, self.changes, user_line()
        for p in group["params"]:
            if p.grad is None:
                continue
            change, states[p] = update(eager, p.array, p.grad.array, states[p], group)
            p.array += change
            count_change(p._counter, here)
            if seen is not None:
                seen[p] = change

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters."""
        for group in self.param_groups:
            for p in group["params"]:
                clear_grad(p, set_to_none)

    def register_step_pre_hook(self, hook: Callable[[Optimizer], None]) -> Handle:
        """Call ``hook(optimizer)`` before every step; the handle removes it."""
        self._before.append(hook)
        return Handle(self._before, hook)

    def register_step_post_hook(self, hook: Callable[[Optimizer], None]) -> Handle:
        """Call ``hook(optimizer)`` after every step; the handle removes it."""
        self._after.append(hook)
        return Handle(self._after, hook)
