"""Pooling as modules."""

from __future__ import annotations

from typing import Any, ClassVar

from backstory.nn import functional
from backstory.nn.module import Module
from backstory.tensor import Tensor

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AvgPool1d",
    "AvgPool2d",
    "MaxPool1d",
    "MaxPool2d",
]


class MaxPool2d(Module):
    """:func:`backstory.nn.functional.max_pool2d` as a module.

    >>> import backstory
    >>> MaxPool2d(2)(backstory.ones(1, 3, 5, 5)).shape
    (1, 3, 2, 2)
    """

    function: ClassVar[Any] = staticmethod(functional.max_pool2d)

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.dilation = padding, dilation
        self.return_indices, self.ceil_mode = return_indices, ceil_mode

    def forward(self, x: Tensor) -> Any:
        """The largest of every window, and where it stood if that is asked for."""
        return type(self).function(
            x,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            ceil_mode=self.ceil_mode,
            return_indices=self.return_indices,
        )

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class MaxPool1d(MaxPool2d):
    """:func:`backstory.nn.functional.max_pool1d` as a module."""

    function = staticmethod(functional.max_pool1d)


class _AvgPool(Module):
    kernel_size: Any
    stride: Any
    padding: Any

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool2d(_AvgPool):
    """:func:`backstory.nn.functional.avg_pool2d` as a module."""

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.ceil_mode = padding, ceil_mode
        self.count_include_pad, self.divisor_override = count_include_pad, divisor_override

    def forward(self, x: Tensor) -> Tensor:
        """The mean of every window."""
        return functional.avg_pool2d(
            x,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )


class AvgPool1d(_AvgPool):
    """:func:`backstory.nn.functional.avg_pool1d` as a module."""

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__()
        stride = kernel_size if stride is None else stride
        self.kernel_size, self.stride, self.padding = (
            (n,) if isinstance(n, int) else n for n in (kernel_size, stride, padding)
        )
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad

    def forward(self, x: Tensor) -> Tensor:
        """The mean of every window."""
        return functional.avg_pool1d(
            x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad
        )


class _Adaptive(Module):
    def __init__(self, output_size: Any) -> None:
        super().__init__()
        self.output_size = output_size

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool2d(_Adaptive):
    """:func:`backstory.nn.functional.adaptive_avg_pool2d` as a module."""

    function: ClassVar[Any] = staticmethod(functional.adaptive_avg_pool2d)

    def forward(self, x: Tensor) -> Tensor:
        """The mean of each of ``output_size`` windows."""
        return type(self).function(x, self.output_size)


class AdaptiveAvgPool1d(AdaptiveAvgPool2d):
    """:func:`backstory.nn.functional.adaptive_avg_pool1d` as a module."""

    function = staticmethod(functional.adaptive_avg_pool1d)


class AdaptiveMaxPool2d(_Adaptive):
    """:func:`backstory.nn.functional.adaptive_max_pool2d` as a module."""

    function: ClassVar[Any] = staticmethod(functional.adaptive_max_pool2d)

    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        super().__init__(output_size)
        self.return_indices = return_indices

    def forward(self, x: Tensor) -> Any:
        """The largest of each of ``output_size`` windows, and where it stood if that is asked for."""
        return type(self).function(x, self.output_size, self.return_indices)


class AdaptiveMaxPool1d(AdaptiveMaxPool2d):
    """:func:`backstory.nn.functional.adaptive_max_pool1d` as a module."""

    function = staticmethod(functional.adaptive_max_pool1d)
