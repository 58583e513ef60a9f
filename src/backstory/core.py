"""The core of every tensor, and ``apply``, which runs one operation of the table and records it.

Everything that computes ends in ``apply``. Functions are built on it; methods are functions; and
:class:`backstory.Tensor` is this core with the methods, so imports point one way.
"""

from __future__ import annotations

import warnings
import weakref
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from backstory.errors import ArgumentError, BackstoryError
from backstory.graph import Held, InferenceCounter, Node, context
from backstory.history import View, refresh, share_value
from backstory.ops import Op
from backstory.promotion import checked_dtype, get_default_dtype, promote

if TYPE_CHECKING:
    from backstory.tensor import Tensor

__all__ = [
    "Core",
    "apply",
    "as_operand",
    "as_tensor",
    "binary",
    "entries",
    "plain",
    "record",
    "tensor",
    "tracing",
    "wrap",
]


SMALL_CONSTANT = 64  # entries
# Not empty while a thread traces a step: then new arrays and gradients are its business too.
tracing: list[Any] = []
_WEAK = frozenset((type(None), bool, int, float))


class Core:
    """The fields of a tensor: all that running and recording an operation needs.

    One class is declared with ``results=True``; what operations return is of that class.
    """

    __slots__ = (
        "__weakref__",
        "_counter",
        "_grad",
        "_grad_fn",
        "_hooks",
        "_requires_grad",
        "_view",
        "array",
        "level",
        "name",
    )

    kind: ClassVar[Any]

    array: Any
    level: int
    _grad: Tensor | None
    name: str | None
    _grad_fn: Node | None
    _requires_grad: bool
    # how often the memory was changed, how often it was given a new history, where it was changed last
    _counter: list[Any]
    _view: Any  # a View; Shared at the level of a transform; or None
    _hooks: Any  # of a leaf; those of other tensors belong to their nodes

    def __init_subclass__(cls, results: bool = False) -> None:
        if results:
            Core.kind = cls

    @property
    def grad(self) -> Tensor | None:
        """The gradient that ``backward()`` has added up here; that of an intermediate result is not kept."""
        if tracing and context().trace is not None:
            context().trace.reads_gradient(self)
        if self._grad is None and self._grad_fn is not None:
            warn_of_no_gradient(self)
        return self._grad

    @grad.setter
    def grad(self, gradient: Tensor | None) -> None:
        if tracing and context().trace is not None:
            context().trace.sets_gradient(self)
        self._grad = gradient

    @property
    def grad_fn(self) -> Node | None:
        """The node that made it; ``None`` for a leaf."""
        if self._view is not None:
            refresh(self)
        return self._grad_fn

    @grad_fn.setter
    def grad_fn(self, node: Node | None) -> None:
        self._grad_fn = node


def warn_of_no_gradient(x: Any) -> None:
    """PyTorch's warning for the gradient of what an operation made, unless it was asked to keep it."""
    if not x.retains_grad:
        warnings.warn(
            f"the gradient of a tensor of shape {x.shape} that {x.grad_fn!r} made is not kept: "
            "call retain_grad() on it before backward(), or look at a leaf",
            UserWarning,
            stacklevel=3,
        )


