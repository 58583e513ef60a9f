"""Arithmetic, and the functions that move in steps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from backstory.arrays import fmod
from backstory.errors import ArgumentError
from backstory.ops.kinds import as_array, function, steps
from backstory.ops.record import Bilinear, Case, Elementwise, Linear, Rule, elementwise_cases

__all__ = ["OPS", "sign"]

BOTH = ((0, 1), (0, 1))
add = Linear(
    name="add",
    forward=lambda xp, x, y: x + y,
    transposes=(lambda xp, g, shape: g, lambda xp, g, shape: g),
    formula=r"x + y",
    derivative=("1", "1"),
    torch="torch.add",
    cases=elementwise_cases(2),
    arguments=2,
    keeps=((), ()),
    dtypes="promote",
)

sub = Linear(
    name="sub",
    forward=lambda xp, x, y: x - y,
    transposes=(lambda xp, g, shape: g, lambda xp, g, shape: -g),
    formula=r"x - y",
    derivative=("1", "-1"),
    torch="torch.sub",
    cases=elementwise_cases(2),
    arguments=2,
    keeps=((), ()),
    dtypes="promote",
)

mul = Bilinear(
    name="mul",
    forward=lambda xp, x, y: x * y,
    transposes=(lambda xp, g, y: g * y, lambda xp, g, x: g * x),
    formula=r"x y",
    derivative=("y", "x"),
    torch="torch.mul",
    cases=elementwise_cases(2),
    arguments=2,
    keeps=((1,), (0,)),
    dtypes="promote",
)


def _reciprocal(y: Any) -> Any:
    """1/y; of a Python 0 the infinity that an array gives, not Python's ZeroDivisionError."""
    return math.copysign(math.inf, y) if isinstance(y, (int, float)) and y == 0 else 1.0 / y


div = Elementwise(
    name="div",
    forward=lambda xp, x, y: x / y,
    partials=(lambda xp, ans, x, y: _reciprocal(y), lambda xp, ans, x, y: -x / y / y),
    formula=r"\frac{x}{y}",
    derivative=(r"\frac{1}{y}", r"-\frac{x}{y^2}"),
    torch="torch.div",
    cases=elementwise_cases(2, 0.5, 2.0),
    arguments=2,
    keeps=((1,), (0, 1)),
    dtypes="float",
)

neg = Linear(
    name="neg",
    forward=lambda xp, x: -x,
    transposes=(lambda xp, g, shape: -g,),
    formula=r"-x",
    derivative=("-1",),
    torch="torch.neg",
    cases=elementwise_cases(1),
    arguments=1,
    keeps=((),),
    fresh=True,
)


def _pow_base(xp: Any, ans: Any, x: Any, y: Any) -> Any:
    """y·x^(y−1), and 0 where y is 0, also at x = 0."""
    if isinstance(y, (int, float)):
        return xp.zeros_like(ans) if y == 0 else y * x ** (y - 1)
    x = as_array(xp, x, ans)
    return xp.where(y == 0, xp.zeros_like(ans), y * x ** xp.where(y == 0, xp.ones_like(y), y - 1))


def _pow_exponent(xp: Any, ans: Any, x: Any, y: Any) -> Any:
    """x^y·log x, and 0 where x is 0 and y ≥ 0."""
    x = as_array(xp, x, ans)
    zero = (x == 0) & (as_array(xp, y, ans) >= 0)
    safe = xp.where(zero, xp.ones_like(x), x)
    return xp.where(zero, xp.zeros_like(ans), ans * xp.log(safe))


pow_ = Elementwise(
    name="pow",
    forward=lambda xp, x, y: x**y,
    partials=(_pow_base, _pow_exponent),
    formula=r"x^{y}",
    derivative=(r"y x^{y-1}", r"x^{y} \ln x"),
    torch="torch.pow",
    cases=elementwise_cases(2, 0.5, 2.0),
    arguments=2,
    keeps=BOTH,
    keeps_ans=True,
    dtypes="promote",
    fits="shapes that broadcast, and a float base for a negative exponent: x.float() ** -1",
)


def sign(xp: Any, x: Any) -> Any:
    """−1, 0 or 1; of NaN 0, as in PyTorch."""
    if x.dtype == xp.bool:
        return xp.asarray(x, copy=True)
    return xp.astype(x > 0, x.dtype) - xp.astype(x < 0, x.dtype)


abs_ = function(
    "abs", r"|x|", r"\mathrm{sign}(x)", lambda xp, x: xp.abs(x), lambda xp, ans, x: sign(xp, x), dtypes="free"
)

rsqrt = function(
    "rsqrt",
    r"\frac{1}{\sqrt{x}}",
    r"-\frac{1}{2 x \sqrt{x}}",
    lambda xp, x: 1.0 / xp.sqrt(x),
    lambda xp, ans, x: -0.5 * ans * ans * ans,
    of_ans=True,
    between=(0.5, 2.0),
)

reciprocal = function(
    "reciprocal",
    r"\frac{1}{x}",
    r"-\frac{1}{x^2}",
    lambda xp, x: 1.0 / x,
    lambda xp, ans, x: -ans * ans,
    of_ans=True,
    between=(0.5, 2.0),
)


