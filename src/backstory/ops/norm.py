"""The p-norm of vectors."""

from __future__ import annotations

import math
from typing import Any

from backstory.ops.arithmetic import sign
from backstory.ops.record import Case, General
from backstory.ops.reduction import kept_shape

__all__ = ["OPS"]


def _norm(xp: Any, x: Any, order: float = 2.0, axis: Any = None, keepdims: bool = False) -> Any:
    size = xp.abs(x)
    if order == math.inf:
        return xp.max(size, axis=axis, keepdims=keepdims)
    if order == -math.inf or (order < 0 and 0 in x.shape):  # refuses an axis without entries
        return xp.min(size, axis=axis, keepdims=keepdims)
    if order == 0:
        return xp.sum(xp.astype(x != 0, x.dtype), axis=axis, keepdims=keepdims)
    if order == 1:
        return xp.sum(size, axis=axis, keepdims=keepdims)
    if order == 2:
        return xp.sqrt(xp.sum(x * x, axis=axis, keepdims=keepdims))
    return xp.sum(size**order, axis=axis, keepdims=keepdims) ** (1.0 / order)


def _slope(xp: Any, ans: Any, x: Any, order: float, axis: Any) -> Any:
    """sign(x)·(|x| / ‖x‖)^(p − 1), and 0 at the origin."""
    ans = xp.reshape(ans, kept_shape(x.shape, axis))
    if order == 0:
        return xp.zeros_like(x)
    if order == 1:
        return sign(xp, x)
    if math.isinf(order):
        size = xp.abs(x)
        ties = xp.astype((size == ans) | ((size != size) & (ans != ans)), x.dtype)
        return sign(xp, x) * ties / xp.sum(ties, axis=axis, keepdims=True)
    flat = ans == 0
    whole = xp.where(flat, xp.ones_like(ans), ans)
    if order == 2:
        return xp.where(flat, xp.zeros_like(x), x / whole)
    none = (x == 0) | flat
    size = xp.where(none, xp.ones_like(x), xp.abs(x))
    slope = xp.where(none, xp.zeros_like(x), sign(xp, x) * (size / whole) ** (order - 1))
    # 0 times what a norm without bounds makes of the others, as in PyTorch.
    lost = ans != ans if order >= 1 else ans - ans != 0
    return xp.where(none & lost, ans - ans, slope)


vector_norm = General(
    name="vector_norm",
    forward=_norm,
    vjps=(
        lambda xp, g, ans, x, order=2.0, axis=None, keepdims=False: (
            xp.reshape(g, kept_shape(x.shape, axis)) * _slope(xp, ans, x, order, axis)
        ),
    ),
    tangent=lambda xp, tangents, ans, x, order=2.0, axis=None, keepdims=False: xp.sum(
        tangents[0] * _slope(xp, ans, x, order, axis), axis=axis, keepdims=keepdims
    ),
    formula=r"\left( \sum_i |x_i|^p \right)^{1/p}",
    derivative=(r"\mathrm{sign}(x_i) \left( \frac{|x_i|}{\|x\|_p} \right)^{p-1}",),
    torch="torch.linalg.vector_norm",
    cases=(
        Case(((3, 4),)),
        Case(((3, 4),), {"order": 1.0, "axis": 0}),
        Case(((2, 3, 4),), {"order": 3.0, "axis": (0, 2)}),
        Case(((3, 4),), {"order": math.inf, "axis": 1, "keepdims": True}),
        Case(((3, 4),), {"order": -math.inf, "axis": 1}),
        Case(((3, 4),), {"order": 0.5, "axis": -1}),
        Case(((3, 4),), {"order": -1.5}),
        Case(((3, 4),), {"order": 0.0, "axis": 0}),
        Case(((),)),
    ),
    arguments=1,
    keeps=((0,),),
    keeps_ans=True,
    dtypes="floats",
    fits="an axis of the tensor: from -ndim to ndim - 1, each once",
)

OPS = (vector_norm,)
