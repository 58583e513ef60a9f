"""Exponentials, logarithms, trigonometric and hyperbolic functions, and the error function."""

from __future__ import annotations

import math
from typing import Any

from backstory.arrays import erf, erfc
from backstory.ops.kinds import as_array, function
from backstory.ops.record import Elementwise, elementwise_cases

__all__ = ["OPS"]

POSITIVE = (0.5, 2.0)
INSIDE = (-0.9, 0.9)
BELL = 2.0 / math.sqrt(math.pi)

EXPONENTIALS = (
    function("exp", r"e^{x}", r"e^{x}", lambda xp, x: xp.exp(x), lambda xp, ans, x: ans, of_ans=True),
    function(
        "expm1", r"e^{x} - 1", r"e^{x}", lambda xp, x: xp.expm1(x), lambda xp, ans, x: ans + 1.0, of_ans=True
    ),
    function(
        "exp2",
        r"2^{x}",
        r"2^{x} \ln 2",
        lambda xp, x: 2.0**x,
        lambda xp, ans, x: ans * math.log(2.0),
        of_ans=True,
    ),
    function(
        "sqrt",
        r"\sqrt{x}",
        r"\frac{1}{2\sqrt{x}}",
        lambda xp, x: xp.sqrt(x),
        lambda xp, ans, x: 0.5 / ans,
        of_ans=True,
        between=POSITIVE,
    ),
    function(
        "log", r"\ln x", r"\frac{1}{x}", lambda xp, x: xp.log(x), lambda xp, ans, x: 1.0 / x, between=POSITIVE
    ),
    function(
        "log1p",
        r"\ln(1 + x)",
        r"\frac{1}{1 + x}",
        lambda xp, x: xp.log1p(x),
        lambda xp, ans, x: 1.0 / (x + 1.0),
        between=POSITIVE,
    ),
    function(
        "log2",
        r"\log_2 x",
        r"\frac{1}{x \ln 2}",
        lambda xp, x: xp.log2(x),
        lambda xp, ans, x: 1.0 / (x * math.log(2.0)),
        between=POSITIVE,
    ),
    function(
        "log10",
        r"\log_{10} x",
        r"\frac{1}{x \ln 10}",
        lambda xp, x: xp.log10(x),
        lambda xp, ans, x: 1.0 / (x * math.log(10.0)),
        between=POSITIVE,
    ),
)

TRIGONOMETRIC = (
    function("sin", r"\sin x", r"\cos x", lambda xp, x: xp.sin(x), lambda xp, ans, x: xp.cos(x)),
    function("cos", r"\cos x", r"-\sin x", lambda xp, x: xp.cos(x), lambda xp, ans, x: -xp.sin(x)),
    function(
        "tan",
        r"\tan x",
        r"1 + \tan^2 x",
        lambda xp, x: xp.tan(x),
        lambda xp, ans, x: 1.0 + ans * ans,
        of_ans=True,
        between=INSIDE,
    ),
    function(
        "asin",
        r"\arcsin x",
        r"\frac{1}{\sqrt{1 - x^2}}",
        lambda xp, x: xp.asin(x),
        lambda xp, ans, x: 1.0 / xp.sqrt(1.0 - x * x),
        between=INSIDE,
    ),
    function(
        "acos",
        r"\arccos x",
        r"-\frac{1}{\sqrt{1 - x^2}}",
        lambda xp, x: xp.acos(x),
        lambda xp, ans, x: -1.0 / xp.sqrt(1.0 - x * x),
        between=INSIDE,
    ),
    function(
        "atan",
        r"\arctan x",
        r"\frac{1}{1 + x^2}",
        lambda xp, x: xp.atan(x),
        lambda xp, ans, x: 1.0 / (1.0 + x * x),
    ),
)

