"""Operations that reduce axes: sums, means, products, variances, norms, extrema, logsumexp.

``axis`` is an int, a tuple of ints or ``None`` for all; rules reduce with ``keepdims`` and reshape last.
"""

from __future__ import annotations

import math
from typing import Any

from backstory.arrays.products import product_of_others
from backstory.ops.record import Case, General, Linear

__all__ = ["OPS", "kept_shape", "normalize_axes"]

REDUCTIONS = (
    Case(((3, 4),)),
    Case(((3, 4),), {"axis": 0}),
    Case(((2, 3, 4),), {"axis": (0, 2)}),
    Case(((2, 3, 4),), {"axis": -1, "keepdims": True}),
    Case(((),)),
)


def normalize_axes(axis: int | tuple[int, ...] | None, rank: int) -> tuple[int, ...]:
    """The reduced axes as non-negative numbers.

    >>> normalize_axes(-1, 3), normalize_axes(None, 2)
    ((2,), (0, 1))
    """
    if axis is None:
        return tuple(range(rank))
    axes = axis if isinstance(axis, tuple) else (axis,)
    return tuple(a % rank if rank else 0 for a in axes) if rank else ()


def kept_shape(shape: tuple[int, ...], axis: int | tuple[int, ...] | None) -> tuple[int, ...]:
    """``shape`` with every reduced axis as 1: what ``keepdims=True`` leaves."""
    reduced = normalize_axes(axis, len(shape))
    return tuple(1 if i in reduced else n for i, n in enumerate(shape))


def _count(shape: tuple[int, ...], axis: int | tuple[int, ...] | None) -> int:
    count = 1
    for a in normalize_axes(axis, len(shape)):
        count *= shape[a]
    return count


def _spread(xp: Any, g: Any, shape: tuple[int, ...], axis: Any = None, keepdims: bool = False) -> Any:
    """What a sum gathered, its transpose hands to every term."""
    return xp.broadcast_to(xp.reshape(g, kept_shape(shape, axis)), shape)


sum_ = Linear(
    name="sum",
    forward=lambda xp, x, axis=None, keepdims=False: xp.sum(x, axis=axis, keepdims=keepdims),
    transposes=(_spread,),
    formula=r"\sum_i x_i",
    derivative=("1",),
    torch="torch.sum",
    cases=REDUCTIONS,
    arguments=1,
    keeps=((),),
    dtypes="sum",
    fits="an axis of the tensor: from -ndim to ndim - 1, each once",
)

mean = Linear(
    name="mean",
    # Not xp.mean: NumPy's costs three times a sum and warns, past errstate, for an empty array.
    forward=lambda xp, x, axis=None, keepdims=False: (
        xp.sum(x, axis=axis, keepdims=keepdims) / _count(x.shape, axis)
    ),
    transposes=(
        lambda xp, g, shape, axis=None, keepdims=False: _spread(
            xp, g / max(_count(shape, axis), 1), shape, axis
        ),
    ),
    formula=r"\frac{1}{n} \sum_i x_i",
    derivative=(r"\frac{1}{n}",),
    torch="torch.mean",
    cases=REDUCTIONS,
    arguments=1,
    keeps=((),),
    dtypes="floats",
    fits="an axis of the tensor: from -ndim to ndim - 1, each once",
)


