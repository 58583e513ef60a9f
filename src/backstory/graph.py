"""The graph that everything reads, and the per-thread modes under which it is recorded.

A :class:`Node` is one operation that ran: what it was, with which parameters, what its vjp needs of
its inputs, and edges to where those inputs came from. An edge is another node, a leaf tensor, or
``None`` for a constant. A node never holds the tensor it made, so graphs are free of cycles and die
by reference counting.
"""

from __future__ import annotations

import contextvars
import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from backstory.ops import Op

__all__ = ["AccumulateGrad", "Context", "Level", "Node", "context"]

_order = itertools.count()


class Level:
    """One level of differentiation: how deep it is and whether it records a graph.

    Level 0 holds arrays. A tensor of level n + 1 holds a tensor of level n or below. The grad mode
    belongs to a level: switching it off for one leaves the derivatives of the others alone.
    """

    __slots__ = ("depth", "grad_enabled")

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.grad_enabled = True


class Context:
    """One thread's modes: its levels, who observes, and relu's derivative at exactly 0.

    Rules on arrays run in ``quiet``: infinity and NaN are values, and no reason for a NumPy warning.
    What may come back to an operation from inside runs in a copy, since a context is entered once.
    """

    __slots__ = ("ambient", "backward_listeners", "levels", "observer", "quiet", "relu_at_zero")

    def __init__(self) -> None:
        self.levels = [Level(0)]
        self.ambient = 0
        self.observer: Any = None
        self.relu_at_zero = 0.0
        self.backward_listeners: list[Callable[[Any], None]] = []
        # Entering a context costs a tenth of np.errstate, which sets the same variable.
        self.quiet = contextvars.Context()
        self.quiet.run(np.seterr, all="ignore")


class _PerThread(threading.local):
    def __init__(self) -> None:
        self.context = Context()


_threads = _PerThread()


def context() -> Context:
    """The modes of the present thread."""
    return _threads.context


class Node:
    """One operation in the graph.

    ``inputs`` and ``ans`` hold only the arrays that the vjp reads (others are ``None``), and nothing
    after the graph was freed. ``constants`` holds, for those who explain, the other inputs that need no
    gradient: Python numbers and small arrays themselves, large ones as weak references. ``order`` grows
    with time, so it sorts a graph topologically.
    """

    __slots__ = (
        "__weakref__",
        "ans",
        "constants",
        "dtype",
        "edges",
        "freed",
        "inputs",
        "level",
        "op",
        "order",
        "params",
        "residuals",
        "shape",
        "versions",
    )

    # (counter, version when recorded, which input; -1 for the output) of every value that was kept
    versions: Sequence[tuple[list[int], int, int]]

    def __init__(
        self,
        op: Op,
        params: Mapping[str, Any],
        edges: list[Any],
        inputs: list[Any],
        ans: Any,
        residuals: Any,
        versions: Sequence[tuple[list[int], int, int]],
        result: Any,
    ) -> None:
        self.op = op
        self.params = params
        self.edges = edges
        self.inputs = inputs
        self.ans = ans
        self.residuals = residuals
        self.versions = versions
        self.level: int = result.level
        self.shape: tuple[int, ...] = result.array.shape
        self.dtype: np.dtype = result.array.dtype
        self.order = next(_order)
        self.freed = False
        self.constants: Sequence[Any] = ()

    @property
    def next_functions(self) -> tuple[tuple[Any, int], ...]:
        """PyTorch's view of the edges: pairs of a node (or ``None``) and 0."""
        return tuple(
            (edge if edge is None or isinstance(edge, Node) else AccumulateGrad(edge), 0)
            for edge in self.edges
        )

    def name(self) -> str:
        """The node's name, such as ``AddBackward0``."""
        return self.op.backward_name

    def free(self) -> None:
        """Forget the tensors that the vjp needs; a node that kept none can be walked again."""
        if self.versions:
            self.inputs, self.ans, self.residuals, self.versions = [], None, None, ()
            self.freed = True

    def __repr__(self) -> str:
        return f"<{self.name()}>"


class AccumulateGrad:
    """The end of a path, as PyTorch shows it: the leaf that a gradient is added to."""

    def __init__(self, variable: Any) -> None:
        self.variable = variable

    next_functions = ()

    def name(self) -> str:
        """``AccumulateGrad``."""
        return "AccumulateGrad"

    def __repr__(self) -> str:
        return "<AccumulateGrad>"
