"""Normalisation as modules; running statistics are buffers."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from backstory.core import entries
from backstory.errors import ShapeError
from backstory.nn import functional
from backstory.nn.module import Module
from backstory.nn.parameter import Parameter
from backstory.promotion import get_default_dtype
from backstory.tensor import Tensor, as_tensor

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "LayerNorm",
    "RMSNorm",
]


def _learned(shape: Any, value: float, wanted: bool, dtype: Any) -> Parameter | None:
    dtype = get_default_dtype() if dtype is None else dtype
    return Parameter(as_tensor(np.full(shape, value, dtype))) if wanted else None


class _Tracking(Module):
    """Per channel: a weight and a bias if ``affine``, and running statistics if they are tracked."""

    ranks: ClassVar[tuple[int, ...]]
    layout: ClassVar[str]
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None
    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self.register_parameter("weight", _learned(num_features, 1.0, affine, dtype))
        self.register_parameter("bias", _learned(num_features, 0.0, affine and bias, dtype))
        dtype = get_default_dtype() if dtype is None else dtype
        tracked = track_running_stats
        self.register_buffer("running_mean", as_tensor(np.zeros(num_features, dtype)) if tracked else None)
        self.register_buffer("running_var", as_tensor(np.ones(num_features, dtype)) if tracked else None)
        self.register_buffer("num_batches_tracked", as_tensor(np.array(0)) if tracked else None)

    def _checked(self, x: Tensor) -> Tensor:
        if x.ndim not in self.ranks or x.shape[1] != self.num_features:
            raise ShapeError(
                f"{type(self).__name__}({self.num_features}) received x of shape {x.shape}",
                why=f"there are {self.num_features} channels, on axis 1",
                instead=f"x of shape {self.layout}",
            )
        return x

    def _share(self) -> Any:
        """How far the running statistics move; with ``momentum=None`` they are means of all batches."""
        if self.num_batches_tracked is None or not self.training:
            return 0.0 if self.momentum is None else self.momentum
        self.num_batches_tracked.add_(1)
        return 1.0 / entries(self.num_batches_tracked) if self.momentum is None else self.momentum

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class _BatchNorm(_Tracking):
    def forward(self, x: Tensor) -> Tensor:
        """(x − mean) / √(variance + eps) · weight + bias, per channel."""
        self._checked(x)
        return functional.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or self.running_mean is None,
            self._share(),
            self.eps,
        )


class BatchNorm1d(_BatchNorm):
    """Each channel of (N, C) or (N, C, L) over the batch; :func:`backstory.nn.functional.batch_norm`.

    >>> import backstory
    >>> BatchNorm1d(1)(backstory.tensor([[-1.0], [1.0]])).detach()
    tensor([[-1.],
            [ 1.]])
    """

    ranks, layout = (2, 3), "(N, C) or (N, C, L)"


class BatchNorm2d(_BatchNorm):
    """Each channel of (N, C, H, W) over the batch and all positions."""

    ranks, layout = (4,), "(N, C, H, W)"


class _InstanceNorm(_Tracking):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, dtype, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(x − mean) / √(variance + eps) · weight + bias, per sample and channel."""
        return functional.instance_norm(
            self._checked(x),
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or self.running_mean is None,
            0.0 if self.momentum is None else self.momentum,
            self.eps,
        )


class InstanceNorm1d(_InstanceNorm):
    """Each channel of each sample of (N, C, L) over its positions."""

    ranks, layout = (3,), "(N, C, L)"


class InstanceNorm2d(_InstanceNorm):
    """Each channel of each sample of (N, C, H, W) over its positions."""

    ranks, layout = (4,), "(N, C, H, W)"


class GroupNorm(Module):
    """Each of ``num_groups`` groups of channels of each sample over channels and positions."""

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if num_groups < 1 or num_channels % num_groups:
            raise ShapeError(
                f"GroupNorm({num_groups}, {num_channels})",
                why="the channels are divided into groups of one size",
                instead="a number of groups that divides the number of channels",
            )
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        self.register_parameter("weight", _learned(num_channels, 1.0, affine, dtype))
        self.register_parameter("bias", _learned(num_channels, 0.0, affine and bias, dtype))

    def forward(self, x: Tensor) -> Tensor:
        """(x − mean) / √(variance + eps) · weight + bias, per sample and group."""
        return functional.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )


class LayerNorm(Module):
    """Each sample over its last axes, of the lengths ``normalized_shape``."""

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self,
        normalized_shape: Any,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.normalized_shape, self.eps, self.elementwise_affine = shape, eps, elementwise_affine
        self.register_parameter("weight", _learned(shape, 1.0, elementwise_affine, dtype))
        self.register_parameter("bias", _learned(shape, 0.0, elementwise_affine and bias, dtype))

    def forward(self, x: Tensor) -> Tensor:
        """(x − mean) / √(variance + eps) · weight + bias, per sample."""
        return functional.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
            f"bias={self.bias is not None}"
        )


class RMSNorm(Module):
    """x / √(mean of x² + eps) over the last axes, of the lengths ``normalized_shape``, times a weight."""

    weight: Parameter | None

    def __init__(
        self,
        normalized_shape: Any,
        eps: float | None = None,
        elementwise_affine: bool = True,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.normalized_shape, self.eps, self.elementwise_affine = shape, eps, elementwise_affine
        self.register_parameter("weight", _learned(shape, 1.0, elementwise_affine, dtype))

    def forward(self, x: Tensor) -> Tensor:
        """x / √(mean of x² + eps) · weight"""
        return functional.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
