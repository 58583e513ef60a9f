"""Modes of the present thread, each a context manager that restores what was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from backstory.functions.activation import checked_at_zero
from backstory.graph import Level, context

__all__ = [
    "enable_grad",
    "is_grad_enabled",
    "new_level",
    "no_grad",
    "relu_derivative_at_zero",
    "set_grad_enabled",
]


@contextmanager
def set_grad_enabled(mode: bool) -> Iterator[None]:
    """Record a graph, or do not, inside the block; for the innermost level only."""
    level = context().levels[-1]
    before = level.grad_enabled
    level.grad_enabled = mode
    try:
        yield
    finally:
        level.grad_enabled = before


def no_grad():
    """Record nothing inside the block (or the decorated function).

    >>> import backstory
    >>> w = backstory.tensor(2.0, requires_grad=True)
    >>> with backstory.no_grad():
    ...     (w * 3).requires_grad
    False
    """
    return set_grad_enabled(False)


def enable_grad():
    """Record again inside a ``no_grad`` block."""
    return set_grad_enabled(True)


def is_grad_enabled() -> bool:
    """Whether operations of the innermost level are recorded."""
    return context().levels[-1].grad_enabled


@contextmanager
def relu_derivative_at_zero(value: float) -> Iterator[None]:
    """relu's derivative at exactly 0 inside the block: 0 (PyTorch's), 1, or any value between.

    The choice is made where relu runs, so that a later ``backward()`` keeps it.

    >>> import backstory
    >>> x = backstory.tensor(0.0, requires_grad=True)
    >>> with backstory.relu_derivative_at_zero(0.5):
    ...     backstory.relu(x).backward()
    >>> x.grad
    tensor(0.5)
    """
    ctx = context()
    before = ctx.relu_at_zero
    ctx.relu_at_zero = checked_at_zero(value)
    try:
        yield
    finally:
        ctx.relu_at_zero = before


@contextmanager
def new_level() -> Iterator[Level]:
    """A level of differentiation above all present ones; what transforms nest in.

    Tensors of the level hold tensors of lower levels and must not outlive the block.
    """
    ctx = context()
    level = Level(len(ctx.levels))
    ctx.levels.append(level)
    try:
        yield level
    finally:
        closed = ctx.levels.pop()
        assert closed is level, "levels were left in another order than they were entered"
