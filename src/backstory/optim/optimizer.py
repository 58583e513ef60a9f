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
from backstory.errors import ArgumentError, GraphError, ShapeError
from backstory.graph import context, structure
from backstory.history import count_change, user_line
from backstory.nn.parameter import clear_grad
from backstory.tensor import Tensor, wrap

__all__ = ["Handle", "Optimizer", "checked_rate"]


def _as_array(value: Any) -> Any:
    return np.asarray(value) if isinstance(value, np.generic) else value


def _copied(value: Any) -> Any:
    # Eager steps make new arrays, but compiled ones write into those that are there.
    return wrap(value.copy(), 0) if isinstance(value, np.ndarray) else value


class Handle:
    """Removes what a ``register_…`` call added."""

    def __init__(self, hooks: list[Any], hook: Any) -> None:
        self._hooks, self._hook = hooks, hook
        structure[0] += 1

    def remove(self) -> None:
        """Remove it; a second call does nothing."""
        if self._hook in self._hooks:
            self._hooks.remove(self._hook)
            structure[0] += 1


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
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self.state: dict[Tensor, dict[str, Any]] = {}
        for group in groups:
            self.add_param_group(group)
        self._before: list[Callable[[Optimizer], None]] = []
        self._after: list[Callable[[Optimizer], None]] = []
        self.changes: dict[Tensor, np.ndarray] | None = None

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Move the parameters ``group["params"]`` too; what else it says is for them, the rest as for all.

        >>> import backstory
        >>> from backstory.optim import SGD
        >>> w, b = backstory.ones(2, requires_grad=True), backstory.ones(1, requires_grad=True)
        >>> optimizer = SGD([w], lr=0.1)
        >>> optimizer.add_param_group({"params": [b], "lr": 0.01})
        >>> [group["lr"] for group in optimizer.param_groups]
        [0.1, 0.01]
        """
        name = type(self).__name__
        if "params" not in group:
            raise ArgumentError(
                f"{name} received a group of {sorted(group)}",
                why="a group names its parameters",
                instead='{"params": module.parameters(), "lr": 0.01}',
            )
        unknown = sorted(group.keys() - self.defaults.keys() - {"params", "initial_lr"})
        if unknown:
            raise ArgumentError(
                f"{name} received a group with {', '.join(unknown)}",
                why="it has no such setting",
                instead=f"some of {', '.join(self.defaults)}",
            )
        params = group["params"]
        full = {**self.defaults, **group, "params": [params] if isinstance(params, Tensor) else list(params)}
        self.check(full)
        new: dict[Tensor, dict[str, Any]] = {}
        for p in full["params"]:
            self._check_parameter(p, new)
            new[p] = self.initial_state(p, full)
        self.state.update(new)
        self.param_groups.append(full)
        structure[0] += 1

    def _check_parameter(self, p: Any, seen: Mapping[Tensor, Any]) -> None:
        if not isinstance(p, Tensor) or not p.is_leaf:
            raise GraphError(
                f"{type(self).__name__} received {type(p).__name__} as a parameter",
                why="only a leaf tensor can be moved: the result of an operation is computed anew each time",
                instead="model.parameters()",
            )
        if p in self.state or p in seen:
            raise ArgumentError(
                f"{type(self).__name__} received one parameter twice, of shape {p.shape}",
                why="it would be moved twice in a step",
                instead="each parameter in one group",
            )

    @abstractmethod
    def check(self, group: Mapping[str, Any]) -> None:
        """Refuse settings that make no sense, before anything is built."""

    @abstractmethod
    def initial_state(self, p: Tensor, group: Mapping[str, Any]) -> dict[str, Any]:
        """The state of a parameter before the first step."""

    @abstractmethod
    def update(self, xp: Any, p: Any, g: Any, state: Mapping[str, Any], group: Mapping[str, Any]) -> Any:
        """The change of ``p`` and the new state, from the gradient ``g``; pure."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move every parameter that has a gradient, once.

        ``closure``, if given, is called first to compute loss and gradients; its loss is returned.
        """
        loss = None if closure is None else closure()
        for group in self.param_groups:
            self.check(group)
        for hook in tuple(self._before):
            hook(self)
        quiet = context().quiet.copy()
        for group in self.param_groups:
            quiet.run(self._move, group)
        for hook in tuple(self._after):
            hook(self)
        return loss

    def _move(self, group: Mapping[str, Any]) -> None:
        """Move the parameters of one group."""
        trace = context().trace
        if trace is not None:
            trace.updates.move(self, group)
            return
        states, update, seen, here = self.state, self.update, self.changes, user_line()
        for p in group["params"]:
            if p.grad is None:
                continue
            change, states[p] = update(eager, p.array, p.grad.array, states[p], group)
            if not p.array.ndim:  # NumPy gives scalars for arrays without axes
                states[p] = {key: _as_array(value) for key, value in states[p].items()}
            p.array += change
            count_change(p._counter, here)
            if seen is not None:
                seen[p] = change
            del change  # else it stands beside those of the next parameter

    def state_dict(self) -> dict[str, Any]:
        """State and settings, with parameters by their number, as PyTorch lays them out; no step changes it.

        ``state`` maps numbers to tensors and counts by name; ``param_groups`` lists settings and numbers.
        """
        every = [p for group in self.param_groups for p in group["params"]]
        numbers = {p: number for number, p in enumerate(every)}
        state = {numbers[p]: {key: _copied(value) for key, value in self.state[p].items()} for p in every}
        groups = [{**group, "params": [numbers[p] for p in group["params"]]} for group in self.param_groups]
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned; all sizes must fit, else nothing changes.

        Settings such as ``lr`` are taken over too, and arrays get the dtype of their parameter.
        """
        saved = state_dict["param_groups"]
        sizes, own = [len(g["params"]) for g in saved], [len(g["params"]) for g in self.param_groups]
        if sizes != own:
            raise ArgumentError(
                f"{type(self).__name__}.load_state_dict() of groups of {sizes} parameters",
                why=f"this optimizer's groups have {own}",
                instead="the state of an optimizer built in the same way",
            )
        groups: list[dict[str, Any]] = []
        state: dict[Tensor, dict[str, Any]] = {}
        for group, other in zip(self.param_groups, saved, strict=True):
            full = {**group, **other, "params": group["params"]}
            for key, value in group.items():
                if isinstance(value, tuple):
                    full[key] = tuple(full[key])
            self.check(full)
            groups.append(full)
            for p, number in zip(group["params"], other["params"], strict=True):
                loaded = state_dict["state"].get(number, {})
                fitting = {key: self._fitting(p, key, value) for key, value in loaded.items()}
                state[p] = {**self.initial_state(p, full), **fitting}
        # In place, since schedules and users may hold the groups themselves.
        for group, full in zip(self.param_groups, groups, strict=True):
            group.update(full)
        self.state.update(state)

    def _fitting(self, p: Tensor, key: str, value: Any) -> Any:
        """A value of a loaded state as the rule takes it: a number, or an array of its own."""
        array = getattr(value, "array", value)
        if not isinstance(array, np.ndarray):
            return value
        if array.shape != p.shape:
            raise ShapeError(
                f"{type(self).__name__}.load_state_dict(): {key} has shape {array.shape}",
                why=f"it belongs to a parameter of shape {p.shape}",
                instead="the state of an optimizer of the same architecture",
            )
        return array.astype(p.dtype)

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
