"""Attachments: what follows one training, from its forward passes to its optimizer steps."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from backstory.arrays import Generator, default_generator
from backstory.errors import RunError
from backstory.graph import Context, context
from backstory.hooks import structure
from backstory.insight.scan import checked_data
from backstory.insight.sites import Observer
from backstory.insight.source import Listener, Source
from backstory.nn import Module
from backstory.optim import Optimizer
from backstory.tensor import Tensor

__all__ = ["Attachment"]


class Attachment(Observer, Source):
    """Follows one training: counts its steps and hears of losses, until it is detached.

    Subclasses say what is measured on the way.
    """

    def __init__(self, model: Module, optimizer: Optimizer, data: Any, generator: Generator | None) -> None:
        _check_parts(model, optimizer)
        Observer.__init__(self, model)
        Source.__init__(self)
        self.model, self.optimizer = model, optimizer
        self.data = checked_data(data)
        self.generators = [default_generator(), *([] if generator is None else [generator])]
        self.samples = len(self.data)
        self._losses: list[float] = []
        self._heard_at = 0  # the step before which these losses were heard
        self._pid = os.getpid()
        self.at_zero = context().relu_at_zero
        self._moved = {p for p in model.parameters() if p in optimizer.state}
        self.parameters = [(name, p) for name, p in model.named_parameters() if p in self._moved]
        self.shapes = [(name, tuple(p.shape)) for name, p in self.parameters]
        self.unmoved = {
            name: "in no optimizer" if p.requires_grad else "frozen"
            for name, p in model.named_parameters()
            if p not in self._moved or not p.requires_grad
        }
        self._hearing: Context | None = None
        self._listening: list[list[Callable[[Any], None]]] = []
        self._handles: list[Any] = []
        _alive.add(self)

    def attach(self, listener: Listener) -> None:
        super().attach(listener)
        me = weakref.ref(self)

        def on_backward(roots: list[Tensor]) -> None:
            if (live := me()) is not None:
                live.heard(roots)

        def before(optimizer: Optimizer) -> None:
            if (live := me()) is not None and live.alive:
                live.before_step()
                if context().trace is None:
                    live.tell("before_step")

        def after(optimizer: Optimizer) -> None:
            if (live := me()) is not None and live.alive:
                if (trace := context().trace) is not None:
                    live.traced_step(trace)
                    return
                live.stepped()

        structure[0] += 1
        object.__setattr__(self.model, "_observer", self)
        self._on_backward = on_backward
        self._listen(context())
        weakref.finalize(self, _deafen, self._listening, on_backward).atexit = False
        self._handles = [
            self.optimizer.register_step_pre_hook(before),
            self.optimizer.register_step_post_hook(after),
        ]

    def _listen(self, ctx: Context) -> None:
        """Hear of backward passes in one more thread."""
        self._hearing = ctx
        if ctx.backward_listeners not in self._listening:
            ctx.backward_listeners.append(self._on_backward)
            self._listening.append(ctx.backward_listeners)

    def stepped(self) -> None:
        """The optimizer has moved the parameters."""
        if self._heard_at != self.step:
            self._losses.clear()
        self.step += 1
        self.tell("after_step")
        self._losses.clear()

    def detach(self) -> None:
        """See nothing more; the model and the optimizer are as they were."""
        structure[0] += 1
        self.clock[1] = 1
        if self.model._observer is self:
            object.__setattr__(self.model, "_observer", None)
        _deafen(self._listening, self._on_backward)
        for handle in self._handles:
            handle.remove()
        self._handles = []

    @property
    def alive(self) -> bool:
        """False in a forked child, which must not write."""
        return os.getpid() == self._pid

    def heard(self, roots: list[Tensor]) -> None:
        """A backward pass starts; losses of several before one step (accumulation) add up.

        What was heard before the gradients were cleared moves nothing any more, and what was not
        computed from the model's parameters is another model's.
        """
        if not self.alive or not any(map(self._concerns, roots)):
            return
        trace, arrays = context().trace, [root.array for root in roots if root.numel() == 1]
        first = all(p._grad is None for p in self._moved)
        if trace is not None:
            trace.tell(self, "add_losses", first, arrays)
        else:
            self.add_losses(first, arrays)

    def add_losses(self, first: bool, losses: Sequence[Any]) -> None:
        """A backward pass of these losses; the first one since the gradients were cleared, or one more."""
        if first or self._heard_at != self.step:
            self._losses.clear()
        self._losses += [loss.item() for loss in losses]
        self._heard_at, self._clock[1] = self.step, 1

    # In a compiled step: traced once, and told after each call

    def coming(self) -> Any:
        """What of the coming step is to be computed; another one makes another program. None: nothing."""

    def prepare(self) -> None:
        """A compiled step is about to run."""

    def traced_step(self, trace: Any) -> None:
        """The optimizer of the step that is traced has moved the parameters."""

    def computed(self, events: Sequence[tuple[Any, ...]]) -> None:
        """What a compiled step did, in order: the name of the method that hears of it, and its arguments."""
        for name, *values in events:
            getattr(self, name)(*values)

    def _concerns(self, root: Tensor) -> bool:
        """Whether a parameter that the optimizer moves is below ``root`` in the graph."""
        stack: list[Any] = [root.grad_fn]
        seen = set()
        while stack:
            node = stack.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            for edge in node.edges:
                if isinstance(edge, Tensor):
                    if edge in self._moved:
                        return True
                else:
                    stack.append(edge)
        return False

    @property
    def loss(self) -> float | None:
        """The loss of the present step: the sum over its backward passes, if there was one."""
        return sum(self._losses) if self._losses else None

    def begin(self, model: Module) -> bool:
        """A forward pass of the whole model begins; whether to see what runs inside."""
        ctx = context()
        if not (ctx.recording.grad_enabled and self.alive):
            return False
        self.at_zero = ctx.relu_at_zero
        if ctx is not self._hearing:
            self._listen(ctx)
        return model.training

    def __deepcopy__(self, memo: Any) -> None:
        """A copy of a watched model is not watched."""

    def __reduce__(self) -> Any:
        return _nobody, ()

    def abandon(self) -> None:
        """The forward pass raised."""

    def before_step(self) -> None:
        """The optimizer is about to move the parameters."""


_alive: weakref.WeakSet[Attachment] = weakref.WeakSet()


def _after_fork() -> None:
    """A child records nothing: the programs of its parent that do are not its own."""
    for attachment in _alive:
        attachment.clock[1] = 1  # to be asked about the process


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _nobody() -> None:
    """What the observer of a pickled model becomes."""


def _deafen(listening: list[list[Callable[[Any], None]]], listener: Callable[[Any], None]) -> None:
    """Let ``listener`` hear of no backward pass any more, in whatever thread."""
    for listeners in listening:
        if listener in listeners:
            listeners.remove(listener)
    listening.clear()


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
    if any(module._observer is not None for module in model.modules()):
        raise RunError(
            "watch() of a model that is already watched, or a part of which is",
            why="two recordings would see each other's scans",
            instead="run.close() on the first recording",
        )
    if not any(p in optimizer.state for p in model.parameters()):
        raise RunError(
            "watch() received an optimizer that moves no parameter of the model",
            why="it was built from other tensors, so nothing of the model would ever change",
            instead="the optimizer built from model.parameters()",
        )
