"""What things are called: by their own name, the caller's variables and the paths of modules."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import FrameType
from typing import Any

import numpy as np

from backstory.graph import Node
from backstory.insight.explanation.formula import GREEK
from backstory.nn import Module
from backstory.tensor import Tensor

__all__ = ["Names", "as_latex"]

PARTS = re.compile(r"([A-Za-z]+)_?(hat|bar|tilde)?_?(\d*)$")


def as_latex(name: str) -> str:
    r"""A variable's name as mathematics writes it.

    >>> from backstory.insight.explanation.formula import plain
    >>> [plain(as_latex(name)) for name in ("W1", "y_hat", "alpha", "b", "loss", "0.weight", "a_2")]
    ['W₁', 'ŷ', 'α', 'b', 'loss', '0.weight', 'a₂']
    >>> as_latex("y_hat"), as_latex("W1")
    ('\\hat{y}', 'W_{1}')
    """
    match = PARTS.fullmatch(name)
    if match is None:
        return r"\text{" + re.sub(r"([_#%{}$&])", r"\\\1", name) + "}"
    word, accent, number = match.groups()
    if word.lower() in GREEK:
        base = "\\" + word
    elif len(word) > 1 and word.endswith("hat") and accent is None and len(word) == 4:
        base, accent = word[0], "hat"
    else:
        base = word if len(word) == 1 else rf"\text{{{word}}}"
    if accent:
        base = rf"\{accent}{{{base}}}"
    return base + (f"_{{{number}}}" if number else "")


class Names:
    """Finds names by identity: of leaves, of results (by their node) and of constants (by their array)."""

    def __init__(self, scopes: Iterable[Mapping[str, Any]], given: Mapping[str, Any] | None = None) -> None:
        self._found: dict[int, str] = {}
        self._aliases: dict[int, list[str]] = {}
        self._given = set(given or {})
        self._held: list[Any] = []  # what is known by its id must stay alive
        modules: list[tuple[str, Module]] = []
        for scope in (given or {}, *scopes):
            for name, value in list(scope.items()):
                if name.startswith("_"):
                    continue
                if isinstance(value, Module):
                    modules.append((name, value))
                elif isinstance(value, (Tensor, np.ndarray)):
                    self._add(name, value)
        for name, module in modules:
            several = any(other is not module for _, other in _outermost(modules))
            for path, parameter in module.named_parameters():
                self._add(f"{name}.{path}" if several and name != "self" else path, parameter)

    @classmethod
    def around(cls, frame: FrameType, names: Mapping[str, Any] | None = None) -> Names:
        """The names given, else those of the variables that the frame sees."""
        scopes = [frame.f_locals]
        if frame.f_globals is not frame.f_locals:
            scopes.append(frame.f_globals)
        return cls(scopes, names or {})

    def _add(self, name: str, value: Any) -> None:
        keys = [value]
        if isinstance(value, Tensor):
            if value.grad_fn is not None:
                keys = [value.grad_fn]
            else:
                keys.append(value.array)
        for key in keys:
            self._held.append(key)
            self._found.setdefault(id(key), getattr(value, "name", None) or name)
            self._aliases.setdefault(id(key), []).append(name)

    def of(self, thing: Any) -> str | None:
        """The name of a leaf tensor, a node or an array, if it has one."""
        if isinstance(thing, Tensor) and thing.name:
            return thing.name
        name = self._found.get(id(thing))
        while name is None and isinstance(base := getattr(thing, "base", None), np.ndarray):
            # A vector that was made a row or a column is a view of what has the name.
            if [n for n in base.shape if n != 1] != [n for n in thing.shape if n != 1]:
                break
            thing, name = base, self._found.get(id(base))
        return name

    def of_loss(self, node: Node) -> str | None:
        """The name given, else the last variable that holds it: ``J = a`` makes the loss J."""
        aliases = self._aliases.get(id(node), [])
        return next((alias for alias in aliases if alias in self._given), aliases[-1] if aliases else None)

    def aliases(self, node: Node) -> list[str]:
        """All variables that hold the node's result."""
        return self._aliases.get(id(node), [])


def _outermost(modules: list[tuple[str, Module]]) -> list[tuple[str, Module]]:
    """The modules that no other of them contains."""
    return [
        (name, module)
        for name, module in modules
        if not any(module is not other and module in other.modules() for _, other in modules)
    ]
