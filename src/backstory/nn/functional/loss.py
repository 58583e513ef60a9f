"""The losses as functions."""

from __future__ import annotations

from typing import Any

import numpy as np

from backstory.arrays import eager
from backstory.errors import ArgumentError, DtypeError, LabelError, ShapeError
from backstory.ops import TABLE
from backstory.tensor import Tensor, apply, as_tensor

__all__ = ["cross_entropy", "mse_loss"]


def _checked_reduction(name: str, reduction: str) -> str:
    if reduction not in ("mean", "sum", "none"):
        raise ArgumentError(
            f"{name}(reduction={reduction!r})",
            why="the losses of the samples are averaged, added up or kept",
            instead="reduction='mean', 'sum' or 'none'",
        )
    return reduction


_UNSIGNED = {size: np.dtype(f"u{size}") for size in (1, 2, 4, 8)}


def cross_entropy(logits: Tensor, target: Any, reduction: str = "mean") -> Tensor:
    """ln Σⱼ exp(xₙⱼ) − xₙ,ᵧ for logits (N, C) and labels (N,) of integers in [0, C).

    Give it logits: the softmax is inside. d/dx = (softmax(x) − one-hot(y)) / N for the mean.

    >>> import backstory
    >>> cross_entropy(backstory.tensor([[0.0, 0.0]]), backstory.tensor([1]))
    tensor(0.6931)
    """
    logits, target = as_tensor(logits), as_tensor(target)
    shape, labels = logits.shape, target.array
    if len(shape) != 2 or labels.shape != shape[:1]:
        raise ShapeError(
            f"cross_entropy received logits {shape} and labels {target.shape}",
            why="each sample has one row of logits and one label",
            instead="logits of shape (N, C) and labels of shape (N,)",
        )
    if labels.dtype.kind not in "iu" or logits.dtype.kind != "f":
        raise DtypeError(
            f"cross_entropy received logits of {logits.dtype} and labels of {target.dtype}",
            why="logits are floats and labels are the integers that number the classes",
            instead="labels.to(backstory.int64)",
        )
    # Seen as unsigned a negative label is huge, so one maximum finds both kinds.
    if target.level == 0 and shape[0] and eager.max(labels.view(_UNSIGNED[labels.itemsize])) >= shape[1]:
        place = int(np.argmax((labels < 0) | (labels >= shape[1])))
        raise LabelError(
            f"cross_entropy received the label {labels[place]} (sample {place})",
            why=f"there are {shape[1]} classes, numbered 0 to {shape[1] - 1}",
            instead="labels that start at 0, and a last layer with one output per class",
        )
    return apply(
        TABLE["cross_entropy"], logits, target, reduction=_checked_reduction("cross_entropy", reduction)
    )


def mse_loss(x: Tensor, target: Any, reduction: str = "mean") -> Tensor:
    """(x − y)², averaged over all entries; d/dx = 2 (x − y) / n for the mean.

    Shapes must be equal: a forgotten axis would broadcast and train the wrong thing silently.
    """
    x, target = as_tensor(x), as_tensor(target)
    if x.shape != target.shape:
        raise ShapeError(
            f"mse_loss received predictions {x.shape} and targets {target.shape}",
            why="every prediction has one target; broadcasting here hides a forgotten axis",
            instead=f"target.reshape({', '.join(map(str, x.shape))}) if that is what is meant",
        )
    if x.dtype.kind != "f" and target.dtype.kind != "f":
        raise DtypeError(
            f"mse_loss received predictions of {x.dtype} and targets of {target.dtype}",
            why="the mean of integers is not an integer",
            instead="predictions.to(backstory.float32)",
        )
    return apply(TABLE["mse"], x, target, reduction=_checked_reduction("mse_loss", reduction))
