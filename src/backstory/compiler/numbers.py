"""Python numbers that a step reads anew in every call, such as a learning rate or a count of steps.

In a trace such a number is a :class:`HostNumber`: its value now, and the Python expression that gives it
later. What is computed from it stays an expression and is evaluated in Python, exactly as in eager mode.
A branch on it (``if momentum != 0``) is taken as it falls now, and the condition becomes a guard.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from backstory.errors import ArgumentError

__all__ = ["HostNumber", "Numbers", "Reading"]


_ENTRY = re.compile(r"d\d+\['(.*?)'\](.*)")
_NAME = re.compile(r"h\d+")
_LONGEST = 160  # characters of a label


class HostNumber:
    """A number with its name in the code that computes it; ``numbers`` collects what is asked of it."""

    __slots__ = ("name", "numbers", "value")

    def __init__(self, numbers: Numbers, name: str, value: Any) -> None:
        self.numbers, self.name, self.value = numbers, name, value

    @property
    def __class__(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """``isinstance(number, float)`` is what it is in eager mode, and so is what operations make of it."""
        return type(self.value)

    def __bool__(self) -> bool:
        self.numbers.guard(self)
        return bool(self.value)

    def __float__(self) -> float:
        raise self._leaving("float(number)")

    def __int__(self) -> int:
        raise self._leaving("int(number)")

    def __index__(self) -> int:
        """A number that stands as a count or an index is part of the program: another one needs another."""
        self.numbers.guard(self)
        return operator.index(self.value)

    def _leaving(self, what: str) -> ArgumentError:
        return ArgumentError(
            f"{what} of a number that is read anew in every call",
            why="the compiled step would keep today's value for ever",
            instead="arithmetic with +, -, *, / and **, which is computed anew as well (x ** 0.5 for a root)",
        )

    def __round__(self, digits: int | None = None) -> Any:
        return self.numbers.changed(f"round({{}}, {digits})", lambda x: round(x, digits), self)

    def __repr__(self) -> str:
        """A text is part of the program, too."""
        self.numbers.guard(self)
        return repr(self.value)

    def __format__(self, form: str) -> str:
        self.numbers.guard(self)
        return format(self.value, form)

    def __hash__(self) -> int:
        """Where a dict or set is asked for it, what is found is found for this number."""
        self.numbers.guard(self)
        return hash(self.value)


def _operator(symbol: str, function: Callable[[Any, Any], Any]) -> tuple[Any, Any]:
    def forward(self: HostNumber, other: Any) -> Any:
        return self.numbers.combined(symbol, function, self, other)

    def reflected(self: HostNumber, other: Any) -> Any:
        return self.numbers.combined(symbol, function, other, self)

    return forward, reflected


for _name, _symbol in {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "truediv": "/",
    "floordiv": "//",
    "mod": "%",
    "pow": "**",
}.items():
    _forward, _reflected = _operator(_symbol, getattr(operator, _name))
    setattr(HostNumber, f"__{_name}__", _forward)
    setattr(HostNumber, f"__r{_name}__", _reflected)
for _name, _symbol in {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}.items():
    setattr(HostNumber, f"__{_name}__", _operator(_symbol, getattr(operator, _name))[0])


def _changed(pattern: str, function: Callable[[Any], Any]) -> Any:
    return lambda self: self.numbers.changed(pattern, function, self)


for _name, _pattern in {"neg": "-{}", "pos": "+{}", "abs": "abs({})"}.items():
    setattr(HostNumber, f"__{_name}__", _changed(_pattern, getattr(operator, _name)))


class Numbers:
    """The numbers of one trace: where they are read, what was computed of them, what was asked of them.

    Every number has a name, and ``lines`` is the Python that computes them in order: ``h0 = d0['lr']``,
    ``h1 = -h0``. ``owners`` are the mappings that they are read from, by name; ``guards`` are the numbers
    that must be what they are now for the program to be the right one, and ``equal`` are entries that must be
    equal to a number (the counts of steps of all parameters are one number).
    """

    def __init__(self) -> None:
        self.owners: dict[str, tuple[Any, ...]] = {}
        self.lines: dict[str, str] = {}
        self.guards: dict[str, Any] = {}
        self.equal: dict[str, str] = {}
        self.labels: dict[str, str] = {}
        self.absent: list[tuple[str, str]] = []  # keys that were asked for in vain, with their mapping
        self._names: dict[Any, str] = {}
        self._shared: dict[Any, HostNumber] = {}

    def owner(self, *place: Any) -> str:
        """The name of a mapping or list, which each call finds at ``place`` (see :mod:`~.binding`)."""
        name = self._names.setdefault(tuple(map(id, place)), f"d{len(self._names)}")
        self.owners.setdefault(name, place)
        return name

    def label(self, name: str) -> str:
        """What a number is, for people: ``-lr`` where the code says ``-h0``."""
        code = self.lines[name]
        entry = _ENTRY.fullmatch(code)
        if code in self.labels:
            return self.labels[code]
        if entry is not None:
            return entry[1] + entry[2]
        readable = _NAME.sub(lambda found: self._part(found[0]), code)
        return readable if len(readable) <= _LONGEST else name

    def _part(self, name: str) -> str:
        """The label of what another number is computed from."""
        label = self.label(name) if name in self.lines else name
        return f"({label})" if " " in label else label

    def read(self, owner: str, key: str, value: Any, shared: Any = None) -> HostNumber:
        """``value``, which each call finds at ``owner[key]``.

        Entries of one ``shared`` that are equal now are taken for one number.
        """
        entry = f"{owner}[{key}]"
        twin = None if shared is None else self._shared.get((shared, key, type(value), value))
        if twin is not None:
            if twin.name not in self.lines or self.lines[twin.name] != entry:
                self.equal[entry] = twin.name
            return twin
        number = self._named(entry, value)
        if shared is not None:
            self._shared[shared, key, type(value), value] = number
        return number

    def argument(self, i: int, code: str, value: float) -> HostNumber:
        """A number that is an argument of the step."""
        self.labels[code] = f"argument {i}"
        return self._named(code, value)

    def _named(self, code: str, value: Any) -> HostNumber:
        name = self._names.setdefault(code, f"h{len(self.lines)}")
        self.lines.setdefault(name, code)
        return HostNumber(self, name, value)

    def guard(self, number: HostNumber) -> None:
        """The program holds as long as ``number`` is what it is now."""
        self.guards.setdefault(number.name, number.value)

    def combined(self, symbol: str, function: Any, x: Any, y: Any) -> Any:
        """x symbol y; ``NotImplemented`` where one of them is no number."""
        sides = [_written(side) for side in (x, y)]
        if sides[0] is None or sides[1] is None:
            return NotImplemented
        (left, a), (right, b) = sides[0], sides[1]
        return self._named(f"{left} {symbol} {right}", function(a, b))

    def changed(self, pattern: str, function: Any, x: HostNumber) -> HostNumber:
        """A function of one number."""
        return self._named(pattern.format(x.name), function(x.value))


def _written(side: Any) -> tuple[str, Any] | None:
    """A side of an operator as code, and its value now."""
    if isinstance(side, HostNumber):
        return side.name, side.value
    if not isinstance(side, (bool, int, float)):
        return None
    code = float.__repr__(side) if isinstance(side, float) else repr(side)  # NumPy's have no name there
    finite = side == side and abs(side) != float("inf")
    if not finite:
        return f"float('{code}')", side
    return f"({code})" if code.startswith("-") else code, side


class Reading(Mapping[str, Any]):
    """A mapping of an optimizer, as its rule sees it in a trace: its numbers are numbers of the trace.

    What is no number is handed out by ``other(key, value)``.
    """

    def __init__(
        self,
        numbers: Numbers,
        name: str,
        owner: Mapping[str, Any],
        other: Callable[[str, Any], Any],
        shared: Any,
    ) -> None:
        self._numbers, self._name, self._owner, self._other = numbers, name, owner, other
        self._shared = shared

    def __getitem__(self, key: str) -> Any:
        try:
            value = self._owner[key]
        except KeyError:
            self._numbers.absent.append((self._name, key))
            raise
        if issubclass(type(value), (bool, int, float)):  # and no number of the trace
            return self._numbers.read(self._name, repr(key), value, self._shared)
        if isinstance(value, tuple) and value and all(isinstance(v, (int, float)) for v in value):
            return tuple(self._numbers.read(self._name, f"{key!r}][{i}", v) for i, v in enumerate(value))
        return self._other(key, value)

    def __iter__(self) -> Iterator[str]:
        return iter(self._owner)

    def __len__(self) -> int:
        return len(self._owner)
