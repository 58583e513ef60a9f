"""The names that a step refers to, and what they stood for when it was traced.

A trace runs Python once. What it then read by name is kept here with its value, so that a change leads to
another program and not to a wrong result; what the step itself changed is put back, and such a step refused.
"""

from __future__ import annotations

import functools
import inspect
import io
import operator
import sys
import types
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from typing import Any, NamedTuple

import numpy as np

from backstory.compiler.guards import PLAIN, in_fingerprint
from backstory.compiler.streams import Streams
from backstory.core import Core
from backstory.errors import TraceError
from backstory.nn import Module
from backstory.optim import Optimizer

__all__ = ["Look", "Names", "same", "unchanged"]

_CONTAINERS = (list, tuple, dict, set, deque)
_LARGEST = 64  # containers with more entries are not looked into
_LONGEST = 1024  # nor arrays
_MOST = 256  # names of one step, and functions that are read for them
_FOREIGN = sys.stdlib_module_names | {"backstory", "numpy"}
_SPACES = {("types", "SimpleNamespace"), ("argparse", "Namespace")}  # Python's own, with users' entries
_MISSING = object()


class Look(NamedTuple):
    """A name: ``look`` holds it under ``key``, and it was ``value`` (``copy`` of what a container held).

    ``kind`` is ``"cell"`` for a variable of an enclosing function, ``"class"`` for what a class has, or an
    object of its class (a constant or a slot), and ``"item"`` for a container in another; others are entries
    of a dict.
    """

    kind: str
    holder: Any
    key: Any
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
        if self.kind == "item":
            return self.holder[self.key]
        return getattr(self.holder, self.key) if self.kind == "class" else self.holder.get(self.key)

    def holds(self) -> bool:
        """Whether it still is what it was."""
        now = self.now()
        return same(now, self.value) if self.copy is None else unchanged(now, self.copy)

    def restore(self) -> None:
        """Let it be what it was."""
        if self.kind == "cell":
            self.holder.cell_contents = self.value
        elif isinstance(self.holder, type):
            if self.key in vars(self.holder):
                delattr(self.holder, self.key)
            if getattr(self.holder, self.key, None) is not self.value:
                setattr(self.holder, self.key, self.value)
        elif self.kind == "class":
            getattr(self.holder, "__dict__", {}).pop(self.key, None)
            if self.now() is not self.value:
                owner = _owner(self.holder, self.key)
                slot = isinstance(vars(owner)[self.key], types.MemberDescriptorType)
                setattr(self.holder if slot else owner, self.key, self.value)
        elif not isinstance(self.holder, tuple):
            self.holder[self.key] = self.value
        if isinstance(self.copy, np.ndarray):
            self.value[...] = self.copy
        elif self.copy is not None and not isinstance(self.value, tuple):
            self.value.clear()
            getattr(self.value, "update" if isinstance(self.value, (dict, set)) else "extend")(self.copy)


