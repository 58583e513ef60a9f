"""The larger and the smaller of two, choosing by a condition, comparisons and truth."""

from __future__ import annotations

from typing import Any

from backstory.arrays import select
from backstory.ops.kinds import as_array, comparison
from backstory.ops.record import Case, Elementwise, elementwise_cases

__all__ = ["OPS"]


def _larger_share(xp: Any, x: Any, y: Any, ans: Any) -> Any:
    """0 where x < y, ½ where they are equal, else 1, also beside a NaN; PyTorch's shares of a maximum."""
    x, y = as_array(xp, x, ans), as_array(xp, y, ans)
    half = xp.full_like(ans, 0.5)
    one, zero = xp.ones_like(ans), xp.zeros_like(ans)
    return xp.where(x == y, half, xp.where(x < y, zero, one))


def _extreme(name: str, sign: str, forward: Any, share: Any) -> Elementwise:
    """``maximum`` or ``minimum``: the gradient goes to the one chosen, and half to each of equals."""
    return Elementwise(
        name=name,
        forward=forward,
        partials=(
            lambda xp, ans, x, y: share(xp, x, y, ans),
            lambda xp, ans, x, y: share(xp, y, x, ans),
        ),
        formula=rf"\{name[:3]}(x, y)",
        derivative=(
            rf"\mathbf{{1}}[x {sign} y] + \tfrac12 \mathbf{{1}}[x = y]",
            rf"\mathbf{{1}}[y {sign} x] + \tfrac12 \mathbf{{1}}[x = y]",
        ),
        torch=f"torch.{name}",
        cases=elementwise_cases(2),
        arguments=2,
        keeps=((0, 1), (0, 1)),
        keeps_ans=True,
        dtypes="promote",
    )


maximum = _extreme("maximum", ">", lambda xp, x, y: xp.maximum(x, y), _larger_share)
minimum = _extreme(
    "minimum", "<", lambda xp, x, y: xp.minimum(x, y), lambda xp, x, y, ans: _larger_share(xp, -x, -y, ans)
)


def _clamp(xp: Any, x: Any, low: Any, high: Any) -> Any:
    if low is not None:
        x = xp.maximum(x, low)
    return x if high is None else xp.minimum(x, high)


def _unclamped(xp: Any, ans: Any, x: Any, low: Any, high: Any) -> Any:
    """Open from edge to edge, both included."""
    if high is None:
        return x >= low
    return x <= high if low is None else (x >= low) & (x <= high)


def _raised(xp: Any, ans: Any, x: Any, low: Any, high: Any) -> Any:
    return x < low if high is None else (x < low) & (low < high)


def _lowered(xp: Any, ans: Any, x: Any, low: Any, high: Any) -> Any:
    return x > high if low is None else (x > high) | (low > high)


clamp = Elementwise(
    name="clamp",
    forward=_clamp,
    partials=(_unclamped, _raised, _lowered),
    formula=r"\min(\max(x, a), b)",
    derivative=(r"\mathbf{1}[a \le x \le b]", r"\mathbf{1}[x < a < b]", r"\mathbf{1}[x > b \vee a > b]"),
    letters=("x", "a", "b"),
    torch="torch.clamp",
    cases=(Case(((3, 4),) * 3), Case(((3, 4), (), (4,))), Case(((0, 3),) * 3)),
    arguments=3,
    keeps=((0, 1, 2),) * 3,
    dtypes="promote",
    # As a relu: what stops at 0 below.
    gating=lambda args: isinstance(args[1], (int, float)) and args[1] == 0,
)


def _where(xp: Any, condition: Any, x: Any, y: Any) -> Any:
    """x where the condition holds, else y; a y of 0 is what a gate leaves."""
    gated = y.__class__ is int and y == 0 and not isinstance(x, (int, float))
    return select(xp, condition, x) if gated else xp.where(condition, x, y)


where = Elementwise(
    name="where",
    forward=_where,
    partials=(
        lambda xp, ans, condition, x, y: xp.zeros_like(ans),
        lambda xp, ans, condition, x, y: condition,
        lambda xp, ans, condition, x, y: ~condition,
    ),
    formula=r"x \text{ where } c \text{ else } y",
    derivative=("0", r"\mathbf{1}[c]", r"\mathbf{1}[\neg c]"),
    letters=("c", "x", "y"),
    torch="torch.where",
    cases=(
        Case(("mask", (3, 4), (3, 4))),
        Case(("mask", (3, 4), (4,))),
        Case(("mask", (), (3, 1))),
    ),
    arguments=3,
    keeps=((), (0,), (0,)),
    dtypes="choice",
)


def _truth(xp: Any, x: Any) -> Any:
    return x if isinstance(x, bool) or getattr(x, "dtype", None) == xp.bool else x != 0


OPS = (
    maximum,
    minimum,
    clamp,
    where,
    comparison("gt", r"x > y", lambda xp, x, y: x > y),
    comparison("ge", r"x \ge y", lambda xp, x, y: x >= y),
    comparison("lt", r"x < y", lambda xp, x, y: x < y),
    comparison("le", r"x \le y", lambda xp, x, y: x <= y),
    comparison("eq", r"x = y", lambda xp, x, y: x == y),
    comparison("ne", r"x \ne y", lambda xp, x, y: x != y),
    comparison("logical_not", r"\neg x", lambda xp, x: xp.logical_not(_truth(xp, x)), arguments=1),
    comparison("logical_and", r"x \wedge y", lambda xp, x, y: _truth(xp, x) & _truth(xp, y)),
    comparison("logical_or", r"x \vee y", lambda xp, x, y: _truth(xp, x) | _truth(xp, y)),
    comparison("logical_xor", r"x \oplus y", lambda xp, x, y: _truth(xp, x) ^ _truth(xp, y)),
    comparison("isnan", r"x \text{ is NaN}", lambda xp, x: xp.isnan(x), arguments=1),
    comparison("isinf", r"|x| = \infty", lambda xp, x: xp.isinf(x), arguments=1),
    comparison("isfinite", r"|x| < \infty", lambda xp, x: xp.isfinite(x), arguments=1),
)
