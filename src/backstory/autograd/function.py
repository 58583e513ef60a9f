"""``Function``: an operation with a derivative of one's own, as in PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np

from backstory.autograd.hooks import seen, unseen
from backstory.autograd.modes import no_grad
from backstory.core import Core
from backstory.errors import GraphError, ShapeError
from backstory.graph import Node, context
from backstory.ops import Op
from backstory.tensor import Tensor, wrap

__all__ = ["Function", "FunctionContext"]


class FunctionContext:
    """What the forward of a :class:`Function` leaves for its backward; it may hold attributes of its own."""

    needs_input_grad: tuple[bool, ...] = ()

    def __init__(self, needs: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs
        self._saved: tuple[Any, ...] = ()
        self._constant: tuple[Tensor, ...] = ()
        self._materialize = True
        self._freed = False
        self._node: Node | None = None  # while backward runs

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep inputs or outputs for backward: they are checked for changes in place, and keep histories."""
        for x in tensors:
            if x is not None and not isinstance(x, Tensor):
                raise GraphError(
                    f"save_for_backward received a {type(x).__name__}",
                    why="it keeps tensors, so that it can tell when one was changed",
                    instead="an attribute (ctx.power = power) for anything else",
                )
        self._saved = tensors

    save_for_forward = save_for_backward

    def mark_non_differentiable(self, *outputs: Tensor) -> None:
        """Say that these outputs have no derivative: integers, or choices."""
        self._constant = outputs

    def set_materialize_grads(self, value: bool) -> None:
        """Whether backward sees zeros (the default), or ``None``, for an output that nothing used."""
        self._materialize = bool(value)

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        """What :meth:`save_for_backward` kept."""
        if self._freed:
            raise GraphError(
                "saved_tensors of a function whose graph was freed",
                why="a backward walk frees what it used",
                instead="backward(retain_graph=True) the first time",
            )
        return tuple(x.tensor(self._node) if isinstance(x, _Output) else x for x in self._saved)

    def below(self, level: int) -> FunctionContext:
        """A copy whose saved tensors of ``level`` are replaced by what they hold."""
        if self._freed:
            return self
        copy = FunctionContext.__new__(FunctionContext)
        copy.__dict__.update(self.__dict__)
        copy._saved = tuple(x.array if getattr(x, "level", None) == level else x for x in self._saved)
        return copy

    def moves(self, output: Tensor) -> bool:
        """Whether ``output`` was not marked as having no derivative."""
        return not _among(output, self._constant)

    def release(self) -> None:
        """Forget the saved tensors."""
        self._saved, self._freed = (), True

    def lifted(self, pairs: Sequence[tuple[Any, Any]], needs: tuple[bool, ...]) -> FunctionContext:
        """A copy whose saved tensors are replaced: the second of a pair for the first."""
        copy = FunctionContext.__new__(FunctionContext)
        copy.__dict__.update(self.__dict__)
        copy.needs_input_grad = needs
        copy._saved = tuple(next((new for old, new in pairs if old is x), x) for x in self._saved)
        copy._constant = tuple(next((new for old, new in pairs if old is x), x) for x in self._constant)
        return copy


class _Output:
    """An output that was saved: without the tensor itself, which would hold its own node."""

    def __init__(self, x: Tensor, place: int | None) -> None:
        self.array, self.level, self.counter, self.place = x.array, x.level, x._counter, place

    def tensor(self, node: Node | None) -> Tensor:
        """The output again; with its history while its node is being walked."""
        result = wrap(self.array, self.level)
        result._counter = self.counter
        if node is not None:
            result._grad_fn = node if self.place is None else _selector(node, self.place, result)
            result._requires_grad = True
        return result


