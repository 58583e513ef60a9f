"""Changes in place: what a tensor holds becomes something new, in the same memory, and so does its history.

Whatever could go wrong goes wrong before anything is changed: the new values are computed first.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

import numpy as np

from backstory.core import as_tensor, entries, tensor, wrap
from backstory.errors import BoundsError, DtypeError, GraphError, ShapeError
from backstory.graph import Node, context, next_order
from backstory.history import check_changeable, count_change, rebase, unshare, user_line
from backstory.indexing import raw_index
from backstory.ops import TABLE
from backstory.rebinding import check_rebindable, overwritten, rebind

if TYPE_CHECKING:
    from backstory.tensor import Tensor

__all__ = ["InPlace", "assign", "change", "in_place"]

P = ParamSpec("P")


def in_place(function: Callable[Concatenate[Any, P], Tensor]) -> Callable[Concatenate[Any, P], Tensor]:
    """The method that changes the tensor itself to what ``function`` makes of it: ``exp_`` of ``exp``."""
    name = function.__name__ + "_"

    @functools.wraps(function)
    def changed(x: Any, *args: P.args, **keywords: P.kwargs) -> Tensor:
        return change(x, name, lambda old: function(old, *args, **keywords))

    changed.__name__ = name
    changed.__qualname__ = f"Tensor.{name}"
    changed.__doc__ = f"In place: {function.__doc__}"
    return changed


def change(x: Any, name: str, function: Callable[[Any], Any]) -> Any:
    """x ← function(x), in the memory of ``x``; its history becomes that of the result."""
    (check_rebindable if x.level else check_changeable)(x, name)
    since = next_order()
    new = function(x)
    if new.shape != x.shape:
        raise ShapeError(
            f"{name} on a tensor of shape {x.shape} gives one of shape {new.shape}",
            why="a change in place keeps the memory, and with it the shape",
            instead="x = x + y (a new tensor)",
        )
    if not np.can_cast(new.dtype, x.dtype, "same_kind"):
        raise DtypeError(
            f"{name} on a tensor of {x.dtype} gives {new.dtype}",
            why="a change in place keeps the memory, and with it the dtype",
            instead=f"x = x.to(backstory.{new.dtype}) first",
        )
    if new.level > x.level:
        raise _of_a_transform(name)
    new = new.to(x.dtype)
    if x.level:
        return x if new is x else _rebound(x, name, new)
    if new.requires_grad and new.is_leaf:
        new = new.clone()
    node: Node | None = new.grad_fn
    if node is not None:
        unshare(node, since, x._counter)
    np.copyto(entries(x), new.array)
    count_change(x._counter, user_line())
    if node is not None:
        if node.order >= since and node.ans is new.array:  # the memory of x serves for both
            node.ans = x.array
            node.versions = [v for v in node.versions if v[2] != -1] + [(x._counter, x._counter[0], -1)]
        rebase(x, node)
    elif x._requires_grad and context().levels[0].grad_enabled:
        _overwritten(x, ..., None)
    return x


def _rebound(x: Any, name: str, new: Any) -> Any:
    """``x``, a tensor of a transform, with the value ``new``."""
    if new.level < x.level or (new.requires_grad and new.is_leaf):
        new = overwritten(x, new)
    rebind(x, new, name, lambda origin, name, value: change(origin, name, lambda _: value))
    return x


def assign(x: Any, name: str, index: Any, value: Any) -> Any:
    """x[index] ← value, in the memory of ``x``; the history of ``value`` becomes part of that of ``x``."""
    (check_rebindable if x.level else check_changeable)(x, name)
    index = raw_index(index)
    held = np.broadcast_to(np.False_, x.shape) if x.level else entries(x)
    try:
        shape = TABLE["getitem"].forward(context().xp, held, index).shape
    except IndexError as error:
        raise BoundsError(
            f"{name} on a tensor of shape {x.shape} with the index {index!r}",
            why=str(error),
            instead="an index for each axis at most, from -n to n - 1 on an axis of length n",
        ) from error
    value = _fitted(x, name, shape, value)
    if x.level:
        return _rebound(x, name, overwritten(x, value, index))
    source = entries(value)
    if np.may_share_memory(source, x.array):
        source = source.copy()
    x.array[index] = source
    count_change(x._counter, user_line())
    if (x._requires_grad or value.requires_grad) and context().levels[0].grad_enabled:
        _overwritten(x, index, value)
    return x


def _overwritten(x: Any, index: Any, value: Any) -> None:
    """Record that ``value`` (``None``: a constant) was written to x[index]."""
    edges = [None if t is None or not t._requires_grad else t._grad_fn or t for t in (x, value)]
    params = {"view": TABLE["getitem"], "of": {"index": index}}
    rebase(x, Node(TABLE["overwrite"], params, edges, [None, None], None, None, (), x))


def _fitted(x: Any, name: str, shape: tuple[int, ...], value: Any) -> Any:
    """``value`` in the dtype of ``x`` and the shape that is written, recorded where it has a history."""
    received = getattr(value, "shape", ())
    try:
        if issubclass(type(value), (bool, int, float)):
            return wrap(np.broadcast_to(np.asarray(value, x.dtype), shape), 0)
        value = tensor(value, x.dtype) if isinstance(value, float) else as_tensor(value).to(x.dtype)
        received = value.shape
        extra = value.ndim - len(shape)
        if extra > 0 and set(received[:extra]) == {1}:
            value = value.reshape(received[extra:])
        value = value if value.shape == shape else value.broadcast_to(shape)
    except (ShapeError, OverflowError) as error:
        kind = DtypeError if isinstance(error, OverflowError) else ShapeError
        raise kind(
            f"{name} of shape {shape} and {x.dtype} received a value of shape {tuple(received)}",
            why=getattr(error, "why", str(error)),
            instead="a value of that shape and dtype, or one that broadcasts to it",
        ) from error
    if value.level > x.level:
        raise _of_a_transform(name)
    return value


def _of_a_transform(name: str) -> GraphError:
    return GraphError(
        f"{name} received a value of a transform",
        why="the memory of a tensor outlives the transform, and nothing of it may",
        instead="x = x + y (a new tensor), or x = y.new_zeros(shape), of the transform itself, to be filled",
    )


class InPlace:
    """What changes a tensor's own memory."""

    __slots__ = ()

    def add_(self, other: Any, alpha: float = 1) -> Tensor:
        """x ← x + alpha · other"""
        return change(self, "add_", lambda x: x + (other if alpha == 1 else other * alpha))

    def sub_(self, other: Any, alpha: float = 1) -> Tensor:
        """x ← x − alpha · other"""
        return change(self, "sub_", lambda x: x - (other if alpha == 1 else other * alpha))

    def mul_(self, other: Any) -> Tensor:
        """x ← x · other"""
        return change(self, "mul_", lambda x: x * other)

    def div_(self, other: Any) -> Tensor:
        """x ← x / other"""
        return change(self, "div_", lambda x: x / other)

    def pow_(self, exponent: Any) -> Tensor:
        """x ← xᵉˣᵖᵒⁿᵉⁿᵗ"""
        return change(self, "pow_", lambda x: x**exponent)

    def copy_(self, other: Any) -> Tensor:
        """x ← other, converted to the dtype of x"""
        return assign(self, "copy_", ..., other)

    def fill_(self, value: Any) -> Tensor:
        """Every entry ← value"""
        return assign(self, "fill_", ..., value)

    def zero_(self) -> Tensor:
        """Every entry ← 0"""
        return assign(self, "zero_", ..., 0)

    __iadd__, __isub__, __imul__, __itruediv__, __ipow__ = add_, sub_, mul_, div_, pow_

    def __setitem__(self, index: Any, value: Any) -> None:
        assign(self, "x[...] = ", index, value)
