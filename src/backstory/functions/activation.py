"""The functions that bend: relu and its family, the squashing ones, the normalised exponentials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backstory.core import apply
from backstory.errors import ArgumentError
from backstory.graph import context
from backstory.ops import TABLE

if TYPE_CHECKING:
    from backstory.tensor import Tensor

__all__ = ["leaky_relu", "log_softmax", "relu", "sigmoid", "tanh"]


def tanh(x: Any) -> Tensor:
    """tanh x, entry by entry; its local derivative is 1 − tanh² x."""
    return apply(TABLE["tanh"], x)


def sigmoid(x: Any) -> Tensor:
    """σ(x) = 1/(1 + e⁻ˣ), entry by entry; its local derivative is σ(1 − σ), at most ¼."""
    return apply(TABLE["sigmoid"], x)


def relu(x: Any, at_zero: float | None = None) -> Tensor:
    """max(x, 0), entry by entry; its local derivative is 1 where x > 0 and 0 where x < 0.

    At exactly 0 the derivative is ``at_zero``, a number in [0, 1]; ``None`` takes the value of
    :func:`backstory.relu_derivative_at_zero`, which is 0 as in PyTorch unless set.

    >>> import backstory
    >>> x = backstory.tensor([-2.0, -1.0, 0.0, 1.0, 2.0], requires_grad=True)
    >>> relu(x).sum().backward()
    >>> x.grad
    tensor([0., 0., 0., 1., 1.])
    """
    chosen = context().relu_at_zero if at_zero is None else checked_at_zero(at_zero)
    return apply(TABLE["relu"], x, at_zero=chosen) if chosen else apply(TABLE["relu"], x)


def checked_at_zero(value: float) -> float:
    """``value`` as a float in [0, 1], relu's subdifferential at 0."""
    if not 0.0 <= value <= 1.0:
        raise ArgumentError(
            f"a derivative of relu at 0 of {value}",
            why="the slopes of lines that touch relu from below at 0 lie between 0 and 1",
            instead="0 (PyTorch's choice), 1, or a value between",
        )
    return float(value)


def leaky_relu(x: Any, negative_slope: float = 0.01) -> Tensor:
    """x where x > 0, else ``negative_slope`` · x; its local derivative is 1 or ``negative_slope``.

    >>> leaky_relu([-1.0, 2.0])
    tensor([-0.01,  2.  ])
    """
    return apply(TABLE["leaky_relu"], x, negative_slope=float(negative_slope))


def log_softmax(x: Any, dim: int) -> Tensor:
    """x − ln Σ eˣ over ``dim``."""
    return apply(TABLE["log_softmax"], x, axis=dim)
