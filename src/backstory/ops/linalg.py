"""Matrix products. ``matmul`` takes at least two axes on both sides; ``linear`` is x Wᵀ + b."""

from __future__ import annotations

from typing import Any

from backstory.ops.record import Bilinear, Case, General

__all__ = ["OPS"]

matmul = Bilinear(
    name="matmul",
    forward=lambda xp, x, y: xp.matmul(x, y),
    transposes=(
        lambda xp, g, y: xp.matmul(g, xp.matrix_transpose(y)),
        lambda xp, g, x: xp.matmul(xp.matrix_transpose(x), g),
    ),
    formula=r"X Y",
    derivative=(r"G\,Y^{\top}", r"X^{\top} G"),
    letters=("X", "Y"),
    torch="torch.matmul",
    cases=(
        Case(((3, 4), (4, 2))),
        Case(((2, 3, 4), (4, 5))),
        Case(((2, 1, 3, 4), (5, 4, 2))),
        Case(((0, 4), (4, 2))),
        Case(((3, 0), (0, 2))),
    ),
    arguments=2,
    keeps=((1,), (0,)),
    dtypes="same",
    fits="the last axis of the first as long as the last but one of the second: x @ w.T?",
)


def _linear(xp: Any, x: Any, weight: Any, bias: Any = None) -> Any:
    product = xp.matmul(x, xp.matrix_transpose(weight))
    return product if bias is None else product + bias


def _rows(xp: Any, x: Any) -> Any:
    """All leading axes folded into one: (…, features) → (N, features)."""
    if len(x.shape) == 2:
        return x
    count = 1
    for n in x.shape[:-1]:
        count *= n
    return xp.reshape(x, (count, x.shape[-1]))


def _linear_tangent(xp: Any, tangents: Any, ans: Any, x: Any, weight: Any, bias: Any = None) -> Any:
    tx, tw, tb = (*tangents, None)[:3]
    total = xp.zeros_like(ans)
    if tx is not None:
        total = total + _linear(xp, tx, weight)
    if tw is not None:
        total = total + _linear(xp, x, tw)
    return total if tb is None else total + tb


linear = General(
    name="linear",
    forward=_linear,
    vjps=(
        lambda xp, g, ans, x, weight, bias=None: xp.matmul(g, weight),
        lambda xp, g, ans, x, weight, bias=None: xp.matmul(xp.matrix_transpose(_rows(xp, g)), _rows(xp, x)),
        lambda xp, g, ans, x, weight, bias=None: xp.sum(_rows(xp, g), axis=0),
    ),
    tangent=_linear_tangent,
    formula=r"x W^{\top} + b",
    derivative=(r"G\,W", r"G^{\top} x", r"\sum_n G_n"),
    letters=("x", "W", "b"),
    torch="torch.nn.functional.linear",
    cases=(
        Case(((5, 3), (4, 3), (4,))),
        Case(((5, 3), (4, 3))),
        Case(((2, 5, 3), (4, 3), (4,))),
        Case(((3,), (4, 3), (4,))),
        Case(((0, 3), (4, 3), (4,))),
    ),
    arguments=3,
    keeps=((1,), (0,), ()),
    dtypes="same",
    fits="x with as many features on its last axis as the layer has in_features",
)


inv = General(
    name="inv",
    forward=lambda xp, a: xp.linalg.inv(a),
    vjps=(
        lambda xp, g, ans, a: -xp.matmul(xp.matmul(xp.matrix_transpose(ans), g), xp.matrix_transpose(ans)),
    ),
    tangent=lambda xp, tangents, ans, a: -xp.matmul(xp.matmul(ans, tangents[0]), ans),
    formula=r"A^{-1}",
    derivative=(r"-A^{-\top} G A^{-\top}",),
    letters=("A",),
    torch="torch.linalg.inv",
    cases=(Case(((3, 3),)), Case(((2, 3, 3),)), Case(((0, 0),))),
    arguments=1,
    keeps=((),),
    keeps_ans=True,
    fits="square matrices on the last two axes, none of them singular",
)


def _solve_tangent(xp: Any, tangents: Any, ans: Any, a: Any, b: Any) -> Any:
    ta, tb = tangents
    right = xp.zeros_like(ans) if tb is None else tb + xp.zeros_like(ans)
    return xp.linalg.solve(a, right if ta is None else right - xp.matmul(ta, ans))


def _solved(xp: Any, g: Any, a: Any) -> Any:
    """A⁻ᵀ G, the cotangent of the right side."""
    return xp.linalg.solve(xp.matrix_transpose(a), g)


solve = General(
    name="solve",
    forward=lambda xp, a, b: xp.linalg.solve(a, b),
    vjps=(
        lambda xp, g, ans, a, b: -xp.matmul(_solved(xp, g, a), xp.matrix_transpose(ans)),
        lambda xp, g, ans, a, b: _solved(xp, g, a),
    ),
    tangent=_solve_tangent,
    formula=r"A^{-1} B",
    derivative=(r"-A^{-\top} G\, X^{\top}", r"A^{-\top} G"),
    letters=("A", "B"),
    torch="torch.linalg.solve",
    cases=(Case(((3, 3), (3, 2))), Case(((2, 3, 3), (3, 1))), Case(((3, 3), (2, 3, 2)))),
    arguments=2,
    keeps=((0,), (0,)),
    keeps_ans=True,
    dtypes="same",
    fits="square matrices, none of them singular, and right sides with as many rows",
)

OPS = (matmul, linear, inv, solve)
