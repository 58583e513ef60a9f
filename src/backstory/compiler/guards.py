"""Under which circumstances a program is the right one: what a trace took for granted, to be asked again.

A trace runs Python once. What Python then decided by modes, modules, hooks and the names that the step refers
to is kept here with its value, so that a change leads to another program and not to a wrong result.
"""

from __future__ import annotations

import functools
import operator
import random
import sys
import types
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from backstory.arrays import Generator, default_generator
from backstory.core import Core
from backstory.errors import TraceError
from backstory.nn import Module
from backstory.optim import Optimizer

__all__ = ["Look", "Names", "Streams", "fingerprint", "flags", "same", "settings", "unchanged"]

PLAIN = (bool, int, float, str, bytes, type(None))
_CONTAINERS = (list, tuple, dict, set)
_LARGEST = 64  # containers with more entries are not looked into
_MOST = 256  # names of one step, and functions that are read for them
_FOREIGN = sys.stdlib_module_names | {"backstory", "numpy"}


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
        tuple((name, x) for name, x in module.__dict__.items() if isinstance(x, PLAIN)),
        id(module._observer),
    )


def _in_fingerprint(module: Any, name: str) -> bool:
    registers = (module._parameters, module._buffers, module._modules)
    return isinstance(module.__dict__[name], PLAIN) or any(name in register for register in registers)


def settings(optimizer: Optimizer) -> tuple[Any, ...]:
    """What an optimizer is, numbers apart: its parameters by identity, and its hooks."""
    groups = tuple(tuple(map(id, group["params"])) for group in optimizer.param_groups)
    return groups, tuple(map(id, optimizer._before)), tuple(map(id, optimizer._after))


def flags(x: Any) -> tuple[Any, ...]:
    """What of a tensor decides what is recorded."""
    hooks = x._hooks
    return x._requires_grad, None if hooks is None else (tuple(hooks.before), tuple(hooks.after))


class Look(NamedTuple):
    """A name: ``look`` holds it under ``key``, and it was ``value`` (``copy`` of what a container held).

    ``kind`` is ``"cell"`` for a variable of an enclosing function and ``"class"`` for what an object has of
    its class (a constant or a slot); others are entries of a dict.
    """

    kind: str
    holder: Any
    key: str
    value: Any
    copy: Any

    @property
    def watchable(self) -> bool:
        """Whether all that counts is that the same object is there: no number, no entries of its own."""
        kept = self.copy is None and self.kind != "class" and isinstance(self.holder, (dict, types.CellType))
        plain = isinstance(self.value, (*PLAIN, np.generic, np.dtype))
        return kept and (not plain or self.value is None or self.value.__class__ is bool)

    def now(self) -> Any:
        """What it is at present."""
        if self.kind == "cell":
            return self.holder.cell_contents
        return getattr(self.holder, self.key) if self.kind == "class" else self.holder.get(self.key)

    def holds(self) -> bool:
        """Whether it still is what it was."""
        now = self.now()
        return same(now, self.value) if self.copy is None else unchanged(now, self.copy)

    def restore(self) -> None:
        """Let it be what it was."""
        if self.kind == "cell":
            self.holder.cell_contents = self.value
        elif self.kind == "class":
            getattr(self.holder, "__dict__", {}).pop(self.key, None)
            if self.now() is not self.value:
                owner = _owner(self.holder, self.key)
                slot = isinstance(vars(owner)[self.key], types.MemberDescriptorType)
                setattr(self.holder if slot else owner, self.key, self.value)
        else:
            self.holder[self.key] = self.value
        if isinstance(self.value, list):
            self.value[:] = self.copy
        elif isinstance(self.value, dict):
            self.value.clear()
            self.value.update(self.copy)


