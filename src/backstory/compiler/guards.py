"""Under which circumstances a program is the right one: what a trace took for granted, to be asked again.

A trace runs Python once. What Python then decided by modes, modules, hooks and the names that the step closes
over is kept here with its value, so that a change leads to another program and not to a wrong result.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from typing import Any

from backstory.graph import context
from backstory.promotion import get_default_dtype

__all__ = ["Names", "fingerprint", "modes"]

_PLAIN = (bool, int, float, str, bytes, type(None))
_PACKAGE = __name__.partition(".")[0]


def modes() -> tuple[Any, ...]:
    """The modes of the thread that decide what an operation does."""
    ctx = context()
    level = ctx.levels[0]
    return level.grad_enabled, ctx.inference, ctx.relu_at_zero, get_default_dtype(), ctx.anomaly is None


def fingerprint(module: Any) -> tuple[Any, ...]:
    """What a module is: its mode, its parts by identity, its hooks and its plain attributes."""
    hooks = module._hooks
    return (
        module.training,
        tuple(
            (name, id(x))
            for register in (module._parameters, module._buffers, module._modules)
            for name, x in register.items()
        ),
        None if hooks is None else tuple(tuple(getattr(hooks, kind)) for kind in type(hooks).__slots__),
        tuple((name, x) for name, x in module.__dict__.items() if isinstance(x, _PLAIN)),
        id(module._observer),
    )


class Names:
    """The global names and the enclosing variables that a function, and those that it calls, refer to."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._looks: list[tuple[Callable[[], Any], Any]] = []
        self._seen: set[int] = set()
        self._add(function)

    def _add(self, function: Any) -> None:
        function = getattr(function, "__func__", function)
        code = getattr(function, "__code__", None)
        if code is None or id(code) in self._seen or _of_package(function):
            return
        self._seen.add(id(code))
        for cell in function.__closure__ or ():
            self._look(lambda cell=cell: cell.cell_contents)
        for name in _global_names(code):
            if name in function.__globals__:
                self._look(lambda names=function.__globals__, name=name: names.get(name))

    def _look(self, look: Callable[[], Any]) -> None:
        try:
            value = look()
        except ValueError:  # a variable that has no value yet
            return
        if isinstance(value, types.ModuleType):
            return
        self._looks.append((look, value))
        if isinstance(value, types.FunctionType):
            self._add(value)

    def hold(self) -> bool:
        """Whether all of them still are what they were."""
        return all(same(look(), value) for look, value in self._looks)

    @property
    def looks(self) -> Sequence[tuple[Callable[[], Any], Any]]:
        """How each is looked up, and what it was."""
        return self._looks


def same(now: Any, then: Any) -> bool:
    """Whether it is the same object, or an equal number or text."""
    return now is then or (now.__class__ is then.__class__ and isinstance(then, _PLAIN) and now == then)


def _of_package(function: Any) -> bool:
    module = getattr(function, "__module__", None) or ""
    return module == _PACKAGE or module.startswith(_PACKAGE + ".")


def _global_names(code: types.CodeType) -> set[str]:
    found = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found |= _global_names(constant)
    return found
