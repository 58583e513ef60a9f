"""``detect_anomaly``: a NaN in a backward walk raises, naming the operation and the line that ran it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from backstory.core import plain
from backstory.errors import GraphError
from backstory.graph import Node, context
from backstory.history import place_of, user_line

__all__ = ["detect_anomaly", "set_detect_anomaly"]


class _Watcher:
    """Notes where every node is made, and looks at what comes out of its rule."""

    def __init__(self, check_nan: bool) -> None:
        self.check_nan = check_nan

    def made(self, node: Node) -> None:
        """Remember the line of the user's code that made ``node``."""
        node.more().origin = user_line()

    def check(self, node: Node, parts: Sequence[Any]) -> None:
        """Raise if a cotangent that ``node`` gives to its inputs holds a NaN."""
        if not self.check_nan:
            return
        for place, part in enumerate(parts):
            value = None if part is None else plain(part)
            if isinstance(value, (np.ndarray, np.generic)) and np.isnan(value).any():
                raise GraphError(
                    f"{node!r} of shape {node.shape} gave its input {place} a gradient that holds NaN",
                    why=f"its inputs were {_inputs(node)}; it ran at {origin(node)}",
                    instead="an operation that is defined there: a clamp, an epsilon, or where() before it",
                )


def origin(node: Node) -> str:
    """Where the operation of ``node`` ran, in words."""
    place = None if node.extra is None else node.extra.origin
    return place_of(place) if place is not None else "a line before detect_anomaly() was entered"


def _inputs(node: Node) -> str:
    """The inputs in words: name or maker, shape, dtype, and the range of the values that were kept."""
    kept = [*node.inputs, *(None,) * (len(node.edges) - len(node.inputs))]
    return "; ".join(_input(edge, value) for edge, value in zip(node.edges, kept, strict=True))


def _input(edge: Any, value: Any) -> str:
    if edge is None and value is None:
        return "a constant"
    what = "a constant" if edge is None else repr(edge) if isinstance(edge, Node) else edge.name or "a leaf"
    shape, dtype = (value.shape, value.dtype) if hasattr(value, "shape") else _form(edge)
    words = f"{what} of shape {shape} and {dtype}"
    array = plain(value)
    if isinstance(array, np.ndarray) and array.size:
        words += f" with values from {array.min():.6g} to {array.max():.6g}"
    return words


def _form(edge: Any) -> tuple[Any, Any]:
    return (edge.shape, edge.dtype) if edge is not None else ((), "number")


class set_detect_anomaly:
    """Look for NaN in every backward walk from now on, or not; as a context manager inside the block."""

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        ctx = context()
        self._before = ctx.anomaly
        ctx.anomaly = _Watcher(check_nan) if mode else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        context().anomaly = self._before


class detect_anomaly:
    """Raise where a gradient becomes NaN: with the operation, its inputs and the line that ran it.

    The forward pass must run inside too, so that its lines are known; an operation from before is named
    without. With ``check_nan=False`` only other errors of the walk are told with their line. It makes
    everything slower: use it to find a mistake.

    >>> import backstory
    >>> x = backstory.tensor([0.0, 1.0], requires_grad=True)
    >>> with detect_anomaly():
    ...     (x.sqrt() * 0.0).sum().backward()
    Traceback (most recent call last):
    backstory.errors.GraphError: <SqrtBackward0> of shape (2,) gave its input 0 a gradient that holds NaN
      ...
    """

    def __init__(self, check_nan: bool = True) -> None:
        self.check_nan = check_nan

    def __enter__(self) -> Self:
        ctx = context()
        self._before = ctx.anomaly
        ctx.anomaly = _Watcher(self.check_nan)
        return self

    def __exit__(self, *error: object) -> None:
        context().anomaly = self._before
