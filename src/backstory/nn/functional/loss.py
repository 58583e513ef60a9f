"""The losses of predictions near their targets, and those that ask for a margin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from backstory.core import entries
from backstory.errors import ArgumentError, LabelError, ShapeError
from backstory.functions.activation import logsigmoid
from backstory.functions.arithmetic import abs
from backstory.functions.comparison import minimum, where
from backstory.functions.cumulative import cumsum
from backstory.functions.selection import gather, index_select
from backstory.functions.shape import reshape, unsqueeze
from backstory.functions.transcendental import sqrt
from backstory.graph import context
from backstory.nn.functional.linear import pairwise_distance
from backstory.nn.functional.reduction import above_zero, checked_reduction, pair, reduced
from backstory.ops import TABLE
from backstory.tensor import Tensor, apply, as_tensor

__all__ = [
    "cosine_embedding_loss",
    "hinge_embedding_loss",
    "huber_loss",
    "l1_loss",
    "margin_ranking_loss",
    "mse_loss",
    "multi_margin_loss",
    "multilabel_margin_loss",
    "multilabel_soft_margin_loss",
    "smooth_l1_loss",
    "soft_margin_loss",
    "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
]


def mse_loss(x: Any, target: Any, reduction: str = "mean") -> Tensor:
    """(x − y)², averaged over all entries; d/dx = 2 (x − y) / n for the mean.

    Shapes must be equal: a forgotten axis would broadcast and train the wrong thing silently.
    """
    x, target = pair("mse_loss", x, target)
    return apply(TABLE["mse"], x, target, reduction=checked_reduction("mse_loss", reduction))


def l1_loss(x: Any, target: Any, reduction: str = "mean") -> Tensor:
    """|x − y|; its derivative is the sign of x − y, and 0 where they are equal.

    >>> l1_loss([1.0, 4.0], [2.0, 2.0])
    tensor(1.5)
    """
    x, target = pair("l1_loss", x, target)
    return reduced("l1_loss", abs(x - target), reduction)


def smooth_l1_loss(x: Any, target: Any, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """½ d² / β where d = |x − y| < β, else d − ½ β.

    >>> smooth_l1_loss([0.5, 4.0], [0.0, 2.0], reduction="none")
    tensor([0.125, 1.5  ])
    """
    x, target = pair("smooth_l1_loss", x, target)
    if beta < 0:
        raise ArgumentError(
            f"smooth_l1_loss(beta={beta})", why="it is a distance", instead="beta of 0 or more"
        )
    if beta == 0:
        return l1_loss(x, target, reduction)
    distance = abs(x - target)
    square = (x - target) * (x - target) * (0.5 / beta)
    return reduced("smooth_l1_loss", where(distance < beta, square, distance - 0.5 * beta), reduction)


def huber_loss(x: Any, target: Any, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """½ d² where d = |x − y| ≤ δ, else δ (d − ½ δ): a gradient of δ at most.

    >>> huber_loss([0.5, 4.0], [0.0, 2.0], reduction="none")
    tensor([0.125, 1.5  ])
    """
    x, target = pair("huber_loss", x, target)
    if delta <= 0:
        raise ArgumentError(f"huber_loss(delta={delta})", why="it is a distance", instead="delta above 0")
    distance = abs(x - target)
    square = (x - target) * (x - target) * 0.5
    far = (distance - 0.5 * delta) * delta
    return reduced("huber_loss", where(distance <= delta, square, far), reduction)


def hinge_embedding_loss(x: Any, target: Any, margin: float = 1.0, *, reduction: str = "mean") -> Tensor:
    """x where y = 1, and max(0, margin − x) where y = −1.

    >>> hinge_embedding_loss([0.25, 0.25], [1, -1], reduction="none")
    tensor([0.25, 0.75])
    """
    x, target = as_tensor(x), as_tensor(target)
    near = where(target != -1, x, 0.0)
    return reduced("hinge_embedding_loss", near + where(target != 1, above_zero(margin - x), 0.0), reduction)


def margin_ranking_loss(
    x1: Any, x2: Any, target: Any, margin: float = 0.0, *, reduction: str = "mean"
) -> Tensor:
    """max(0, −y (x₁ − x₂) + margin): x₁ is to be the larger where y = 1, the smaller where y = −1.

    >>> margin_ranking_loss([1.0], [3.0], [1.0])
    tensor(2.)
    """
    x1, x2, target = as_tensor(x1), as_tensor(x2), as_tensor(target)
    if not x1.ndim == x2.ndim == target.ndim:
        raise ShapeError(
            f"margin_ranking_loss received shapes {x1.shape}, {x2.shape} and {target.shape}",
            why="each pair has one target",
            instead="three tensors of one shape",
        )
    return reduced("margin_ranking_loss", above_zero(-target * (x1 - x2) + margin), reduction)


def soft_margin_loss(x: Any, target: Any, *, reduction: str = "mean") -> Tensor:
    """ln(1 + exp(−y x)) for targets of ±1.

    >>> soft_margin_loss([0.0], [1.0])
    tensor(0.6931)
    """
    x, target = pair("soft_margin_loss", x, target)
    return reduced("soft_margin_loss", -logsigmoid(target * x), reduction)


def multi_margin_loss(
    x: Any,
    target: Any,
    p: int = 1,
    margin: float = 1.0,
    weight: Any = None,
    *,
    reduction: str = "mean",
) -> Tensor:
    """Σ_{j ≠ y} max(0, margin − x_y + x_j)ᵖ / C: the hinge loss of a classifier, (N, C) and (N,).

    >>> multi_margin_loss([[0.5, 1.0]], [0])
    tensor(0.75)
    """
    x, target = as_tensor(x), as_tensor(target)
    if p not in (1, 2):
        raise ArgumentError(f"multi_margin_loss(p={p})", why="it is linear or square", instead="p=1 or p=2")
    rows = x if x.ndim == 2 else reshape(x, (1, -1))
    labels = reshape(target, -1)
    if labels.shape[0] != rows.shape[0]:
        raise ShapeError(
            f"multi_margin_loss received x {x.shape} and labels {target.shape}",
            why="each sample has one label",
            instead="x of shape (N, C) and labels of shape (N,)",
        )
    count = rows.shape[1]
    _check_classes("multi_margin_loss", labels, 0, count, "labels that start at 0")
    column = unsqueeze(labels, 1)
    lack = margin - gather(rows, 1, column) + rows
    others = (as_tensor(range(count)) != column) & (lack > 0)
    losses = where(others, lack if p == 1 else lack * lack, 0.0)
    if weight is not None:
        losses = losses * unsqueeze(index_select(as_tensor(weight), 0, labels), 1)
    losses = losses.mean(1)
    return reduced("multi_margin_loss", losses if x.ndim == 2 else reshape(losses, ()), reduction)


def _check_classes(name: str, labels: Tensor, least: int, count: int, instead: str) -> None:
    """Refuse labels that are not from ``least`` to count - 1."""

    def refuse(found: Any) -> None:
        raise LabelError(
            f"{name} received labels from {found.min()} to {found.max()}",
            why=f"there are {count} classes, numbered 0 to {count - 1}",
            instead=instead,
        )

    if labels.level == 0:
        context().xp.assume(entries(labels), least, count - 1, refuse)


def multilabel_margin_loss(x: Any, target: Any, *, reduction: str = "mean") -> Tensor:
    """Σ_{y, j} max(0, 1 − x_y + x_j) / C over the classes y that are there and the classes j that are not.

    (N, C) and a target (N, C) of class numbers, those that are there first and then −1; a sample may come
    alone. Classes behind the first −1 are not there.

    >>> multilabel_margin_loss([[0.1, 0.2, 0.4, 0.8]], [[3, 0, -1, 1]])
    tensor(0.85)
    """
    x, target = as_tensor(x), as_tensor(target)
    if x.shape != target.shape or x.ndim > 2 or 0 in x.shape[-1:]:
        raise ShapeError(
            f"multilabel_margin_loss received x of shape {x.shape} and classes {target.shape}",
            why="each sample has a list of as many class numbers as there are classes",
            instead="both of shape (N, C), the list filled up with -1",
        )
    count = x.shape[-1] if x.ndim else 1
    _check_classes("multilabel_margin_loss", target, -1, count, "class numbers, and -1 behind them")
    rows, listed = (one if one.ndim == 2 else reshape(one, (1, -1)) for one in (x, target))
    valid = cumsum((listed < 0).to("int64"), 1) == 0
    places = where(valid, listed, 0)
    hits = unsqueeze(valid, 2) & (unsqueeze(places, 2) == as_tensor(range(count)))
    lack = 1 - unsqueeze(gather(rows, 1, places), 2) + unsqueeze(rows, 1)
    counted = unsqueeze(valid, 2) & ~unsqueeze(hits.any(1), 1) & (lack > 0)
    losses = where(counted, lack, 0.0).sum((1, 2)) / count
    return reduced("multilabel_margin_loss", losses if x.ndim == 2 else reshape(losses, ()), reduction)


def multilabel_soft_margin_loss(
    x: Any, target: Any, weight: Any = None, *, reduction: str = "mean"
) -> Tensor:
    """The mean over the classes (last axis) of the binary cross-entropy with logits."""
    x, target = pair("multilabel_soft_margin_loss", x, target)
    losses = -(target * logsigmoid(x) + (1 - target) * logsigmoid(-x))
    losses = losses if weight is None else losses * weight
    return reduced("multilabel_soft_margin_loss", losses.mean(-1), reduction)


def triplet_margin_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    *,
    reduction: str = "mean",
) -> Tensor:
    """max(0, ‖a − p‖ − ‖a − n‖ + margin); with ``swap`` n may be compared with p, if that is nearer.

    >>> triplet_margin_loss([[0.0]], [[1.0]], [[1.5]])
    tensor(0.5)
    """
    _checked_margin("triplet_margin_loss", margin)
    near, far = pairwise_distance(anchor, positive, p, eps), pairwise_distance(anchor, negative, p, eps)
    if swap:
        far = minimum(far, pairwise_distance(positive, negative, p, eps))
    return reduced("triplet_margin_loss", above_zero(near - far + margin), reduction)


def _checked_margin(name: str, margin: float) -> None:
    if not margin > 0:
        raise ArgumentError(
            f"{name}(margin={margin})",
            why="equal distances are to cost something",
            instead="a margin above 0",
        )


def triplet_margin_with_distance_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    *,
    distance_function: Callable[[Any, Any], Tensor] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """:func:`triplet_margin_loss` with a distance of your own, ‖x − y + 10⁻⁶‖ unless given.

    >>> far = lambda x, y: (x - y).abs().sum(-1)
    >>> triplet_margin_with_distance_loss([[0.0, 0.0]], [[1.0, 1.0]], [[2.0, 0.5]], distance_function=far)
    tensor(0.5)
    """
    distance = pairwise_distance if distance_function is None else distance_function
    _checked_margin("triplet_margin_with_distance_loss", margin)
    anchor, positive, negative = as_tensor(anchor), as_tensor(positive), as_tensor(negative)
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = minimum(far, distance(positive, negative))
    return reduced("triplet_margin_with_distance_loss", above_zero(near - far + margin), reduction)


def cosine_embedding_loss(
    x1: Any, x2: Any, target: Any, margin: float = 0.0, *, reduction: str = "mean"
) -> Tensor:
    """1 − cos(x₁, x₂) where y = 1, and max(0, cos(x₁, x₂) − margin) where y = −1.

    >>> cosine_embedding_loss([[1.0, 0.0]], [[0.0, 1.0]], [1])
    tensor(1.)
    """
    x1, x2, target = as_tensor(x1), as_tensor(x2), as_tensor(target)
    if x1.shape[-1:] != x2.shape[-1:] or target.shape != x1.shape[:-1]:
        raise ShapeError(
            f"cosine_embedding_loss received shapes {x1.shape}, {x2.shape} and {target.shape}",
            why="each pair of vectors has one target",
            instead="vectors (N, D) and targets (N,)",
        )
    tiny = 1e-12  # PyTorch's
    sizes = ((x1 * x1).sum(-1) + tiny) * ((x2 * x2).sum(-1) + tiny)
    cosine = (x1 * x2).sum(-1) / sqrt(sizes)
    losses = where(target == 1, 1 - cosine, 0.0) + where(target == -1, above_zero(cosine - margin), 0.0)
    return reduced("cosine_embedding_loss", losses, reduction)
