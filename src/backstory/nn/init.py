"""Initialisation: fills a tensor in place and returns it.

A weight is (fan_out, fan_in), or (out, in, positions…). He et al. 2015 (arXiv:1502.01852) keep the
second moment through ReLU with std = √(2/fan_in); Glorot & Bengio 2010 ("Xavier") take
√(2/(fan_in + fan_out)).
"""

from __future__ import annotations

import math

import numpy as np

from backstory.arrays import Generator, default_generator
from backstory.autograd.modes import no_grad
from backstory.errors import ArgumentError, ShapeError
from backstory.tensor import Tensor

__all__ = [
    "asymmetric_",
    "calculate_gain",
    "constant_",
    "dirac_",
    "eye_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "lecun_normal_",
    "normal_",
    "ones_",
    "orthogonal_",
    "sparse_",
    "trunc_normal_",
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
    convolutions = [f"conv{kind}{rank}d" for kind in ("", "_transpose") for rank in (1, 2, 3)]
    gains = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 0.75}
    gains |= dict.fromkeys(convolutions, 1.0)
    if nonlinearity not in gains:
        raise ArgumentError(
            f"calculate_gain({nonlinearity!r})",
            why="no gain is known for it",
            instead="one of 'linear', 'conv1d' and the like, 'sigmoid', 'tanh', 'relu', 'leaky_relu', 'selu'",
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


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Fill with ``val``."""
    with no_grad():
        return tensor.fill_(val)


def ones_(tensor: Tensor) -> Tensor:
    """Fill with 1."""
    return constant_(tensor, 1.0)


def _matrix(name: str, tensor: Tensor) -> tuple[int, int]:
    if tensor.ndim != 2:
        raise ShapeError(
            f"{name} on a tensor of shape {tensor.shape}",
            why="it fills a matrix",
            instead="two axes",
        )
    return tensor.shape[0], tensor.shape[1]


def eye_(tensor: Tensor) -> Tensor:
    """1 on the diagonal of a matrix, else 0."""
    rows, columns = _matrix("eye_", tensor)
    with no_grad():
        return tensor.copy_(np.eye(rows, columns, dtype=tensor.dtype))


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """A convolution's weight that hands its channels on unchanged: 1 in the middle of its own channel."""
    if tensor.ndim < 3 or tensor.shape[0] % groups:
        raise ShapeError(
            f"dirac_(groups={groups}) on a tensor of shape {tensor.shape}",
            why="it fills the weight of a convolution, and each group gives as many channels",
            instead="a weight (out, in / groups, …) with groups that divide out",
        )
    value = np.zeros(tensor.shape, tensor.dtype)
    each, middle = tensor.shape[0] // groups, tuple(n // 2 for n in tensor.shape[2:])
    for group in range(groups):
        for i in range(min(each, tensor.shape[1])):
            value[(group * each + i, i, *middle)] = 1
    with no_grad():
        return tensor.copy_(value)


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """Fill with N(mean, std²), drawn anew where it falls outside of [a, b]."""
    if not a < b or (mean + 6 * std < a) or (mean - 6 * std > b):
        raise ArgumentError(
            f"trunc_normal_(mean={mean}, std={std}, a={a}, b={b})",
            why="hardly a draw would fall between a and b",
            instead="bounds around the mean, such as mean ± 2 std",
        )
    stream = (generator or default_generator()).numpy
    draws = stream.normal(mean, std, tensor.shape)
    while (outside := (draws < a) | (draws > b)).any():
        draws[outside] = stream.normal(mean, std, int(outside.sum()))
    with no_grad():
        return tensor.copy_(draws.astype(tensor.dtype))


def orthogonal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """A matrix (out, everything else) with orthonormal rows or columns, times ``gain``; Saxe et al. 2013."""
    if tensor.ndim < 2:
        raise ShapeError(
            f"orthogonal_ on a tensor of shape {tensor.shape}",
            why="it fills a matrix",
            instead="two axes",
        )
    rows, columns = tensor.shape[0], math.prod(tensor.shape[1:])
    draws = (generator or default_generator()).numpy.normal(size=(max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(draws)
    q = q * np.sign(np.diagonal(r))  # else the draw would not be uniform
    value = gain * (q if rows >= columns else q.T)
    with no_grad():
        return tensor.copy_(value.reshape(tensor.shape).astype(tensor.dtype))


def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator: Generator | None = None) -> Tensor:
    """N(0, std²) with the share ``sparsity`` of every column at 0; Martens 2010."""
    rows, columns = _matrix("sparse_", tensor)
    stream = (generator or default_generator()).numpy
    draws = stream.normal(0.0, std, (rows, columns))
    zeros = math.ceil(sparsity * rows)
    for column in range(columns):
        draws[stream.permutation(rows)[:zeros], column] = 0.0
    with no_grad():
        return tensor.copy_(draws.astype(tensor.dtype))


def lecun_normal_(tensor: Tensor, generator: Generator | None = None) -> Tensor:
    """LeCun et al. 1998: N(0, 1/fan_in), which SELU asks for, and many texts call Xavier."""
    fan = _fans(tensor)[0]
    return normal_(tensor, 0.0, 1.0 / math.sqrt(fan) if fan else 0.0, generator)


def asymmetric_(weight: Tensor, bias: Tensor, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
    """Lu et al. 2019 (arXiv:1903.06733): against ReLU networks that are born dead.

    Each row of [W, b] is drawn from N(0, 0.6007²/fan_in); then one random entry of it is replaced by a
    draw of Beta(2, 1), which is positive.
    """
    rows, fan = weight.shape[0], _fans(weight)[0]
    if bias.shape != (rows,):
        raise ShapeError(
            f"asymmetric_ on a weight of shape {weight.shape} and a bias of shape {bias.shape}",
            why="each row of the weight has one bias",
            instead="the weight and the bias of one layer",
        )
    stream = (generator or default_generator()).numpy
    draws = stream.normal(0.0, 0.6007 / math.sqrt(max(fan, 1)), (rows, fan + 1))
    draws[np.arange(rows), stream.integers(0, fan + 1, rows)] = stream.beta(2.0, 1.0, rows)
    with no_grad():
        weight.copy_(draws[:, :fan].reshape(weight.shape).astype(weight.dtype))
        bias.copy_(draws[:, fan].astype(bias.dtype))
    return weight, bias
