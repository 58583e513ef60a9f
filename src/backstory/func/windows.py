"""Windows and convolutions of all samples of ``vmap`` at once, as one operation of the level below.

Samples are images more, where they share the weights; where each has weights of its own, they are channels
more, in groups that do not see each other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from backstory.core import apply
from backstory.func.batched import Batched, first_axis
from backstory.ops import TABLE, Op
from backstory.tensor import Tensor

__all__ = ["convolved", "sliding"]


def sliding(op: Op, values: list[Any], params: Mapping[str, Any]) -> Batched:
    """``unfold`` and ``fold``, of images (N, …): those of all samples in one row."""
    (x,) = values
    size, count = x.array.shape[:2]
    out = apply(op, _shaped(x.array, size * count, *x.array.shape[2:]), **params)
    return Batched(_shaped(out, size, count, *out.shape[1:]))


def convolved(op: Op, values: list[Any], params: Mapping[str, Any]) -> Batched:
    """``conv`` of images (N, C, H, W) with weights (out, C / groups, rows, columns)."""
    x, weight = values
    groups = params["groups"]
    if not weight.mapped:
        size, count = x.array.shape[:2]
        out = apply(op, _shaped(x.array, size * count, *x.shape[1:]), weight.array, **params)
        return Batched(_shaped(out, size, count, *out.shape[1:]))
    size, out_channels = weight.array.shape[:2]
    per_group = out_channels // groups
    if x.mapped:
        # (B, N, C, …) → (N, B·C, …): each sample's channels are groups of their own.
        channels = apply(TABLE["permute"], x.array, axes=(1, 0, 2, 3, 4))
        channels = _shaped(channels, x.shape[0], size * x.shape[1], *x.shape[2:])
        rows, groups, order = weight.array, size * groups, (size, out_channels)
    else:
        # (B, groups·out, …) → (groups·B·out, …): within each group of channels the weights of all samples.
        channels = x.array
        rows = _shaped(weight.array, size, groups, per_group, *weight.shape[1:])
        rows = apply(TABLE["permute"], rows, axes=(1, 0, 2, 3, 4, 5))
        order = (groups, size, per_group)
    rows = _shaped(rows, size * out_channels, *weight.shape[1:])
    out = apply(op, channels, rows, **{**params, "groups": groups})
    apart = _shaped(out, out.shape[0], *order, *out.shape[2:])
    samples = first_axis(apart, 1 if x.mapped else 2)
    return Batched(_shaped(samples, size, out.shape[0], out_channels, *out.shape[2:]))


def _shaped(x: Tensor, *shape: int) -> Tensor:
    assert math.prod(shape) == math.prod(x.shape)
    return apply(TABLE["reshape"], x, shape=shape)
