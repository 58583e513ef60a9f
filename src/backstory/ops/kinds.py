"""Short ways to write records of one entry at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from backstory.ops.record import Case, Elementwise, General, Rule, elementwise_cases

__all__ = ["activation", "as_array", "comparison", "function", "sigmoid", "steps"]


def as_array(xp: Any, value: Any, like: Any) -> Any:
    """``value`` as an array: a Python scalar takes the shape and dtype of ``like``."""
    if isinstance(value, (int, float)):
        return xp.full_like(like, value)
    return value


def sigmoid(xp: Any, x: Any) -> Any:
    """1 / (1 + e⁻ˣ)"""
    return 1.0 / (1.0 + xp.exp(-x))


def activation(
    name: str,
    formula: str,
    derivative: str,
    forward: Rule,
    partial: Rule,
    *,
    params: Sequence[Mapping[str, Any]] = ({},),
    gates: bool = True,
    corners: Callable[[Mapping[str, Any]], tuple[float, ...]] | None = None,
    dtypes: str = "floats",
    torch: str = "",
) -> Elementwise:
    """An activation of one argument, sampled for each ``params``; the partial is a rule of the argument."""
    cases = (*elementwise_cases(1), *(Case(((3, 4),), one) for one in params))
    return Elementwise(
        name=name,
        forward=forward,
        partials=(partial,),
        formula=formula,
        derivative=(derivative,),
        torch=torch or f"torch.nn.functional.{name}",
        cases=cases if params[0] == {} else cases[3:],
        arguments=1,
        keeps=((0,),),
        dtypes=dtypes,
        gates=gates,
        corners=corners,
    )


def function(
    name: str,
    formula: str,
    derivative: str,
    forward: Rule,
    partial: Rule,
    *,
    of_ans: bool = False,
    between: tuple[float, float] = (-2.0, 2.0),
    dtypes: str = "float",
) -> Elementwise:
    """A function of one argument, whose derivative is written through the output if ``of_ans``."""
    return Elementwise(
        name=name,
        forward=forward,
        partials=(partial,),
        formula=formula,
        derivative=(derivative,),
        torch=f"torch.{name}",
        cases=elementwise_cases(1, *between),
        arguments=1,
        keeps=((),) if of_ans else ((0,),),
        keeps_ans=of_ans,
        dtypes=dtypes,
    )


def steps(
    name: str, formula: str, forward: Rule, arguments: int = 1, between: Sequence[float] = (-2.0, 2.0)
) -> General:
    """A function that moves in steps: its derivative is 0, and never 0 × inf."""
    return General(
        name=name,
        forward=forward,
        vjps=tuple(lambda xp, g, ans, *inputs, **params: xp.zeros_like(g) for _ in range(arguments)),
        tangent=lambda xp, tangents, ans, *inputs, **params: xp.zeros_like(ans),
        formula=formula,
        derivative=("0",) * arguments,
        torch=f"torch.{name}",
        cases=elementwise_cases(arguments, *between),
        arguments=arguments,
        keeps=((),) * arguments,
        dtypes="promote",
    )


def comparison(name: str, formula: str, forward: Rule, arguments: int = 2) -> Elementwise:
    """A comparison or logical operation: its result is true or false, so nothing is recorded for it."""
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