class Names:
    """The global names and enclosing variables that a function, and those that it calls, refer to.

    Of objects, the attributes and methods that the code names are looked at too; of classes, the methods;
    of small containers, the entries. The ``streams`` among them are watched.
    """

    def __init__(self, function: Callable[..., Any], streams: Streams) -> None:
        self.looks: list[Look] = []
        self._streams = streams
        self._later: deque[tuple[Any, ...]] = deque()
        self._read = 0
        self._seen: set[tuple[int, Any]] = set()
        self._spaces: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._optimizers: list[tuple[Optimizer, list[dict[str, Any]]]] = []
        self.add(function)

    def add(self, function: Any) -> None:
        """All that a function refers to, the nearest first."""
        self._in_turn(self._add, function)

    def _in_turn(self, look: Callable[..., None], *args: Any) -> None:
        """Look at something when all that is nearer has been looked at."""
        self._later.append((look, *args))
        if len(self._later) == 1:
            while self._later:
                following, *others = self._later[0]
                following(*others)
                self._later.popleft()

    def _add(self, function: Any) -> None:
        owner = getattr(function, "__self__", None)
        function = getattr(function, "func", None) or getattr(function, "__func__", function)
        code = getattr(function, "__code__", None)
        if code is None or self._read == _MOST or not self._new(function, id(owner)) or _foreign(function):
            return
        self._read += 1
        names = _names(code)
        if owner is not None:
            self._object(owner, names)
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            try:
                self._look("cell", cell, name, cell.cell_contents, names)
            except ValueError:  # a variable that has no value yet
                continue
        for default in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            self._follow(default, names)
        space = function.__globals__
        for name in sorted(names):
            if name in space:
                self._look("global", space, name, space[name], names)

    def add_object(self, x: Any, function: Any) -> None:
        """What the code of a function asks of one of its arguments."""
        code = getattr(getattr(function, "__func__", function), "__code__", None)
        if code is not None:
            self._object(x, _names(code))

    def add_module(self, module: Module) -> None:
        """What a module's own code and its hooks refer to: it is about to be called for the first time."""
        spaces = (module.__dict__, module._parameters, module._buffers, module._modules)
        self._spaces += [(space, space.copy()) for space in spaces]
        self.add(module.forward)
        self.add_hooks(module)

    def add_hooks(self, x: Any) -> None:
        """What the hooks of a module or of a tensor refer to."""
        if x._hooks is not None:
            for hook in x._hooks.functions():
                self.add(hook)

    def _new(self, x: Any, part: Any) -> bool:
        """Whether a part of an object was not looked at yet."""
        key = id(x), part
        if key in self._seen:
            return False
        self._seen.add(key)
        return True

    def _look(self, kind: str, holder: Any, key: str, value: Any, names: set[str]) -> None:
        if len(self.looks) == _MOST:
            return
        if isinstance(value, _CONTAINERS) and len(value) <= _LARGEST:
            self.looks.append(
                Look(kind, holder, key, value, value if isinstance(value, tuple) else value.copy())
            )
            for part in value.values() if isinstance(value, dict) else value:
                self._follow(part, names)
            return
        if not isinstance(value, types.ModuleType):
            self.looks.append(Look(kind, holder, key, value, None))
        self._follow(value, names)

    def _follow(self, value: Any, names: set[str]) -> None:
        self._streams.watch(value)
        if isinstance(value, (types.FunctionType, types.MethodType)):
            self.add(value)
        elif isinstance(value, Optimizer):
            self.watch(value)
        elif isinstance(value, type):
            if not _foreign(value):
                for part in vars(value).values():
                    self.add(part)
        elif not isinstance(value, Module):  # what a module refers to is looked at when it is called
            self._in_turn(self._object, value, names)

    def _object(self, x: Any, names: set[str]) -> None:
        if isinstance(x, Core) or _foreign(x if isinstance(x, types.ModuleType) else type(x)):
            return
        space = getattr(x, "__dict__", {})
        for name in sorted(names):
            if not self._new(x, name):
                continue
            if name in space:
                if not (isinstance(x, Module) and _in_fingerprint(x, name)):
                    self._look("attribute", space, name, space[name], names)
            else:
                self._of_class(x, name, names)

    def _of_class(self, x: Any, name: str, names: set[str]) -> None:
        """A method, a property or a constant of the class of an object."""
        owner = _owner(x, name)
        if owner is None or _foreign(owner):
            return
        value = vars(owner)[name]
        if isinstance(value, (property, functools.cached_property)):
            value = value.fget if isinstance(value, property) else value.func
        if isinstance(value, types.FunctionType):
            self.add(types.MethodType(value, x))
        elif isinstance(value, (staticmethod, classmethod)):
            self.add(value)
        elif isinstance(value, types.MemberDescriptorType):
            if hasattr(x, name):
                self._look("class", x, name, getattr(x, name), names)
        elif not hasattr(value, "__get__"):
            self._look("class", x, name, value, names)

    def watch(self, optimizer: Optimizer) -> None:
        """Keep the numbers of an optimizer's groups, to see whether the trace changes them."""
        if all(known is not optimizer for known, _ in self._optimizers):
            self._optimizers.append((optimizer, [dict(group) for group in optimizer.param_groups]))

    def restore(self) -> tuple[list[str], list[str]]:
        """Put back what the trace changed among the names, in modules and in the settings of optimizers.

        What a module makes when it is first called stays, but for tensors of the trace.
        """
        changed = []
        for look in self.looks:
            if not look.holds():
                look.restore()
                changed.append(look.key)
        for space, before in self._spaces:
            for name in [name for name, x in space.items() if isinstance(x, Core) and _of_a_trace(x)]:
                changed.append(name)
                if name in before:
                    space[name] = before[name]
                else:
                    del space[name]
        moved = [
            (group, key, before)
            for optimizer, groups in self._optimizers
            for group, old in zip(optimizer.param_groups, groups, strict=False)
            for key, before in old.items()
            if not same(group.get(key), before)
        ]
        for group, key, before in moved:
            group[key] = before
        return changed, [key for _, key, _ in moved]

    def refuse_changes(self) -> None:
        """Put back what the trace changed, and refuse a step that changes what is Python's."""
        changed, moved = self.restore()
        if moved:
            raise TraceError(
                f"the step itself changes {moved[0]!r} of an optimizer's group",
                why="the step is traced once, and Python's assignment would not happen again",
                instead="the change between the calls: scheduler.step() or group[...] = ... outside",
            )
        if changed:
            raise TraceError(
                f"the step itself changes the Python value {changed[0]!r}",
                why="the step is traced once, and Python's assignment would not happen again",
                instead="the change between the calls, or a tensor that is changed in place (x.add_(1))",
            )


