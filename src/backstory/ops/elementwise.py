"""Elementwise operations: arithmetic, exponentials, the ReLU family, comparisons."""

from __future__ import annotations

import math
from typing import Any

from backstory.ops.record import Bilinear, Case, Elementwise, Linear, elementwise_cases

__all__ = ["OPS"]

BOTH = ((0, 1), (0, 1))


def _array(xp: Any, value: Any, like: Any) -> Any:
    """``value`` as an array: a Python scalar takes the dtype of ``like``."""
    if isinstance(value, (int, float)):
        return xp.full_like(like, value)
    return value


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
    x = _array(xp, x, ans)
    return xp.where(y == 0, xp.zeros_like(ans), y * x ** xp.where(y == 0, xp.ones_like(y), y - 1))


def _pow_exponent(xp: Any, ans: Any, x: Any, y: Any) -> Any:
    """x^y·log x, and 0 where x is 0 and y ≥ 0."""
    x = _array(xp, x, ans)
    zero = (x == 0) & (_array(xp, y, ans) >= 0)
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

exp = Elementwise(
    name="exp",
    forward=lambda xp, x: xp.exp(x),
    partials=(lambda xp, ans, x: ans,),
    formula=r"e^{x}",
    derivative=(r"e^{x}",),
    torch="torch.exp",
    cases=elementwise_cases(1),
    arguments=1,
    keeps=((),),
    keeps_ans=True,
    dtypes="float",
)

log = Elementwise(
    name="log",
    forward=lambda xp, x: xp.log(x),
    partials=(lambda xp, ans, x: 1.0 / x,),
    formula=r"\ln x",
    derivative=(r"\frac{1}{x}",),
    torch="torch.log",
    cases=elementwise_cases(1, 0.5, 2.0),
    arguments=1,
    keeps=((0,),),
    dtypes="float",
)

sqrt = Elementwise(
    name="sqrt",
    forward=lambda xp, x: xp.sqrt(x),
    partials=(lambda xp, ans, x: 0.5 / ans,),
    formula=r"\sqrt{x}",
    derivative=(r"\frac{1}{2\sqrt{x}}",),
    torch="torch.sqrt",
    cases=elementwise_cases(1, 0.5, 2.0),
    arguments=1,
    keeps=((),),
    keeps_ans=True,
    dtypes="float",
)

tanh = Elementwise(
    name="tanh",
    forward=lambda xp, x: xp.tanh(x),
    partials=(lambda xp, ans, x: 1.0 - ans * ans,),
    formula=r"\tanh x",
    derivative=(r"1 - \tanh^2 x",),
    torch="torch.tanh",
    cases=elementwise_cases(1),
    arguments=1,
    keeps=((),),
    keeps_ans=True,
    dtypes="float",
)


sigmoid = Elementwise(
    name="sigmoid",
    forward=lambda xp, x: 1.0 / (1.0 + xp.exp(-x)),
    partials=(lambda xp, ans, x: ans * (1.0 - ans),),
    formula=r"\sigma(x) = \frac{1}{1 + e^{-x}}",
    derivative=(r"\sigma(x)\,(1 - \sigma(x))",),
    torch="torch.sigmoid",
    cases=elementwise_cases(1),
    arguments=1,
    keeps=((),),
    keeps_ans=True,
    dtypes="float",
)


def _relu_gate(xp: Any, ans: Any, x: Any, at_zero: float = 0.0) -> Any:
    """Open (1) or closed (0); at exactly 0 as chosen. NaN passes, as in PyTorch."""
    if at_zero == 0.0:
        return ~(ans <= 0)
    if at_zero == 1.0:
        return ~(x < 0)
    open_ = xp.astype(~(x < 0), x.dtype)
    return xp.where(x == 0, xp.full_like(x, at_zero), open_)


