"""Nested lists, tuples, named tuples and dicts of tensors: flattened, and built again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

from backstory.errors import ArgumentError
from backstory.tensor import Tensor

__all__ = ["build", "flatten", "flatten_as", "like", "map_tensors", "tensors"]


def flatten(tree: Any) -> tuple[list[Any], Any]:
    """The leaves from left to right (dicts by insertion), and the tree with a number at each leaf's place.

    >>> flatten({"a": [10, 20], "b": (30,)})
    ([10, 20, 30], {'a': [0, 1], 'b': (2,)})
    """
    leaves: list[Any] = []

    def number(leaf: Any) -> int:
        leaves.append(leaf)
        return len(leaves) - 1

    return leaves, _mapped(tree, number)


def build(shape: Any, leaves: Sequence[Any]) -> Any:
    """The tree of that shape (the second result of :func:`flatten`) with ``leaves`` at their places.

    >>> build({"a": [0, 1], "b": (2,)}, "xyz")
    {'a': ['x', 'y'], 'b': ('z',)}
    """
    return _mapped(shape, lambda place: leaves[place])


def _mapped(tree: Any, function: Callable[[Any], Any]) -> Any:
    if isinstance(tree, dict):
        return like(tree, {key: _mapped(value, function) for key, value in tree.items()})
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(_mapped(part, function) for part in tree))
    if isinstance(tree, (list, tuple)):
        return type(tree)(_mapped(part, function) for part in tree)
    return tree if tree is None else function(tree)


def like(tree: dict[Any, Any], pairs: dict[Any, Any]) -> dict[Any, Any]:
    """``pairs`` as a dict of the kind that ``tree`` is, which has the same keys."""
    if type(tree) is dict:
        return pairs
    new = copy(tree)
    new.update(pairs)
    return new


def map_tensors(function: Callable[[Tensor], Any], tree: Any) -> Any:
    """``tree`` with ``function`` applied to its tensors; all else stays."""
    return _mapped(tree, lambda leaf: function(leaf) if isinstance(leaf, Tensor) else leaf)


def tensors(tree: Any, what: str) -> tuple[list[Tensor], Any]:
    """As :func:`flatten`, where every leaf must be a tensor; ``what`` names the tree for the error."""
    leaves, shape = flatten(tree)
    for leaf in leaves:
        if not isinstance(leaf, Tensor):
            raise ArgumentError(
                f"{what}: a value of type {type(leaf).__name__}",
                why="a transform works on tensors, in nested lists, tuples and dicts",
                instead="backstory.tensor(value), or has_aux=True for what is not to be differentiated",
            )
    if not leaves:
        raise ArgumentError(f"{what}: no tensor", why="there is nothing to work on", instead="a tensor")
    return leaves, shape


def flatten_as(tree: Any, shape: Any, what: str) -> list[Any]:
    """The leaves of ``tree``, which must be nested as ``shape`` is."""
    leaves, own = flatten(tree)
    if own != shape:
        raise ArgumentError(
            f"{what}: nested as {own}",
            why=f"it goes with values that are nested as {shape}",
            instead="the same lists, tuples and dicts, with the same keys",
        )
    return leaves
