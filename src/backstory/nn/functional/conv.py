"""Convolution (as networks say: without turning the kernel) in one and two dimensions."""

from __future__ import annotations

from typing import Any

from backstory.arrays.windows import Windows
from backstory.errors import ArgumentError, DtypeError, ShapeError
from backstory.functions.joining import pad
from backstory.functions.shape import reshape
from backstory.ops import TABLE
from backstory.tensor import Tensor, apply, as_tensor

__all__ = ["around", "as_image", "conv1d", "conv2d", "each", "two"]


def each(name: str, value: Any, count: int, least: int = 1) -> tuple[int, ...]:
    """One number per axis, from one for all (also as a tuple of one) or one for each."""
    found = (value,) if isinstance(value, int) else tuple(value)
    found = found * count if len(found) == 1 else found
    if len(found) != count or any(not isinstance(n, int) or n < least for n in found):
        raise ArgumentError(
            f"{name}={value!r}",
            why=f"there are {count} axes, and each takes a whole number of at least {least}",
            instead=f"{name}={max(least, 1)}, or a tuple of {count}",
        )
    return found


def conv2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """(N, C, H, W) and a weight (out, C/groups, rows, columns) → (N, out, …); a sample may come alone.

    out_o = Σ_{c,k} W_{ock} x_{c, stride·i + dilation·k} + b_o. ``padding`` is a number, one for each axis,
    ``"valid"`` (none) or ``"same"`` (as many positions as before, with stride 1).

    >>> conv2d(as_tensor([[[[1.0, 2.0, 3.0]]]]), as_tensor([[[[1.0, 1.0]]]]))
    tensor([[[[3., 5.]]]])
    """
    return _conv("conv2d", 2, x, weight, bias, (stride, padding, dilation), groups)


def conv1d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """(N, C, L) and a weight (out, C/groups, length) → (N, out, …); see :func:`conv2d`.

    >>> conv1d(as_tensor([[[1.0, 2.0, 3.0]]]), as_tensor([[[1.0, 1.0]]]))
    tensor([[[3., 5.]]])
    """
    return _conv("conv1d", 1, x, weight, bias, (stride, padding, dilation), groups)


def _conv(name: str, rank: int, x: Any, weight: Any, bias: Any, how: tuple[Any, ...], groups: int) -> Tensor:
    x, weight = as_tensor(x), as_tensor(weight)
    stride, dilation = each("stride", how[0], rank), each("dilation", how[2], rank)
    if x.ndim not in (rank + 1, rank + 2) or weight.ndim != rank + 2:
        raise ShapeError(
            f"{name} received x of shape {x.shape} and a weight of shape {weight.shape}",
            why=f"images have {rank} axes, behind channels and samples",
            instead="x of shape (N, C, …) and a weight of shape (out, C / groups, …)",
        )
    if bias is not None and as_tensor(bias).dtype != x.dtype:
        raise DtypeError(
            f"{name} received x of {x.dtype} and a bias of {as_tensor(bias).dtype}",
            why="dtypes must be equal",
            instead=f"bias.to({x.dtype}), or the module's .to(…)",
        )
    if x.ndim == rank + 1:
        alone = _conv(name, rank, reshape(x, (1, *x.shape)), weight, bias, how, groups)
        return reshape(alone, alone.shape[1:])
    if groups < 1 or weight.shape[0] % groups or x.shape[1] != weight.shape[1] * groups:
        raise ShapeError(
            f"{name}(groups={groups}) received x of shape {x.shape} and a weight of shape {weight.shape}",
            why=f"a weight of that shape takes {weight.shape[1] * groups} channels",
            instead="x with C channels, a weight (out, C / groups, …), and groups that divide both",
        )
    x = pad(x, around(name, how[1], weight.shape[2:], stride, dilation))
    windows = Windows(*(two(one) for one in (weight.shape[2:], stride, dilation)))  # type: ignore[arg-type]
    image, kernel = as_image(x), as_image(weight)
    counts = windows.counts(image.shape[2:])
    if min(counts) < 1:
        raise ShapeError(
            f"{name}: the padded image {x.shape[2:]} is smaller than the kernel {weight.shape[2:]}",
            why="no window fits",
            instead="a larger image, more padding, or a smaller kernel or dilation",
        )
    out = apply(TABLE["conv"], image, kernel, windows=windows, groups=groups, size=image.shape[2:])
    if bias is not None:
        out = out + reshape(bias, (1, -1, 1, 1))
    return out if rank == 2 else reshape(out, (*out.shape[:2], out.shape[3]))


def two(one: tuple[int, ...]) -> tuple[int, ...]:
    """A number per axis for an image, whose first axis is of length 1 if there was none."""
    return one if len(one) == 2 else (1, *one)


def as_image(x: Tensor) -> Tensor:
    """(N, C, L) as (N, C, 1, L)."""
    return x if x.ndim == 4 else reshape(x, (*x.shape[:2], 1, x.shape[2]))


def around(
    name: str, padding: Any, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[int, ...]:
    """What ``pad`` takes: (before, after) of the last axis, then of the one before."""
    if padding == "valid":
        padding = 0
    if padding == "same":
        if any(s != 1 for s in stride):
            raise ArgumentError(
                f"{name}(padding='same', stride={stride})",
                why="with a stride there are fewer positions than before",
                instead="stride=1, or padding as a number",
            )
        reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return tuple(n for r in reversed(reach) for n in (r // 2, r - r // 2))
    if isinstance(padding, str):
        raise ArgumentError(
            f"{name}(padding={padding!r})", why="there are two words for it", instead="'same' or 'valid'"
        )
    return tuple(n for p in reversed(each("padding", padding, len(kernel), 0)) for n in (p, p))
