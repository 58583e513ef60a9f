"""The largest and the smallest along axes, and where they stand."""

from __future__ import annotations

from typing import Any

from backstory.ops.record import Case, General
from backstory.ops.reduction import REDUCTIONS, kept_shape

__all__ = ["OPS"]


def _share(xp: Any, ans: Any, x: Any, axis: Any, first: Any) -> Any:
    """How much of the gradient each entry takes: ties share evenly, or the ``first`` takes all.

    A NaN is the largest of all; among the entries of an axis it equals nothing, and the shares are NaN.
    """
    if first is not None and x.shape:
        places = xp.reshape(xp.arange(x.shape[axis]), _along(x, axis))
        return xp.astype(places == first(xp, x, axis), x.dtype)
    top = xp.reshape(ans, kept_shape(x.shape, axis))
    equal = (x == top) | ((x != x) & (top != top)) if axis is None else x == top
    ties = xp.astype(equal, x.dtype)
    return ties / xp.sum(ties, axis=axis, keepdims=True)


def _along(x: Any, axis: int) -> tuple[int, ...]:
    return tuple(-1 if i == axis % len(x.shape) else 1 for i in range(len(x.shape)))


def _extreme(name: str, forward: Any, place: Any) -> General:
    """``max`` or ``min``, with ``place(xp, x, axis)`` where the first of equals stands."""

    def vjp(
        xp: Any, g: Any, ans: Any, x: Any, axis: Any = None, keepdims: bool = False, first: bool = False
    ) -> Any:
        return xp.reshape(g, kept_shape(x.shape, axis)) * _share(xp, ans, x, axis, place if first else None)

    def tangent(
        xp: Any,
        tangents: Any,
        ans: Any,
        x: Any,
        axis: Any = None,
        keepdims: bool = False,
        first: bool = False,
    ) -> Any:
        share = _share(xp, ans, x, axis, place if first else None)
        return xp.sum(tangents[0] * share, axis=axis, keepdims=keepdims)

    return General(
        name=name,
        forward=lambda xp, x, axis=None, keepdims=False, first=False: forward(xp, x, axis, keepdims),
        vjps=(vjp,),
        tangent=tangent,
        formula=rf"\{name}_i x_i",
        derivative=(rf"\frac{{\mathbf{{1}}[x_i = \{name} x]}}{{\#\{{j : x_j = \{name} x\}}}}",),
        torch=f"torch.a{name}",
        cases=(*REDUCTIONS, Case(((3, 4),), {"axis": 1, "first": True})),
        arguments=1,
        keeps=((0,),),
        keeps_ans=True,
        fits="an axis of the tensor, from -ndim to ndim - 1, that holds at least one entry",
    )


def _place(name: str, formula: str, forward: Any) -> General:
    return General(
        name=name,
        forward=lambda xp, x, axis=None, keepdims=False: forward(xp, x, axis, keepdims),
        vjps=(None,),
        tangent=lambda xp, tangents, ans, x, axis=None, keepdims=False: xp.zeros_like(ans),
        formula=formula,
        derivative=("0",),
        torch=f"torch.{name}",
        cases=(
            Case(((3, 4),)),
            Case(((3, 4),), {"axis": 0}),
            Case(((3, 4),), {"axis": 1, "keepdims": True}),
        ),
        arguments=1,
        keeps=((),),
        differentiable=False,
        fits="an axis of the tensor, from -ndim to ndim - 1, that holds at least one entry",
    )


def _median(xp: Any, x: Any) -> Any:
    """Of two in the middle the smaller; NaN if one entry is."""
    flat = xp.reshape(x, (-1,))
    middle = (flat.shape[0] - 1) // 2
    if middle < 0:
        if not xp.isdtype(x.dtype, "real floating"):
            raise ValueError("of no entries the median is NaN, which is no integer")
        return xp.full_like(xp.sum(flat), float("nan"))
    value = xp.reshape(xp.take(flat, xp.argsort(flat)[middle : middle + 1], axis=0), ())
    return xp.where(xp.any(flat != flat), xp.max(flat), value)


median = General(
    name="median",
    forward=_median,
    vjps=(lambda xp, g, ans, x: g * _share(xp, ans, x, None, None),),
    tangent=lambda xp, tangents, ans, x: xp.sum(tangents[0] * _share(xp, ans, x, None, None)),
    formula=r"\mathrm{median}(x)",
    derivative=(r"\frac{\mathbf{1}[x_i = m]}{\#\{j : x_j = m\}}",),
    torch="torch.median",
    cases=(Case(((3, 4),)), Case(((5,),)), Case(((),))),
    arguments=1,
    keeps=((0,),),
    keeps_ans=True,
    fits="at least one entry, or floats",
)

OPS = (
    median,
    _extreme(
        "max",
        lambda xp, x, axis, keepdims: xp.max(x, axis=axis, keepdims=keepdims),
        lambda xp, x, axis: xp.argmax(x, axis=axis, keepdims=True),
    ),
    _extreme(
        "min",
        lambda xp, x, axis, keepdims: xp.min(x, axis=axis, keepdims=keepdims),
        lambda xp, x, axis: xp.argmin(x, axis=axis, keepdims=True),
    ),
    _place(
        "argmax",
        r"\arg\max_i x_i",
        lambda xp, x, axis, keepdims: xp.argmax(x, axis=axis, keepdims=keepdims),
    ),
    _place(
        "argmin",
        r"\arg\min_i x_i",
        lambda xp, x, axis, keepdims: xp.argmin(x, axis=axis, keepdims=keepdims),
    ),
)