def _divided(name: str, rule: Rule) -> Rule:
    """The forward rule ``rule``, which refuses integers by zero: no integer is infinite."""

    def refuse(zero: Any) -> None:
        raise ArgumentError(
            f"{name} received integers and a divisor of 0",
            why="no integer is infinite or NaN",
            instead="x.to(float) first, or a divisor without zeros",
        )

    def forward(xp: Any, x: Any, y: Any) -> Any:
        # Namespaces that assume nothing end in one that does, or have no values to look at.
        assume = getattr(xp, "assume", None)
        if assume is not None and np.size(x) and not (_is_float(x) or _is_float(y)):
            if hasattr(y, "dtype"):
                assume(y == 0, 0, 0, refuse)
            elif isinstance(y, int) and y == 0:
                refuse(y)
        return rule(xp, x, y)

    return forward


def _is_float(value: Any) -> bool:
    return value.dtype.kind == "f" if hasattr(value, "dtype") else isinstance(value, float)


fmod_ = Elementwise(
    name="fmod",
    forward=_divided("fmod", fmod),
    partials=(
        lambda xp, ans, x, y: 1.0,
        lambda xp, ans, x, y: -xp.trunc(as_array(xp, x, ans) / y),
    ),
    formula=r"x - y\,\mathrm{trunc}(x / y)",
    derivative=("1", r"-\mathrm{trunc}(x / y)"),
    torch="torch.fmod",
    cases=elementwise_cases(2, 0.5, 2.0),
    arguments=2,
    keeps=((), (0, 1)),
    keeps_ans=True,
    dtypes="promote",
)

remainder = Elementwise(
    name="remainder",
    forward=_divided("remainder", lambda xp, x, y: xp.remainder(x, y)),
    partials=(
        lambda xp, ans, x, y: 1.0,
        lambda xp, ans, x, y: -(as_array(xp, x, ans) // y),
    ),
    formula=r"x - y \lfloor x / y \rfloor",
    derivative=("1", r"-\lfloor x / y \rfloor"),
    torch="torch.remainder",
    cases=elementwise_cases(2, 0.5, 2.0),
    arguments=2,
    keeps=((), (0, 1)),
    keeps_ans=True,
    dtypes="promote",
)

hypot = Elementwise(
    name="hypot",
    forward=lambda xp, x, y: xp.hypot(x, y),
    partials=(lambda xp, ans, x, y: x / ans, lambda xp, ans, x, y: y / ans),
    formula=r"\sqrt{x^2 + y^2}",
    derivative=(r"\frac{x}{\sqrt{x^2 + y^2}}", r"\frac{y}{\sqrt{x^2 + y^2}}"),
    torch="torch.hypot",
    cases=elementwise_cases(2, 0.5, 2.0),
    arguments=2,
    keeps=((0,), (1,)),
    keeps_ans=True,
    dtypes="float",
)


def _lerp(xp: Any, start: Any, end: Any, weight: Any) -> Any:
    """From the nearer end, so that both ends are met exactly."""
    way = end - start
    near, far = start + weight * way, end - way * (1 - weight)
    if isinstance(weight, (int, float)):
        return near if abs(weight) < 0.5 else far
    return xp.where(xp.abs(weight) < 0.5, near, far)


lerp = Elementwise(
    name="lerp",
    forward=_lerp,
    partials=(
        lambda xp, ans, start, end, weight: 1 - weight,
        lambda xp, ans, start, end, weight: weight,
        lambda xp, ans, start, end, weight: end - start,
    ),
    formula=r"x + w (y - x)",
    derivative=("1 - w", "w", "y - x"),
    letters=("x", "y", "w"),
    torch="torch.lerp",
    cases=(Case(((3, 4),) * 3), Case(((3, 4), (4,), ())), Case(((), (3, 1), (4,)))),
    arguments=3,
    keeps=((2,), (2,), (0, 1)),
    dtypes="float",
)


def _round(xp: Any, x: Any, decimals: int = 0) -> Any:
    """To the nearest, of two equally near to the even one."""
    if decimals == 0:
        return xp.round(x)
    scale = 10.0 ** abs(decimals)
    return xp.round(x * scale) / scale if decimals > 0 else xp.round(x / scale) * scale


OPS = (
    add,
    sub,
    mul,
    div,
    neg,
    pow_,
    abs_,
    rsqrt,
    reciprocal,
    fmod_,
    remainder,
    hypot,
    lerp,
    steps("sign", r"\mathrm{sign}(x)", sign),
    steps("floor", r"\lfloor x \rfloor", lambda xp, x: xp.floor(x)),
    steps("ceil", r"\lceil x \rceil", lambda xp, x: xp.ceil(x)),
    steps("round", r"\mathrm{round}(x)", _round),
    steps("trunc", r"\mathrm{trunc}(x)", lambda xp, x: xp.trunc(x)),
    steps(
        "floor_divide",
        r"\lfloor x / y \rfloor",
        _divided("floor_divide", lambda xp, x, y: x // y),
        arguments=2,
        between=(0.5, 2.0),
    ),
)
