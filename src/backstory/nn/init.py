"""Initialisation: fills a tensor in place and returns it.

A weight is (fan_out, fan_in), or (out, in, positions…). He et al. 2015 (arXiv:1502.01852) keep the
second moment through ReLU with std = √(2/fan_in); Glorot & Bengio 2010 ("Xavier") take
√(2/(fan_in + fan_out)).
"""

from __future__ import annotations

import math

from backstory.arrays import Generator, default_generator
from backstory.autograd.modes import no_grad
from backstory.errors import ArgumentError, ShapeError
from backstory.tensor import Tensor

__all__ = [
    "calculate_gain",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor by which a nonlinearity asks for larger weights, PyTorch's table.

    >>> calculate_gain("relu") == math.sqrt(2)
    True
    """
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        return math.sqrt(2 / (1 + slope**2))
    gains = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2)}
    if nonlinearity not in gains:
        raise ArgumentError(
            f"calculate_gain({nonlinearity!r})",
            why="no gain is known for it",
            instead="one of 'linear', 'sigmoid', 'tanh', 'relu', 'leaky_relu'",
        )
    return gains[nonlinearity]


def _fans(tensor: Tensor) -> tuple[int, int]:
    """(fan_in, fan_out)"""
    if tensor.ndim < 2:
        raise ShapeError(
            f"initialisation by fan on a tensor of shape {tensor.shape}",
            why="fan_in and fan_out need at least two axes",
            instead="init.zeros_ or init.uniform_ for a bias",
        )
    positions = math.prod(tensor.shape[2:])
    return tensor.shape[1] * positions, tensor.shape[0] * positions


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Fill with U[a, b)."""
    with no_grad():
        return tensor.copy_(
            (generator or default_generator()).numpy.uniform(a, b, tensor.shape).astype(tensor.dtype)
        )


def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Fill with N(mean, std²)."""
    with no_grad():
        draws = (generator or default_generator()).numpy.normal(mean, std, tensor.shape)
        return tensor.copy_(draws.astype(tensor.dtype))


def zeros_(tensor: Tensor) -> Tensor:
    """Fill with 0."""
    with no_grad():
        return tensor.zero_()


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ArgumentError(
            f"mode={mode!r}",
            why="variance is kept forwards (fan_in) or backwards (fan_out)",
            instead="mode='fan_in' or 'fan_out'",
        )
    fan = _fans(tensor)[0 if mode == "fan_in" else 1]
    return calculate_gain(nonlinearity, a) / math.sqrt(fan) if fan else 0.0


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """He: N(0, gain²/fan). For ReLU the gain is √2, so std = √(2/fan_in)."""
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """He: uniform in ±√3 · gain/√fan, which has the same variance."""
    bound = math.sqrt(3.0) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def _xavier_std(tensor: Tensor, gain: float) -> float:
    total = sum(_fans(tensor))
    return gain * math.sqrt(2.0 / total) if total else 0.0


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Glorot: N(0, gain² · 2/(fan_in + fan_out))."""
    return normal_(tensor, 0.0, _xavier_std(tensor, gain), generator)


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Glorot: uniform with the same variance."""
    bound = math.sqrt(3.0) * _xavier_std(tensor, gain)
    return uniform_(tensor, -bound, bound, generator)
