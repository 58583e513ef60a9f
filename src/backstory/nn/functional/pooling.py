"""Pooling: the largest or the mean of every window."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from backstory.arrays.windows import Windows
from backstory.errors import ArgumentError, DtypeError, ShapeError
from backstory.functions.comparison import where
from backstory.functions.joining import pad
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


def max_pool2d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest of every window of (N, C, H, W); the first of equals takes the gradient.

    ``stride`` is ``kernel_size`` unless given; what is padded is −∞. With ``ceil_mode`` a window that
    starts inside may end outside. With ``return_indices`` also where the largest stood: row · W + column.

    >>> image = as_tensor([[[[1.0, 2.0], [4.0, 3.0]]]])
    >>> max_pool2d(image, 2, return_indices=True)
    (tensor([[[[4.]]]]), tensor([[[[2]]]]))
    """
    grid = _grid("max_pool2d", 2, x, (kernel_size, stride, padding, dilation), ceil_mode)
    return _largest(grid, x, return_indices)


def max_pool1d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest of every window of (N, C, L); see :func:`max_pool2d`."""
    grid = _grid("max_pool1d", 1, x, (kernel_size, stride, padding, dilation), ceil_mode)
    return _largest(grid, x, return_indices)


def avg_pool2d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of every window of (N, C, H, W); zeros of the padding count if ``count_include_pad``.

    With ``ceil_mode`` a window that starts inside may end outside; what is outside the padding never counts.
    ``divisor_override`` is what the sums are divided by instead of the count.

    >>> avg_pool2d(as_tensor([[[[1.0, 2.0], [4.0, 3.0]]]]), 2)
    tensor([[[[2.5]]]])
    """
    if divisor_override is not None and divisor_override == 0:
        raise ArgumentError(
            "avg_pool2d(divisor_override=0)", why="sums are divided by it", instead="a number, or None"
        )
    grid = _grid("avg_pool2d", 2, x, (kernel_size, stride, padding, 1), ceil_mode)
    return _mean(grid, x, divisor_override or grid.counted(count_include_pad))


