"""Windows of images, and their transpose, which adds overlaps up: one implementation per namespace.

An image is (N, C, H, W). ``Windows`` says where the windows are: the kernel, stride and dilation on
each of the two axes. What is padded was padded before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from backstory.arrays import eager

__all__ = ["Windows", "fold", "unfold"]


@dataclass(frozen=True)
class Windows:
    """Windows of ``kernel`` entries, ``dilation`` apart, every ``stride`` entries, on both axes."""

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)

    def counts(self, size: tuple[int, ...]) -> tuple[int, int]:
        """How many windows fit on each axis of an image of that size."""
        reach = [(k - 1) * d for k, d in zip(self.kernel, self.dilation, strict=True)]
        rows, columns = (
            (n - r - 1) // s + 1 if n > r else 0 for n, r, s in zip(size, reach, self.stride, strict=True)
        )
        return rows, columns

    def place(self, i: int, j: int, counts: tuple[int, int]) -> tuple[Any, ...]:
        """Entry (i, j) of every window, as an index of an image."""
        slices = (
            slice(at * d, at * d + (n - 1) * s + 1, s)
            for at, d, s, n in zip((i, j), self.dilation, self.stride, counts, strict=True)
        )
        return (slice(None), slice(None), *slices)


def unfold(xp: Any, x: Any, windows: Windows) -> Any:
    """(N, C, H, W) → (N, C, kernel rows, kernel columns, rows, columns).

    >>> x = np.arange(9.0).reshape(1, 1, 3, 3)
    >>> unfold(eager, x, Windows((2, 2)))[0, 0, :, :, 0, 0]
    array([[0., 1.],
           [3., 4.]])
    """
    own = getattr(xp, "backstory_extras", None)
    if own is not None:
        return own.unfold(x, windows)
    counts = windows.counts(x.shape[2:])
    rows, columns = windows.kernel
    if xp is eager:
        result = np.empty((*x.shape[:2], rows, columns, *counts), x.dtype)
        for i in range(rows):
            for j in range(columns):
                result[:, :, i, j] = x[windows.place(i, j, counts)]
        return result
    parts = [x[windows.place(i, j, counts)] for i in range(rows) for j in range(columns)]
    stacked = xp.concat([xp.reshape(p, (*p.shape[:2], 1, *p.shape[2:])) for p in parts], axis=2)
    return xp.reshape(stacked, (*x.shape[:2], rows, columns, *counts))


def fold(xp: Any, x: Any, size: tuple[int, int], windows: Windows) -> Any:
    """(N, C, kernel rows, kernel columns, rows, columns) → (N, C, H, W): what overlaps adds up.

    >>> fold(eager, np.ones((1, 1, 2, 2, 2, 2)), (3, 3), Windows((2, 2)))[0, 0]
    array([[1., 2., 1.],
           [2., 4., 2.],
           [1., 2., 1.]])
    """
    own = getattr(xp, "backstory_extras", None)
    if own is not None:
        return own.fold(x, size, windows)
    counts = windows.counts(size)
    result = xp.zeros((*x.shape[:2], *size), dtype=x.dtype)
    for i in range(windows.kernel[0]):
        for j in range(windows.kernel[1]):
            result[windows.place(i, j, counts)] += x[:, :, i, j, ...]
    return result
