"""Normalisation: (x − mean) / √(variance + ε) over one set of axes or another, then scaled and shifted."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from backstory.autograd.modes import no_grad
from backstory.core import entries, plain
from backstory.errors import ArgumentError, ShapeError
from backstory.functions.arithmetic import rsqrt
from backstory.functions.shape import reshape
from backstory.tensor import Tensor, as_tensor

__all__ = ["batch_norm", "group_norm", "instance_norm", "layer_norm", "rms_norm"]


def _moments(x: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """The mean, the deviations from it, and the variance (of n, not n − 1)."""
    mean = x.mean(axes, keepdim=True)
    away = x - mean
    return mean, away, (away * away).mean(axes, keepdim=True)


def _affine(x: Tensor, weight: Any, bias: Any, shape: tuple[int, ...]) -> Tensor:
    """x · weight + bias, both laid out as ``shape``."""
    x = x if weight is None else x * reshape(weight, shape)
    return x if bias is None else x + reshape(bias, shape)


def batch_norm(
    x: Any,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Every channel (axis 1) with the batch's mean and variance in training, else with the running ones.

    Ioffe & Szegedy 2015 (arXiv:1502.03167). In training the running statistics, if there are any, move
    by the share ``momentum`` towards the batch's, the variance there of n − 1.
    """
    x = as_tensor(x)
    if x.ndim < 2:
        raise ShapeError(
            f"batch_norm received x of shape {x.shape}",
            why="the channels are on axis 1",
            instead="x of shape (N, C) or (N, C, …)",
        )
    along = (1, -1, *(1,) * (x.ndim - 2))
    if not training:
        if running_mean is None or running_var is None:
            raise ArgumentError(
                "batch_norm(training=False) without running statistics",
                why="there is no mean to subtract",
                instead="training=True, or running_mean and running_var",
            )
        scale = rsqrt(reshape(running_var, along) + eps)
        return _affine((x - reshape(running_mean, along)) * scale, weight, bias, along)
    count = x.shape[0] * math.prod(x.shape[2:])
    if count <= 1:
        raise ShapeError(
            f"batch_norm received x of shape {x.shape} in training",
            why="the variance of one value per channel is 0, and nothing would be left of it",
            instead="a batch of more samples, or model.eval()",
        )
    mean, away, variance = _moments(x, (0, *range(2, x.ndim)))
    _follow(running_mean, mean, momentum)
    _follow(running_var, variance, momentum, count / (count - 1))
    return _affine(away * rsqrt(variance + eps), weight, bias, along)


def _follow(running: Tensor | None, now: Tensor, momentum: float, factor: float = 1.0) -> None:
    """running ← (1 − momentum) running + momentum · now, outside of every graph and transform."""
    if running is None:
        return
    value = plain(now)
    if value.size != running.numel():
        raise ArgumentError(
            "batch_norm(training=True) of running statistics inside vmap",
            why="each sample would move the one running mean by itself",
            instead="model.eval() inside vmap, or track_running_stats=False",
        )
    with no_grad():
        moved = (1 - momentum) * entries(running) + momentum * factor * value.reshape(running.shape)
        running.copy_(moved.astype(running.dtype))


def instance_norm(
    x: Any,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Every channel of every sample of (N, C, …) by itself, over its positions; Ulyanov et al. 2016."""
    x = as_tensor(x)
    if not use_input_stats:
        return batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    count = math.prod(x.shape[2:])
    if x.ndim < 3 or count <= 1:
        raise ShapeError(
            f"instance_norm received x of shape {x.shape}",
            why="each channel is normalised over its positions, and there must be several",
            instead="x of shape (N, C, L) or (N, C, H, W)",
        )
    mean, away, variance = _moments(x, tuple(range(2, x.ndim)))
    _follow(running_mean, mean.mean(0), momentum)
    _follow(running_var, variance.mean(0), momentum, count / (count - 1))
    return _affine(away * rsqrt(variance + eps), weight, bias, (1, -1, *(1,) * (x.ndim - 2)))


def group_norm(x: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
    """Every group of channels of every sample by itself; Wu & He 2018 (arXiv:1803.08494).

    >>> group_norm([[0.0, 2.0, 5.0, 5.0]], 2)
    tensor([[-1.,  1.,  0.,  0.]])
    """
    x = as_tensor(x)
    if x.ndim < 2 or num_groups < 1 or x.shape[1] % num_groups:
        raise ShapeError(
            f"group_norm(num_groups={num_groups}) received x of shape {x.shape}",
            why="the channels on axis 1 are divided into groups of one size",
            instead="a number of groups that divides the number of channels",
        )
    grouped = reshape(x, (x.shape[0], num_groups, math.prod(x.shape[1:]) // num_groups))
    _, away, variance = _moments(grouped, (2,))
    normal = reshape(away * rsqrt(variance + eps), x.shape)
    return _affine(normal, weight, bias, (1, -1, *(1,) * (x.ndim - 2)))


def layer_norm(
    x: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    """Every sample by itself, over the last axes; Ba et al. 2016 (arXiv:1607.06450).

    >>> layer_norm([[0.0, 2.0]], (2,))
    tensor([[-1.,  1.]])
    """
    x, shape = _fitting("layer_norm", x, normalized_shape)
    _, away, variance = _moments(x, tuple(range(-len(shape), 0)))
    return _affine(away * rsqrt(variance + eps), weight, bias, shape)


def rms_norm(x: Any, normalized_shape: Any, weight: Any = None, eps: float | None = None) -> Tensor:
    """x / √(mean of x² + ε) over the last axes; Zhang & Sennrich 2019 (arXiv:1910.07467).

    ``eps=None`` takes the dtype's own, the distance from 1 to the next number.

    >>> rms_norm([3.0, -3.0], (2,))
    tensor([ 1., -1.])
    """
    x, shape = _fitting("rms_norm", x, normalized_shape)
    eps = float(np.finfo(x.dtype).eps) if eps is None else eps
    square = (x * x).mean(tuple(range(-len(shape), 0)), keepdim=True)
    return _affine(x * rsqrt(square + eps), weight, None, shape)


def _fitting(name: str, x: Any, normalized_shape: Any) -> tuple[Tensor, tuple[int, ...]]:
    x = as_tensor(x)
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not shape or x.shape[-len(shape) :] != shape:
        raise ShapeError(
            f"{name}(normalized_shape={shape}) received x of shape {x.shape}",
            why="the last axes of x are the ones to normalise over",
            instead=f"x of shape (…, {', '.join(map(str, shape))})",
        )
    return x, shape