def avg_pool1d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of every window of (N, C, L); see :func:`avg_pool2d`."""
    grid = _grid("avg_pool1d", 1, x, (kernel_size, stride, padding, 1), ceil_mode)
    return _mean(grid, x, grid.counted(count_include_pad))


def adaptive_avg_pool2d(x: Any, output_size: Any) -> Tensor:
    """Means of windows such that ``output_size`` of them cover (N, C, H, W); ``None`` keeps an axis.

    Of n entries window i of m takes those from ⌊i n / m⌋ to ⌈(i + 1) n / m⌉.

    >>> adaptive_avg_pool2d(as_tensor([[[[1.0, 2.0, 3.0]]]]), (1, 2))
    tensor([[[[1.5, 2.5]]]])
    """
    grid = _covering("adaptive_avg_pool2d", 2, x, output_size)
    return _mean(grid, x, grid.counted(False))


def adaptive_avg_pool1d(x: Any, output_size: Any) -> Tensor:
    """Means of ``output_size`` windows that cover (N, C, L); see :func:`adaptive_avg_pool2d`."""
    grid = _covering("adaptive_avg_pool1d", 1, x, output_size)
    return _mean(grid, x, grid.counted(False))


def adaptive_max_pool2d(x: Any, output_size: Any, return_indices: bool = False) -> Any:
    """The largest of the windows of :func:`adaptive_avg_pool2d`."""
    return _largest(_covering("adaptive_max_pool2d", 2, x, output_size), x, return_indices)


def adaptive_max_pool1d(x: Any, output_size: Any, return_indices: bool = False) -> Any:
    """The largest of ``output_size`` windows that cover (N, C, L)."""
    return _largest(_covering("adaptive_max_pool1d", 1, x, output_size), x, return_indices)


class _Axis(NamedTuple):
    """The windows along one axis: ``places[w, k]`` is where entry k of window w stands.

    Places below 0 or from ``length`` on are padding; those from ``end`` on do not even count as such.
    """

    places: np.ndarray
    length: int
    end: int

    @property
    def inside(self) -> np.ndarray:
        return (self.places >= 0) & (self.places < self.length)


class _Grid(NamedTuple):
    """Where the windows are, and ``cut(filling)``: their entries, (N, C, entries, rows, columns)."""

    rank: int
    rows: _Axis
    columns: _Axis
    cut: Callable[[float], Tensor]

    def counted(self, padding: bool) -> Any:
        """How many entries each window has, with or without the padding: (rows, columns), or one number."""
        rows, columns = (
            (axis.places < axis.end if padding else axis.inside).sum(1) for axis in (self.rows, self.columns)
        )
        counts = rows[:, None] * columns
        return int(counts[0, 0]) if (counts == counts[0, 0]).all() else counts

    def positions(self) -> np.ndarray:
        """Where every entry stands in the image, row · W + column: (entries, rows, columns)."""
        flat = self.rows.places.T[:, None, :, None] * self.columns.length + self.columns.places.T[:, None, :]
        return flat.reshape(-1, *flat.shape[2:])


def _largest(grid: _Grid, x: Any, return_indices: bool) -> Any:
    dtype = as_tensor(x).dtype
    entries = grid.cut(-math.inf if dtype.kind == "f" else int(np.iinfo(dtype).min))
    values = _shaped(apply(TABLE["max"], entries, axis=2, keepdims=False, first=True), x, grid.rank)
    if not return_indices:
        return values
    first = apply(TABLE["argmax"], entries, axis=2, keepdims=True)
    number = np.arange(entries.shape[2]).reshape(-1, 1, 1)
    chosen = where(first == as_tensor(number), as_tensor(grid.positions()), 0).sum(2)
    return values, _shaped(chosen, x, grid.rank)


def _mean(grid: _Grid, x: Any, counts: Any) -> Tensor:
    dtype = as_tensor(x).dtype
    if dtype.kind != "f":
        raise DtypeError(
            f"average pooling of {dtype}",
            why="the mean of integers is not an integer",
            instead="x.to(backstory.float32)",
        )
    total = grid.cut(0.0).sum(2)
    if isinstance(counts, np.ndarray):
        counts = as_tensor(counts.astype(total.dtype))
    return _shaped(total / counts, x, grid.rank)


def _batched(name: str, rank: int, x: Any) -> Tensor:
    x = as_tensor(x)
    if x.ndim not in (rank + 1, rank + 2):
        raise ShapeError(
            f"{name} received x of shape {x.shape}",
            why=f"images have {rank} axes, behind channels and samples",
            instead="x of shape (N, C, …)",
        )
    if 0 in x.shape[-rank - 1 :]:
        raise ShapeError(
            f"{name} received x of shape {x.shape}",
            why="without channels and entries there is nothing to pool",
            instead="an empty batch at most: x of shape (0, C, …)",
        )
    return x if x.ndim == rank + 2 else reshape(x, (1, *x.shape))


def _shaped(out: Tensor, x: Any, rank: int) -> Tensor:
    """The image ``out`` with the axes that ``x`` came with."""
    shape = out.shape if rank == 2 else (*out.shape[:2], out.shape[3])
    return reshape(out, shape if as_tensor(x).ndim == rank + 2 else shape[1:])


def _grid(name: str, rank: int, x: Any, how: tuple[Any, ...], ceil_mode: bool) -> _Grid:
    """Windows of one size at regular places."""
    x = as_tensor(x)
    kernel = each("kernel_size", how[0], rank)
    stride = kernel if how[1] is None or how[1] == () else each("stride", how[1], rank)
    padding, dilation = each("padding", how[2], rank, 0), each("dilation", how[3], rank)
    if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        raise ArgumentError(
            f"{name}(kernel_size={kernel}, padding={padding})",
            why="a window would lie in the padding alone",
            instead="padding of half the kernel at most",
        )
    image = as_image(_batched(name, rank, x))
    windows = Windows(two(kernel), two(stride), two(dilation))  # type: ignore[arg-type]
    around = padding if rank == 2 else (0, *padding)
    axes = [_regular(windows, i, image.shape[2 + i], around[i], ceil_mode) for i in (0, 1)]
    if any(axis is None for axis in axes):
        raise ShapeError(
            f"{name}(kernel_size={kernel}) received x of shape {x.shape}",
            why="no window fits",
            instead="a larger image or a smaller kernel",
        )
    rows, columns = axes
    assert rows is not None
    assert columns is not None
    after = [max(int(axis.places.max()) + 1 - axis.length, 0) for axis in (columns, rows)]
    sizes = (around[1], after[0], around[0], after[1])

    def cut(filling: float) -> Tensor:
        padded = pad(image, sizes, value=filling) if any(sizes) else image
        found = apply(TABLE["unfold"], padded, windows=windows, size=padded.shape[2:])
        return reshape(found, (*found.shape[:2], math.prod(kernel), *found.shape[4:]))

    return _Grid(rank, rows, columns, cut)


def _regular(windows: Windows, i: int, length: int, padding: int, ceil_mode: bool) -> _Axis | None:
    """The windows along axis i of an image, or ``None`` if none fits."""
    stride, dilation = windows.stride[i], windows.dilation[i]
    room = length + 2 * padding - dilation * (windows.kernel[i] - 1) - 1
    count = (-(-room // stride) if ceil_mode else room // stride) + 1
    if ceil_mode and (count - 1) * stride >= length + padding:
        count -= 1  # it would start outside
    if count < 1:
        return None
    starts = np.arange(count) * stride - padding
    places = starts[:, None] + np.arange(windows.kernel[i]) * dilation
    return _Axis(places, length, length + padding)


def _covering(name: str, rank: int, x: Any, output_size: Any) -> _Grid:
    """As many windows as are asked for, that cover the image and overlap where it does not divide."""
    x = as_tensor(x)
    image = as_image(_batched(name, rank, x))
    asked = (output_size,) * rank if output_size is None or isinstance(output_size, int) else output_size
    sizes = dict(enumerate(image.shape[4 - rank :]))
    wanted = two(each("output_size", [sizes.get(i) if n is None else n for i, n in enumerate(asked)], rank))
    rows, columns = (_spans(n, count) for n, count in zip(image.shape[2:], wanted, strict=True))
    # Entries and then windows, along rows and columns: (N, C, rows, entries, columns, entries).
    spread = _spread(_spread(image, columns, 3), rows, 2)
    inside = rows.inside[:, :, None, None] & columns.inside

    def cut(filling: float) -> Tensor:
        full = spread if inside.all() else where(as_tensor(inside), spread, filling)
        ordered = full.permute(0, 1, 3, 5, 2, 4)
        entries = ordered.shape[2] * ordered.shape[3]
        return reshape(ordered, (*ordered.shape[:2], entries, *ordered.shape[4:]))

    return _Grid(rank, rows, columns, cut)


def _spans(length: int, count: int) -> _Axis:
    starts = np.arange(count) * length // count
    ends = -(-(np.arange(count) + 1) * length // count)
    widest = int((ends - starts).max()) if length else 1
    places = starts[:, None] + np.arange(widest)
    return _Axis(np.where(places < ends[:, None], places, length), length, length)


def _spread(image: Tensor, axis: _Axis, at: int) -> Tensor:
    """One axis as two, windows and their entries; what is not inside is some entry."""
    count, size = axis.places.shape
    if count * size != axis.length:
        places = np.minimum(axis.places, axis.length - 1).reshape(-1)
        image = apply(TABLE["take"], image, as_tensor(places), axis=at, length=axis.length)
    return reshape(image, (*image.shape[:at], count, size, *image.shape[at + 1 :]))
