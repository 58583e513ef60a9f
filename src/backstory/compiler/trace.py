"""The trace: one run of a step on symbols, which writes down what the step does to arrays.

While it lasts, tensors hold symbols in place of arrays: a tensor from outside is lifted when it is first
used, and gets its array back at the end. Optimizers and gradients are watched, so that what the step
changes is found without being told.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from backstory.compiler.graph import Graph, Input, Number, Value
from backstory.compiler.guards import flags
from backstory.compiler.names import Names
from backstory.compiler.namespace import Namespace
from backstory.compiler.numbers import HostNumber, Numbers
from backstory.compiler.origins import Origins
from backstory.compiler.replay import Deoptimized, Failed
from backstory.compiler.signatures import signature
from backstory.compiler.symbols import Symbol
from backstory.compiler.updates import Updates
from backstory.core import Core, tracing
from backstory.errors import TraceError
from backstory.graph import context, next_order
from backstory.history import refresh, user_line
from backstory.promotion import get_default_dtype

__all__ = ["Captured", "Draw", "Gradient", "Lifted", "Trace"]


_NONE: Mapping[str, Any] = {}


class Lifted(NamedTuple):
    """A tensor from outside, and what it gets back when the trace ends."""

    tensor: Any
    array: np.ndarray
    flags: tuple[Any, ...]
    grad_fn: Any
    view: Any


class Draw(NamedTuple):
    """Random numbers that each call draws: ``draw(stream)`` of a generator, or of the thread's own."""

    input: Input
    generator: Any
    draw: Callable[[Any], Any]


class Captured(NamedTuple):
    """An array from outside: its symbol, its input, and where each call finds it."""

    array: np.ndarray
    symbol: Symbol
    input: Input
    place: tuple[Any, ...]


@dataclass(eq=False)
class Gradient:
    """What the step did about ``tensor.grad``, which was ``before``: read it, or replaced it without."""

    tensor: Any
    before: Any
    read: bool
    after: Any = None


