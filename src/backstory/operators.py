"""Python's operators on tensors, and the changes in place."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

import numpy as np

from backstory.core import apply, binary
from backstory.errors import BackstoryError, BoundsError, DtypeError, GraphError, ShapeError
from backstory.functions.linalg import matmul
from backstory.graph import context
from backstory.indexing import raw, raw_index
from backstory.ops import TABLE

if TYPE_CHECKING:
    from backstory.tensor import Tensor

__all__ = ["InPlace", "Operators", "change", "in_place"]


class Operators:
    """The arithmetic, comparison and logical operators. Each runs one operation of the table."""

    __slots__ = ()

    def __add__(self, other: Any) -> Tensor:
        return binary(TABLE["add"], self, other)

    def __radd__(self, other: Any) -> Tensor:
        return binary(TABLE["add"], other, self)

    def __sub__(self, other: Any) -> Tensor:
        return binary(TABLE["sub"], self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return binary(TABLE["sub"], other, self)

    def __mul__(self, other: Any) -> Tensor:
        return binary(TABLE["mul"], self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return binary(TABLE["mul"], other, self)

    def __truediv__(self, other: Any) -> Tensor:
        return binary(TABLE["div"], self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return binary(TABLE["div"], other, self)

    def __pow__(self, other: Any) -> Tensor:
        return binary(TABLE["pow"], self, other)

    def __rpow__(self, other: Any) -> Tensor:
        return binary(TABLE["pow"], other, self)

    def __neg__(self) -> Tensor:
        return apply(TABLE["neg"], self)

    def __matmul__(self, other: Any) -> Tensor:
        return matmul(self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return matmul(other, self)

    def __gt__(self, other: Any) -> Tensor:
        return binary(TABLE["gt"], self, other)

    def __ge__(self, other: Any) -> Tensor:
        return binary(TABLE["ge"], self, other)

    def __lt__(self, other: Any) -> Tensor:
        return binary(TABLE["lt"], self, other)

    def __le__(self, other: Any) -> Tensor:
        return binary(TABLE["le"], self, other)

    def __eq__(self, other: Any) -> Any:
        return binary(TABLE["eq"], self, other)

    def __ne__(self, other: Any) -> Any:
        return binary(TABLE["ne"], self, other)

    __hash__ = object.__hash__

    def __invert__(self) -> Tensor:
        return apply(TABLE["logical_not"], self)

    def __and__(self, other: Any) -> Tensor:
        return binary(TABLE["logical_and"], self, other)

    def __or__(self, other: Any) -> Tensor:
        return binary(TABLE["logical_or"], self, other)


class InPlace:
    """What changes a tensor's own memory; refused where the recorded history would miss it."""

    __slots__ = ()

    def add_(self, other: Any) -> Tensor:
        """x ← x + other"""
        return change(self, "add_", lambda x: np.add(x, raw(other), out=x, casting="same_kind"))

    def sub_(self, other: Any) -> Tensor:
        """x ← x − other"""
        return change(self, "sub_", lambda x: np.subtract(x, raw(other), out=x, casting="same_kind"))

    def mul_(self, other: Any) -> Tensor:
        """x ← x · other"""
        return change(self, "mul_", lambda x: np.multiply(x, raw(other), out=x, casting="same_kind"))

    def div_(self, other: Any) -> Tensor:
        """x ← x / other"""
        return change(self, "div_", lambda x: np.divide(x, raw(other), out=x, casting="same_kind"))

    def copy_(self, other: Any) -> Tensor:
        """x ← other"""
        return change(self, "copy_", lambda x: np.copyto(x, raw(other)))

    def fill_(self, value: Any) -> Tensor:
        """Every entry ← value"""
        return change(self, "fill_", lambda x: np.copyto(x, raw(value)))

    def zero_(self) -> Tensor:
        """Every entry ← 0"""
        return self.fill_(0)

    __iadd__, __isub__, __imul__, __itruediv__ = add_, sub_, mul_, div_

    def __setitem__(self, index: Any, value: Any) -> None:
        change(self, "x[...] = ", lambda x: x.__setitem__(raw_index(index), raw(value)))


P = ParamSpec("P")


def in_place(function: Callable[Concatenate[Any, P], Tensor]) -> Callable[Concatenate[Any, P], Tensor]:
    """The method that changes the tensor itself to what ``function`` makes of it: ``exp_`` of ``exp``."""
    name = function.__name__ + "_"

    @functools.wraps(function)
    def changed(x: Any, *args: P.args, **keywords: P.kwargs) -> Tensor:
        return change(x, name, lambda array: np.copyto(array, function(x, *args, **keywords).array))

    changed.__name__ = name
    changed.__qualname__ = f"Tensor.{name}"
    changed.__doc__ = f"In place: {function.__doc__}"
    return changed


def change(x: Any, name: str, write: Any) -> Any:
    """Run ``write`` on the memory of ``x`` and count it, or refuse before anything changes."""
    if x._requires_grad and context().level(x.level, name).grad_enabled:
        raise GraphError(
            f"{name} on a {'leaf' if x.is_leaf else 'recorded'} tensor of shape {x.shape} that requires grad",
            why="the change would be missing from the recorded history",
            instead="x = x + y (a new tensor), or the change under `with backstory.no_grad():`",
        )
    if x.level != 0:
        raise GraphError(
            f"{name} inside a transform",
            why="tensors of a transform are values and have no memory of their own",
            instead="x = x + y (a new tensor)",
        )
    try:
        with np.errstate(all="ignore"):
            write(x.array)
    except BackstoryError:
        raise
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        kind = DtypeError if isinstance(error, (TypeError, OverflowError)) else ShapeError
        raise (BoundsError if isinstance(error, IndexError) else kind)(
            f"{name} on a tensor of shape {x.shape} and {x.dtype}",
            why=str(error),
            instead="a value of that shape and dtype, or one that broadcasts to it",
        ) from error
    x._counter[0] += 1
    return x