def apply(op: Op, *args: Any, **params: Any) -> Tensor:
    """Run ``op`` on tensors, Python scalars and ``None``, and record it where a gradient is wanted.

    It runs at the highest level among its inputs, and never below the ambient level. Lists and arrays
    become tensors; Python scalars stay weak beside a tensor.
    """
    ctx = context()
    kind = Core.kind
    if len(ctx.levels) > 1:  # else there is but level 0
        number = ctx.ambient
        for a in args:
            if isinstance(a, kind) and a.level > number:
                number = a.level
        if number:
            result = ctx.level(number, op.name).run(op, args, params)
            if op.view and result.level == number and _one_memory(op, result, args[0]):
                share_value(result, args[0], op, params)
            return result
    tracked = op.differentiable and ctx.levels[0].grad_enabled
    arrays: list[Any] = []
    needing: list[int] = []
    dtype: Any = None
    mixed = False
    xp, trace = ctx.xp, ctx.trace
    if trace is not None:
        trace.enter(op, args)
    for i, a in enumerate(args):
        if isinstance(a, kind):
            if a.level:
                raise ctx.escaped(op.name)
            if a._view is not None:
                refresh(a)
            if a._requires_grad and tracked:
                needing.append(i)
            a = a.array
            if a.dtype is not dtype:
                mixed = mixed or dtype is not None
                dtype = a.dtype
        elif a.__class__ not in _WEAK:
            return apply(op, *map(as_operand, args), **params)
        arrays.append(a)
    if dtype is None:
        return apply(op, as_tensor(args[0]), *args[1:], **params)
    if (mixed or dtype.kind != "f") and op.dtypes != "free":
        arrays = ctx.quiet.run(promote, op.name, op.dtypes, xp, arrays)
    try:
        out = ctx.quiet.run(op.forward, xp, *arrays, **params)
    except BackstoryError:
        raise
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        raise op.misfit(args, params, error) from error
    residuals = None
    if op.residuals:
        out, residuals = out
    if out.__class__ is not np.ndarray:
        out = xp.asarray(out)
    result = wrap(out, 0)
    if op.view and np.may_share_memory(out, arrays[0]):
        _share(result, args[0], op, params, ctx.levels[0].grad_enabled)
    elif ctx.inference:
        result._counter = InferenceCounter([0, 0, None])
    if needing:
        record(op, args, params, arrays, result, needing, residuals)
    if ctx.observer is not None:
        ctx.observer.ran(op, args, result, params)
    return result


def _one_memory(op: Op, result: Any, whole: Any) -> bool:
    """Whether a view of a transform's tensor is one: some shapes and indices need a copy."""
    if op.name not in ("reshape", "getitem"):
        return True
    result, whole = plain(result), plain(whole)
    known = isinstance(result, np.ndarray) and isinstance(whole, np.ndarray)
    return not known or np.may_share_memory(result, whole)


def _share(view: Tensor, parent: Tensor, op: Op, params: Any, recorded: bool) -> None:
    """``view`` is ``op`` of ``parent`` in the same memory; so changes of one are changes of the other."""
    counter = view._counter = parent._counter
    if counter.__class__ is list:  # inference mode counts nothing
        view._view = View(parent, op, params, counter[1] if recorded else None)


def record(
    op: Op, args: Any, params: Any, arrays: list[Any], result: Tensor, needing: list[int], residuals: Any
) -> None:
    """Add the node of ``result`` to the graph, holding only what the vjp of a needing argument reads."""
    count = len(args)
    edges: list[Any] = [None] * count
    inputs: list[Any] = [None] * count
    keeps: Any = op.keeps
    if keeps.__class__ is not tuple:
        keeps = keeps(params)
    versions = []
    for i in needing:
        edges[i] = args[i]._grad_fn or args[i]
        for j in keeps[i]:
            if inputs[j] is None:
                inputs[j] = arrays[j]
                if isinstance(args[j], Core):
                    counter = args[j]._counter
                    versions.append((counter, counter[0], j))
    ans = None
    if op.keeps_ans:
        ans = result.array
        versions.append((result._counter, result._counter[0], -1))
    node = Node(op, params, edges, inputs, ans, residuals, versions, result)
    if len(needing) < count and not result.level:
        held: list[Any] = [None] * count
        for j in range(count):
            if edges[j] is None:
                constant = args[j]
                if constant.__class__ is not float:
                    constant = getattr(constant, "array", constant)
                    if constant.__class__ is np.ndarray and constant.size > SMALL_CONSTANT:
                        constant = weakref.ref(constant)
                held[j] = constant
        node.constants = held
    result._grad_fn = node
    result._requires_grad = True
    ctx = context()
    if ctx.anomaly is not None:
        ctx.anomaly.made(node)
    if ctx.trace is not None:
        ctx.trace.origins.made(node)


