"""Pooling: the largest or the mean of every window."""

from __future__ import annotations

import math
from typing import Any

from backstory.arrays.windows import Windows
from backstory.errors import ArgumentError, ShapeError
from backstory.functions.joining import cat, pad
from backstory.functions.shape import reshape
from backstory.nn.functional.conv import as_image, each, two
from backstory.ops import TABLE
from backstory.tensor import Tensor, apply, as_tensor

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "avg_pool1d",
    "avg_pool2d",
    "max_pool1d",
    "max_pool2d",
]


def max_pool2d(x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1) -> Tensor:
    """The largest of every window of (N, C, H, W); the first of equals takes the gradient.

    ``stride`` is ``kernel_size`` unless given; what is padded is −∞.

    >>> max_pool2d(as_tensor([[[[1.0, 2.0], [4.0, 3.0]]]]), 2)
    tensor([[[[4.]]]])
    """
    return _pooled("max_pool2d", 2, x, (kernel_size, stride, padding, dilation), _largest, -math.inf)


def max_pool1d(x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1) -> Tensor:
    """The largest of every window of (N, C, L); see :func:`max_pool2d`."""
    return _pooled("max_pool1d", 1, x, (kernel_size, stride, padding, dilation), _largest, -math.inf)


def avg_pool2d(
    x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, count_include_pad: bool = True
) -> Tensor:
    """The mean of every window of (N, C, H, W); zeros of the padding count if ``count_include_pad``.

    >>> avg_pool2d(as_tensor([[[[1.0, 2.0], [4.0, 3.0]]]]), 2)
    tensor([[[[2.5]]]])
    """
    return _averaged("avg_pool2d", 2, x, (kernel_size, stride, padding, 1), count_include_pad)


def avg_pool1d(
    x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, count_include_pad: bool = True
) -> Tensor:
    """The mean of every window of (N, C, L); see :func:`avg_pool2d`."""
    return _averaged("avg_pool1d", 1, x, (kernel_size, stride, padding, 1), count_include_pad)


def adaptive_avg_pool2d(x: Any, output_size: Any) -> Tensor:
    """Means of windows such that ``output_size`` of them cover (N, C, H, W); ``None`` keeps an axis."""
    return _adapted("adaptive_avg_pool2d", 2, x, output_size, _mean)


def adaptive_avg_pool1d(x: Any, output_size: Any) -> Tensor:
    """Means of ``output_size`` windows that cover (N, C, L)."""
    return _adapted("adaptive_avg_pool1d", 1, x, output_size, _mean)


def adaptive_max_pool2d(x: Any, output_size: Any) -> Tensor:
    """The largest of windows such that ``output_size`` of them cover (N, C, H, W)."""
    return _adapted("adaptive_max_pool2d", 2, x, output_size, _largest)


def adaptive_max_pool1d(x: Any, output_size: Any) -> Tensor:
    """The largest of ``output_size`` windows that cover (N, C, L)."""
    return _adapted("adaptive_max_pool1d", 1, x, output_size, _largest)


def _largest(entries: Tensor) -> Tensor:
    """Over axis 2, where the entries of each window lie."""
    return apply(TABLE["max"], entries, axis=2, keepdims=False, first=True)


def _mean(entries: Tensor) -> Tensor:
    return entries.mean(2)


def _batched(name: str, rank: int, x: Any) -> Tensor:
    x = as_tensor(x)
    if x.ndim not in (rank + 1, rank + 2):
        raise ShapeError(
            f"{name} received x of shape {x.shape}",
            why=f"images have {rank} axes, behind channels and samples",
            instead="x of shape (N, C, …)",
        )
    return x if x.ndim == rank + 2 else reshape(x, (1, *x.shape))


def _shaped(out: Tensor, x: Tensor, rank: int) -> Tensor:
    """The image ``out`` with the axes that ``x`` came with."""
    shape = out.shape if rank == 2 else (*out.shape[:2], out.shape[3])
    return reshape(out, shape if x.ndim == rank + 2 else shape[1:])


def _pooled(name: str, rank: int, x: Any, how: tuple[Any, ...], over: Any, filling: float) -> Tensor:
    x = as_tensor(x)
    kernel = each("kernel_size", how[0], rank)
    stride = kernel if how[1] is None else each("stride", how[1], rank)
    padding, dilation = each("padding", how[2], rank, 0), each("dilation", how[3], rank)
    if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        raise ArgumentError(
            f"{name}(kernel_size={kernel}, padding={padding})",
            why="a window would lie in the padding alone",
            instead="padding of half the kernel at most",
        )
    image = _batched(name, rank, x)
    if any(padding):
        image = pad(image, tuple(n for p in reversed(padding) for n in (p, p)), value=filling)
    image = as_image(image)
    windows = Windows(two(kernel), two(stride), two(dilation))  # type: ignore[arg-type]
    if min(windows.counts(image.shape[2:])) < 1:
        raise ShapeError(
            f"{name}(kernel_size={kernel}) received x of shape {x.shape}",
            why="no window fits",
            instead="a larger image or a smaller kernel",
        )
    cut = apply(TABLE["unfold"], image, windows=windows, size=image.shape[2:])
    entries = reshape(cut, (*cut.shape[:2], math.prod(kernel), *cut.shape[4:]))
    return _shaped(over(entries), x, rank)


def _averaged(name: str, rank: int, x: Any, how: tuple[Any, ...], count_include_pad: bool) -> Tensor:
    out = _pooled(name, rank, x, how, _mean, 0.0)
    if count_include_pad:
        return out
    there = as_tensor(x).detach() * 0 + 1
    return out / _pooled(name, rank, there, how, _mean, 0.0)


def _adapted(name: str, rank: int, x: Any, output_size: Any, over: Any) -> Tensor:
    x = as_tensor(x)
    image = as_image(_batched(name, rank, x))
    asked = (output_size,) * rank if output_size is None or isinstance(output_size, int) else output_size
    sizes = image.shape[4 - rank :]
    wanted = two(each("output_size", tuple(n or s for n, s in zip(asked, sizes, strict=True)), rank))
    rows, columns = (_spans(n, count) for n, count in zip(image.shape[2:], wanted, strict=True))
    cells = [[_cell(image, row, column, over) for column in columns] for row in rows]
    return _shaped(cat([cat(line, 3) for line in cells], 2), x, rank)


def _spans(length: int, count: int) -> list[slice]:
    """``count`` spans that cover ``length`` entries, and overlap where it does not divide."""
    return [slice(i * length // count, -(-(i + 1) * length // count)) for i in range(count)]


def _cell(image: Tensor, row: slice, column: slice, over: Any) -> Tensor:
    part = image[:, :, row, column]
    return over(reshape(part, (*part.shape[:2], part.shape[2] * part.shape[3], 1, 1)))
