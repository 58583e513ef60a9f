"""Operations that move entries and change none: reshape, permute, broadcast, join, turn, diagonals."""

from __future__ import annotations

from typing import Any

from backstory.arrays import select
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


def _part(xp: Any, i: int, g: Any, shape: tuple[int, ...], axis: int, sizes: tuple[int, ...]) -> Any:
    """The entries of ``g`` that argument ``i`` of a concatenation brought."""
    start = sum(sizes[:i])
    return g[(*(slice(None),) * (axis % len(shape)), slice(start, start + sizes[i]), ...)]


concat = Linear(
    name="concat",
    forward=lambda xp, *parts, axis, sizes: xp.concat(parts, axis=axis),
    transposes=_part,
    formula=r"[x_1, x_2, \dots]",
    derivative=("1", "1"),
    torch="torch.cat",
    cases=(
        Case(((3, 4), (2, 4)), {"axis": 0, "sizes": (3, 2)}),
        Case(((3, 1), (3, 0), (3, 4)), {"axis": -1, "sizes": (1, 0, 4)}),
    ),
    arguments=2,
    keeps=lambda params: ((),) * len(params["sizes"]),
    dtypes="promote",
    fresh=True,
    fits="tensors of one shape, except along the axis that joins them",
)

flip = Linear(
    name="flip",
    forward=lambda xp, x, axes: xp.flip(x, axis=axes),
    transposes=(lambda xp, g, shape, axes: xp.flip(g, axis=axes),),
    formula=r"x_{n - 1 - i}",
    derivative=("1",),
    torch="torch.flip",
    cases=(Case(((3, 4),), {"axes": (0,)}), Case(((2, 3, 4),), {"axes": (0, -1)})),
    arguments=1,
    keeps=((),),
    fresh=True,
    fits="axes of the tensor, from -ndim to ndim - 1, each once",
)

roll = Linear(
    name="roll",
    forward=lambda xp, x, shifts, axes: xp.roll(x, shifts, axis=axes),
    transposes=(lambda xp, g, shape, shifts, axes: xp.roll(g, tuple(-s for s in shifts), axis=axes),),
    formula=r"x_{(i - s) \bmod n}",
    derivative=("1",),
    torch="torch.roll",
    cases=(
        Case(((3, 4),), {"shifts": (1,), "axes": (0,)}),
        Case(((3, 4),), {"shifts": (-2, 5), "axes": (0, 1)}),
    ),
    arguments=1,
    keeps=((),),
    fresh=True,
    fits="one shift for each axis, and axes of the tensor",
)


def _lay_diagonal(xp: Any, x: Any, offset: int, shape: tuple[int, ...]) -> Any:
    """Zeros of ``shape`` with ``x`` on the diagonal of the last two axes."""
    rows, columns = shape[-2:]
    before = min(max(offset, 0), columns)
    # On the diagonal, column j holds entry j − offset: a row of x with zeros before and after.
    sizes = (before, columns - before - x.shape[-1])
    left, right = (xp.zeros((*x.shape[:-1], n), dtype=x.dtype) for n in sizes)
    row = xp.concat((left, x, right), axis=-1)
    on = xp.eye(rows, columns, k=offset, dtype=xp.bool)
    return select(xp, on, xp.broadcast_to(xp.reshape(row, (*row.shape[:-1], 1, row.shape[-1])), shape))


diagonal = Linear(
    name="diagonal",
    forward=lambda xp, x, offset: xp.linalg.diagonal(x, offset=offset),
    transposes=(lambda xp, g, shape, offset: _lay_diagonal(xp, g, offset, shape),),
    formula=r"x_{ii}",
    derivative=("1",),
    torch="",
    cases=(
        Case(((3, 4),), {"offset": 0}),
        Case(((3, 4),), {"offset": -1}),
        Case(((2, 4, 3),), {"offset": 1}),
        Case(((2, 2),), {"offset": 2}),
    ),
    arguments=1,
    keeps=((),),
    view=True,
    fits="a tensor of at least two axes",
)

diag_embed = Linear(
    name="diag_embed",
    forward=lambda xp, x, offset, shape: _lay_diagonal(xp, x, offset, shape),
    transposes=(lambda xp, g, before, offset, shape: xp.linalg.diagonal(g, offset=offset),),
    formula=r"\mathrm{diag}(x)",
    derivative=("1",),
    torch="",
    cases=(
        Case(((3,),), {"offset": 0, "shape": (3, 3)}),
        Case(((2, 3),), {"offset": -1, "shape": (2, 4, 4)}),
        Case(((3,),), {"offset": 2, "shape": (5, 5)}),
    ),
    arguments=1,
    keeps=((),),
    fresh=True,
)


def _triangle(name: str, formula: str) -> Linear:
    return Linear(
        name=name,
        forward=lambda xp, x, k=0: getattr(xp, name)(x, k=k),
        transposes=(lambda xp, g, shape, k=0: getattr(xp, name)(g, k=k),),
        formula=formula,
        derivative=(formula.replace("x_{ij} ", ""),),
        torch=f"torch.{name}",
        cases=(Case(((3, 4),)), Case(((2, 4, 3),), {"k": 1}), Case(((3, 3),), {"k": -1})),
        arguments=1,
        keeps=((),),
        fresh=True,
        fits="a tensor of at least two axes",
    )


tril = _triangle("tril", r"x_{ij} \mathbf{1}[j \le i + k]")
triu = _triangle("triu", r"x_{ij} \mathbf{1}[j \ge i + k]")

OPS = (reshape, permute, broadcast_to, cast, clone, concat, flip, roll, diagonal, diag_embed, tril, triu)
