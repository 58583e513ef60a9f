"""Operations that move entries and change none: reshape, transpose, broadcast, getitem and its transpose."""

from __future__ import annotations

from typing import Any

from backstory.arrays import scatter
from backstory.ops.record import Case, Linear, elementwise_cases

__all__ = ["OPS"]

reshape = Linear(
    name="reshape",
    forward=lambda xp, x, shape: xp.reshape(x, shape),
    transposes=(lambda xp, g, before, shape: xp.reshape(g, before),),
    formula=r"\mathrm{reshape}(x)",
    derivative=("1",),
    torch="torch.reshape",
    cases=(
        Case(((3, 4),), {"shape": (2, 6)}),
        Case(((),), {"shape": (1, 1)}),
        Case(((3, 4),), {"shape": (-1,)}),
    ),
    arguments=1,
    keeps=((),),
    view=True,
    fits="a shape with as many entries as the tensor has; one axis may be -1",
)


def _inverse(axes: tuple[int, ...]) -> tuple[int, ...]:
    order = [0] * len(axes)
    for place, axis in enumerate(axes):
        order[axis % len(axes)] = place
    return tuple(order)


permute = Linear(
    name="permute",
    forward=lambda xp, x, axes: xp.permute_dims(x, axes),
    transposes=(lambda xp, g, shape, axes: xp.permute_dims(g, _inverse(axes)),),
    formula=r"x^{\top}",
    derivative=("1",),
    torch="torch.permute",
    cases=(Case(((3, 4),), {"axes": (1, 0)}), Case(((2, 3, 4),), {"axes": (2, 0, -2)})),
    arguments=1,
    keeps=((),),
    view=True,
    fits="every axis of the tensor once: x.permute(1, 0) for a matrix",
)

# The sum over the copied axes is done where all broadcasting is undone.
broadcast_to = Linear(
    name="broadcast_to",
    forward=lambda xp, x, shape: xp.broadcast_to(x, shape),
    transposes=(lambda xp, g, before, shape: g,),
    formula=r"\mathrm{broadcast}(x)",
    derivative=("1",),
    torch="torch.broadcast_to",
    cases=(
        Case(((4,),), {"shape": (3, 4)}),
        Case(((3, 1),), {"shape": (2, 3, 4)}),
        Case(((),), {"shape": (2,)}),
    ),
    arguments=1,
    keeps=((),),
    view=True,
    fits="a shape that ends in the tensor's own, where an axis of length 1 may grow",
)


def _take(xp: Any, x: Any, index: Any) -> Any:
    """x[index], said in full as the standard wants it; then one entry is a view too, not a NumPy scalar."""
    parts = index if isinstance(index, tuple) else (index,)
    return x[index] if any(part is ... for part in parts) else x[(*parts, ...)]


def _getitem_transpose(xp: Any, g: Any, shape: tuple[int, ...], index: Any) -> Any:
    return scatter(xp, g, index, shape)


getitem = Linear(
    name="getitem",
    forward=_take,
    transposes=(_getitem_transpose,),
    formula=r"x_{i}",
    derivative=(r"\mathbf{1}[i]",),
    torch="operator.getitem",
    cases=(
        Case(((3, 4),), {"index": 1}),
        Case(((3, 4),), {"index": (slice(None), slice(0, 4, 2))}),
        Case(((3, 4),), {"index": (..., -1)}),
        Case(((3, 4),), {"index": (slice(1, 1), slice(None))}),
    ),
    arguments=1,
    keeps=((),),
    view=True,
    fits="an index for each axis at most, from -n to n - 1 on an axis of length n",
)

cast = Linear(
    name="cast",
    forward=lambda xp, x, dtype: xp.astype(x, dtype),
    # The cotangent is cast back where all cotangents are.
    transposes=(lambda xp, g, shape, dtype: g,),
    formula=r"x",
    derivative=("1",),
    torch="",
    cases=(),
    arguments=1,
    keeps=((),),
)

clone = Linear(
    name="clone",
    forward=lambda xp, x: xp.asarray(x, copy=True),
    transposes=(lambda xp, g, shape: g,),
    formula=r"x",
    derivative=("1",),
    torch="torch.clone",
    cases=elementwise_cases(1),
    arguments=1,
    keeps=((),),
)

scatter_ = Linear(
    name="scatter",
    forward=lambda xp, x, index, shape: scatter(xp, x, index, shape),
    transposes=(lambda xp, g, before, index, shape: _take(xp, g, index),),
    formula=r"\sum_{i} x_i e_i",
    derivative=(r"\mathbf{1}[i]",),
    torch="",
    cases=(Case(((4,),), {"index": 1, "shape": (3, 4)}),),
    arguments=1,
    keeps=((),),
)

OPS = (reshape, permute, broadcast_to, getitem, cast, clone, scatter_)