def _logsumexp(xp: Any, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    if 0 in x.shape:
        return xp.log(xp.sum(x, axis=axis, keepdims=keepdims))
    top = xp.max(x, axis=axis, keepdims=True)
    # An infinite maximum would give inf − inf; without it the sum itself is the right infinity.
    top = xp.where((top - top) == 0, top, xp.zeros_like(top))
    total = xp.log(xp.sum(xp.exp(x - top), axis=axis, keepdims=True)) + top
    return total if keepdims else xp.reshape(total, _dropped(x.shape, axis))


def _dropped(shape: tuple[int, ...], axis: Any) -> tuple[int, ...]:
    reduced = normalize_axes(axis, len(shape))
    return tuple(n for i, n in enumerate(shape) if i not in reduced)


def _softmax_from(xp: Any, ans: Any, x: Any, axis: Any) -> Any:
    return xp.exp(x - xp.reshape(ans, kept_shape(x.shape, axis)))


logsumexp = General(
    name="logsumexp",
    forward=_logsumexp,
    vjps=(
        lambda xp, g, ans, x, axis=None, keepdims=False: (
            xp.reshape(g, kept_shape(x.shape, axis)) * _softmax_from(xp, ans, x, axis)
        ),
    ),
    tangent=lambda xp, tangents, ans, x, axis=None, keepdims=False: xp.sum(
        tangents[0] * _softmax_from(xp, ans, x, axis), axis=axis, keepdims=keepdims
    ),
    formula=r"\ln \sum_i e^{x_i}",
    derivative=(r"\mathrm{softmax}(x)_i",),
    torch="torch.logsumexp",
    cases=REDUCTIONS,
    arguments=1,
    keeps=((0,),),
    keeps_ans=True,
    dtypes="float",
    fits="an axis of the tensor: from -ndim to ndim - 1, each once",
)


def _over_last(xp: Any, x: Any, axis: int | None) -> Any:
    """``x`` with the reduced axis last: all in one, if no axis is named."""
    if axis is None or not x.shape:
        return xp.reshape(x, (-1,))
    axis %= len(x.shape)
    return xp.permute_dims(x, (*(a for a in range(len(x.shape)) if a != axis), axis))


def _prod_partial(xp: Any, x: Any, axis: int | None) -> Any:
    """The product of the others, exact also where some are zero."""
    if not x.shape:
        return xp.ones_like(x)
    others = product_of_others(xp, _over_last(xp, x, axis), quickly_zero=axis is None)
    if axis is None:
        return xp.reshape(others, x.shape)
    axis, rank = axis % len(x.shape), len(x.shape)
    return xp.permute_dims(others, (*range(axis), rank - 1, *range(axis, rank - 1)))


prod = General(
    name="prod",
    forward=lambda xp, x, axis=None, keepdims=False: xp.prod(x, axis=axis, keepdims=keepdims),
    vjps=(
        lambda xp, g, ans, x, axis=None, keepdims=False: (
            xp.reshape(g, kept_shape(x.shape, axis)) * _prod_partial(xp, x, axis)
        ),
    ),
    tangent=lambda xp, tangents, ans, x, axis=None, keepdims=False: xp.sum(
        tangents[0] * _prod_partial(xp, x, axis), axis=axis, keepdims=keepdims
    ),
    formula=r"\prod_i x_i",
    derivative=(r"\prod_{j \ne i} x_j",),
    torch="torch.prod",
    cases=tuple(case for case in REDUCTIONS if not isinstance(case.params.get("axis"), tuple)),
    arguments=1,
    keeps=((0,),),
    dtypes="sum",
    fits="an axis of the tensor, from -ndim to ndim - 1",
)


def _deviations(xp: Any, x: Any, axis: Any) -> Any:
    """x minus its mean."""
    return x - xp.sum(x, axis=axis, keepdims=True) / _count(x.shape, axis)


def _var(xp: Any, x: Any, axis: Any = None, correction: float = 1, keepdims: bool = False) -> Any:
    deviations = _deviations(xp, x, axis)
    return _over(
        xp.sum(deviations * deviations, axis=axis, keepdims=keepdims), _count(x.shape, axis) - correction
    )


def _over(total: Any, count: float) -> Any:
    """total / count, where less than nothing counts as nothing: of too few entries it is NaN or inf."""
    return total / count if count > 0 else total * math.inf


def _var_slope(xp: Any, x: Any, axis: Any, correction: float) -> Any:
    return _deviations(xp, x, axis) * _over(2.0, _count(x.shape, axis) - correction)


def _std_slope(xp: Any, ans: Any, x: Any, axis: Any, correction: float) -> Any:
    """And 0 where nothing deviates."""
    ans = xp.reshape(ans, kept_shape(x.shape, axis))
    flat = ans == 0
    half = 0.5 / xp.where(flat, xp.ones_like(ans), ans)
    return _var_slope(xp, x, axis, correction) * xp.where(flat, xp.zeros_like(ans), half)


def _spreading(
    name: str, formula: str, derivative: str, forward: Any, slope: Any, keeps_ans: bool
) -> General:
    """The variance or the standard deviation; ``slope(xp, ans, x, axis, correction)``."""
    return General(
        name=name,
        forward=forward,
        vjps=(
            lambda xp, g, ans, x, axis=None, correction=1, keepdims=False: (
                xp.reshape(g, kept_shape(x.shape, axis)) * slope(xp, ans, x, axis, correction)
            ),
        ),
        tangent=lambda xp, tangents, ans, x, axis=None, correction=1, keepdims=False: xp.sum(
            tangents[0] * slope(xp, ans, x, axis, correction), axis=axis, keepdims=keepdims
        ),
        formula=formula,
        derivative=(derivative,),
        torch=f"torch.{name}",
        cases=(
            Case(((3, 4),)),
            Case(((3, 4),), {"axis": 0, "correction": 0}),
            Case(((2, 3, 4),), {"axis": (0, 2)}),
            Case(((2, 3, 4),), {"axis": -1, "keepdims": True}),
        ),
        arguments=1,
        keeps=((0,),),
        keeps_ans=keeps_ans,
        dtypes="floats",
        fits="an axis of the tensor: from -ndim to ndim - 1, each once",
    )


var = _spreading(
    "var",
    r"\frac{1}{n - c} \sum_i (x_i - \bar{x})^2",
    r"\frac{2}{n - c} (x_i - \bar{x})",
    _var,
    lambda xp, ans, x, axis, correction: _var_slope(xp, x, axis, correction),
    keeps_ans=False,
)
std = _spreading(
    "std",
    r"\sqrt{\frac{1}{n - c} \sum_i (x_i - \bar{x})^2}",
    r"\frac{x_i - \bar{x}}{(n - c)\, \mathrm{std}(x)}",
    lambda xp, x, axis=None, correction=1, keepdims=False: xp.sqrt(_var(xp, x, axis, correction, keepdims)),
    _std_slope,
    keeps_ans=True,
)


def _truth(name: str, formula: str, forward: Any) -> General:
    return General(
        name=name,
        forward=forward,
        vjps=(None,),
        tangent=lambda xp, tangents, ans, x, axis=None, keepdims=False: xp.zeros_like(ans),
        formula=formula,
        derivative=("0",),
        torch=f"torch.{name}",
        cases=REDUCTIONS,
        arguments=1,
        keeps=((),),
        differentiable=False,
        fits="an axis of the tensor: from -ndim to ndim - 1, each once",
    )


any_ = _truth(
    "any", r"\bigvee_i x_i", lambda xp, x, axis=None, keepdims=False: xp.any(x, axis=axis, keepdims=keepdims)
)
all_ = _truth(
    "all",
    r"\bigwedge_i x_i",
    lambda xp, x, axis=None, keepdims=False: xp.all(x, axis=axis, keepdims=keepdims),
)

OPS = (sum_, mean, prod, var, std, logsumexp, any_, all_)