class Trace:
    """What a step did: its graph as far as it goes, and where the arrays that it touched belong."""

    def __init__(self, names: Names) -> None:
        self.namespace = Namespace(self)
        self.numbers = Numbers()
        self.graph = Graph([], [], [], [])
        self.names = names
        self.origins = Origins(names)
        self.lifted: dict[int, Lifted] = {}
        self.captured: dict[int, Captured] = {}
        self.gradients: dict[int, Gradient] = {}
        self.draws: list[Draw] = []
        self.updates = Updates(self)
        self.switched: dict[int, tuple[Any, bool]] = {}  # modules, and whether they were training
        self.assumed = True
        self.followers: dict[int, tuple[Any, Any]] = {}  # who follows the step, and in which mode
        self.events: list[tuple[Any, tuple[Any, ...]]] = []  # what they are told after each call
        self._numbers: dict[str, tuple[Number, HostNumber]] = {}
        self._made: list[weakref.ref[Symbol]] = []
        self.tensors: list[weakref.ref[Any]] = []  # that were made in the trace
        self._versions: dict[int, tuple[Any, int]] = {}
        self.versions: list[tuple[Any, int]] = []  # tensors, and how often their memory changes
        self.altered: list[Any] = []
        self.modes: list[tuple[Any, bool]] = []
        self.began = next_order()

    # Adding values

    def emit(self, primitive: str, inputs: Sequence[Any], params: Mapping[str, Any]) -> Value:
        """A new value of the graph."""
        shape, dtype = signature(primitive, inputs, params)
        value = Value(primitive, tuple(inputs), params or _NONE, shape, dtype, self.origins.now)
        self.graph.values.append(value)
        return value

    def run(self, primitive: str, inputs: Sequence[Any], **params: Any) -> Any:
        """``primitive`` of symbols, arrays, numbers and Python scalars, as a new symbol."""
        values = tuple(self._operand(x) for x in inputs)
        return self._symbol(self.emit(primitive, values, params))

    def view(self, primitive: str, x: Any, **params: Any) -> Any:
        """A view of ``x``: memory shared with it."""
        of = self.symbol(x)
        return self._symbol(self.emit(primitive, (of.value,), params), of, primitive, params)

    def _symbol(
        self, value: Value, of: Symbol | None = None, primitive: str = "", params: Mapping[str, Any] = {}
    ) -> Symbol:
        symbol = Symbol(value, of, primitive, params)
        symbol.line = user_line()
        self._made.append(weakref.ref(symbol))
        return symbol

    def _operand(self, x: Any) -> Any:
        if isinstance(x, Symbol):
            return x.value
        if isinstance(x, HostNumber):
            return self.number(x)
        if isinstance(x, (np.ndarray, np.generic)):
            return self.symbol(x).value
        return x

    def symbol(self, x: Any) -> Symbol:
        """``x`` as a symbol: an array that rules made is a constant."""
        return x if isinstance(x, Symbol) else self.constant(np.asarray(x))

    def holds(self, x: Any, array: Any) -> Any:
        """What a new tensor of level 0 holds: a symbol, since its memory is made anew in each call."""
        self.tensors.append(weakref.ref(x))
        return self.constant(array) if array.__class__ is np.ndarray else array

    def constant(self, array: np.ndarray) -> Symbol:
        """A symbol of an array that never changes; one number everywhere is written as such."""
        if array.size and not (array != array.flat[0]).any():
            params = {"shape": array.shape, "value": array.flat[0].item(), "dtype": array.dtype}
            return self._symbol(self.emit("full", (), params))
        value = Value("constant", (), {"array": array.copy()}, array.shape, array.dtype, self.origins.now)
        self.graph.values.append(value)
        return self._symbol(value)

    def number(self, x: HostNumber) -> Number:
        """A number of the graph for a number that Python computes."""
        found = self._numbers.get(x.name)
        if found is None:
            number = Number(len(self.graph.numbers), type(x.value), self.numbers.label(x.name))
            self.graph.numbers.append(number)
            found = self._numbers[x.name] = (number, x)
        return found[0]

    @property
    def host_numbers(self) -> list[HostNumber]:
        """What Python computes for each number of the graph."""
        return [host for _, host in self._numbers.values()]

    def fitted(self, new: Any, shape: tuple[int, ...], dtype: Any) -> Value:
        """``new`` as a value of that shape and dtype."""
        value = self.converted(new, dtype).value
        if value.shape != shape:
            value = self.emit("broadcast_to", (value,), {"shape": shape})
        return value

    def converted(self, new: Any, dtype: Any) -> Symbol:
        """``new`` (anything) as a symbol of that dtype."""
        if isinstance(new, HostNumber):
            zero = self.run("full", (), shape=(), value=np.zeros((), dtype).item(), dtype=np.dtype(dtype))
            return self.run("add", (zero, new))
        if isinstance(new, (bool, int, float)):
            entry = np.asarray(new).astype(dtype).item()
            return self.run("full", (), shape=(), value=entry, dtype=np.dtype(dtype))
        symbol = self.symbol(new)
        return symbol if symbol.dtype == dtype else self.run("astype", (symbol,), dtype=np.dtype(dtype))

    # What comes from outside

    def incoming(self, array: Any, kind: str, label: str, place: tuple[Any, ...]) -> Any:
        """A symbol for an array from outside, which each call finds at ``place`` (see :mod:`~.binding`)."""
        if isinstance(array, Symbol):
            return array
        found = self.captured.get(id(array))
        if found is None:
            value = Value("input", (), {}, array.shape, array.dtype, self.origins.now)
            entry = Input(value, kind, label)
            self.graph.inputs.append(entry)
            symbol = Symbol(value)
            found = self.captured[id(array)] = Captured(array, symbol, entry, place)
        return found.symbol

    def memory(self, array: Any) -> Any:
        """A symbol for an array that the step closes over."""
        return self.incoming(array, "state", "array", ("itself", array))

    def lift(self, x: Any) -> None:
        """Let a tensor of level 0 hold a symbol, and be a leaf, until the trace ends."""
        array = x.array
        if array.__class__ is np.ndarray:
            if x._view is not None:
                refresh(x)
            label = self.origins.labels.get(id(x)) or x.name or ""
            self._lifted(x, self.incoming(array, "state", label, ("tensor", x)))

    def _lifted(self, x: Any, symbol: Symbol) -> None:
        self.lifted[id(x)] = Lifted(x, x.array, flags(x), x._grad_fn, x._view)
        self._versions.setdefault(id(x._counter), (x, x._counter[0]))
        self.names.add_hooks(x)
        x.array, x._grad_fn, x._view = symbol, None, None  # what leads to it is not of this step

    def reads_gradient(self, x: Any) -> None:
        """The step reads ``x.grad``, which may be from an earlier call."""
        if id(x) not in self.gradients and self._outside(x):
            self.gradients[id(x)] = Gradient(x, x._grad, read=True)
            if x._grad is not None:
                self.lift_gradient(x)

    def sets_gradient(self, x: Any) -> None:
        """The step replaces ``x.grad``."""
        if id(x) not in self.gradients and self._outside(x):
            self.gradients[id(x)] = Gradient(x, x._grad, read=False)

    def _outside(self, x: Any) -> bool:
        """Whether a tensor was there before the trace."""
        return x.array.__class__ is np.ndarray or id(x) in self.lifted

    def lift_gradient(self, x: Any) -> None:
        """The gradient of ``x`` from an earlier call: each call finds the one that is there then."""
        array = x._grad.array
        if array.__class__ is np.ndarray:
            self._lifted(x._grad, self.incoming(array, "state", self.label_of(x, "grad"), ("gradient", x)))

    def label_of(self, x: Any, what: str = "") -> str:
        """A label for a tensor, or for what belongs to it."""
        name = self.origins.labels.get(id(x)) or x.name or ""
        return f"{name}.{what}" if name and what else name or what

    def copied(self, x: Any, dtype: Any) -> Symbol:
        """New memory with the entries of ``x``, which is a symbol, an array from outside or a number."""
        if isinstance(x, np.ndarray):
            x = self.memory(x)
        if isinstance(x, HostNumber):
            return self.converted(x, get_default_dtype() if dtype is None else dtype)
        symbol = self._symbol(self.symbol(x).value)
        return (
            symbol if dtype is None or dtype == symbol.dtype else self.run("astype", (symbol,), dtype=dtype)
        )

    # What runs

    def enter(self, op: Any, args: Sequence[Any]) -> None:
        """An operation of level 0 is about to run on ``args``."""
        for x in args:
            if isinstance(x, Core) and not x.level:
                self.lift(x)
        self.origins.forward(op, args)

    def walks(self, node: Any) -> None:
        """The rule of a node is about to run."""
        if node.order < self.began:
            raise TraceError(
                f"backward() through {node!r}, which was computed outside of the step",
                why="the step is traced once, and what was saved outside belongs to one computation",
                instead="the whole forward pass inside the step, or x.detach() on the way in",
            )
        self.origins.backward(node)

    def switches(self, module: Any, mode: bool) -> None:
        """A module is switched to training or evaluation: each call does it again."""
        if module.training is not mode:
            self.switched.setdefault(id(module), (module, module.training))
            object.__setattr__(module, "training", mode)

    def draw(self, generator: Any, draw: Callable[[Any], Any]) -> Symbol:
        """Random numbers, drawn anew in each call."""
        like = np.asarray(draw(np.random.Generator(np.random.PCG64(0))))
        value = Value("input", (), {}, like.shape, like.dtype, self.origins.now)
        entry = Input(value, "draw", f"draw {len(self.draws)}")
        self.graph.inputs.append(entry)
        self.draws.append(Draw(entry, generator, draw))
        return self._symbol(value)

    def assume(self, x: Any, low: int, high: int, test: Callable[[Any], Any]) -> bool:
        """Whether the step may assume low ≤ x ≤ high: each call checks it.

        ``test(array)`` is called where it does not hold. If it raises, the step is run eagerly, and fails
        where that does; if it returns, the step is traced again without assumptions.
        """
        assumed = self.assumed

        def failed(array: Any) -> None:
            try:
                test(array)
            except Exception as error:
                raise Failed from error
            if assumed:
                raise Deoptimized

        self.emit(
            "check", (self.symbol(x).value,), {"test": failed, "low": low, "high": high, "sure": assumed}
        )
        return assumed

    # Followers

    def follow(self, follower: Any) -> None:
        """``follower`` hears what :meth:`tell` collects, in calls before which ``coming()`` is the same."""
        if id(follower) not in self.followers:
            self.followers[id(follower)] = (follower, follower.coming())

    def tell(self, follower: Any, *event: Any) -> None:
        """After each call ``follower`` receives ``event``, with arrays and numbers for those of the trace."""
        self.follow(follower)
        self.events.append((follower, event))

    # The whole

    @contextmanager
    def running(self) -> Iterator[Trace]:
        """The thread's operations are traced inside; all tensors hold their arrays again afterwards."""
        ctx = context()
        if ctx.trace is not None:
            raise TraceError("a trace inside a trace", why="one is enough", instead="the function itself")
        before = ctx.xp
        ctx.trace, ctx.xp = self, self.namespace
        tracing.append(self)
        try:
            yield self
        finally:
            ctx.trace, ctx.xp = None, before
            tracing.remove(self)
            self._restore()

    def _restore(self) -> None:
        """Let everything outside be what it was before the trace."""
        self.altered = [
            one.tensor
            for one in self.lifted.values()
            if flags(one.tensor) != one.flags or one.tensor._grad_fn not in (None, one.grad_fn)
        ]
        for one in self.lifted.values():
            x = one.tensor
            x.array, x._grad_fn, x._view = one.array, one.grad_fn, one.view
            x._requires_grad = one.flags[0]
        for gradient in self.gradients.values():
            gradient.after = gradient.tensor._grad
            gradient.tensor._grad = gradient.before
        self.modes = [(module, module.training) for module, _ in self.switched.values()]
        for module, training in self.switched.values():
            object.__setattr__(module, "training", training)
        self.versions = [(x, x._counter[0] - at) for x, at in self._versions.values()]
        for x, moved in self.versions:
            x._counter[0] -= moved

    def fix(self) -> None:
        """Let every view show what its memory holds at the end."""
        for reference in self._made:
            symbol = reference()
            if symbol is not None:
                _ = symbol.value
        self._made.clear()
