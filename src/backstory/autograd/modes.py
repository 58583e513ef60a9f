"""Modes of the present thread, each a context manager that restores what was."""

from __future__ import annotations

import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, Self, TypeVar, overload

from backstory.functions.activation import checked_at_zero
from backstory.graph import Level, context

__all__ = [
    "enable_grad",
    "inference_mode",
    "is_grad_enabled",
    "is_inference_mode_enabled",
    "no_grad",
    "relu_derivative_at_zero",
    "set_grad_enabled",
]

P = ParamSpec("P")
R = TypeVar("R")


class _Mode(ABC):
    """A context manager that also decorates functions and generators; each call enters one of its own."""

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        if inspect.isgeneratorfunction(function):
            return _around_steps(self, function)

        @functools.wraps(function)
        def inside(*args: P.args, **keywords: P.kwargs) -> R:
            with self._again():
                return function(*args, **keywords)

        return inside

    @abstractmethod
    def _again(self) -> _Mode: ...

    @abstractmethod
    def __enter__(self) -> Any: ...

    @abstractmethod
    def __exit__(self, *error: object) -> None: ...


def _around_steps(mode: _Mode, function: Any) -> Any:
    """A generator that runs in the mode, and leaves its caller's alone between its steps."""

    @functools.wraps(function)
    def inside(*args: Any, **keywords: Any) -> Any:
        steps = function(*args, **keywords)
        sent, step = None, steps.send
        while True:
            try:
                with mode._again():
                    value = step(sent)
            except StopIteration as end:
                return end.value
            try:
                sent, step = (yield value), steps.send
            except GeneratorExit:
                steps.close()
                raise
            except BaseException as error:
                sent, step = error, steps.throw

    return inside


class _GradMode(_Mode):
    """Sets the grad mode of the innermost level that records, and restores it."""

    mode: bool

    def __enter__(self) -> Self:
        self._level: Level = context().recording
        self._before = self._level.grad_enabled
        self._level.grad_enabled = self.mode
        return self

    def __exit__(self, *error: object) -> None:
        self._level.grad_enabled = self._before


class _Switch(_GradMode):
    """``no_grad`` and ``enable_grad``: decorators with and without parentheses."""

    @overload
    def __new__(cls, function: None = None) -> Self: ...
    @overload
    def __new__(cls, function: Callable[P, R]) -> Callable[P, R]: ...
    def __new__(cls, function: Any = None) -> Any:
        mode = super().__new__(cls)
        return mode if function is None else mode(function)

    def _again(self) -> _Switch:
        return type(self)()


class no_grad(_Switch):
    """Record nothing inside the block, or in the decorated function, on the innermost level that records.

    >>> import backstory
    >>> w = backstory.tensor(2.0, requires_grad=True)
    >>> with backstory.no_grad():
    ...     (w * 3).requires_grad
    False
    >>> @backstory.no_grad()
    ... def tripled(x):
    ...     return x * 3
    >>> tripled(w).requires_grad
    False
    """

    mode = False


class enable_grad(_Switch):
    """Record again inside a ``no_grad`` block.

    >>> import backstory
    >>> w = backstory.tensor(2.0, requires_grad=True)
    >>> with backstory.no_grad(), backstory.enable_grad():
    ...     (w * 3).requires_grad
    True
    """

    mode = True


class set_grad_enabled(_GradMode):
    """Record a graph, or do not: as a statement from now on, else inside the block or function.

    >>> import backstory
    >>> w = backstory.tensor(2.0, requires_grad=True)
    >>> with backstory.set_grad_enabled(False):
    ...     (w * 3).requires_grad
    False
    >>> _ = backstory.set_grad_enabled(True)  # a statement: it holds until the next one
    """

    def __init__(self, mode: bool) -> None:
        self.mode = bool(mode)
        super().__enter__()

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        self.__exit__()
        return super().__call__(function)

    def __enter__(self) -> Self:
        self._level.grad_enabled = self.mode
        return self

    def _again(self) -> set_grad_enabled:
        return type(self)(self.mode)


def is_grad_enabled() -> bool:
    """Whether operations of the innermost level that records are recorded."""
    return context().recording.grad_enabled


class inference_mode(_Mode):
    """``no_grad`` that is in earnest: what is made inside can never take part in a gradient later.

    A tensor made inside has no version counter; to save it for backward, or to change it in place
    outside, raises a :class:`~backstory.errors.GraphError`. ``inference_mode(False)`` ends it inside.

    >>> import backstory
    >>> w = backstory.tensor([2.0], requires_grad=True)
    >>> with backstory.inference_mode():
    ...     y = w * 3
    >>> y.requires_grad, y.is_inference()
    (False, True)
    """

    mode: bool

    @overload
    def __new__(cls, mode: bool = True) -> Self: ...
    @overload
    def __new__(cls, mode: Callable[P, R]) -> Callable[P, R]: ...
    def __new__(cls, mode: Any = True) -> Any:
        self = super().__new__(cls)
        if callable(mode):
            self.mode = True
            return self(mode)
        self.mode = bool(mode)
        return self

    def _again(self) -> inference_mode:
        return type(self)(self.mode)

    def __enter__(self) -> Self:
        ctx = context()
        self._level: Level = ctx.recording
        self._before = (ctx.inference, self._level.grad_enabled)
        ctx.inference, self._level.grad_enabled = self.mode, not self.mode
        return self

    def __exit__(self, *error: object) -> None:
        context().inference, self._level.grad_enabled = self._before


def is_inference_mode_enabled() -> bool:
    """Whether this thread is inside :class:`inference_mode`."""
    return context().inference


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