HYPERBOLIC = (
    function("sinh", r"\sinh x", r"\cosh x", lambda xp, x: xp.sinh(x), lambda xp, ans, x: xp.cosh(x)),
    function("cosh", r"\cosh x", r"\sinh x", lambda xp, x: xp.cosh(x), lambda xp, ans, x: xp.sinh(x)),
    function(
        "tanh",
        r"\tanh x",
        r"1 - \tanh^2 x",
        lambda xp, x: xp.tanh(x),
        lambda xp, ans, x: 1.0 - ans * ans,
        of_ans=True,
    ),
    function(
        "asinh",
        r"\mathrm{arsinh}\, x",
        r"\frac{1}{\sqrt{x^2 + 1}}",
        lambda xp, x: xp.asinh(x),
        lambda xp, ans, x: 1.0 / xp.sqrt(x * x + 1.0),
    ),
    function(
        "acosh",
        r"\mathrm{arcosh}\, x",
        r"\frac{1}{\sqrt{x^2 - 1}}",
        lambda xp, x: xp.acosh(x),
        lambda xp, ans, x: 1.0 / xp.sqrt(x * x - 1.0),
        between=(1.5, 3.0),
    ),
    function(
        "atanh",
        r"\mathrm{artanh}\, x",
        r"\frac{1}{1 - x^2}",
        lambda xp, x: xp.atanh(x),
        lambda xp, ans, x: 1.0 / (1.0 - x * x),
        between=INSIDE,
    ),
)

ERROR_FUNCTION = (
    function(
        "erf",
        r"\frac{2}{\sqrt{\pi}} \int_0^x e^{-t^2} dt",
        r"\frac{2}{\sqrt{\pi}} e^{-x^2}",
        lambda xp, x: erf(xp, x),
        lambda xp, ans, x: BELL * xp.exp(-x * x),
    ),
    function(
        "erfc",
        r"1 - \mathrm{erf}(x)",
        r"-\frac{2}{\sqrt{\pi}} e^{-x^2}",
        lambda xp, x: erfc(xp, x),
        lambda xp, ans, x: -BELL * xp.exp(-x * x),
    ),
)


def _angle_share(xp: Any, of: Any, x: Any, y: Any) -> Any:
    """``of`` / (x² + y²), and 0 at the origin, where the angle has no direction to turn."""
    square = x * x + y * y
    origin = square == 0
    return xp.where(origin, xp.zeros_like(square), of / xp.where(origin, xp.ones_like(square), square))


atan2 = Elementwise(
    name="atan2",
    forward=lambda xp, y, x: xp.atan2(y, x),
    partials=(
        lambda xp, ans, y, x: _angle_share(xp, x, as_array(xp, x, ans), y),
        lambda xp, ans, y, x: -_angle_share(xp, y, as_array(xp, x, ans), y),
    ),
    formula=r"\mathrm{atan2}(y, x)",
    derivative=(r"\frac{x}{x^2 + y^2}", r"-\frac{y}{x^2 + y^2}"),
    letters=("y", "x"),
    torch="torch.atan2",
    cases=elementwise_cases(2, 0.5, 2.0),
    arguments=2,
    keeps=((0, 1), (0, 1)),
    keeps_ans=True,
    dtypes="float",
)


def _exponential_share(xp: Any, x: Any, y: Any, ans: Any) -> Any:
    """eˣ / (eˣ + eʸ)"""
    return 1.0 / (1.0 + xp.exp(as_array(xp, y, ans) - x))


logaddexp = Elementwise(
    name="logaddexp",
    forward=lambda xp, x, y: xp.logaddexp(x, y),
    partials=(
        lambda xp, ans, x, y: _exponential_share(xp, x, y, ans),
        lambda xp, ans, x, y: _exponential_share(xp, y, x, ans),
    ),
    formula=r"\ln(e^{x} + e^{y})",
    derivative=(r"\frac{e^{x}}{e^{x} + e^{y}}", r"\frac{e^{y}}{e^{x} + e^{y}}"),
    torch="torch.logaddexp",
    cases=elementwise_cases(2),
    arguments=2,
    keeps=((0, 1), (0, 1)),
    keeps_ans=True,
    dtypes="float",
)

OPS = (*EXPONENTIALS, *TRIGONOMETRIC, *HYPERBOLIC, *ERROR_FUNCTION, atan2, logaddexp)
