"""Tensor: an array, whether it needs a gradient, and where it came from.

``apply`` runs one operation of the table on tensors and records it. Everything public that computes
ends there.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from backstory.arrays import eager
from backstory.errors import ArgumentError, BackstoryError, DtypeError, GraphError, ShapeError
from backstory.graph import Node, context
from backstory.methods import MaxResult, Methods
from backstory.operators import InPlace, Operators
from backstory.ops import TABLE, Op
from backstory.promotion import checked_dtype, get_default_dtype, promote

__all__ = ["MaxResult", "Tensor", "apply", "as_tensor", "tensor"]


def apply(op: Op, *args: Any, **params: Any) -> Tensor:
    """Run ``op`` on tensors, Python scalars and ``None``, and record it where a gradient is wanted.

    It runs at the highest level among its inputs, and never below the ambient level.
    """
    ctx = context()
    depth = ctx.ambient
    if len(ctx.levels) > 1:  # else there is but level 0
        for a in args:
            if isinstance(a, Tensor) and a.level > depth:
                depth = a.level
        if depth >= len(ctx.levels):
            raise _escaped(op, depth)
    tracked = op.differentiable and ctx.levels[depth].grad_enabled
    arrays: list[Any] = []
    needing: list[int] = []
    dtype: Any = None
    mixed = False
    for i, a in enumerate(args):
        if isinstance(a, Tensor):
            if a.level == depth:
                if a._requires_grad and tracked:
                    needing.append(i)
                a = a.array
            elif a.level > depth:
                raise _escaped(op, a.level)
            if a.dtype is not dtype:
                mixed = mixed or dtype is not None
                dtype = a.dtype
        arrays.append(a)
    xp = eager if depth == 0 else _tensor_namespace()
    if (mixed or dtype.kind != "f") and op.dtypes != "free":
        arrays = (
            ctx.quiet.run(promote, op.name, op.dtypes, eager, arrays)
            if depth == 0
            else promote(op.name, op.dtypes, xp, arrays)
        )
    try:
        if depth == 0:
            out = ctx.quiet.run(op.forward, eager, *arrays, **params)
        else:
            out = op.forward(xp, *arrays, **params)
    except BackstoryError:
        raise
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        raise op.misfit(args, params, error) from error
    residuals = None
    if op.residuals:
        out, residuals = out
    if depth == 0 and out.__class__ is not np.ndarray:
        out = np.asarray(out)
    result = _wrap(out, depth)
    if op.view and depth == 0 and np.may_share_memory(out, arrays[0]):
        result._counter = args[0]._counter
    if needing:
        _record(op, args, params, arrays, result, needing, residuals)
    if ctx.observer is not None:
        ctx.observer.ran(op, args, result, params)
    return result


def _record(
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
        edges[i] = args[i].grad_fn or args[i]
        for j in keeps[i]:
            if inputs[j] is None:
                inputs[j] = arrays[j]
                if isinstance(args[j], Tensor):
                    counter = args[j]._counter
                    versions.append((counter, counter[0], j))
    ans = None
    if op.keeps_ans:
        ans = result.array
        versions.append((result._counter, result._counter[0], -1))
    result.grad_fn = Node(op, params, edges, inputs, ans, residuals, versions, result)
    result._requires_grad = True


def _escaped(op: Op, level: int) -> GraphError:
    return GraphError(
        f"{op.name} received a tensor of level {level}, which has ended",
        why="a tensor of a transform holds values of that transform, and nothing of it may outlive it",
        instead="the result that the transform returns",
    )


@cache
def _tensor_namespace() -> Any:
    # Upwards: the namespace of tensors is made of tensors (the Array API's __array_namespace__).
    from backstory import array_api

    return array_api


@cache
def _backward() -> Any:
    # Upwards: x.backward() is the method form of autograd.backward(x).
    from backstory.autograd.backward import backward

    return backward


def _wrap(array: Any, level: int) -> Tensor:
    """A tensor around ``array`` itself (no copy), without history."""
    result = Tensor.__new__(Tensor)
    result.array = array
    result.level = level
    result._requires_grad = False
    result.grad = None
    result.grad_fn = None
    result.name = None
    result._counter = [0]
    return result


def tensor(data: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A new leaf tensor with a copy of ``data``: a number, nested lists, a NumPy array or a tensor.

    Python floats become the default dtype (float32), integers int64; arrays keep their dtype.

    >>> import backstory
    >>> backstory.tensor([[1, 2], [3, 4]]).shape
    (2, 2)
    >>> backstory.tensor([0.5, 2.0], requires_grad=True)
    tensor([0.5, 2. ], requires_grad=True)
    """
    source = _plain(data)
    chosen = None if dtype is None else checked_dtype(dtype)
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
    result = _wrap(array, 0)
    return result.requires_grad_() if requires_grad else result


