"""Convolution as modules."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from backstory.arrays import Generator
from backstory.errors import ArgumentError
from backstory.functions.joining import pad
from backstory.nn import functional, init
from backstory.nn.functional.conv import around, each
from backstory.nn.module import Module
from backstory.nn.parameter import Parameter
from backstory.promotion import get_default_dtype
from backstory.tensor import Tensor, as_tensor

__all__ = ["Conv1d", "Conv2d"]

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class Conv2d(Module):
    """:func:`backstory.nn.functional.conv2d` with a weight (out, in/groups, rows, columns) and a bias.

    Both start uniform in ±1/√(in/groups · rows · columns), as in PyTorch, drawn from ``generator``.
    ``padding_mode`` says what lies beyond the edge: ``zeros``, or what :func:`backstory.pad` makes of it.

    >>> import backstory
    >>> Conv2d(3, 8, 3, padding=1)(backstory.ones(2, 3, 5, 5)).shape
    (2, 8, 5, 5)
    """

    rank: ClassVar[int] = 2
    function: ClassVar[Any] = staticmethod(functional.conv2d)
    weight: Parameter
    bias: Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        dtype: Any = None,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ArgumentError(
                f"{type(self).__name__}({in_channels}, {out_channels}, groups={groups})",
                why="each group takes as many channels in, and gives as many out",
                instead="groups that divide both numbers of channels",
            )
        if padding_mode not in PADDING_MODES:
            raise ArgumentError(
                f"{type(self).__name__}(padding_mode={padding_mode!r})",
                why="there are four ways to go on beyond the edge",
                instead=f"one of {', '.join(map(repr, PADDING_MODES))}",
            )
        self.padding_mode = padding_mode
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = each("kernel_size", kernel_size, self.rank)
        self.stride, self.dilation = each("stride", stride, self.rank), each("dilation", dilation, self.rank)
        self.padding = padding if isinstance(padding, str) else each("padding", padding, self.rank, 0)
        dtype = get_default_dtype() if dtype is None else dtype
        shape = (out_channels, in_channels // groups, *self.kernel_size)
        self.weight = Parameter(as_tensor(np.empty(shape, dtype)))
        self.register_parameter("bias", Parameter(as_tensor(np.empty(out_channels, dtype))) if bias else None)
        self.reset_parameters(generator)

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draw the weight and the bias anew."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5), generator=generator)
        if self.bias is not None:
            bound = 1 / math.sqrt(math.prod(self.weight.shape[1:]))
            init.uniform_(self.bias, -bound, bound, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """The convolution of x with the weight, plus the bias."""
        padding = self.padding
        if self.padding_mode != "zeros":
            name = type(self).__name__
            sizes = around(name, padding, self.kernel_size, self.stride, self.dilation)
            x, padding = pad(x, sizes, mode=self.padding_mode), 0
        return type(self).function(
            x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups
        )

    def extra_repr(self) -> str:
        text = (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        )
        if self.padding != (0,) * self.rank:
            text += f", padding={self.padding}"
        if self.dilation != (1,) * self.rank:
            text += f", dilation={self.dilation}"
        text += f", groups={self.groups}" if self.groups != 1 else ""
        text += "" if self.bias is not None else ", bias=False"
        return text if self.padding_mode == "zeros" else text + f", padding_mode={self.padding_mode}"


class Conv1d(Conv2d):
    """:func:`backstory.nn.functional.conv1d` with a weight (out, in/groups, length) and a bias."""

    rank = 1
    function = staticmethod(functional.conv1d)
