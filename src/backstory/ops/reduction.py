"""Operations that reduce axes: sum, mean, max, logsumexp.

``axis`` is an int, a tuple of ints or ``None`` for all; rules reduce with ``keepdims`` and reshape last.
"""

from __future__ import annotations

from typing import Any

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


def _max_share(xp: Any, ans: Any, x: Any, axis: Any, first: bool) -> Any:
    """How much of the maximum's gradient each entry takes: ties share evenly, or the first takes all."""
    if first and x.shape:
        places = xp.reshape(xp.arange(x.shape[axis]), _along(x, axis))
        chosen = xp.argmax(x, axis=axis, keepdims=True)
        return xp.astype(places == chosen, x.dtype)
    top = xp.reshape(ans, kept_shape(x.shape, axis))
    ties = xp.astype((x == top) | ((x != x) & (top != top)), x.dtype)
    return ties / xp.sum(ties, axis=axis, keepdims=True)


def _along(x: Any, axis: int) -> tuple[int, ...]:
    return tuple(-1 if i == axis % len(x.shape) else 1 for i in range(len(x.shape)))


def _max_vjp(
    xp: Any, g: Any, ans: Any, x: Any, axis: Any = None, keepdims: bool = False, first: bool = False
) -> Any:
    return xp.reshape(g, kept_shape(x.shape, axis)) * _max_share(xp, ans, x, axis, first)


def _max_tangent(
    xp: Any, tangents: Any, ans: Any, x: Any, axis: Any = None, keepdims: bool = False, first: bool = False
) -> Any:
    share = _max_share(xp, ans, x, axis, first)
    return xp.sum(tangents[0] * share, axis=axis, keepdims=keepdims)


max_ = General(
    name="max",
    forward=lambda xp, x, axis=None, keepdims=False, first=False: xp.max(x, axis=axis, keepdims=keepdims),
    vjps=(_max_vjp,),
    tangent=_max_tangent,
    formula=r"\max_i x_i",
    derivative=(r"\frac{\mathbf{1}[x_i = \max x]}{\#\{j : x_j = \max x\}}",),
    torch="torch.amax",
    cases=(*REDUCTIONS, Case(((3, 4),), {"axis": 1, "first": True})),
    arguments=1,
    keeps=((0,),),
    keeps_ans=True,
    fits="an axis of the tensor, from -ndim to ndim - 1, that holds at least one entry",
)


def _logsumexp(xp: Any, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
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

argmax = General(
    name="argmax",
    forward=lambda xp, x, axis=None, keepdims=False: xp.argmax(x, axis=axis, keepdims=keepdims),
    vjps=(None,),
    tangent=lambda xp, tangents, ans, x, axis=None, keepdims=False: xp.zeros_like(ans),
    formula=r"\arg\max_i x_i",
    derivative=("0",),
    torch="torch.argmax",
    cases=(Case(((3, 4),)), Case(((3, 4),), {"axis": 0}), Case(((3, 4),), {"axis": 1, "keepdims": True})),
    arguments=1,
    keeps=((),),
    differentiable=False,
    fits="an axis of the tensor: from -ndim to ndim - 1, each once",
)

OPS = (sum_, mean, max_, logsumexp, argmax)
