"""What all losses share: checks, and how the losses of the entries become one number."""

from __future__ import annotations

from typing import Any

from backstory.errors import ArgumentError, DtypeError, ShapeError
from backstory.functions.comparison import where
from backstory.tensor import Tensor, as_tensor

__all__ = ["above_zero", "checked_reduction", "pair", "reduced"]


def checked_reduction(name: str, reduction: str, *more: str) -> str:
    """``reduction`` if the loss has it."""
    if reduction not in ("mean", "sum", "none", *more):
        raise ArgumentError(
            f"{name}(reduction={reduction!r})",
            why="the losses of the samples are averaged, added up or kept",
            instead="reduction='mean', 'sum' or 'none'" + "".join(f", or {one!r}" for one in more),
        )
    return reduction


def reduced(name: str, losses: Tensor, reduction: str) -> Tensor:
    """The mean, the sum or the losses themselves."""
    if checked_reduction(name, reduction) == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()


def pair(name: str, x: Any, target: Any) -> tuple[Tensor, Tensor]:
    """Predictions and targets of one shape, at least one of them floats."""
    x, target = as_tensor(x), as_tensor(target)
    if x.shape != target.shape:
        raise ShapeError(
            f"{name} received predictions {x.shape} and targets {target.shape}",
            why="every prediction has one target; broadcasting here hides a forgotten axis",
            instead=f"target.reshape({', '.join(map(str, x.shape))}) if that is what is meant",
        )
    if x.dtype.kind != "f" and target.dtype.kind != "f":
        raise DtypeError(
            f"{name} received predictions of {x.dtype} and targets of {target.dtype}",
            why="the mean of integers is not an integer",
            instead="predictions.to(backstory.float32)",
        )
    return x, target


def above_zero(x: Tensor) -> Tensor:
    """max(x, 0) with the derivative 1 at 0, as PyTorch's losses have it; no activation, and no site."""
    return where(x >= 0, x, 0.0)