def same(now: Any, then: Any) -> bool:
    """Whether it is the same object, or an equal number or text."""
    return now is then or (now.__class__ is then.__class__ and isinstance(then, PLAIN) and now == then)


def unchanged(now: Any, then: Any) -> bool:
    """Whether a container holds the same objects, or equal numbers and texts, in the same places."""
    if now.__class__ is not then.__class__ or len(now) != len(then):
        return False
    if isinstance(then, dict):
        return unchanged(list(now), list(then)) and unchanged(list(now.values()), list(then.values()))
    if isinstance(then, set):
        return now == then
    return all(map(operator.is_, now, then)) or all(map(same, now, then))


def _of_a_trace(x: Core) -> bool:
    """Whether a tensor was made in a trace, which has ended."""
    return x.level > 0 or not isinstance(x.array, np.ndarray)


def _owner(x: Any, name: str) -> Any:
    """The class that gives an object what it calls ``name``."""
    return next((one for one in type(x).__mro__ if name in vars(one)), None)


def _foreign(x: Any) -> bool:
    """Whether it is of this package, or of one that a step cannot change."""
    module = getattr(x, "__module__", None) or getattr(x, "__name__", None) or ""
    return str(module).partition(".")[0] in _FOREIGN


def _names(code: types.CodeType) -> set[str]:
    found = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found |= _names(constant)
    return found


class Streams:
    """NumPy's own random streams that a step could draw from, which a trace would freeze."""

    def __init__(self) -> None:
        self._states: list[tuple[Any, Any]] = []
        self._global = _global_state()
        self.watch(default_generator())

    def watch(self, x: Any) -> None:
        """Keep the state of a stream, if it is one, to see whether the trace draws from it."""
        x = x.numpy if isinstance(x, Generator) else x
        if isinstance(x, np.random.Generator):
            self._states.append((x.bit_generator, x.bit_generator.state))

    def refuse_draws(self) -> None:
        """Refuse a step that drew random numbers of its own."""
        moved = any(repr(bits.state) != repr(at) for bits, at in self._states)
        if moved or _digest(_global_state()) != _digest(self._global):
            raise TraceError(
                "the step draws random numbers from NumPy or Python",
                why="the step is traced once, and the same numbers would come in every call",
                instead="backstory.rand, randn, ... (drawn anew in each call), or the numbers as an argument",
            )

    def restore(self) -> None:
        """Let all streams be where they were before."""
        for bits, at in self._states:
            bits.state = at
        numpy_state, python_state = self._global
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)


def _global_state() -> tuple[Any, Any]:
    return np.random.get_state(legacy=False), random.getstate()  # noqa: NPY002


def _digest(state: tuple[Any, Any]) -> Any:
    numpy_state, python_state = state
    return numpy_state["state"]["key"].tobytes(), numpy_state["state"]["pos"], python_state
