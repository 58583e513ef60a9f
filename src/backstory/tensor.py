"""Tensor: an array, whether it needs a gradient, and where it came from."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np

from backstory.arrangement import Arrangement
from backstory.core import Core, _tensor_namespace, apply, as_tensor, entries, plain, tensor, wrap
from backstory.errors import DtypeError, GraphError, ShapeError
from backstory.graph import InferenceCounter, context, structure
from backstory.history import refresh, share_value
from backstory.hooks import Handle, LeafHooks
from backstory.inplace import InPlace
from backstory.methods import Methods
from backstory.operators import Operators
from backstory.ops import TABLE
from backstory.promotion import checked_dtype, get_default_dtype

__all__ = ["Tensor", "apply", "as_tensor", "tensor", "wrap"]


@cache
def _picture() -> Any:
    # Upwards: x.graph() is the method form of plots.graph(x).
    from backstory.plots.graph import graph

    return graph


@cache
def _backward() -> Any:
    # Upwards: x.backward() is the method form of autograd.backward(x).
    from backstory.autograd.backward import backward

    return backward


def _restored(kind: Any, array: Any, requires_grad: bool, grad: Any, name: str | None) -> Tensor:
    """The leaf that :meth:`Tensor.__reduce__` took apart."""
    result = wrap(array, 0)
    if kind is not Tensor:
        result = kind(result)
    result._requires_grad, result.grad, result.name = requires_grad, grad, name
    return result


class Tensor(Methods, Arrangement, Operators, InPlace, Core, results=True):
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

    __slots__ = ()
    __array_ufunc__ = None  # NumPy's operators hand over to the reflected ones below

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
        if self._view is not None:
            refresh(self)
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
        if requires_grad and self.level and not context().level(self.level, "requires_grad_").records:
            raise GraphError(
                "requires_grad_() on a tensor inside vmap or jvp",
                why="only backstory.func.grad and vjp record a graph of their own",
                instead="backstory.func.grad inside the transform",
            )
        if not requires_grad and not self.is_leaf:
            raise GraphError(
                f"requires_grad=False on the result of {self.grad_fn!r}",
                why="it was recorded already",
                instead="x.detach(), or compute it under backstory.no_grad()",
            )
        if self.requires_grad != bool(requires_grad):
            if (trace := context().trace) is None:
                structure[0] += 1
            else:
                trace.lift(self)
            self._requires_grad = bool(requires_grad)
            self._view = self._view if self.level else None  # a leaf of its own
        return self

    def is_inference(self) -> bool:
        """Whether it was made in :func:`backstory.inference_mode`, and so can never have a gradient."""
        return isinstance(self._counter, InferenceCounter)

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
        return wrap(self.array.detach() if self.level else entries(self), self.level)

    def detach(self) -> Tensor:
        """The same memory without history, at every level. Changes in place are seen by both."""
        held = self.array.detach() if self.level else entries(self)
        result = wrap(held, self.level)
        result._counter = self._counter
        if self.level:
            share_value(result, self, None, None)
        return result

    def numpy(self) -> np.ndarray:
        """The NumPy array itself: shared memory, no copy. Refused where a gradient would be lost."""
        if self.requires_grad:
            raise GraphError(
                "numpy() on a tensor that requires grad",
                why="NumPy would not see the history, and the gradient would be lost silently",
                instead="x.detach().numpy()",
            )
        if self.level:
            raise GraphError(
                "numpy() on a tensor inside a transform",
                why="NumPy's result would be a constant to the transform, and its derivative lost silently",
                instead="backstory's functions inside the transform, and numpy() on what it returns",
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

    def to(self, dtype: Any) -> Tensor:
        """The entries converted to ``dtype``; gradients come back in the old one, and none from integers."""
        dtype = checked_dtype(dtype)
        if dtype == self.dtype:
            return self
        return apply(TABLE["cast"], self if dtype.kind == "f" else self.detach(), dtype=dtype)

    # Gradients

    def backward(
        self,
        gradient: Any = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: Any = None,
    ) -> None:
        """Add the gradient of this tensor to the ``grad`` of every leaf it was computed from.

        ``gradient`` is the upstream gradient, of this tensor's shape; a scalar needs none. The graph
        is freed unless ``retain_graph``. With ``create_graph`` the gradients have a history too. With
        ``inputs`` only those tensors receive a gradient.
        """
        _backward()(self, gradient, retain_graph, create_graph, inputs)

    def register_hook(self, hook: Callable[[Tensor], Any]) -> Handle:
        """Call ``hook`` with the gradient of this tensor in every backward walk that reaches it.

        What it returns, if not ``None``, takes the gradient's place. The handle removes the hook.

        >>> import backstory
        >>> x = backstory.tensor([1.0, 2.0], requires_grad=True)
        >>> handle = x.register_hook(lambda g: 2 * g)
        >>> x.sum().backward(); x.grad
        tensor([2., 2.])
        >>> handle.remove()
        """
        self._check_gradient("register_hook()")
        node = self.grad_fn
        return Handle(self._leaf_hooks().before if node is None else node.more().tensor_hooks, hook)

    def register_post_accumulate_grad_hook(self, hook: Callable[[Tensor], Any]) -> Handle:
        """Call ``hook`` with this leaf each time that a gradient was added to its ``grad``."""
        self._check_gradient("register_post_accumulate_grad_hook()")
        if not self.is_leaf:
            raise GraphError(
                f"register_post_accumulate_grad_hook() on the result of {self.grad_fn!r}",
                why="gradients accumulate in leaves alone",
                instead="register_hook()",
            )
        return Handle(self._leaf_hooks().after, hook)

    def retain_grad(self) -> None:
        """Let this tensor keep its gradient in :attr:`grad`, as leaves do.

        >>> import backstory
        >>> x = backstory.tensor(3.0, requires_grad=True)
        >>> y = x * 2
        >>> y.retain_grad()
        >>> (y * y).backward()
        >>> y.grad
        tensor(12.)
        """
        self._check_gradient("retain_grad()")
        if self.grad_fn is not None:
            self.grad_fn.more().retained = weakref.ref(self)

    @property
    def retains_grad(self) -> bool:
        """Whether an operation made it and it keeps its gradient all the same."""
        extra = None if self.grad_fn is None else self.grad_fn.extra
        return extra is not None and extra.retained is not None and extra.retained() is self

    def _leaf_hooks(self) -> LeafHooks:
        if self._hooks is None:
            self._hooks = LeafHooks()
        return self._hooks

    def _check_gradient(self, what: str) -> None:
        if not self._requires_grad:
            raise GraphError(
                f"{what} on a tensor of shape {self.shape} that does not require grad",
                why="no gradient ever comes to it",
                instead="requires_grad=True on it, or on what it is computed from",
            )

    def graph(self, names: Mapping[str, Any] | None = None) -> Any:
        """The graph that computed this tensor, as a picture; see :func:`backstory.plots.graph`."""
        return _picture()(self, names, _depth=1)

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

    def __float__(self) -> float:
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
        body = np.array2string(np.asarray(plain(self)), separator=", ", prefix="tensor(", precision=4)
        notes = ""
        if self.dtype not in (get_default_dtype(), np.dtype("int64"), np.dtype(bool)):
            notes += f", dtype={self.dtype}"
        if self.grad_fn is not None:
            notes += f", grad_fn=<{self.grad_fn.name()}>"
        elif self._requires_grad:
            notes += ", requires_grad=True"
        return f"tensor({body}{notes})"