class Function:
    """An operation with a derivative of one's own: subclass it, and call ``apply``.

    ``forward(ctx, *args)`` computes without recording; ``backward(ctx, *grad_outputs)`` returns one
    gradient, or ``None``, per argument of forward. Instead of taking ``ctx``, forward may leave it to
    ``setup_context(ctx, inputs, output)``. ``jvp(ctx, *tangents)``, if defined, returns the tangents of
    the outputs for forward mode. Transforms see the function's own derivative too: what backward needs
    of inputs and outputs must then go through ``ctx.save_for_backward``.

    >>> import backstory
    >>> class Exp(Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         result = x.exp()
    ...         ctx.save_for_backward(result)
    ...         return result
    ...     @staticmethod
    ...     def backward(ctx, g):
    ...         (result,) = ctx.saved_tensors
    ...         return g * result
    >>> x = backstory.tensor(0.0, requires_grad=True)
    >>> Exp.apply(x).backward()
    >>> x.grad
    tensor(1.)
    """

    @staticmethod
    def forward(*args: Any, **keywords: Any) -> Any:
        """The values; a subclass defines it."""
        raise NotImplementedError("a Function defines forward(ctx, *args) and backward(ctx, *grad_outputs)")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """What backward needs, kept in ``ctx``; for a forward that takes none."""
        raise NotImplementedError

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """The gradients of the arguments; a subclass defines it."""
        raise NotImplementedError("a Function defines backward(ctx, *grad_outputs)")

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        """The tangents of the outputs; a subclass may define it."""
        raise NotImplementedError

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Compute, and record the function as one node."""
        outputs, single, _ = run(cls, args, (False,) * len(args))
        return outputs[0] if single else outputs


Result = tuple[tuple[Any, ...], bool, FunctionContext]


def run(function: type[Function], args: Sequence[Any], wanted: tuple[bool, ...]) -> Result:
    """The outputs, whether there is but one, and the context; at the highest level among ``args``.

    ``wanted`` says of which arguments a level above wants the gradient.
    """
    ctx = context()
    number = max((a.level for a in args if isinstance(a, Tensor)), default=0)
    if number:
        return ctx.level(number, function.__name__).custom(function, args, wanted)
    tracked = ctx.levels[0].grad_enabled
    own = tuple(tracked and isinstance(a, Tensor) and a.requires_grad for a in args)
    needs = tuple(a or b for a, b in zip(own, wanted, strict=True))
    fctx = FunctionContext(needs)
    with no_grad():
        if function.setup_context is not Function.setup_context:
            out = function.forward(*args)
            function.setup_context(fctx, tuple(args), out)
        else:
            out = function.forward(fctx, *args)
    single = not isinstance(out, (tuple, list))
    outputs = []
    for x in (out,) if single else tuple(out):
        # An input handed on, or something with a history, becomes a result of this function.
        fresh = x.detach() if isinstance(x, Tensor) and (x.requires_grad or x in _tensors(args)) else x
        outputs.append(fresh)
        if fresh is not x:
            fctx = fctx.lifted([(x, fresh)], needs) if not _among(x, args) else fctx
    if any(own):
        recorded(function, fctx, args, outputs, single, own)
    return tuple(outputs), single, fctx


class _ById(frozenset):
    """Membership by identity: tensors compare entry by entry."""

    def __contains__(self, x: object) -> bool:
        return super().__contains__(id(x))


def _tensors(args: Sequence[Any]) -> _ById:
    return _ById(id(a) for a in args if isinstance(a, Tensor))


def _among(x: Any, args: Sequence[Any]) -> bool:
    return x in _tensors(args)


def recorded(
    function: type[Function],
    fctx: FunctionContext,
    args: Sequence[Any],
    outputs: Sequence[Any],
    single: bool,
    needs: tuple[bool, ...],
) -> None:
    """Give ``outputs`` a node; one that selects each of them, where there are several."""
    edges = [a.grad_fn or a if need else None for a, need in zip(args, needs, strict=True)]
    moving = [
        place
        for place, x in enumerate(outputs)
        if isinstance(x, Tensor) and x.dtype.kind == "f" and not _among(x, fctx._constant)
    ]
    if not moving:
        return
    first = outputs[moving[0]]
    whole = SimpleNamespace(level=first.level, array=SimpleNamespace(shape=(), dtype=None))
    versions = [(x._counter, x._counter[0], -2) for x in fctx._saved if isinstance(x, Core)]
    node = Node(
        record_of(function), {}, edges, [None] * len(edges), None, None, versions, first if single else whole
    )
    own = fctx.lifted([], fctx.needs_input_grad)
    own._saved = tuple(
        next((_Output(x, None if single else i) for i, out in enumerate(outputs) if out is x), x)
        for x in fctx._saved
    )
    node.more().call = Call(function, own, [getattr(x, "shape", None) for x in outputs], outputs, single)
    for place in moving:
        x = outputs[place]
        x._grad_fn = node if single else _selector(node, place, x)
        x._requires_grad = True
    anomaly = context().anomaly
    if anomaly is not None:
        anomaly.made(node)


class Bundle:
    """The cotangents of several outputs on their way to one node."""

    shape, dtype = (), None

    def __init__(self, parts: dict[int, Any]) -> None:
        self.parts = parts

    def __add__(self, other: Bundle) -> Bundle:
        total = dict(self.parts)
        for place, part in other.parts.items():
            total[place] = total[place] + part if place in total else part
        return Bundle(total)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Custom(Op):
    """The record of a :class:`Function`, made when it first runs."""

    function: type[Function]

    @property
    def backward_name(self) -> str:
        return f"{self.name}Backward"

    def vjp(self, xp, i, g, ans, inputs, shape, params, residuals=None):
        raise AssertionError("the cotangents of a custom function are computed together")

    def jvp(self, xp, tangents, ans, inputs, params):
        if self.function.jvp is Function.jvp:
            raise GraphError(
                f"forward mode through {self.name}",
                why="it defines no jvp",
                instead="a staticmethod jvp(ctx, *tangents) that returns the tangents of the outputs",
            )
        moves = self.function.jvp(params["context"], *tangents)
        return moves if isinstance(moves, Tensor) else moves[params["place"]]


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Selected(Op):
    """One of several outputs of a custom function."""

    @property
    def backward_name(self) -> str:
        return f"{self.name}Backward"

    def vjp(self, xp, i, g, ans, inputs, shape, params, residuals=None):
        return Bundle({params["place"]: g})

    def jvp(self, xp, tangents, ans, inputs, params):
        raise AssertionError("a custom function pushes its tangents itself")


def _fields(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "forward": lambda xp, *args: None,
        "formula": rf"\mathrm{{{name}}}(x)",
        "derivative": (rf"\mathrm{{{name}}}'(x)",),
        "torch": "",
        "cases": (),
        "arguments": 1,
        "keeps": ((),),
    }


@cache
def record_of(function: type[Function]) -> Custom:
    """The record of a function."""
    return Custom(function=function, **_fields(function.__name__))


@cache
def _selected(name: str) -> Selected:
    return Selected(**_fields(name))


def _selector(node: Node, place: int, result: Tensor) -> Node:
    record = _selected(node.op.name)
    return Node(record, {"place": place}, [node], [None], None, None, (), result)


class Call:
    """One call of a function, as the walk sees it."""

    def __init__(
        self, function: type[Function], fctx: FunctionContext, shapes: list[Any], outputs: Any, single: bool
    ) -> None:
        self.function, self.context, self.shapes, self.single = function, fctx, shapes, single
        self.dtypes = [getattr(x, "dtype", None) for x in outputs]

    def release(self) -> None:
        """Forget what the context saved."""
        self.context.release()

    def split(self, node: Node, g: Any) -> list[Any]:
        """The cotangent of each output, ``None`` where nothing arrived."""
        return [g] if self.single else [g.parts.get(place) for place in range(len(self.shapes))]

    def backward(self, node: Node, outputs: list[Any], create_graph: bool) -> list[Any]:
        """The cotangent of each argument, as the walk holds them."""
        if node.level and not create_graph:
            # As any rule does, backward runs on what the level holds, one level down.
            given = [self._zeros(place) if g is None else g for place, g in enumerate(outputs)]
            return self._checked(self.function.backward(self.context.below(node.level), *given), node)
        shown = [
            self._zeros(place) if g is None else seen(g, node, create_graph)
            for place, g in enumerate(outputs)
        ]
        self.context._node = node if create_graph else None
        try:
            found = self.function.backward(self.context, *shown)
        finally:
            self.context._node = None
        parts = self._checked(found, node)
        return [None if part is None else unseen(part, node, create_graph) for part in parts]

    def _zeros(self, place: int) -> Tensor | None:
        if not self.context._materialize or self.dtypes[place] is None:
            return None
        return wrap(np.zeros(self.shapes[place], self.dtypes[place]), 0)

    def _checked(self, found: Any, node: Node) -> list[Any]:
        name = self.function.__name__
        parts = list(found) if isinstance(found, (tuple, list)) else [found]
        count = len(node.edges)
        while len(parts) > count and parts[-1] is None:
            parts.pop()
        if len(parts) != count:
            raise GraphError(
                f"{name}.backward returned {len(parts)} gradients",
                why=f"{name}.forward took {count} arguments",
                instead="one gradient per argument, None for one that has none",
            )
        made = []
        for place, (part, edge) in enumerate(zip(parts, node.edges, strict=True)):
            if part is None or edge is None:
                made.append(None)
                continue
            if not isinstance(part, Tensor) or not _fits(part.shape, edge.shape):
                raise ShapeError(
                    f"{name}.backward returned for argument {place} a {type(part).__name__} of shape "
                    f"{getattr(part, 'shape', None)}",
                    why=f"the argument has shape {edge.shape}, and so has its gradient",
                    instead=f"a tensor of shape {edge.shape}",
                )
            made.append(part)
        return made


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether a gradient of ``shape`` becomes one of ``wanted`` by undoing a broadcast."""
    if len(shape) < len(wanted):
        return False
    tail = shape[len(shape) - len(wanted) :]
    return all(w in (1, s) for s, w in zip(tail, wanted, strict=True))
