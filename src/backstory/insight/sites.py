"""Sites: the places in a model where a gating activation runs, found where it runs.

A site's name is the module path plus the call's index within it, ``encoder.2/relu#0``; a unit is one
feature: a channel of a convolution, else an entry of the last axis.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from backstory.graph import context
from backstory.nn import Module
from backstory.ops import Op
from backstory.tensor import Tensor

__all__ = ["Observer", "Site", "observing"]


@dataclass(frozen=True)
class Site:
    """One site: its number in the run, its name, its operation and how many units it has."""

    index: int
    name: str
    op: str
    units: int

    def __str__(self) -> str:
        return self.name


class Observer:
    """Follows a model's forward pass and names the sites it meets; subclasses look at them."""

    def __init__(self, model: Module) -> None:
        self._paths = {id(module): path for path, module in model.named_modules()}
        self._stack: list[str] = [""]
        self._calls: dict[tuple[str, str], int] = {}
        self._axes: dict[int, tuple[Any, int]] = {}

    def restart(self) -> None:
        """A new forward pass of the whole model begins."""
        del self._stack[1:]
        self._calls.clear()
        self._axes.clear()

    def enter(self, module: Module) -> None:
        """A submodule is called."""
        self._stack.append(self._paths.get(id(module), self._stack[-1]))

    def leave(self, module: Module) -> None:
        """A submodule has returned."""
        self._stack.pop()

    def ran(self, op: Op, args: Any, result: Tensor, params: Any) -> None:
        """An operation ran; gates are handed on with the name of their site. Whole numbers pass none."""
        if (op.gates or (op.gating is not None and op.gating(args))) and result.dtype.kind == "f":
            self.gate(self.key_of(op), op, args, result, params)
        if self._axes or op.name == "conv":
            self._follow(op, args, result)

    def key_of(self, op: Op) -> tuple[str, str, int]:
        """Where ``op`` runs now: the module's path, its own name, and the how many-th of its calls there."""
        path = self._stack[-1]
        call = self._calls.get((path, op.name), 0)
        self._calls[path, op.name] = call + 1
        return path, op.name, call

    def _follow(self, op: Op, args: Any, result: Tensor) -> None:
        """Remember on which axis the channels of a convolution are, through what is done with it."""
        axis = -3 if op.name == "conv" else None
        for x in args if op.name not in ("conv", "permute") else ():
            known = self._known(x) if isinstance(x, Tensor) else None
            if known is None:
                continue
            if x.ndim == result.ndim and x.shape[known] == result.shape[known]:
                axis = known
            elif known == -3 and result.shape == (*x.shape[:2], x.shape[3]):  # of one axis of positions
                axis = -2
        if axis is not None:
            self._axes[id(result)] = (weakref.ref(result), axis)

    def _known(self, x: Tensor) -> int | None:
        reference, axis = self._axes.get(id(x), (None, 0))
        return axis if reference is not None and reference() is x else None

    def units_of(self, x: Tensor) -> int:
        """The axis of the units, counted from the end: of images the channels, else the last."""
        known = self._known(x)
        return (1 - x.ndim if x.ndim >= 4 else -1) if known is None else known

    def gate(self, key: tuple[str, str, int], op: Op, args: Any, result: Tensor, params: Any) -> None:
        """A gating activation ran at the site that ``key`` names."""


def site_name(key: tuple[str, str, int]) -> str:
    """``("encoder.2", "relu", 0)`` gives ``encoder.2/relu#0``.

    >>> site_name(("", "relu", 1))
    'relu#1'
    """
    path, op, call = key
    return f"{path}/{op}#{call}" if path else f"{op}#{call}"


@contextmanager
def observing(observer: Observer) -> Iterator[None]:
    """Let ``observer`` see what runs in this thread, instead of whoever did."""
    ctx = context()
    before = ctx.observer
    ctx.observer = observer
    try:
        yield
    finally:
        ctx.observer = before
