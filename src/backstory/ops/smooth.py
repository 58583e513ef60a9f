"""The activations without a corner: the squashing ones, and relu rounded off."""

from __future__ import annotations

import math
from typing import Any

from backstory.arrays import erf
from backstory.ops.kinds import activation, sigmoid
from backstory.ops.record import Case, Elementwise, elementwise_cases

__all__ = ["OPS"]

# PyTorch's constants, of Klambauer et al. 2017 (arXiv:1706.02515).
SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946

logistic = Elementwise(
    name="sigmoid",
    forward=sigmoid,
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


def _softplus(xp: Any, x: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """x itself above the threshold, where the two differ by less than can be told."""
    scaled = beta * x
    low = xp.where(scaled > threshold, xp.zeros_like(x), scaled)
    return xp.where(scaled > threshold, x, xp.log1p(xp.exp(low)) / beta)


def _softplus_partial(xp: Any, ans: Any, x: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    scaled = beta * x
    return xp.where(scaled > threshold, xp.ones_like(x), sigmoid(xp, scaled))


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
    gates=True,
)

logsigmoid = activation(
    "logsigmoid",
    r"\ln \sigma(x)",
    r"\sigma(-x)",
    lambda xp, x: xp.minimum(x, 0) - xp.log1p(xp.exp(-xp.abs(x))),
    lambda xp, ans, x: sigmoid(xp, -x),
    gates=False,
)

softsign = activation(
    "softsign",
    r"\frac{x}{1 + |x|}",
    r"\frac{1}{(1 + |x|)^2}",
    lambda xp, x: x / (1.0 + xp.abs(x)),
    lambda xp, ans, x: (1.0 / (1.0 + xp.abs(x))) ** 2,
    gates=False,
    dtypes="float",
)


def _below_zero(xp: Any, x: Any) -> Any:
    """``x`` where it is negative, and 0 elsewhere: so that no exponential overflows."""
    return xp.where(x <= 0, x, xp.zeros_like(x))


def _exponential(xp: Any, x: Any, alpha: float, scale: float, rate: float) -> Any:
    return xp.where(x <= 0, xp.expm1(rate * _below_zero(xp, x)) * (alpha * scale), scale * x)


def _exponential_partial(xp: Any, x: Any, alpha: float, scale: float, rate: float) -> Any:
    low = xp.exp(rate * _below_zero(xp, x)) * (alpha * scale * rate)
    return xp.where(x <= 0, low, xp.full_like(x, scale))


elu = activation(
    "elu",
    r"x \text{ if } x > 0 \text{ else } \alpha (e^{x} - 1)",
    r"1 \text{ if } x > 0 \text{ else } \alpha e^{x}",
    lambda xp, x, alpha=1.0: _exponential(xp, x, alpha, 1.0, 1.0),
    lambda xp, ans, x, alpha=1.0: _exponential_partial(xp, x, alpha, 1.0, 1.0),
    params=({}, {"alpha": 0.5}),
)
selu = activation(
    "selu",
    r"\lambda \left( x \text{ if } x > 0 \text{ else } \alpha (e^{x} - 1) \right)",
    r"\lambda \left( 1 \text{ if } x > 0 \text{ else } \alpha e^{x} \right)",
    lambda xp, x: _exponential(xp, x, SELU_ALPHA, SELU_SCALE, 1.0),
    lambda xp, ans, x: _exponential_partial(xp, x, SELU_ALPHA, SELU_SCALE, 1.0),
)
celu = activation(
    "celu",
    r"x \text{ if } x > 0 \text{ else } \alpha (e^{x / \alpha} - 1)",
    r"1 \text{ if } x > 0 \text{ else } e^{x / \alpha}",
    lambda xp, x, alpha=1.0: _exponential(xp, x, alpha, 1.0, 1.0 / alpha),
    lambda xp, ans, x, alpha=1.0: _exponential_partial(xp, x, alpha, 1.0, 1.0 / alpha),
    params=({}, {"alpha": 0.5}),
)

CURVE = 0.044715
SLOPE = math.sqrt(2.0 / math.pi)


def _share(xp: Any, x: Any, approximate: str) -> Any:
    """The factor of x: Φ(x), or its approximation by tanh."""
    if approximate == "tanh":
        return 0.5 * (1.0 + xp.tanh(SLOPE * (x + CURVE * x * x * x)))
    return 0.5 * (1.0 + erf(xp, x * math.sqrt(0.5)))


def _gelu_partial(xp: Any, ans: Any, x: Any, approximate: str = "none") -> Any:
    if approximate == "tanh":
        bent = xp.tanh(SLOPE * (x + CURVE * x * x * x))
        rise = SLOPE * (1.0 + 3.0 * CURVE * x * x)
        return 0.5 * (1.0 + bent) + 0.5 * x * (1.0 - bent * bent) * rise
    bell = xp.exp(-0.5 * x * x) * (1.0 / math.sqrt(2.0 * math.pi))
    return _share(xp, x, approximate) + x * bell


gelu = activation(
    "gelu",
    r"x\, \Phi(x)",
    r"\Phi(x) + x\, \varphi(x)",
    lambda xp, x, approximate="none": x * _share(xp, x, approximate),
    _gelu_partial,
    params=({}, {"approximate": "tanh"}),
)


def _silu_partial(xp: Any, ans: Any, x: Any) -> Any:
    share = sigmoid(xp, x)
    return share * (1.0 + x * (1.0 - share))


silu = activation(
    "silu",
    r"x\, \sigma(x)",
    r"\sigma(x) \left( 1 + x (1 - \sigma(x)) \right)",
    lambda xp, x: x / (1.0 + xp.exp(-x)),
    _silu_partial,
)


def _mish_partial(xp: Any, ans: Any, x: Any) -> Any:
    share = xp.tanh(_softplus(xp, x))
    return share + x * (1.0 - share * share) * sigmoid(xp, x)


mish = activation(
    "mish",
    r"x \tanh(\ln(1 + e^{x}))",
    r"t + x (1 - t^2)\, \sigma(x), \; t = \tanh(\ln(1 + e^{x}))",
    lambda xp, x: x * xp.tanh(_softplus(xp, x)),
    _mish_partial,
)

OPS = (logistic, softplus, logsigmoid, softsign, elu, selu, celu, gelu, silu, mish)
