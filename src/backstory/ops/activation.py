"""relu and its family: the activations made of straight pieces."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from backstory.ops.kinds import activation
from backstory.ops.record import Case, Elementwise, elementwise_cases

__all__ = ["OPS"]


def _relu_gate(xp: Any, ans: Any, x: Any, at_zero: float = 0.0) -> Any:
    """Open (1) or closed (0); at exactly 0 as chosen. NaN passes, as in PyTorch."""
    if at_zero == 0.0:
        return ~(ans <= 0)
    if at_zero == 1.0:
        return ~(x < 0)
    open_ = xp.astype(~(x < 0), x.dtype)
    return xp.where(x == 0, xp.full_like(x, at_zero), open_)


def _at_zero(params: Mapping[str, Any]) -> tuple[float, ...]:
    return (0.0,)


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
    corners=_at_zero,
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
    corners=_at_zero,
)


def _sloped(name: str) -> Elementwise:
    """``prelu`` and ``rrelu``: the slope below 0 is an argument, learned or drawn."""
    return Elementwise(
        name=name,
        forward=lambda xp, x, slope: xp.where(x > 0, x, slope * x),
        partials=(
            lambda xp, ans, x, slope: xp.where(x > 0, xp.ones_like(x), slope),
            lambda xp, ans, x, slope: xp.where(x > 0, xp.zeros_like(x), x),
        ),
        formula=r"\max(x, 0) + a \min(x, 0)",
        derivative=(r"1 \text{ if } x > 0 \text{ else } a", r"0 \text{ if } x > 0 \text{ else } x"),
        letters=("x", "a"),
        torch="",
        cases=elementwise_cases(2),
        arguments=2,
        keeps=((0, 1), (0,)),
        dtypes="promote",
        gates=True,
        corners=_at_zero,
        fits="one slope, or one for each channel (axis 1)",
    )


def _clipped(xp: Any, x: Any, low: float, high: float) -> Any:
    return xp.minimum(xp.maximum(x, low), high)


def _inside(xp: Any, x: Any, low: float, high: float) -> Any:
    """Open between the edges, both excluded; NaN passes, as in PyTorch."""
    return ~((x <= low) | (x >= high))


def _edges(low: float, high: float) -> Callable[[Mapping[str, Any]], tuple[float, ...]]:
    return lambda params: (params.get("min_val", low), params.get("max_val", high))


relu6 = activation(
    "relu6",
    r"\min(\max(x, 0), 6)",
    r"\mathbf{1}[0 < x < 6]",
    lambda xp, x: _clipped(xp, x, 0, 6),
    lambda xp, ans, x: _inside(xp, x, 0, 6),
    corners=_edges(0.0, 6.0),
    dtypes="promote",
)


def _hardtanh(xp: Any, x: Any, min_val: float = -1.0, max_val: float = 1.0) -> Any:
    """Integers stay integers: their edges are cut to such, as in PyTorch."""
    if xp.isdtype(x.dtype, "real floating"):
        return _clipped(xp, x, min_val, max_val)
    return _clipped(xp, x, int(min_val), int(max_val))


hardtanh = activation(
    "hardtanh",
    r"\min(\max(x, a), b)",
    r"\mathbf{1}[a < x < b]",
    _hardtanh,
    lambda xp, ans, x, min_val=-1.0, max_val=1.0: _inside(xp, x, min_val, max_val),
    params=({}, {"min_val": -0.5, "max_val": 1.5}),
    corners=_edges(-1.0, 1.0),
    dtypes="promote",
)
hardsigmoid = activation(
    "hardsigmoid",
    r"\frac{\min(\max(x + 3, 0), 6)}{6}",
    r"\frac{1}{6} \mathbf{1}[-3 < x < 3]",
    lambda xp, x: _clipped(xp, x + 3.0, 0, 6) / 6.0,
    lambda xp, ans, x: xp.where((x > -3) & (x < 3), xp.full_like(x, 1 / 6), xp.zeros_like(x)),
    corners=_edges(-3.0, 3.0),
)


def _hardswish_partial(xp: Any, ans: Any, x: Any) -> Any:
    middle = x / 3.0 + 0.5
    return xp.where(x <= -3, xp.zeros_like(x), xp.where(x < 3, middle, xp.ones_like(x)))


hardswish = activation(
    "hardswish",
    r"x\, \frac{\min(\max(x + 3, 0), 6)}{6}",
    r"0 \text{ if } x \le -3, \; 1 \text{ if } x \ge 3, \text{ else } \frac{x}{3} + \frac{1}{2}",
    lambda xp, x: x * _clipped(xp, x + 3.0, 0, 6) / 6.0,
    _hardswish_partial,
)
threshold = activation(
    "threshold",
    r"x \text{ if } x > \theta \text{ else } v",
    r"\mathbf{1}[x > \theta]",
    lambda xp, x, threshold=0.0, value=0.0: xp.where(x <= threshold, xp.full_like(x, value), x),
    lambda xp, ans, x, threshold=0.0, value=0.0: ~(x <= threshold),
    params=({"threshold": 0.1, "value": 0.5},),
    dtypes="promote",
)


def _softshrink(xp: Any, x: Any, lambd: float = 0.5) -> Any:
    return xp.where(x > lambd, x - lambd, xp.where(x < -lambd, x + lambd, x * 0))


softshrink = activation(
    "softshrink",
    r"x - \lambda \text{ if } x > \lambda, \; x + \lambda \text{ if } x < -\lambda, \text{ else } 0",
    r"\mathbf{1}[|x| > \lambda]",
    _softshrink,
    lambda xp, ans, x, lambd=0.5: ~((x >= -lambd) & (x <= lambd)),
    params=({}, {"lambd": 1.0}),
    corners=lambda params: (-params.get("lambd", 0.5), params.get("lambd", 0.5)),
)
hardshrink = activation(
    "hardshrink",
    r"x \text{ if } |x| > \lambda \text{ else } 0",
    r"\mathbf{1}[|x| > \lambda]",
    lambda xp, x, lambd=0.5: xp.where((x >= -lambd) & (x <= lambd), xp.zeros_like(x), x),
    lambda xp, ans, x, lambd=0.5: ~((x >= -lambd) & (x <= lambd)),
    params=({}, {"lambd": 1.0}),
)

OPS = (
    relu,
    leaky_relu,
    _sloped("prelu"),
    _sloped("rrelu"),
    relu6,
    hardtanh,
    hardsigmoid,
    hardswish,
    threshold,
    softshrink,
    hardshrink,
)
