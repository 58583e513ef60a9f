"""What is measured of a training step: which gates were open, and the norms of gradients and changes."""

from __future__ import annotations

from typing import Any

import numpy as np

from backstory.arrays import Generator
from backstory.graph import Context, context
from backstory.insight.attach import Attachment
from backstory.insight.scan import local_derivative
from backstory.insight.sites import site_name
from backstory.insight.source import StepStatistics
from backstory.nn import Module
from backstory.ops import Op
from backstory.optim import Optimizer
from backstory.tensor import Tensor

__all__ = ["Statistics"]

# Weights move by a thousandth or so per step: their norms need not be taken anew at every one.
WEIGHTS_EVERY = 8


class Statistics(Attachment):
    """Measures every ``every``-th step."""

    def __init__(self, model: Module, optimizer: Optimizer, data: Any, generator: Generator | None) -> None:
        super().__init__(model, optimizer, data, generator)
        self._open: dict[int, list[Any]] = {}
        self._counted: dict[int, list[Any]] = {}  # before the forward pass under way
        self._running: Context | None = None
        self._changes: dict[Tensor, np.ndarray] = {}
        self._by_key: dict[tuple[str, str, int], int] = {}
        self._gradients: list[float] | None = None
        self._tensors = [p for _, p in self.parameters]

    def begin(self, model: Module) -> bool:
        if not super().begin(model) or not self.measuring or self._elsewhere():
            return False
        self.restart()
        self._counted = {index: list(seen) for index, seen in self._open.items()}
        return True

    def _elsewhere(self) -> bool:
        """Whether a forward pass is under way in another thread; of such only the first is seen."""
        ctx, before = context(), self._running
        self._running = ctx
        if before is ctx or before is None or before.observer is not self:
            return False
        self._running = before
        return True

    def _index(self, name: str, op: str, units: int) -> int:
        assert self.listener is not None, "what is not listened to is not measured"
        return self.listener.site_index(name, op, units)

    def abandon(self) -> None:
        self._open = self._counted

    def gate(self, key: tuple[str, str, int], op: Op, args: Any, result: Tensor, params: Any) -> None:
        derivative = local_derivative(op, args, result, params, self.units_of(args[0]))
        index = self._by_key.get(key)
        if index is None:
            index = self._by_key[key] = self._index(site_name(key), op.name, derivative.shape[1])
        counts = open_counts(derivative)
        seen = self._open.get(index)
        if seen is None:
            self._open[index] = [len(derivative), counts]
        else:
            seen[0] += len(derivative)
            seen[1] = seen[1] + counts.astype(np.uint32)

    def before_step(self) -> None:
        if self.measuring:
            if self.optimizer.changes is None:  # another model's recorder may have asked for them
                self.optimizer.changes = {}
            self._changes = self.optimizer.changes
            self._gradients = [_square(p.grad.array) if p.grad is not None else 0.0 for p in self._tensors]

    def measured(self, rest: bool = False) -> list[StepStatistics]:
        if rest:
            return []
        step, loss, backwards = self.step, self.loss, len(self._losses)
        rates = tuple(float(group["lr"]) for group in self.optimizer.param_groups)
        gradients, opened = self._gradients, self._open
        if gradients is None:
            return [StepStatistics(step, loss, backwards, rates, None, None, None, {})]
        changes = self._changes
        self.optimizer.changes, self._changes, self._gradients, self._open = None, {}, None, {}
        moved = [_square(changes[p]) if p in changes else 0.0 for p in self._tensors]
        weights = [_square(p.array) for p in self._tensors] if step % WEIGHTS_EVERY == 1 else None
        return [StepStatistics(step, loss, backwards, rates, gradients, moved, weights, opened)]


def open_counts(derivative: Any) -> Any:
    """For how many rows each unit's gate is open: where the local derivative is not 0."""
    opened = derivative if derivative.dtype == bool else derivative != 0
    if len(opened) < 256:
        return np.add.reduce(opened.view(np.uint8), 0, np.uint8)
    return np.add.reduce(opened, 0, np.uint32)


def _square(x: np.ndarray) -> float:
    """The squared 2-norm; of short floats in float64 where their own range does not hold it."""
    square: Any = np.vdot(x, x)
    if square.__class__ is np.float64 or 1e-30 < square < 1e30:
        return square
    return _square(x.astype(np.float64))
