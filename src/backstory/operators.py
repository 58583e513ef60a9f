"""Python's operators on tensors, and the changes in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from backstory.errors import BackstoryError, BoundsError, DtypeError, GraphError, ShapeError
from backstory.graph import context
from backstory.indexing import raw, raw_index
from backstory.ops import TABLE

if TYPE_CHECKING:
    from backstory.tensor import Tensor

__all__ = ["InPlace", "Operators", "in_place"]


class Operators:
    """The arithmetic, comparison and logical operators. Each runs one operation of the table."""

    __slots__ = ()

    # Tensor fills these in: run an operation, run one by name on two values, make a value a tensor.
    _run: ClassVar[Any]
    _binary: ClassVar[Any]
    _lift: ClassVar[Any]
    matmul: Callable[[Any], Tensor]

    def __add__(self, other: Any) -> Tensor:
        return self._binary("add", self, other)

    def __radd__(self, other: Any) -> Tensor:
        return self._binary("add", other, self)

    def __sub__(self, other: Any) -> Tensor:
        return self._binary("sub", self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return self._binary("sub", other, self)

    def __mul__(self, other: Any) -> Tensor:
        return self._binary("mul", self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return self._binary("mul", other, self)

    def __truediv__(self, other: Any) -> Tensor:
        return self._binary("div", self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return self._binary("div", other, self)

    def __pow__(self, other: Any) -> Tensor:
        return self._binary("pow", self, other)

    def __rpow__(self, other: Any) -> Tensor:
        return self._binary("pow", other, self)

    def __neg__(self) -> Tensor:
        return self._run(TABLE["neg"], self)

    def __matmul__(self, other: Any) -> Tensor:
        return self.matmul(other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return self._lift(other).matmul(self)

    def __gt__(self, other: Any) -> Tensor:
        return self._binary("gt", self, other)

    def __ge__(self, other: Any) -> Tensor:
        return self._binary("ge", self, other)

    def __lt__(self, other: Any) -> Tensor:
        return self._binary("lt", self, other)

    def __le__(self, other: Any) -> Tensor:
        return self._binary("le", self, other)

    def __eq__(self, other: Any) -> Any:
        return self._binary("eq", self, other)

    def __ne__(self, other: Any) -> Any:
        return self._binary("ne", self, other)

    __hash__ = object.__hash__

    def __invert__(self) -> Tensor:
        return self._run(TABLE["logical_not"], self)

    def __and__(self, other: Any) -> Tensor:
        return self._binary("logical_and", self, other)

    def __or__(self, other: Any) -> Tensor:
        return self._binary("logical_or", self, other)


class InPlace:
    """What changes a tensor's own memory; refused where the recorded history would miss it."""

    __slots__ = ()

    def add_(self, other: Any) -> Tensor:
        """x ← x + other"""
        return in_place(self, "add_", lambda x: np.add(x, raw(other), out=x, casting="same_kind"))

    def sub_(self, other: Any) -> Tensor:
        """x ← x − other"""
        return in_place(self, "sub_", lambda x: np.subtract(x, raw(other), out=x, casting="same_kind"))

    def mul_(self, other: Any) -> Tensor:
        """x ← x · other"""
        return in_place(self, "mul_", lambda x: np.multiply(x, raw(other), out=x, casting="same_kind"))

    def div_(self, other: Any) -> Tensor:
        """x ← x / other"""
        return in_place(self, "div_", lambda x: np.divide(x, raw(other), out=x, casting="same_kind"))

    def copy_(self, other: Any) -> Tensor:
        """x ← other"""
        return in_place(self, "copy_", lambda x: np.copyto(x, raw(other)))

    def fill_(self, value: Any) -> Tensor:
        """Every entry ← value"""
        return in_place(self, "fill_", lambda x: np.copyto(x, raw(value)))

    def zero_(self) -> Tensor:
        """Every entry ← 0"""
        return self.fill_(0)

    __iadd__, __isub__, __imul__, __itruediv__ = add_, sub_, mul_, div_

    def __setitem__(self, index: Any, value: Any) -> None:
        in_place(self, "x[...] = ", lambda x: x.__setitem__(raw_index(index), raw(value)))


def in_place(x: Any, name: str, change: Any) -> Any:
    """Run ``change`` on the memory of ``x`` and count it, or refuse before anything changes."""
    if x._requires_grad and context().levels[x.level].grad_enabled:
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
            change(x.array)
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
