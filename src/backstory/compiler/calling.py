"""The code of a call: a small Python function that asks whether a program fits, and runs it.

It is straight-line code, written for one program: it takes the arguments apart, compares modes, names and
settings with what the trace saw, fetches the arrays, runs the program, and leaves behind what the step would.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from backstory.compiler.guards import PLAIN
from backstory.compiler.names import Look, unchanged
from backstory.compiler.numbers import Numbers
from backstory.compiler.replay import Deoptimized, Failed
from backstory.func.tree import like
from backstory.graph import context
from backstory.promotion import get_default_dtype
from backstory.tensor import Tensor, wrap

__all__ = ["MISS", "Code", "Groups", "modes"]

MISS = object()
_NUMBER = re.compile(r"\bh\d+\b")
_SOURCE = re.compile(r"\b[dhl]\d+\b")  # what a number is computed from


def modes() -> tuple[Any, ...]:
    """The modes of the thread that decide what an operation does, where a program may run at all."""
    ctx = context()
    return ctx.levels[0].grad_enabled, ctx.inference, ctx.relu_at_zero, get_default_dtype()


Groups = dict[str, tuple[str, str]]
"""Groups of optimizers by name, each with the name of its copy from the last call, and of its optimizer."""


class Code:
    """Lines of Python, and the objects that they name."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.indent = 1
        self.env: dict[str, Any] = {
            "MISS": MISS,
            "UNDONE": (Deoptimized, Failed),
            "context": context,
            "default_dtype": get_default_dtype,
            "like": like,
            "unchanged": unchanged,
            "wrap": wrap,
        }
        self._names: dict[int, str] = {}
        self.following: dict[str, list[str]] = {}  # lines behind that which computes a number
        self.kept: set[str] = set()  # names of what one call leaves to the next

    def name(self, value: Any) -> str:
        """A name for an object."""
        found = self._names.get(id(value))
        if found is None:
            found = self._names[id(value)] = f"o{len(self._names)}"
            self.env[found] = value
        return found

    def literal(self, value: Any) -> str:
        """The code of a value: itself where it can be written, else a name."""
        if value is None or value.__class__ in (bool, int, str):
            return repr(value)
        return self.name(value)

    def add(self, line: str) -> None:
        """One line more."""
        self.lines.append("    " * self.indent + line)

    @contextmanager
    def inside(self, line: str) -> Iterator[None]:
        """The lines that are added meanwhile belong to ``line``."""
        self.add(line)
        self.indent += 1
        yield
        self.indent -= 1

    def require(self, condition: str) -> None:
        """A program that runs only where ``condition`` holds."""
        self.add(f"if not ({condition}): return MISS")

    def forbid(self, condition: str) -> None:
        """A program that runs only where ``condition`` does not hold."""
        self.add(f"if {condition}: return MISS")

    # What is asked

    def circumstances(self, was: tuple[Any, ...]) -> None:
        """The modes of the thread."""
        grad_enabled, inference, at_zero, dtype = was
        self.add("ctx = context()")
        self.forbid("ctx.trace is not None or len(ctx.levels) != 1")
        self.forbid("ctx.observer is not None or ctx.anomaly is not None")
        self.forbid(f"ctx.levels[0].grad_enabled is not {grad_enabled} or ctx.inference is not {inference}")
        self.forbid(f"ctx.relu_at_zero != {at_zero!r} or default_dtype() is not {self.name(dtype)}")

    def look(self, look: Look) -> None:
        """One name that the step refers to."""
        holder = self.name(look.holder)
        codes = {"cell": f"{holder}.cell_contents", "class": f"{holder}.{look.key}"}
        code = codes.get(look.kind) or f"{holder}[{self.literal(look.key)}]"
        if look.copy is not None:
            self.require(f"unchanged({code}, {self.name(look.copy)})")
        else:
            self.value(code, look.value)

    def value(self, code: str, value: Any) -> None:
        """Whether ``code`` gives ``value``, or for numbers and texts an equal one."""
        if value is None or value.__class__ is bool or not isinstance(value, (*PLAIN, np.generic, np.dtype)):
            self.forbid(f"{code} is not {self.literal(value)}")
        else:
            kind = self.name(value.__class__)
            self.add(f"x = {code}")
            name = self.name(value)
            self.forbid(f"x is not {name} and (x.__class__ is not {kind} or x != {name})")

    def reorder(self, keywords: dict[str, Any]) -> None:
        """The keywords of a call in the order in which they were traced."""
        if len(keywords) > 1:
            own = ", ".join(f"{key!r}: keywords[{key!r}]" for key in keywords)
            differs = f"len(keywords) == {len(keywords)} and tuple(keywords) != {self.name(tuple(keywords))}"
            self.add(f"if {differs}: keywords = {{{own}}}")

    def unpack(self, tree: Any, code: str, leaves: Sequence[Any]) -> None:
        """Take arguments apart: leaf i becomes ``l{i}``; what is no tensor, array or float is compared."""
        if tree is None:
            self.forbid(f"{code} is not None")
        elif isinstance(tree, dict):
            self._container(tree, code)
            if tree:
                self.forbid(f"tuple({code}) != {self.name(tuple(tree))}")
            for key, part in tree.items():
                self.unpack(part, f"{code}[{self.literal(key)}]", leaves)
        elif isinstance(tree, (list, tuple)):
            self._container(tree, code)
            for i, part in enumerate(tree):
                self.unpack(part, f"{code}[{i}]", leaves)
        else:
            self.add(f"l{tree} = {code}")
            self._leaf(f"l{tree}", leaves[tree])

    def _container(self, tree: Any, code: str) -> None:
        if code not in ("args", "keywords"):
            self.forbid(f"{code}.__class__ is not {self.name(tree.__class__)}")
        self.forbid(f"len({code}) != {len(tree)}" if tree else code)

    def _leaf(self, name: str, leaf: Any) -> None:
        if isinstance(leaf, Tensor):
            self.forbid(f"{name}.__class__ is not {self.name(leaf.__class__)} or {name}.level")
            self.add(f"if {name}._view is not None: {name}.grad_fn")  # brings the history up to date
            self.forbid(f"{name}._requires_grad is not {leaf._requires_grad}")
            if leaf._requires_grad:
                hooks = "is not None" if leaf._hooks is None else f"is not {self.name(leaf._hooks)}"
                self.forbid(f"{name}._hooks {hooks}")
                self.forbid(f"({name}._grad_fn is None) is not {leaf._grad_fn is None}")
        elif isinstance(leaf, (np.ndarray, np.floating)) or leaf.__class__ is float:
            self.forbid(f"{name}.__class__ is not {self.name(leaf.__class__)}")
        else:
            self.value(name, leaf)

    def numbers(self, numbers: Numbers, hosts: Sequence[str], roots: Sequence[str], groups: Groups) -> None:
        """What the host computes of numbers, as far as ``roots`` need it, and what is asked of them.

        ``hosts`` are those that the program reads. What comes from ``groups`` alone is computed, asked and
        handed over where one of these is not what it was in the last call.
        """
        lines = numbers.lines
        needed = _needed(lines, [*hosts, *roots, *numbers.guards, *numbers.equal.values()])
        steady: set[str] = set()
        for name, code in lines.items():
            if all(x in steady or x in groups for x in _SOURCE.findall(code)):
                steady.add(name)
        moves = not steady.issuperset(hosts)
        if groups:
            self.kept |= steady & needed
            with self.inside("if " + " or ".join(f"{x} != {was}" for x, (was, _) in groups.items()) + ":"):
                for was, _ in groups.values():
                    self.add(f"{was}.clear()")  # whatever fails or misses, the next call comes here again
                self._computed(numbers, needed & steady)
                for x, (_, optimizer) in groups.items():
                    self.add(f"check({optimizer}, {x})")
                if hosts and not moves:
                    self.add(f"set_numbers({', '.join(hosts)})")
                for x, (was, _) in groups.items():
                    self.add(f"{was}.update({x})")
        self._computed(numbers, needed - steady)
        for entry, name in numbers.equal.items():
            self.forbid(f"{entry} != {name}")
        if moves:
            self.add(f"set_numbers({', '.join(hosts)})")

    def _computed(self, numbers: Numbers, wanted: set[str]) -> None:
        for name, code in numbers.lines.items():
            if name in wanted:
                for line in (f"{name} = {code}", *self.following.get(name, ())):
                    self.add(line)
        for name, value in numbers.guards.items():
            if name in wanted:
                self.require(f"{name} == {value!r}")

    # What is given back

    def rebuilt(self, tree: Any, leaves: Any) -> str:
        """The expression of a nested result, whose leaf i is the expression ``leaves[i]``."""
        if tree is None:
            return "None"
        if isinstance(tree, dict):
            pairs = ", ".join(f"{self.literal(k)}: {self.rebuilt(part, leaves)}" for k, part in tree.items())
            return f"{{{pairs}}}" if type(tree) is dict else f"like({self.name(tree)}, {{{pairs}}})"
        if isinstance(tree, (list, tuple)):
            parts = ", ".join(self.rebuilt(part, leaves) for part in tree)
            if hasattr(tree, "_fields"):
                return f"{self.name(type(tree))}({parts})"
            if type(tree) is list:
                return f"[{parts}]"
            whole = f"({parts},)" if len(tree) else "()"
            return whole if type(tree) is tuple else f"{self.name(type(tree))}({whole})"
        return leaves[tree]

    def compiled(self, signature: str) -> tuple[Any, str]:
        """The function, and its source."""
        kept = [f"    global {', '.join(sorted(self.kept))}"] if self.kept else []
        source = "\n".join([f"def {signature}:", *kept, *self.lines])
        exec(compile(source, "<call of a compiled step>", "exec"), self.env)
        return self.env.pop(signature.partition("(")[0]), source


def _needed(lines: dict[str, str], roots: Sequence[str]) -> set[str]:
    """The numbers that the code ``roots`` is computed from."""
    found: set[str] = set()
    stack = [name for root in roots for name in _NUMBER.findall(root)]
    while stack:
        name = stack.pop()
        if name in lines and name not in found:
            found.add(name)
            stack += _NUMBER.findall(lines[name])
    return found