def as_tensor(data: Any) -> Tensor:
    """``data`` itself if it is a tensor, else a tensor that shares the memory of a NumPy array."""
    if isinstance(data, Tensor):
        return data
    if isinstance(data, np.ndarray):
        checked_dtype(data.dtype)
        return _wrap(data, 0)
    return tensor(data)


def _binary(name: str, x: Any, y: Any) -> Any:
    if not isinstance(x, (Tensor, float, int)):
        x = as_tensor(x)
    if not isinstance(y, (Tensor, float, int)):
        if y is None or isinstance(y, str):
            return NotImplemented
        y = as_tensor(y)
    return apply(TABLE[name], x, y)


def _restored(kind: Any, array: Any, requires_grad: bool, grad: Any, name: str | None) -> Tensor:
    """The leaf that :meth:`Tensor.__reduce__` took apart."""
    result = _wrap(array, 0)
    if kind is not Tensor:
        result = kind(result)
    result._requires_grad, result.grad, result.name = requires_grad, grad, name
    return result


class Tensor(Methods, Operators, InPlace):
    """An array with a history, in PyTorch's dialect.

    ``array`` is the NumPy array (or, at a higher level, the lower-level tensor); ``grad`` the
    gradient that ``backward()`` has accumulated; ``grad_fn`` the node that made it; ``name`` what
    explanations call it. Make one with :func:`backstory.tensor`.

    >>> import backstory
    >>> w = backstory.tensor(3.0, requires_grad=True)
    >>> y = (w * 2.0 + 1.0 - 5.0) ** 2
    >>> y.backward()
    >>> w.grad
    tensor(8.)
    >>> y.grad_fn, y.grad_fn.next_functions[0][0]
    (<PowBackward0>, <SubBackward0>)
    """

    __slots__ = ("__weakref__", "_counter", "_requires_grad", "array", "grad", "grad_fn", "level", "name")
    __array_ufunc__ = None  # NumPy's operators hand over to the reflected ones below

    array: Any
    level: int
    grad: Tensor | None
    grad_fn: Node | None
    name: str | None
    _requires_grad: bool
    _counter: list[int]

    _run = staticmethod(apply)
    _binary = staticmethod(_binary)
    _lift = staticmethod(as_tensor)

    # What it is

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of every axis."""
        return self.array.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.array.shape)

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the entries."""
        return self.array.dtype

    @property
    def is_leaf(self) -> bool:
        """True unless an operation made it: leaves are where gradients accumulate."""
        return self.grad_fn is None

    @property
    def requires_grad(self) -> bool:
        """Whether operations on it are recorded. Only floats can, and only a leaf can change it."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Set :attr:`requires_grad`; returns the tensor."""
        if requires_grad and self.dtype.kind != "f":
            raise DtypeError(
                f"requires_grad=True on a tensor of {self.dtype}",
                why="only a float can move by a small step, so only floats have gradients",
                instead="x.to(backstory.float32).requires_grad_()",
            )
        if not requires_grad and not self.is_leaf:
            raise GraphError(
                f"requires_grad=False on the result of {self.grad_fn!r}",
                why="it was recorded already",
                instead="x.detach(), or compute it under backstory.no_grad()",
            )
        self._requires_grad = bool(requires_grad)
        return self

    @property
    def _version(self) -> int:
        """How often its memory was changed in place; views share the count."""
        return self._counter[0]

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the length of axis ``dim``."""
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        """The number of axes."""
        return self.ndim

    def numel(self) -> int:
        """The number of entries."""
        return math.prod(self.shape)

    # Leaving

    @property
    def data(self) -> Tensor:
        """The same memory without history, and without telling the graph of changes."""
        return _wrap(self.array, self.level)

    def detach(self) -> Tensor:
        """The same memory without history. Changes in place are seen by both."""
        result = _wrap(self.array, self.level)
        result._counter = self._counter
        return result

    def numpy(self) -> np.ndarray:
        """The NumPy array itself: shared memory, no copy. Refused where a gradient would be lost."""
        if self._requires_grad:
            raise GraphError(
                "numpy() on a tensor that requires grad",
                why="NumPy would not see the history, and the gradient would be lost silently",
                instead="x.detach().numpy()",
            )
        return self.array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def item(self) -> Any:
        """The only entry as a Python number."""
        if self.numel() != 1:
            raise ShapeError(
                f"item() on a tensor of shape {self.shape}",
                why="only a single entry is a number",
                instead="x[i].item(), x.sum().item() or x.tolist()",
            )
        return self.array.item()

    def tolist(self) -> Any:
        """The entries as nested lists of Python numbers."""
        return self.array.tolist()

    def clone(self) -> Tensor:
        """A copy with its own memory, through which gradients pass."""
        return apply(TABLE["clone"], self)

    def to(self, dtype: Any) -> Tensor:
        """The entries converted to ``dtype``; gradients come back in the old one, and none from integers."""
        dtype = checked_dtype(dtype)
        if dtype == self.dtype:
            return self
        return apply(TABLE["cast"], self if dtype.kind == "f" else self.detach(), dtype=dtype)

    def double(self) -> Tensor:
        """``to(float64)``."""
        return self.to(np.float64)

    def float(self) -> Tensor:
        """``to(float32)``."""
        return self.to(np.float32)

    # Gradients

    def backward(
        self, gradient: Any = None, retain_graph: bool | None = None, create_graph: bool = False
    ) -> None:
        """Add the gradient of this tensor to the ``grad`` of every leaf it was computed from.

        ``gradient`` is the upstream gradient, of this tensor's shape; a scalar needs none. The graph
        is freed unless ``retain_graph``. With ``create_graph`` the gradients have a history too.
        """
        _backward()(self, gradient, retain_graph, create_graph)

    def __reduce__(self) -> Any:
        if self.grad_fn is not None:
            raise GraphError(
                f"a copy (or a pickle) of the result of {self.grad_fn!r} with all of its history",
                why="only leaves stand for themselves; a graph belongs to one computation",
                instead="x.detach(), or x.clone() to stay in the graph",
            )
        return _restored, (type(self), self.array, self._requires_grad, self.grad, self.name)

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return _tensor_namespace()

    # Words and truth

    def __bool__(self) -> bool:
        if self.numel() != 1:
            raise ShapeError(
                f"the truth of a tensor of shape {self.shape}",
                why="several entries can be true and false at once",
                instead="(x > 0).sum() > 0, or a comparison of one entry",
            )
        return bool(self.array.item())

    def __float__(self) -> float:  # type: ignore[valid-type]
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.dtype.kind not in "iu" or self.numel() != 1:
            raise TypeError(f"a tensor of {self.dtype} and shape {self.shape} is no index")
        return int(self.array.item())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec and self.ndim == 0 else format(str(self), spec)

    def __repr__(self) -> str:
        body = np.array2string(np.asarray(_plain(self)), separator=", ", prefix="tensor(", precision=4)
        notes = ""
        if self.dtype not in (get_default_dtype(), np.dtype("int64"), np.dtype(bool)):
            notes += f", dtype={self.dtype}"
        if self.grad_fn is not None:
            notes += f", grad_fn=<{self.grad_fn.name()}>"
        elif self._requires_grad:
            notes += ", requires_grad=True"
        return f"tensor({body}{notes})"


def _plain(x: Any) -> Any:
    while isinstance(x, Tensor):
        x = x.array
    return x