relu = Elementwise(
    name="relu",
    forward=lambda xp, x, at_zero=0.0: xp.maximum(x, 0),
    partials=(_relu_gate,),
    formula=r"\max(x, 0)",
    derivative=(r"\mathbf{1}[x > 0]",),
    torch="torch.relu",
    cases=elementwise_cases(1),
    arguments=1,
    keeps=lambda params: ((0,),) if params.get("at_zero") else ((),),
    keeps_ans=True,
    gates=True,
)

leaky_relu = Elementwise(
    name="leaky_relu",
    forward=lambda xp, x, negative_slope=0.01: xp.where(x > 0, x, negative_slope * x),
    partials=(
        lambda xp, ans, x, negative_slope=0.01: xp.where(
            x > 0, xp.ones_like(x), xp.full_like(x, negative_slope)
        ),
    ),
    formula=r"\max(x, 0) + \alpha \min(x, 0)",
    derivative=(r"1 \text{ if } x > 0 \text{ else } \alpha",),
    torch="torch.nn.functional.leaky_relu",
    cases=(*elementwise_cases(1), Case(((3, 4),), {"negative_slope": 0.2})),
    arguments=1,
    keeps=((0,),),
    gates=True,
)


def _larger_share(xp: Any, x: Any, y: Any, ans: Any) -> Any:
    """0 where x < y, ½ where they are equal, else 1, also beside a NaN; PyTorch's shares of a maximum."""
    x, y = _array(xp, x, ans), _array(xp, y, ans)
    half = xp.full_like(ans, 0.5)
    one, zero = xp.ones_like(ans), xp.zeros_like(ans)
    return xp.where(x == y, half, xp.where(x < y, zero, one))


maximum = Elementwise(
    name="maximum",
    forward=lambda xp, x, y: xp.maximum(x, y),
    partials=(
        lambda xp, ans, x, y: _larger_share(xp, x, y, ans),
        lambda xp, ans, x, y: _larger_share(xp, y, x, ans),
    ),
    formula=r"\max(x, y)",
    derivative=(
        r"\mathbf{1}[x > y] + \tfrac12 \mathbf{1}[x = y]",
        r"\mathbf{1}[y > x] + \tfrac12 \mathbf{1}[x = y]",
    ),
    torch="torch.maximum",
    cases=elementwise_cases(2),
    arguments=2,
    keeps=BOTH,
    keeps_ans=True,
    dtypes="promote",
)

where = Elementwise(
    name="where",
    forward=lambda xp, condition, x, y: xp.where(condition, x, y),
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


def _constant(name: str, formula: str, forward: Any, arguments: int = 2) -> Elementwise:
    """A comparison or logical operation: piecewise constant, so nothing is recorded for it."""
    return Elementwise(
        name=name,
        forward=forward,
        partials=(),
        formula=formula,
        derivative=("0",) * arguments,
        torch=f"torch.{name}",
        cases=elementwise_cases(arguments),
        arguments=arguments,
        keeps=((),) * arguments,
        dtypes="promote",
        differentiable=False,
    )


def _truth(xp: Any, x: Any) -> Any:
    return x if x.dtype == xp.bool else x != 0


OPS = (
    add,
    sub,
    mul,
    div,
    neg,
    pow_,
    exp,
    log,
    sqrt,
    tanh,
    sigmoid,
    relu,
    leaky_relu,
    maximum,
    where,
    _constant("gt", r"x > y", lambda xp, x, y: x > y),
    _constant("ge", r"x \ge y", lambda xp, x, y: x >= y),
    _constant("lt", r"x < y", lambda xp, x, y: x < y),
    _constant("le", r"x \le y", lambda xp, x, y: x <= y),
    _constant("eq", r"x = y", lambda xp, x, y: x == y),
    _constant("ne", r"x \ne y", lambda xp, x, y: x != y),
    _constant("logical_not", r"\neg x", lambda xp, x: xp.logical_not(_truth(xp, x)), arguments=1),
    _constant("logical_and", r"x \wedge y", lambda xp, x, y: _truth(xp, x) & _truth(xp, y)),
    _constant("logical_or", r"x \vee y", lambda xp, x, y: _truth(xp, x) | _truth(xp, y)),
)
