"""The functions that bend: relu and its family, the squashing ones, the normalised exponentials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backstory.core import apply, as_tensor
from backstory.errors import ArgumentError
from backstory.graph import context
from backstory.ops import TABLE

if TYPE_CHECKING:
    from backstory.tensor import Tensor

__all__ = ["leaky_relu", "log_softmax", "logsigmoid", "relu", "sigmoid", "softmax", "softplus"]


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


def softplus(x: Any, beta: float = 1, threshold: float = 20) -> Tensor:
    """ln(1 + e^(βx)) / β, a relu without the corner; its local derivative is σ(βx).

    Where βx > ``threshold`` it is x itself.

    >>> softplus([-1.0, 0.0, 30.0])
    tensor([ 0.3133,  0.6931, 30.    ])
    """
    return apply(TABLE["softplus"], x, beta=float(beta), threshold=float(threshold))


def logsigmoid(x: Any) -> Tensor:
    """ln σ(x), without overflow; its local derivative is σ(−x).

    >>> logsigmoid([0.0, -10.0])
    tensor([ -0.6931, -10.    ])
    """
    return apply(TABLE["logsigmoid"], x)


def softmax(x: Any, dim: int, *, dtype: Any = None) -> Tensor:
    """eˣ / Σ eˣ over ``dim``: positive numbers that sum to 1.

    >>> softmax([0.0, 0.0], 0)
    tensor([0.5, 0.5])
    """
    return apply(TABLE["softmax"], x if dtype is None else as_tensor(x).to(dtype), axis=dim)


def log_softmax(x: Any, dim: int, *, dtype: Any = None) -> Tensor:
    """x − ln Σ eˣ over ``dim``, without overflow."""
    return apply(TABLE["log_softmax"], x if dtype is None else as_tensor(x).to(dtype), axis=dim)
