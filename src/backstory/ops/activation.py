"""The functions that bend: relu and its family, and the squashing ones."""

from __future__ import annotations

from typing import Any

from backstory.ops.record import Case, Elementwise, elementwise_cases

__all__ = ["OPS"]

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


def _sigmoid(xp: Any, x: Any) -> Any:
    return 1.0 / (1.0 + xp.exp(-x))


def _softplus(xp: Any, x: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """x itself above the threshold, where the two differ by less than can be told."""
    scaled = beta * x
    low = xp.where(scaled > threshold, xp.zeros_like(x), scaled)
    return xp.where(scaled > threshold, x, xp.log1p(xp.exp(low)) / beta)


def _softplus_partial(xp: Any, ans: Any, x: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    scaled = beta * x
    return xp.where(scaled > threshold, xp.ones_like(x), _sigmoid(xp, scaled))


softplus = Elementwise(
    name="softplus",
    forward=_softplus,
    partials=(_softplus_partial,),
    formula=r"\frac{1}{\beta} \ln(1 + e^{\beta x})",
    derivative=(r"\sigma(\beta x)",),
    torch="torch.nn.functional.softplus",
    cases=(*elementwise_cases(1), Case(((3, 4),), {"beta": 2.0, "threshold": 1.0})),
    arguments=1,
    keeps=((0,),),
    dtypes="floats",
)

logsigmoid = Elementwise(
    name="logsigmoid",
    forward=lambda xp, x: xp.minimum(x, 0) - xp.log1p(xp.exp(-xp.abs(x))),
    partials=(lambda xp, ans, x: _sigmoid(xp, -x),),
    formula=r"\ln \sigma(x)",
    derivative=(r"\sigma(-x)",),
    torch="torch.nn.functional.logsigmoid",
    cases=elementwise_cases(1),
    arguments=1,
    keeps=((0,),),
    dtypes="floats",
)

OPS = (sigmoid, relu, leaky_relu, softplus, logsigmoid)
