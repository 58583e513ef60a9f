"""The losses of classifiers: cross-entropy, negative log-likelihood, binary cross-entropy, divergence."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from backstory.arrays import eager
from backstory.core import entries
from backstory.errors import ArgumentError, DtypeError, LabelError, ShapeError
from backstory.functions.activation import log_softmax, logsigmoid
from backstory.functions.comparison import where
from backstory.functions.selection import gather, index_select
from backstory.functions.shape import reshape, unsqueeze
from backstory.functions.transcendental import exp, log
from backstory.graph import context
from backstory.nn.functional.reduction import checked_reduction, pair, reduced
from backstory.ops import TABLE
from backstory.tensor import Tensor, apply, as_tensor

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "kl_div",
    "nll_loss",
]


def cross_entropy(
    logits: Any,
    target: Any,
    weight: Any = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """ln Σⱼ exp(xₙⱼ) − xₙ,ᵧ for logits (N, C) and labels (N,) of integers in [0, C).

    Give it logits: the softmax is inside. d/dx = (softmax(x) − one-hot(y)) / N for the mean. Further axes
    may follow the classes, (N, C, …) with labels (N, …), and one sample may come alone, (C,). Targets of
    the shape of the logits are probabilities. ``weight`` (C,) weighs the classes; samples labelled
    ``ignore_index`` count nothing; ``label_smoothing`` ε makes the target 1 − ε + ε/C for the right
    class and ε/C for the others.

    >>> import backstory
    >>> cross_entropy(backstory.tensor([[0.0, 0.0]]), backstory.tensor([1]))
    tensor(0.6931)
    """
    logits, target = as_tensor(logits), as_tensor(target)
    checked_reduction("cross_entropy", reduction)
    if not 0.0 <= label_smoothing <= 1.0:
        raise ArgumentError(
            f"cross_entropy(label_smoothing={label_smoothing})",
            why="it is the share of the target that all classes have together",
            instead="a number from 0 to 1, such as 0.1",
        )
    if logits.dtype.kind == "f" and target.dtype.kind == "f" and logits.shape == target.shape:
        return _with_probabilities(logits, target, weight, reduction, label_smoothing)
    ignored = _checked_labels("cross_entropy", logits, target, ignore_index)
    if logits.ndim == 2 and weight is None and not label_smoothing and not ignored:
        return apply(TABLE["cross_entropy"], logits, target, reduction=reduction)
    axis = 1 if logits.ndim > 1 else 0
    logs = log_softmax(logits, axis)
    loss = _of_labels(logs, target, weight, ignore_index, reduction)
    if not label_smoothing:
        return loss
    kept = target != ignore_index
    spread = -(logs if weight is None else logs * _along(weight, logits, axis)).sum(axis)
    spread = where(kept, spread, 0.0)
    if reduction == "sum":
        spread = spread.sum()
    elif reduction == "mean":
        spread = spread.sum() / _share(target, weight, kept, logits.dtype).sum()
    return loss * (1 - label_smoothing) + spread * (label_smoothing / logits.shape[axis])


def nll_loss(
    logs: Any, target: Any, weight: Any = None, *, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """−xₙ,ᵧ for log-probabilities (N, C, …) and labels (N, …): what follows a log-softmax.

    >>> nll_loss([[-0.5, -2.0]], [1])
    tensor(2.)
    """
    logs, target = as_tensor(logs), as_tensor(target)
    checked_reduction("nll_loss", reduction)
    _checked_labels("nll_loss", logs, target, ignore_index)
    return _of_labels(logs, target, weight, ignore_index, reduction)


def _of_labels(logs: Tensor, target: Tensor, weight: Any, ignore_index: int, reduction: str) -> Tensor:
    axis = 1 if logs.ndim > 1 else 0
    kept = target != ignore_index
    label = where(kept, target, 0)
    chosen = gather(logs, axis, unsqueeze(label, axis))
    share = _share(target, weight, kept, logs.dtype)
    losses = where(kept, -reshape(chosen, target.shape) * share, 0.0)
    if reduction == "none":
        return losses
    return losses.sum() / share.sum() if reduction == "mean" else losses.sum()


def _share(target: Tensor, weight: Any, kept: Tensor, dtype: Any) -> Tensor:
    """How much each sample counts: the weight of its class, and nothing if it is ignored."""
    if weight is None:
        return kept.to(dtype)
    label = where(kept, target, 0)
    chosen = reshape(index_select(as_tensor(weight), 0, reshape(label, -1)), target.shape)
    return where(kept, chosen, 0.0)


def _along(weight: Any, logits: Tensor, axis: int) -> Tensor:
    """The weights of the classes on the axis of the classes."""
    return reshape(as_tensor(weight), (-1, *(1,) * (logits.ndim - 1 - axis)))


def _with_probabilities(logits: Tensor, target: Tensor, weight: Any, reduction: str, smooth: float) -> Tensor:
    axis = 1 if logits.ndim > 1 else 0
    count = logits.shape[axis]
    if smooth:
        target = target * (1 - smooth) + smooth / count
    logs = log_softmax(logits, axis) * target
    losses = -(logs if weight is None else logs * _along(weight, logits, axis)).sum(axis)
    # The mean is one over samples, whatever the weights.
    return reduced("cross_entropy", losses, reduction)


def _checked_labels(name: str, scores: Tensor, target: Tensor, ignore_index: int) -> bool:
    """Whether some label is ``ignore_index``; an error if one is no class, or shapes do not fit."""
    shape = scores.shape
    if not shape or target.shape != (shape[:1] + shape[2:] if len(shape) > 1 else ()):
        raise ShapeError(
            f"{name} received logits {shape} and labels {target.shape}",
            why="each sample has one row of logits and one label",
            instead="logits of shape (N, C) and labels of shape (N,)",
        )
    if target.dtype.kind not in "iu" or scores.dtype.kind != "f":
        raise DtypeError(
            f"{name} received logits of {scores.dtype} and labels of {target.dtype}",
            why="logits are floats and labels are the integers that number the classes",
            instead="labels.to(backstory.int64)",
        )
    labels, count = target.array if target.level else entries(target), shape[min(1, len(shape) - 1)]
    if target.level or not target.numel():
        return bool(target.level)
    refuse = partial(_refuse_labels, name, count, ignore_index)
    return not context().xp.assume(labels, 0, count - 1, refuse) or 0 <= ignore_index < count


def _refuse_labels(name: str, count: int, ignore_index: int, labels: Any) -> None:
    """Raise for the first label that is neither a class nor ``ignore_index``."""
    wrong = ((labels < 0) | (labels >= count)) & (labels != ignore_index)
    if not wrong.any():
        return
    place = int(np.argmax(wrong))
    raise LabelError(
        f"{name} received the label {labels.reshape(-1)[place]} (sample {place})",
        why=f"there are {count} classes, numbered 0 to {count - 1}",
        instead="labels that start at 0, and a last layer with one output per class",
    )


def binary_cross_entropy(x: Any, target: Any, weight: Any = None, *, reduction: str = "mean") -> Tensor:
    """−(y ln x + (1 − y) ln(1 − x)) for probabilities x in [0, 1]; logarithms are −100 at least.

    On logits use :func:`binary_cross_entropy_with_logits`, which neither overflows nor needs the bound.

    >>> binary_cross_entropy([0.5], [1.0])
    tensor(0.6931)
    """
    x, target = pair("binary_cross_entropy", x, target)
    if x.level == 0:
        context().xp.assume(entries(x), 0, 1, _refuse_probabilities)
    losses = apply(TABLE["bce"], x, target)
    return reduced("binary_cross_entropy", losses if weight is None else losses * weight, reduction)


def _refuse_probabilities(x: Any) -> None:
    """Raise for what is no probability."""
    raise ArgumentError(
        f"binary_cross_entropy of predictions from {eager.min(x)} to {eager.max(x)}",
        why="they are probabilities, from 0 to 1",
        instead="binary_cross_entropy_with_logits for outputs without a sigmoid",
    )


def binary_cross_entropy_with_logits(
    x: Any, target: Any, weight: Any = None, *, reduction: str = "mean", pos_weight: Any = None
) -> Tensor:
    """−(p y ln σ(x) + (1 − y) ln(1 − σ(x))) for logits x; p, ``pos_weight``, weighs what is there.

    >>> binary_cross_entropy_with_logits([0.0], [1.0])
    tensor(0.6931)
    """
    x, target = pair("binary_cross_entropy_with_logits", x, target)
    share = 1.0 if pos_weight is None else (as_tensor(pos_weight) - 1) * target + 1
    losses = (1 - target) * x - logsigmoid(x) * share
    losses = losses if weight is None else losses * weight
    return reduced("binary_cross_entropy_with_logits", losses, reduction)


def kl_div(x: Any, target: Any, *, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """y (ln y − x) for log-probabilities x and probabilities y (or their logarithms: ``log_target``).

    ``reduction="batchmean"`` is the divergence of the distributions: the sum over the number of samples.

    >>> kl_div([[0.0]], [[1.0]], reduction="batchmean")
    tensor(0.)
    """
    x, target = pair("kl_div", x, target)
    checked_reduction("kl_div", reduction, "batchmean")
    if log_target:
        losses = exp(target) * (target - x)
    else:
        there = target != 0
        losses = where(there, target * log(where(there, target, 1.0)), 0.0) - target * x
    if reduction == "batchmean":
        return losses.sum() / max(x.shape[0] if x.ndim else 1, 1)
    return reduced("kl_div", losses, reduction)
