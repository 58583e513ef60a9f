"""A recorded computation as an expression of SymPy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sympy

from backstory.insight.explanation import Derivation, Quantity

__all__ = ["NoSymbolicForm", "expression"]


class NoSymbolicForm(Exception):
    """An operation that SymPy has no word for here; its name is the argument."""


FORMS: dict[str, Any] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
    "pow": lambda x, y: x**y,
    "neg": lambda x: -x,
    "square": lambda x: x**2,
    "reciprocal": lambda x: 1 / x,
    "sigmoid": lambda x: 1 / (1 + sympy.exp(-x)),
    "relu": lambda x: sympy.Max(x, 0),
    "maximum": sympy.Max,
    "minimum": sympy.Min,
    "abs": sympy.Abs,
    "log1p": lambda x: sympy.log(1 + x),
    "expm1": lambda x: sympy.exp(x) - 1,
    "softplus": lambda x: sympy.log(1 + sympy.exp(x)),
    **{name: (lambda x: x) for name in ("clone", "cast", "reshape", "sum", "mean")},
    **{
        name: getattr(sympy, name)
        for name in (
            "exp", "log", "sqrt", "tanh", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh",
            "asinh", "acosh", "atanh", "erf", "erfc", "atan2",
        )
    },
}  # fmt: skip
"""Operation of the table → the same of SymPy, for numbers without axes."""


def expression(found: Derivation, symbols: Mapping[Quantity, Any]) -> Any:
    """The loss of a derivation whose quantities have no axes, in terms of ``symbols``.

    Numbers become the exact fractions that floats are.
    """
    known: dict[Quantity, Any] = dict(symbols)
    for step in found.steps:
        form = FORMS.get(step.op.name)
        if form is None or step.result.shape != ():
            raise NoSymbolicForm(step.op.name)
        known[step.result] = form(*(_known(q, known) for q in step.inputs))
    return known[found.root]


def _known(quantity: Quantity, known: Mapping[Quantity, Any]) -> Any:
    if quantity in known:
        return known[quantity]
    assert quantity.value is not None
    return sympy.Rational(quantity.value.item())
