"""Operations that choose entries, and their transposes, which put them back.

An index of integers that is itself a value (``take``) is an argument, so that transforms see it; what
is written in brackets (``getitem``) is a parameter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from backstory.arrays import add_slices, eager, scatter, select
from backstory.ops.record import Case, General, Linear, Op

__all__ = ["OPS", "getitem", "overwrite"]


def _brackets(xp: Any, x: Any, index: Any) -> Any:
    """x[index], said in full as the standard wants it; then one entry is a view too, not a NumPy scalar."""
    parts = index if isinstance(index, tuple) else (index,)
    return x[index] if any(part is ... for part in parts) else x[(*parts, ...)]


getitem = Linear(
    name="getitem",
    forward=_brackets,
    transposes=(lambda xp, g, shape, index: scatter(xp, g, index, shape),),
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

put = Linear(
    name="put",
    forward=lambda xp, x, index, shape: scatter(xp, x, index, shape),
    transposes=(lambda xp, g, before, index, shape: _brackets(xp, g, index),),
    formula=r"\sum_{i} x_i e_i",
    derivative=(r"\mathbf{1}[i]",),
    torch="",
    cases=(Case(((4,),), {"index": 1, "shape": (3, 4)}),),
    arguments=1,
    keeps=((),),
    fresh=True,
)


def _take(xp: Any, x: Any, index: Any, axis: int, length: int) -> Any:
    if not length and 0 not in index.shape:  # which NumPy allows where other axes are empty too
        raise IndexError(f"an index into axis {axis}, which has no entries")
    return xp.take(x, index, axis=axis)


take = General(
    name="take",
    forward=_take,
    vjps=(lambda xp, g, ans, x, index, axis, length: add_slices(xp, g, index, length, axis), None),
    tangent=lambda xp, tangents, ans, x, index, axis, length: xp.take(tangents[0], index, axis=axis),
    formula=r"x_{i_k}",
    derivative=(r"\mathbf{1}[i_k]", "0"),
    torch="",
    cases=(
        Case(((3, 4), ("index", (5,), 3)), {"axis": 0, "length": 3}),
        Case(((3, 4), ("index", (2,), 4)), {"axis": -1, "length": 4}),
        Case(((3, 4), ("index", (0,), 3)), {"axis": 0, "length": 3}),
        Case(((2, 3, 4), ("index", (6,), 3)), {"axis": 1, "length": 3}),
    ),
    arguments=2,
    keeps=((1,), ()),
    fits="a vector of integers from 0 to n - 1, where n is the length of the axis",
)

index_add = General(
    name="index_add",
    forward=lambda xp, x, index, axis, length: add_slices(xp, x, index, length, axis),
    vjps=(lambda xp, g, ans, x, index, axis, length: xp.take(g, index, axis=axis), None),
    tangent=lambda xp, tangents, ans, x, index, axis, length: add_slices(
        xp, tangents[0], index, length, axis
    ),
    formula=r"\sum_k x_k e_{i_k}",
    derivative=(r"\mathbf{1}[i_k]", "0"),
    torch="",
    cases=(
        Case(((5, 4), ("index", (5,), 3)), {"axis": 0, "length": 3}),
        Case(((2, 5), ("index", (5,), 3)), {"axis": -1, "length": 3}),
        Case(((0, 4), ("index", (0,), 3)), {"axis": 0, "length": 3}),
    ),
    arguments=2,
    keeps=((1,), ()),
    fits="a vector of as many integers as the axis is long, each from 0 to length - 1",
)


def _covered(shape: tuple[int, ...], part: tuple[int, ...], view: Linear, of: Mapping[str, Any]) -> Any:
    """Which entries the part covers, and which entries of the part are seen (None for all).

    An index may name an entry twice; then the later of the two is seen.
    """
    rule = view.transposes
    assert isinstance(rule, tuple)
    index, arrays, xp = _arrays(of)
    if xp is eager:
        covered = rule[0](eager, np.ones(part, bool), shape, **of)
    else:
        covered = rule[0](xp, xp.full(part, 1, np.dtype(np.float32)), shape, **of) > 0
    if not arrays:
        return covered, None
    order = np.arange(int(np.prod(part))).reshape(part)
    last = xp.zeros(shape, dtype=order.dtype)
    last[index] = order
    seen = last[index] == order
    return covered, None if xp is eager and seen.all() else seen


def _arrays(of: Mapping[str, Any]) -> tuple[Any, list[Any], Any]:
    """The index of a view, the arrays in it, and their namespace: in a trace they are not known yet."""
    index = of.get("index", ())
    arrays = [i for i in (index if isinstance(index, tuple) else (index,)) if hasattr(i, "shape")]
    known = all(isinstance(i, np.ndarray) for i in arrays)
    return index, arrays, eager if known else arrays[0].__array_namespace__()


def _overwrite(xp: Any, x: Any, part: Any, view: Linear, of: Mapping[str, Any]) -> Any:
    covered, seen = _covered(x.shape, part.shape, view, of)
    if seen is not None:
        part = select(xp, xp.asarray(seen), part)
    rule = view.transposes
    assert isinstance(rule, tuple)
    return xp.where(xp.asarray(covered), rule[0](xp, part, x.shape, **of), x)


def _outside(xp: Any, g: Any, ans: Any, x: Any, part: Any, view: Linear, of: Mapping[str, Any]) -> Any:
    """The upstream gradient, and 0 where the part was written."""
    *_, own = _arrays(of)
    like = np.broadcast_to(np.empty((), bool), g.shape) if own is eager else own.zeros(g.shape)
    shape = view.forward(own, like, **of).shape
    covered, _ = _covered(g.shape, shape, view, of)
    return select(xp, xp.asarray(~covered), g)


def _inside(xp: Any, g: Any, ans: Any, x: Any, part: Any, view: Linear, of: Mapping[str, Any]) -> Any:
    """The upstream gradient of the part."""
    inside = view.forward(xp, g, **of)
    _, seen = _covered(g.shape, inside.shape, view, of)
    return inside if seen is None else select(xp, xp.asarray(seen), inside)


def _overwrite_tangent(
    xp: Any, tangents: Any, ans: Any, x: Any, part: Any, view: Linear, of: Mapping[str, Any]
) -> Any:
    tx, tp = tangents
    return _overwrite(
        xp, xp.zeros_like(x) if tx is None else tx, xp.zeros_like(part) if tp is None else tp, view, of
    )


overwrite = General(
    name="overwrite",
    forward=_overwrite,
    vjps=(_outside, _inside),
    tangent=_overwrite_tangent,
    formula=r"x \text{ with } x_i := y",
    derivative=(r"\mathbf{1}[\text{not } i]", r"\mathbf{1}[i]"),
    torch="",
    cases=(
        Case(((3, 4), (4,)), {"view": getitem, "of": {"index": 1}}),
        Case(((3, 4), (3, 2)), {"view": getitem, "of": {"index": (slice(None), slice(0, 4, 2))}}),
        Case(((), ()), {"view": getitem, "of": {"index": ...}}),
    ),
    arguments=2,
    keeps=((), ()),
)


argsort = General(
    name="argsort",
    forward=lambda xp, x, axis=-1, descending=False: xp.argsort(
        x, axis=axis, descending=descending, stable=True
    ),
    vjps=(None,),
    tangent=lambda xp, tangents, ans, x, axis=-1, descending=False: xp.zeros_like(ans),
    formula=r"\mathrm{argsort}(x)",
    derivative=("0",),
    torch="torch.argsort",
    cases=(Case(((3, 4),)), Case(((3, 4),), {"axis": 0, "descending": True})),
    arguments=1,
    keeps=((),),
    differentiable=False,
    fits="an axis of the tensor, from -ndim to ndim - 1",
)

OPS: tuple[Op, ...] = (getitem, put, take, index_add, overwrite, argsort)