@cache
def _tensor_namespace() -> Any:
    # Upwards: the namespace of tensors is made of tensors (the Array API's __array_namespace__).
    from backstory import array_api

    return array_api


def as_operand(value: Any) -> Any:
    """``value`` as an operation takes it: a tensor, a Python scalar or ``None``."""
    if value.__class__ in _WEAK:
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (int, float)):
        return int(value) if isinstance(value, int) else float(value)
    return as_tensor(value)


def wrap(array: Any, level: int) -> Tensor:
    """A tensor around ``array`` itself (no copy), without history."""
    kind = Core.kind
    result = kind.__new__(kind)
    if tracing and not level:
        trace = context().trace
        if trace is not None:
            array = trace.holds(result, array)
    result.array = array
    result.level = level
    result._requires_grad = False
    result._grad = None
    result._grad_fn = None
    result.name = None
    result._hooks = None
    result._counter = [0, 0, None]
    result._view = None
    return result


def entries(x: Any) -> Any:
    """The array that a tensor of level 0 holds; in a trace a symbol, also of a tensor from outside."""
    if tracing:
        trace = context().trace
        if trace is not None:
            trace.lift(x)
    return x.array


def tensor(data: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A new leaf tensor with a copy of ``data``: a number, nested lists, a NumPy array or a tensor.

    Python floats become the default dtype (float32), integers int64; arrays keep their dtype.

    >>> import backstory
    >>> backstory.tensor([[1, 2], [3, 4]]).shape
    (2, 2)
    >>> backstory.tensor([0.5, 2.0], requires_grad=True)
    tensor([0.5, 2. ], requires_grad=True)
    """
    if isinstance(data, Core) and data.level:
        return _copied(data, dtype, requires_grad)
    source = plain(data)
    chosen = None if dtype is None else checked_dtype(dtype)
    trace = context().trace
    if trace is not None and not issubclass(type(source), (bool, int, float, list, tuple)):
        symbol = trace.copied(source, chosen)
        checked_dtype(symbol.dtype)
        copy = wrap(symbol, 0)
        return copy.requires_grad_() if requires_grad else copy
    try:
        array = np.array(source, dtype=chosen)
    except (ValueError, TypeError) as error:
        raise ArgumentError(
            f"tensor() received {type(data).__name__}",
            why=str(error),
            instead="numbers in nested lists of equal lengths, or a NumPy array",
        ) from error
    if dtype is None and array.dtype.kind == "f" and not isinstance(source, (np.ndarray, np.generic)):
        array = array.astype(get_default_dtype())
    checked_dtype(array.dtype)
    result = wrap(array, 0)
    return result.requires_grad_() if requires_grad else result


def _copied(x: Any, dtype: Any, requires_grad: bool) -> Tensor:
    """A constant copy of a tensor of a transform, at the level where it is."""
    copy = x.detach().clone() if dtype is None else x.detach().clone().to(dtype)
    return copy.requires_grad_() if requires_grad else copy


def as_tensor(data: Any) -> Tensor:
    """``data`` itself if it is a tensor, else a tensor that shares the memory of a NumPy array."""
    if isinstance(data, Core.kind):
        return data
    if isinstance(data, np.ndarray):
        checked_dtype(data.dtype)
        trace = context().trace
        return wrap(data if trace is None else trace.memory(data), 0)
    if context().trace is not None and hasattr(data, "__array_namespace__"):
        return wrap(data, 0)  # an array among the arguments of a compiled step
    return tensor(data)


def binary(op: Op, x: Any, y: Any) -> Any:
    """``op`` on the two sides of a Python operator; what is no number is left to the other side."""
    if x is None or y is None or x.__class__ is str or y.__class__ is str:
        return NotImplemented
    return apply(op, x, y)


def plain(x: Any) -> Any:
    """The array below all levels of a tensor (a batch has its axes in front), or the value itself."""
    while isinstance(x, (Core, Held)):
        x = x.array
    return x
