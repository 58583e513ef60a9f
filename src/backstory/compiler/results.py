"""What a call gives back: every result as the eager step would have left it, with its place in a graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from backstory.compiler.calling import Code
from backstory.compiler.numbers import HostNumber
from backstory.compiler.symbols import Symbol
from backstory.core import Core
from backstory.errors import TraceError
from backstory.graph import InferenceCounter, Node
from backstory.tensor import Tensor

__all__ = ["Results"]

_SMALL = 4096  # bytes of a result that is copied for the caller rather than handed out


class Results:
    """The code of results: ``lines`` make the tensors among them, each once; ``last`` come at the end.

    ``known(x)`` is the code of a tensor from outside, ``output(symbol, label)`` the place of a new output.
    Those among ``moving`` get their history from the call (:mod:`~.differentiable`).
    """

    def __init__(
        self,
        trace: Any,
        code: Code,
        known: Callable[[Any], str],
        output: Callable[[Symbol, str], int],
        moving: list[Any],
    ) -> None:
        self._trace, self._code, self._known, self._output = trace, code, known, output
        self._moving = moving
        self._names: dict[int, str] = {}
        self.made: list[Any] = []
        self.lines: list[str] = []
        self.last: list[str] = []

    @property
    def moving(self) -> str:
        """The code of the results that have a history."""
        return ", ".join(map(self._tensor, self._moving))

    def of(self, x: Any) -> str:
        """The code of one leaf of the result."""
        if isinstance(x, Core):
            return self._tensor(x)
        if isinstance(x, Symbol):
            return f"memory.handed({self._output(x, 'result')}).array"
        return x.name if isinstance(x, HostNumber) else self._code.literal(x)

    def _tensor(self, x: Any) -> str:
        for gradient in self._trace.gradients.values():
            if x is gradient.after:
                return f"{self._known(gradient.tensor)}._grad"
        untouched = not x.level and isinstance(x.array, np.ndarray)
        if untouched or id(x) in self._trace.lifted:
            return self._known(x)
        if x.level or not isinstance(x.array, Symbol):
            raise TraceError(
                "a compiled step returns a tensor of a transform",
                why="it cannot outlive the transform",
                instead="what the transform returns",
            )
        name = self._names.get(id(x))
        if name is None:
            name = self._names[id(x)] = f"r{len(self._names)}"
            self._make(name, x)
        return name

    def _make(self, name: str, x: Any) -> None:
        """A tensor that the step made: new in each call."""
        self.made.append(x)
        j = self._output(x.array, "result")
        large = x.array.size * x.array.itemsize > _SMALL
        self.lines.append(
            f"{name} = " + (f"memory.handed({j})" if large else f"wrap(tensors[{j}].array.copy(), 0)")
        )
        if x.__class__ is not Tensor:
            self.lines.append(f"{name}.__class__ = {self._code.name(x.__class__)}")
        if x._grad is not None:
            self.lines.append(f"{name}._grad = {self._tensor(x._grad)}")
        if x._hooks is not None:
            self.lines.append(f"{name}._hooks = {self._code.name(x._hooks)}")
        if isinstance(x._counter, InferenceCounter):
            self.lines.append(f"{name}._counter = {self._code.name(InferenceCounter)}([0, 0, None])")
        node = x.grad_fn
        if any(x is one for one in self._moving):
            if x.retains_grad:
                self.last.append(f"{name}.retain_grad()")
            x._grad_fn = None  # its graph is for the rule, and ends with the trace
        elif x._requires_grad:
            self.lines.append(f"{name}._requires_grad = True")
            if node is not None:
                self.lines.append(f"{name}._grad_fn = {self._code.name(node)}")
                _forget(node)


def _forget(root: Node) -> None:
    """A graph that the step itself walked: what is left of it tells what it was, and cannot be walked.

    Leaves that the step made end with the trace: no edge leads there any more.
    """
    stack, seen = [root], {root}
    while stack:
        node = stack.pop()
        node.free()
        node.constants = ()
        if node.freed:
            node.extra = None
        node.edges = [None if _of_the_step(edge) else edge for edge in node.edges]
        found = {edge for edge in node.edges if isinstance(edge, Node)} - seen
        seen |= found
        stack += found


def _of_the_step(edge: Any) -> bool:
    return isinstance(edge, Core) and isinstance(edge.array, Symbol)
