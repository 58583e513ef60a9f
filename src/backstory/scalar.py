"""Value: a scalar engine on one page, compatible with micrograd's.

A ``Value`` is one number of a graph. Its operations are those of the table and its backward is the walk
of all of backstory, so a deep graph does not recurse, and a second ``backward()`` adds the right
gradients once more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from backstory.autograd import grad
from backstory.core import apply, tensor
from backstory.ops import TABLE

__all__ = ["Value"]


def _operation(name: str, sign: str, reflected: bool = False) -> Callable[..., Any]:
    """The method that runs the operation ``name`` of the table on values and plain numbers."""

    def method(*operands: Any) -> Any:
        if not all(isinstance(v, (Value, int, float)) for v in operands):
            return NotImplemented
        if reflected:
            operands = operands[::-1]
        # A plain exponent stays one: x**2 has no derivative by the 2, also where ln x is not defined.
        inputs = [v._tensor if isinstance(v, Value) else float(v) for v in operands]
        result = Value.__new__(Value)
        result._tensor = apply(TABLE[name], *inputs)
        result._prev, result._op = {v for v in operands if isinstance(v, Value)}, sign
        result.grad, result.label = 0.0, ""
        return result

    method.__name__, method.__doc__ = name, f"The operation ``{name}`` of the table."
    return method


class Value:
    """A number that remembers how it was computed: ``data``, and after ``backward()`` its ``grad``.

    >>> x, w, b = Value(2.0), Value(3.0), Value(1.0)
    >>> loss = (w * x + b - 5) ** 2
    >>> loss.backward()
    >>> loss.data, x.grad, w.grad, b.grad
    (4.0, 12.0, 8.0, 4.0)
    """

    __slots__ = ("_op", "_prev", "_tensor", "grad", "label")

    def __init__(
        self, data: float, _children: tuple[Value, ...] = (), _op: str = "", label: str = ""
    ) -> None:
        self._tensor = tensor(float(data), "float64", requires_grad=True)
        self._prev, self._op = set(_children), _op
        self.grad, self.label = 0.0, label

    @property
    def data(self) -> float:
        """The number. It can be set: ``p.data -= 0.1 * p.grad`` is a step of gradient descent."""
        return self._tensor.item()

    @data.setter
    def data(self, number: float) -> None:
        self._tensor.detach().fill_(float(number))

    __add__, __radd__ = _operation("add", "+"), _operation("add", "+", reflected=True)
    __sub__, __rsub__ = _operation("sub", "-"), _operation("sub", "-", reflected=True)
    __mul__, __rmul__ = _operation("mul", "*"), _operation("mul", "*", reflected=True)
    __truediv__, __rtruediv__ = _operation("div", "/"), _operation("div", "/", reflected=True)
    __pow__, __rpow__ = _operation("pow", "**"), _operation("pow", "**", reflected=True)
    __neg__ = _operation("neg", "-")
    exp, log, tanh = (_operation(name, name) for name in ("exp", "log", "tanh"))
    relu, sigmoid = _operation("relu", "ReLU"), _operation("sigmoid", "sigmoid")

    def backward(self) -> None:
        """Add d self / d v to the ``grad`` of every value v that this one was computed from."""
        values: list[Value] = [self]
        seen: set[Value] = {self}
        for value in values:  # which grows as children are found
            new = value._prev - seen
            values += new
            seen |= new
        gradients = grad(self._tensor, [value._tensor for value in values], retain_graph=True)
        for value, gradient in zip(values, gradients, strict=True):
            value.grad += gradient.item()  # type: ignore[union-attr]

    def __repr__(self) -> str:
        return f"Value(data={self.data}, grad={self.grad})"
