"""Losses and the normalised exponentials they need.

``reduction`` is ``"mean"``, ``"sum"`` or ``"none"``, as in PyTorch.
"""

from __future__ import annotations

from typing import Any

from backstory.arrays import one_hot, pick
from backstory.ops.record import Case, Elementwise, General

__all__ = ["OPS"]


def _log_softmax(xp: Any, x: Any, axis: int = -1) -> Any:
    if 0 in x.shape:
        return x - xp.sum(x, axis=axis, keepdims=True)  # refuses an axis that is not there
    shifted = x - xp.max(x, axis=axis, keepdims=True)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=axis, keepdims=True))


def _softmax(xp: Any, x: Any, axis: int = -1) -> Any:
    if 0 in x.shape:
        return x - xp.sum(x, axis=axis, keepdims=True)  # refuses an axis that is not there
    exponentials = xp.exp(x - xp.max(x, axis=axis, keepdims=True))
    return exponentials / xp.sum(exponentials, axis=axis, keepdims=True)


softmax = General(
    name="softmax",
    forward=_softmax,
    vjps=(lambda xp, g, ans, x, axis=-1: ans * (g - xp.sum(g * ans, axis=axis, keepdims=True)),),
    tangent=lambda xp, tangents, ans, x, axis=-1: (
        ans * (tangents[0] - xp.sum(ans * tangents[0], axis=axis, keepdims=True))
    ),
    formula=r"\frac{e^{x_i}}{\sum_j e^{x_j}}",
    derivative=(r"s_i (\delta_{ij} - s_j)",),
    torch="torch.softmax",
    cases=(Case(((3, 4),), {"axis": -1}), Case(((3, 4),), {"axis": 0}), Case(((2, 3, 4),), {"axis": 1})),
    arguments=1,
    keeps=((),),
    keeps_ans=True,
    dtypes="float",
    fits="an axis of the tensor, from -ndim to ndim - 1, that holds at least one entry",
)

log_softmax = General(
    name="log_softmax",
    forward=_log_softmax,
    vjps=(lambda xp, g, ans, x, axis=-1: g - xp.exp(ans) * xp.sum(g, axis=axis, keepdims=True),),
    tangent=lambda xp, tangents, ans, x, axis=-1: (
        tangents[0] - xp.sum(xp.exp(ans) * tangents[0], axis=axis, keepdims=True)
    ),
    formula=r"x_i - \ln \sum_j e^{x_j}",
    derivative=(r"\delta_{ij} - \mathrm{softmax}(x)_j",),
    torch="torch.log_softmax",
    cases=(Case(((3, 4),), {"axis": -1}), Case(((3, 4),), {"axis": 0}), Case(((2, 3, 4),), {"axis": 1})),
    arguments=1,
    keeps=((),),
    keeps_ans=True,
    dtypes="float",
    fits="an axis of the tensor, from -ndim to ndim - 1, that holds at least one entry",
)


def _cross_entropy(xp: Any, logits: Any, target: Any, reduction: str = "mean") -> Any:
    shifted = logits - xp.max(logits, axis=-1, keepdims=True)
    exponentials = xp.exp(shifted)
    total = xp.sum(exponentials, axis=-1, keepdims=True)
    losses = xp.log(xp.reshape(total, (-1,))) - pick(xp, shifted, target)
    return _reduce(xp, losses, reduction), (exponentials, total)


def _reduce(xp: Any, losses: Any, reduction: str) -> Any:
    if reduction == "none":
        return losses
    total = xp.sum(losses)
    return total / _size(losses.shape) if reduction == "mean" else total


def _size(shape: tuple[int, ...]) -> int:
    count = 1
    for n in shape:
        count *= n
    return count


def _spread(xp: Any, g: Any, count: int, reduction: str) -> Any:
    """The cotangent of each loss, as a column or a scalar that broadcasts."""
    if reduction == "none":
        return xp.reshape(g, (-1, 1))
    return g / max(count, 1) if reduction == "mean" else g


def _cross_entropy_partial(xp: Any, logits: Any, target: Any, residuals: Any) -> Any:
    """softmax(x) − one-hot(y)"""
    if residuals is None:
        probabilities = xp.exp(_log_softmax(xp, logits))
    else:
        exponentials, total = residuals
        probabilities = exponentials / total
    return probabilities - one_hot(xp, target, probabilities)