class Names:
    """The global names and enclosing variables that a function, and those that it calls, refer to.

    Of objects and classes, the attributes and methods that the code names are looked at too; of small
    containers and arrays, the entries. The ``streams`` among them are watched.
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
        for defaults in (function.__defaults__ or (), function.__kwdefaults__ or {}):
            self._look_into(defaults, names)
        space = function.__globals__
        for name in sorted(names):
            if name in space:
                self._look("global", space, name, space[name], names)

    def add_object(self, x: Any, function: Any) -> None:
        """What the code of a function asks of one of its arguments."""
        _refuse_iterator(x)
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

    def _look(self, kind: str, holder: Any, key: Any, value: Any, names: set[str]) -> None:
        if len(self.looks) == _MOST:
            return
        if isinstance(value, _CONTAINERS) and len(value) <= _LARGEST:
            self.looks.append(
                Look(kind, holder, key, value, value if isinstance(value, tuple) else copy(value))
            )
            self._look_into(value, names)
            return
        if not isinstance(value, types.ModuleType):
            small = isinstance(value, np.ndarray) and value.size <= _LONGEST
            self.looks.append(Look(kind, holder, key, value, copy(value) if small else None))
        self._follow(value, names)

    def _look_into(self, container: Any, names: set[str]) -> None:
        """The entries of a container, each container and array among them with its own."""
        if not self._new(container, "entries"):
            return
        for key, part in container.items() if isinstance(container, dict) else enumerate(container):
            if isinstance(part, (*_CONTAINERS, np.ndarray)) and not isinstance(container, set):
                self._look("item", container, key, part, names)
            else:
                self._follow(part, names)

    def _follow(self, value: Any, names: set[str]) -> None:
        _refuse_iterator(value)
        self._streams.watch(value)
        if isinstance(value, (types.FunctionType, types.MethodType)):
            self.add(value)
        elif isinstance(value, Optimizer):
            self.watch(value)
        elif isinstance(value, type):
            if not _foreign(value):
                for part in vars(value).values():
                    self.add(part)
                self._in_turn(self._class, value, names)
        elif not isinstance(value, Module):  # what a module refers to is looked at when it is called
            self._in_turn(self._object, value, names)

    def _class(self, kind: type, names: set[str]) -> None:
        """The constants of a class."""
        for name in sorted(names):
            value = inspect.getattr_static(kind, name, _MISSING)
            if value is not _MISSING and not hasattr(value, "__get__") and self._new(kind, name):
                self._look("class", kind, name, value, names)

    def _object(self, x: Any, names: set[str]) -> None:
        kind = type(x)
        foreign = _foreign(x if isinstance(x, types.ModuleType) else kind)
        if isinstance(x, Core) or (foreign and (kind.__module__, kind.__name__) not in _SPACES):
            return
        space = getattr(x, "__dict__", {})
        for name in sorted(names):
            if not self._new(x, name):
                continue
            if name in space:
                if not (isinstance(x, Module) and in_fingerprint(x, name)):
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

    def settle(self, captured: Mapping[int, Any]) -> None:
        """Arrays that the program reads in every call may hold anything: it must be the same array."""
        self.looks = [
            look._replace(copy=None)
            if isinstance(look.copy, np.ndarray)
            and any(np.may_share_memory(look.value, one.array) for one in captured.values())
            else look
            for look in self.looks
        ]

    def restore(self) -> tuple[list[str], list[str]]:
        """Put back what the trace changed among the names, in modules and in the settings of optimizers.

        What a module makes when it is first called stays, but for tensors of the trace.
        """
        changed = []
        for look in self.looks:
            if not look.holds():
                look.restore()
                changed.append(look.key)
        spaces, self._spaces = self._spaces, []  # which hold what a step swaps in while it calls a module
        for space, before in spaces:
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
    return now is then or (type(now) is type(then) and isinstance(then, PLAIN) and now == then)


def unchanged(now: Any, then: Any) -> bool:
    """Whether a container holds the same objects, or equal numbers and texts, in the same places."""
    if now.__class__ is not then.__class__:
        return False
    if isinstance(then, np.ndarray):
        return (now.shape, now.dtype, now.tobytes()) == (then.shape, then.dtype, then.tobytes())
    if len(now) != len(then):
        return False
    if isinstance(then, dict):
        return unchanged(list(now), list(then)) and unchanged(list(now.values()), list(then.values()))
    if isinstance(then, set):
        return now == then
    return all(map(operator.is_, now, then)) or all(map(same, now, then))


def _refuse_iterator(x: Any) -> None:
    """Refuse what gives something else each time: only the trace would ask."""
    if isinstance(x, Iterator) and not isinstance(x, io.IOBase):
        raise TraceError(
            f"the step refers to an iterator ({type(x).__name__})",
            why="the step is traced once, and what comes next would come in every call",
            instead="next(...) between the calls, and what it gives as an argument; or a list",
        )


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
