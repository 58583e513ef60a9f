"""Windows of images, and the convolution that is a matrix product with them.

A convolution is bilinear. Its image is padded before (``put``), so that the record knows of windows
alone; groups are blocks of channels that do not see each other.
"""

from __future__ import annotations

from typing import Any

from backstory.arrays.windows import Windows, fold, unfold
from backstory.ops.record import Bilinear, Case, Linear

__all__ = ["OPS"]


def _columns(xp: Any, x: Any, windows: Windows, groups: int) -> Any:
    """The windows as a matrix per sample and group: (N, G, C/G·K, positions)."""
    cut = unfold(xp, x, windows)
    n, c, kr, kc, rows, columns = cut.shape
    return xp.reshape(cut, (n, groups, c // groups * kr * kc, rows * columns))


def _grouped(xp: Any, weight: Any, groups: int) -> Any:
    """The weights as a matrix per group: (G, out/G, C/G·K)."""
    out, c, kr, kc = weight.shape
    return xp.reshape(weight, (groups, out // groups, c * kr * kc))


def _conv(xp: Any, x: Any, weight: Any, windows: Windows, groups: int, size: Any) -> Any:
    product = xp.matmul(_grouped(xp, weight, groups), _columns(xp, x, windows, groups))
    return xp.reshape(product, (x.shape[0], weight.shape[0], *windows.counts(x.shape[2:])))


def _to_image(xp: Any, g: Any, weight: Any, windows: Windows, groups: int, size: Any) -> Any:
    n, out, rows, columns = g.shape
    kr, kc = windows.kernel
    g = xp.reshape(g, (n, groups, out // groups, rows * columns))
    spread = xp.matmul(xp.matrix_transpose(_grouped(xp, weight, groups)), g)
    spread = xp.reshape(spread, (n, groups * weight.shape[1], kr, kc, rows, columns))
    return fold(xp, spread, size, windows)


def _to_weight(xp: Any, g: Any, x: Any, windows: Windows, groups: int, size: Any) -> Any:
    n, out, rows, columns = g.shape
    kr, kc = windows.kernel
    g = xp.reshape(g, (n, groups, out // groups, rows * columns))
    product = xp.matmul(g, xp.matrix_transpose(_columns(xp, x, windows, groups)))
    return xp.reshape(xp.sum(product, axis=0), (out, x.shape[1] // groups, kr, kc))


def _case(x: Any, weight: Any, stride: Any, dilation: Any, groups: int) -> Case:
    windows = Windows(weight[2:], stride, dilation)
    return Case((x, weight), {"windows": windows, "groups": groups, "size": x[2:]})


conv = Bilinear(
    name="conv",
    forward=_conv,
    transposes=(_to_image, _to_weight),
    formula=r"\sum_{c,k} W_{o c k}\, x_{c,\, i + k}",
    derivative=(r"\sum_{o,k} W_{o c k}\, G_{o,\, i - k}", r"\sum_{n,i} G_{n o i}\, x_{n c,\, i + k}"),
    letters=("x", "W"),
    torch="",
    cases=(
        _case((2, 3, 5, 6), (4, 3, 3, 2), (1, 1), (1, 1), 1),
        _case((2, 4, 6, 5), (6, 2, 2, 3), (2, 1), (1, 2), 2),
        _case((1, 3, 4, 4), (3, 1, 2, 2), (2, 2), (1, 1), 3),
    ),
    arguments=2,
    keeps=((1,), (0,)),
    dtypes="same",
    fits="x of shape (N, C, H, W) and a weight of shape (out, C / groups, rows, columns)",
)

_SLIDING = Windows((2, 3), (2, 1), (1, 2))

windows_of = Linear(
    name="unfold",
    forward=lambda xp, x, windows, size: unfold(xp, x, windows),
    transposes=(lambda xp, g, shape, windows, size: fold(xp, g, size, windows),),
    formula=r"x_{i + k}",
    derivative=(r"\sum_{k} G_{i - k}",),
    torch="",
    cases=(Case(((2, 3, 5, 6),), {"windows": _SLIDING, "size": (5, 6)}),),
    arguments=1,
    keeps=((),),
    fresh=True,
)

added_windows = Linear(
    name="fold",
    forward=lambda xp, x, windows, size: fold(xp, x, size, windows),
    transposes=(lambda xp, g, shape, windows, size: unfold(xp, g, windows),),
    formula=r"\sum_{k} x_{i - k}",
    derivative=(r"G_{i + k}",),
    torch="",
    cases=(Case(((2, 3, 2, 3, 2, 2),), {"windows": _SLIDING, "size": (5, 6)}),),
    arguments=1,
    keeps=((),),
    fresh=True,
)

OPS = (conv, windows_of, added_windows)
