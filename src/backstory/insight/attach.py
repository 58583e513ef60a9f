"""Attachments: what follows one training, from its forward passes to its optimizer steps."""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Callable
from typing import Any

from backstory.arrays import Generator, default_generator
from backstory.errors import RunError
from backstory.graph import context
from backstory.insight.scan import checked_data
from backstory.insight.sites import Observer
from backstory.nn import Module
from backstory.optim import Optimizer
from backstory.tensor import Tensor

__all__ = ["Attachment"]


class Attachment(Observer):
    """Follows one training: counts its steps and hears of losses, until it is detached.

    Subclasses say what happens before and after each step.
    """

    def __init__(self, model: Module, optimizer: Optimizer, data: Any, generator: Generator | None) -> None:
        _check_parts(model, optimizer)
        super().__init__(model)
        self.model, self.optimizer = model, optimizer
        self.data = checked_data(data)
        self.generators = [default_generator(), *([] if generator is None else [generator])]
        self.step = 0
        self._losses: list[float] = []
        self._pid = os.getpid()
        self._listening: list[Callable[[Any], None]] = []
        self._on_backward: Callable[[Any], None] = self.heard
        self._handles: list[Any] = []

    def attach(self) -> None:
        """Start to see forwards, backwards and steps."""
        me = weakref.ref(self)

        def on_backward(roots: list[Tensor]) -> None:
            if (live := me()) is not None:
                live.heard(roots)

        def before(optimizer: Optimizer) -> None:
            if (live := me()) is not None and live.alive:
                live.before_step()

        def after(optimizer: Optimizer) -> None:
            if (live := me()) is not None and live.alive:
                live.step += 1
                live.after_step()
                live._losses.clear()

        object.__setattr__(self.model, "_observer", self)
        self._on_backward = on_backward
        self._listen()
        self._handles = [
            self.optimizer.register_step_pre_hook(before),
            self.optimizer.register_step_post_hook(after),
        ]

    def _listen(self) -> None:
        """Hear of backward passes in the present thread, and in no other."""
        self._deafen()
        self._listening = context().backward_listeners
        self._listening.append(self._on_backward)

    def _deafen(self) -> None:
        if self._on_backward in self._listening:
            self._listening.remove(self._on_backward)

    def detach(self) -> None:
        """See nothing more; the model and the optimizer are as they were."""
        if self.model._observer is self:
            object.__setattr__(self.model, "_observer", None)
        self._deafen()
        for handle in self._handles:
            handle.remove()
        self._handles = []

    @property
    def alive(self) -> bool:
        """False in a forked child, which must not write."""
        return os.getpid() == self._pid

    def heard(self, roots: list[Tensor]) -> None:
        """A backward pass starts; losses of several before one step (accumulation) add up."""
        root = roots[0]
        if self.alive and root.numel() == 1:
            self._losses.append(root.array.item())

    @property
    def loss(self) -> float:
        """The loss of the present step: the sum over its backward passes."""
        return math.fsum(self._losses) if all(map(math.isfinite, self._losses)) else sum(self._losses)

    def begin(self, model: Module) -> bool:
        """A forward pass of the whole model begins; whether to see what runs inside."""
        if self._listening is not context().backward_listeners:
            self._listen()
        return False

    def abandon(self) -> None:
        """The forward pass raised."""

    def before_step(self) -> None:
        """The optimizer is about to move the parameters."""

    def after_step(self) -> None:
        """It has; ``step`` is the number of updates so far."""


def _check_parts(model: Any, optimizer: Any) -> None:
    if not isinstance(model, Module):
        raise RunError(
            f"watch() received a model of type {type(model).__name__}",
            why="it follows modules of backstory.nn",
            instead="an instance of a subclass of backstory.nn.Module",
        )
    if not isinstance(optimizer, Optimizer):
        raise RunError(
            f"watch() received an optimizer of type {type(optimizer).__name__}",
            why="it sees the updates through the optimizer",
            instead="backstory.optim.SGD(model.parameters(), lr=…)",
        )
    if model._observer is not None:
        raise RunError(
            "watch() of a model that is already watched",
            why="two recordings would see each other's scans",
            instead="run.close() on the first recording",
        )
    if not any(p in optimizer.state for p in model.parameters()):
        raise RunError(
            "watch() received an optimizer that moves no parameter of the model",
            why="it was built from other tensors, so nothing of the model would ever change",
            instead="the optimizer built from model.parameters()",
        )
