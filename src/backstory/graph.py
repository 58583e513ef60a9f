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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from backstory.arrays import eager
from backstory.errors import GraphError
from backstory.hooks import Extra, Handle, structure
from backstory.ops import Op

__all__ = [
    "AccumulateGrad",
    "Context",
    "Held",
    "InferenceCounter",
    "Level",
    "Node",
    "context",
    "next_order",
    "structure",
]

_order = itertools.count()
_numbers = itertools.count(1)
LevelType = TypeVar("LevelType", bound="Level")


class Held:
    """What a tensor of some levels holds: ``array``, a tensor of a lower level, and more.

    It is asked for at every operation of a transform, so it is no ``ABC``, whose ``isinstance`` is slow.
    """

    __slots__ = ("array", "dtype", "shape")

    array: Any
    shape: tuple[int, ...]
    dtype: np.dtype

    def detach(self) -> Any:
        """The same without history."""
        raise NotImplementedError

    def item(self) -> Any:
        """The only entry as a Python number."""
        raise NotImplementedError

    def tolist(self) -> Any:
        """The entries as nested lists of Python numbers."""
        raise NotImplementedError


class Level:
    """One level: level 0 holds arrays, and a transform's level holds tensors of the levels below.

    ``number`` grows with time, so an inner level has a larger one than those around it, and a level
    that has ended is never taken for another. ``grad_enabled`` is the level's own grad mode: switching
    it off leaves the derivatives of other levels alone. Only a level that ``records`` a graph has one.
    """

    __slots__ = ("grad_enabled", "number")

    records = True
    size = 1  # how many samples run at once
    randomness: str | None = None  # what random draws do where several run at once

    def __init__(self, number: int | None = None) -> None:
        self.number = next(_numbers) if number is None else number
        self.grad_enabled = True

    def run(self, op: Op, args: Sequence[Any], params: Mapping[str, Any]) -> Any:
        """Run ``op`` on tensors of which at least one is of this level, and none of a higher one."""
        raise NotImplementedError

    def of_samples(self, x: Any) -> Any:
        """``x``, one value per sample along its first axis, as a tensor of this level."""
        raise NotImplementedError

    def below(self, x: Any) -> Any:
        """What a tensor of this level holds, as a tensor of a lower level."""
        return x.array

    def custom(self, function: Any, args: Sequence[Any], wanted: tuple[bool, ...]) -> Any:
        """Run a custom :class:`~backstory.autograd.Function` likewise."""
        raise NotImplementedError


class Context:
    """One thread's modes: its levels, who observes, and relu's derivative at exactly 0.

    Rules on arrays run in ``quiet``: infinity and NaN are values, and no reason for a NumPy warning.
    What may come back to an operation from inside runs in a copy, since a context is entered once.
    """

    __slots__ = (
        "ambient",
        "anomaly",
        "backward_listeners",
        "inference",
        "levels",
        "observer",
        "quiet",
        "relu_at_zero",
        "trace",
        "xp",
    )

    def __init__(self) -> None:
        self.levels = [Level(0)]
        self.ambient = 0
        self.observer: Any = None
        self.relu_at_zero = 0.0
        self.inference = False
        # The namespace that arrays of level 0 run on; while a step is compiled, that of its trace.
        self.xp: Any = eager
        self.trace: Any = None
        # Hears of every node while anomalies are looked for, and checks what comes out of its rule.
        self.anomaly: Any = None
        self.backward_listeners: list[Callable[[Any], None]] = []
        # Entering a context costs a tenth of np.errstate, which sets the same variable.
        self.quiet = contextvars.Context()
        self.quiet.run(np.seterr, all="ignore")

    def level(self, number: int, what: str) -> Level:
        """The level of that number; an error that names ``what`` if it has ended."""
        for level in reversed(self.levels):
            if level.number == number:
                return level
        raise self.escaped(what)

    @staticmethod
    def escaped(what: str) -> GraphError:
        """The error for a tensor of a transform that has ended."""
        return GraphError(
            f"{what} received a tensor of a transform that has ended",
            why="a tensor of a transform holds values of that transform, and nothing of it may outlive it",
            instead="the result that the transform returns",
        )

    @property
    def recording(self) -> Level:
        """The innermost level that records a graph: the one that grad modes are about."""
        levels = self.levels
        if len(levels) == 1:
            return levels[0]
        return next(level for level in reversed(levels) if level.records)

    @contextmanager
    def inside(self, level: LevelType) -> Iterator[LevelType]:
        """``level`` as the innermost one; it ends with the block, also after an error."""
        self.levels.append(level)
        try:
            yield level
        finally:
            closed = self.levels.pop()
            assert closed is level, "levels were left in another order than they were entered"


class _PerThread(threading.local):
    def __init__(self) -> None:
        self.context = Context()


_threads = _PerThread()


def context() -> Context:
    """The modes of the present thread."""
    return _threads.context


class InferenceCounter(list):
    """The version counter of a tensor that inference mode made: outside that mode nobody may read it.

    Whoever saves such a tensor for a gradient, or changes it in place, asks for its version first.
    """

    def __getitem__(self, place: Any) -> Any:
        if place == 0 and not context().inference:
            raise GraphError(
                "a tensor made in inference mode was to be saved for backward, or changed in place",
                why="inference mode counts no changes of its tensors, so a gradient could be silently wrong",
                instead="x.clone() of it outside inference mode, or no_grad() instead of inference_mode()",
            )
        return super().__getitem__(place)


def next_order() -> int:
    """A point in time: nodes made from now on have an ``order`` of at least this."""
    return next(_order)


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
        "extra",
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
    versions: Sequence[tuple[list[Any], int, int]]

    def __init__(
        self,
        op: Op,
        params: Mapping[str, Any],
        edges: list[Any],
        inputs: list[Any],
        ans: Any,
        residuals: Any,
        versions: Sequence[tuple[list[Any], int, int]],
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
        self.extra: Extra | None = None

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

    def more(self) -> Extra:
        """The node's :class:`~backstory.hooks.Extra`, made when first needed."""
        if self.extra is None:
            self.extra = Extra()
        return self.extra

    def register_hook(self, hook: Callable[[Any, Any], Any]) -> Handle:
        """Call ``hook(grad_inputs, grad_outputs)`` after the node's rule ran, with tuples of gradients.

        What it returns, if not ``None``, takes the place of ``grad_inputs``.
        """
        return Handle(self.more().posthooks, hook)

    def register_prehook(self, hook: Callable[[Any], Any]) -> Handle:
        """Call ``hook(grad_outputs)`` before the node's rule runs; what it returns takes their place."""
        return Handle(self.more().prehooks, hook)

    def free(self) -> None:
        """Forget the tensors that the vjp needs; a node that kept none can be walked again."""
        if self.versions:
            self.inputs, self.ans, self.residuals, self.versions = [], None, None, ()
            self.freed = True
            if self.extra is not None and self.extra.call is not None:
                self.extra.call.release()

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
