"""Running sums and products along one axis."""

from __future__ import annotations

from typing import Any

from backstory.arrays.products import running_products_pullback, running_products_tangent
from backstory.ops.record import Case, General, Linear

__all__ = ["OPS"]

ALONG = (
    Case(((3, 4),), {"axis": 0}),
    Case(((3, 4),), {"axis": -1}),
    Case(((2, 3, 4),), {"axis": 1}),
    Case(((),), {"axis": 0}),
    Case(((0, 3),), {"axis": 0}),
)


def _cumsum(xp: Any, x: Any, axis: int, backwards: bool = False) -> Any:
    if not x.shape:
        return xp.reshape(_cumsum(xp, xp.reshape(x, (1,)), axis), ())
    if not backwards:
        return xp.cumulative_sum(x, axis=axis)
    return xp.flip(xp.cumulative_sum(xp.flip(x, axis=axis), axis=axis), axis=axis)


cumsum = Linear(
    name="cumsum",
    forward=_cumsum,
    transposes=(lambda xp, g, shape, axis, backwards=False: _cumsum(xp, g, axis, not backwards),),
    formula=r"\sum_{j \le i} x_j",
    derivative=(r"\mathbf{1}[j \le i]",),
    torch="torch.cumsum",
    cases=ALONG,
    arguments=1,
    keeps=((),),
    dtypes="sum",
    fits="an axis of the tensor, from -ndim to ndim - 1",
    fresh=True,
)


def _cumprod(xp: Any, x: Any, axis: int) -> Any:
    if not x.shape:
        return xp.reshape(_cumprod(xp, xp.reshape(x, (1,)), axis), ())
    return xp.cumulative_prod(x, axis=axis)


def _along_last(xp: Any, rule: Any, axis: int, *arrays: Any) -> Any:
    """A rule that works along the last axis, along another."""
    rank = len(arrays[0].shape)
    if rank == 0:
        return arrays[0]
    axis %= rank
    there = (*(a for a in range(rank) if a != axis), axis)
    back = (*range(axis), rank - 1, *range(axis, rank - 1))
    if axis == rank - 1:
        return rule(xp, *arrays)
    return xp.permute_dims(rule(xp, *(xp.permute_dims(x, there) for x in arrays)), back)


cumprod = General(
    name="cumprod",
    forward=_cumprod,
    vjps=(lambda xp, g, ans, x, axis: _along_last(xp, running_products_pullback, axis, g, ans, x),),
    tangent=lambda xp, tangents, ans, x, axis: _along_last(
        xp, running_products_tangent, axis, tangents[0], ans, x
    ),
    formula=r"\prod_{j \le i} x_j",
    derivative=(r"\mathbf{1}[j \le i] \prod_{k \le i, k \ne j} x_k",),
    torch="torch.cumprod",
    cases=ALONG,
    arguments=1,
    keeps=((0,),),
    keeps_ans=True,
    dtypes="sum",
    fits="an axis of the tensor, from -ndim to ndim - 1",
)

OPS = (cumsum, cumprod)
