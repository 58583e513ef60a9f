"""Python's operators on tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backstory.core import apply, binary
from backstory.functions.linalg import matmul
from backstory.ops import TABLE

if TYPE_CHECKING:
    from backstory.tensor import Tensor

__all__ = ["Operators"]


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

    def __floordiv__(self, other: Any) -> Tensor:
        return binary(TABLE["floor_divide"], self, other)

    def __rfloordiv__(self, other: Any) -> Tensor:
        return binary(TABLE["floor_divide"], other, self)

    def __mod__(self, other: Any) -> Tensor:
        return binary(TABLE["remainder"], self, other)

    def __rmod__(self, other: Any) -> Tensor:
        return binary(TABLE["remainder"], other, self)

    def __pow__(self, other: Any) -> Tensor:
        return binary(TABLE["pow"], self, other)

    def __rpow__(self, other: Any) -> Tensor:
        return binary(TABLE["pow"], other, self)

    def __neg__(self) -> Tensor:
        return apply(TABLE["neg"], self)

    def __abs__(self) -> Tensor:
        return apply(TABLE["abs"], self)

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

    def __xor__(self, other: Any) -> Tensor:
        return binary(TABLE["logical_xor"], self, other)
