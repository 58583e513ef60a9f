"""Hears of backward passes and their losses, without being told.

A hook behind the accumulation of each gradient tells that a backward pass is under way. Its loss is read
from the frame of ``torch.autograd.backward`` that is waiting on the Python stack; nothing is copied from
the device. A recomputation by reentrant checkpointing is a pass within a pass, and belongs to the outer.
"""

from __future__ import annotations

import sys
import weakref
from typing import Any

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

__all__ = ["Hearing"]

BACKWARD = torch.autograd.backward.__code__
SCALED_STEP = GradScaler.step.__code__
NEAR = 16  # frames between a hook of the optimizer's step and GradScaler.step


class Hearing:
    """The losses heard since the last step, and the factor by which a GradScaler has scaled them."""

    def __init__(self, parallel: bool = False) -> None:
        self._parallel = parallel
        self.losses: list[Tensor] = []
        self.skipped = 0
        self.scale: Tensor | None = None
        self._versions: dict[int, int] = {}
        self._before_pass = 0
        self._outside: int | None = None  # losses heard before a closure was called
        self._first: list[Tensor] | None = None
        self._task = -1
        self._outer_task: int | None = None
        self._upstream: weakref.ref[Tensor] | None = None

    def accumulated(self, p: Tensor) -> None:
        """A gradient was accumulated; at the first of a backward pass, note its losses.

        What was heard before the gradients were cleared moves nothing any more: that step was skipped.
        """
        task = torch._C._current_graph_task_id()
        if task != self._task:
            self._task = task
            frame, nested = _waiting_backward()
            if frame is not None and not self._same_pass(frame, nested, task):
                self._before_pass = len(self.losses)
                roots = frame.f_locals["tensors"]
                roots = (roots,) if isinstance(roots, Tensor) else roots
                # Copies: the user may change a loss in place, or have cut it out of something large.
                self.losses += [
                    root.detach().clone() for root in roots if isinstance(root, Tensor) and root.numel() == 1
                ]
        if self._was_cleared(p):
            self._forget_earlier(p)

    def _was_cleared(self, p: Tensor) -> bool:
        """Whether the gradient was cleared since the last pass that reached ``p`` in this step."""
        g = p.grad
        if g is None:
            return False
        version, before = g._version, self._versions.get(id(p))
        self._versions[id(p)] = version
        if before is None or g.requires_grad:
            return False  # with create_graph=True each pass makes a new one, and its version says nothing
        # DistributedDataParallel writes to gradients between the passes: only a new one tells.
        return version <= before if self._parallel else version != before + 1

    def _forget_earlier(self, p: Tensor) -> None:
        """Forget the losses of earlier passes, but those that a closure gave first: they led to its step."""
        if self._before_pass:
            if self._outside is None:
                self.skipped += 1
            else:
                self._first = self._first or self.losses[self._outside : self._before_pass]
            self.losses = self.losses[self._before_pass :]
            self._before_pass = 0
        self._versions = {id(p): self._versions[id(p)]}

    def _same_pass(self, frame: Any, nested: bool, task: int) -> bool:
        """Whether this pass was heard already, from another task of it."""
        # One tensor per pass, made for it and alive as long as it runs.
        upstream = next(iter(frame.f_locals.get("grad_tensors_", ())), None)
        heard = upstream is not None and self._upstream is not None and self._upstream() is upstream
        if heard and nested:
            return True
        if heard and self._outer_task in (None, task):
            self._outer_task = task
            return True
        self._upstream = None if upstream is None else weakref.ref(upstream)
        self._outer_task = None if nested else task
        return False

    def step_begins(self, closure: bool = False) -> None:
        """Find the GradScaler that is taking this step, if one is; a closure will be heard in it."""
        self.scale, self._outside = None, len(self.losses) if closure else None
        frame: Any = sys._getframe(1)
        for _ in range(NEAR):
            if frame is None:
                return
            if frame.f_code is SCALED_STEP:
                scale = getattr(frame.f_locals["self"], "_scale", None)  # a disabled one has none
                self.scale = None if scale is None else scale.clone()  # it is updated in place
                return
            frame = frame.f_back

    def moved(self) -> None:
        """The parameters have moved: of a closure's losses the first are the step's."""
        self.losses = self._first or self.losses

    def step_ends(self) -> None:
        """What was heard has moved the parameters."""
        self.losses, self.scale, self._first = [], None, None
        self._before_pass, self._outside = 0, None
        self._versions.clear()


def _waiting_backward() -> tuple[Any, bool]:
    """The frame of the outermost ``backward`` that waits for the engine, and whether one waits within it.

    For a GPU the engine calls from a thread of its own; then the frames of all threads are searched.
    """
    found = _backwards(sys._getframe(2))
    if not found:
        for frame in sys._current_frames().values():
            found = found or _backwards(frame)
    return (found[-1], len(found) > 1) if found else (None, False)


def _backwards(frame: Any) -> list[Any]:
    found = []
    while frame is not None:
        if frame.f_code is BACKWARD:
            found.append(frame)
        frame = frame.f_back
    return found