def _cross_entropy_vjp(
    xp: Any, g: Any, ans: Any, logits: Any, target: Any, reduction: str = "mean", residuals: Any = None
) -> Any:
    partial = _cross_entropy_partial(xp, logits, target, residuals)
    return partial * _spread(xp, g, logits.shape[0], reduction)


def _cross_entropy_tangent(
    xp: Any, tangents: Any, ans: Any, logits: Any, target: Any, reduction: str = "mean"
) -> Any:
    partial = _cross_entropy_partial(xp, logits, target, None)
    return _reduce(xp, xp.sum(partial * tangents[0], axis=-1), reduction)


cross_entropy = General(
    name="cross_entropy",
    forward=_cross_entropy,
    vjps=(_cross_entropy_vjp, None),
    tangent=_cross_entropy_tangent,
    formula=r"\frac{1}{N}\sum_n \left( \ln \sum_j e^{x_{nj}} - x_{n y_n} \right)",
    derivative=(r"\frac{1}{N}\left(\mathrm{softmax}(x)_{nj} - \mathbf{1}[j = y_n]\right)", "0"),
    torch="torch.nn.functional.cross_entropy",
    cases=tuple(Case(((5, 4), "labels"), {"reduction": r}) for r in ("mean", "sum", "none")),
    arguments=2,
    keeps=((0, 1), ()),
    residuals=True,
)


def _mse(xp: Any, x: Any, y: Any, reduction: str = "mean") -> Any:
    difference = x - y
    return _reduce(xp, difference * difference, reduction)


def _mse_vjp(sign: float) -> Any:
    def vjp(xp: Any, g: Any, ans: Any, x: Any, y: Any, reduction: str = "mean") -> Any:
        difference = x - y
        count = max(_size(difference.shape), 1) if reduction == "mean" else 1
        return difference * (g * (2.0 * sign / count))

    return vjp


def _mse_tangent(xp: Any, tangents: Any, ans: Any, x: Any, y: Any, reduction: str = "mean") -> Any:
    difference = x - y
    moved = xp.zeros_like(difference)
    if tangents[0] is not None:
        moved = moved + tangents[0]
    if tangents[1] is not None:
        moved = moved - tangents[1]
    return _reduce(xp, 2.0 * difference * moved, reduction)


mse = General(
    name="mse",
    forward=_mse,
    vjps=(_mse_vjp(1.0), _mse_vjp(-1.0)),
    tangent=_mse_tangent,
    formula=r"\frac{1}{n}\sum_i (x_i - y_i)^2",
    derivative=(r"\frac{2}{n}(x_i - y_i)", r"-\frac{2}{n}(x_i - y_i)"),
    torch="torch.nn.functional.mse_loss",
    cases=tuple(Case(((3, 4), (3, 4)), {"reduction": r}) for r in ("mean", "sum", "none")),
    arguments=2,
    keeps=((0, 1), (0, 1)),
    dtypes="promote",
)


def _logarithm(xp: Any, x: Any) -> Any:
    """ln x, and −100 at least: PyTorch's bound."""
    return xp.maximum(xp.log(x), -100.0)


bce = Elementwise(
    name="bce",
    forward=lambda xp, x, y: -(y * _logarithm(xp, x) + (1.0 - y) * _logarithm(xp, 1.0 - x)),
    partials=(
        lambda xp, ans, x, y: (x - y) / xp.maximum(x * (1.0 - x), 1e-12),
        lambda xp, ans, x, y: _logarithm(xp, 1.0 - x) - _logarithm(xp, x),
    ),
    formula=r"-y \ln x - (1 - y) \ln(1 - x)",
    derivative=(r"\frac{x - y}{x (1 - x)}", r"\ln(1 - x) - \ln x"),
    torch="",
    cases=(Case(((3, 4), (3, 4)), low=0.1, high=0.9), Case(((), ()), low=0.1, high=0.9)),
    arguments=2,
    keeps=((0, 1), (0,)),
    dtypes="float",
)

OPS = (softmax, log_softmax, cross_entropy, mse, bce)
