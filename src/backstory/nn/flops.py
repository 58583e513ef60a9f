"""How many floating-point operations an operation of the table takes.

A multiplication and an addition count as one each, so a product of (m, k) and (k, n) takes 2 m k n. A
function of one entry (exp, tanh, a whole gelu) counts as one, as does each entry that is summed or compared.
What only moves or looks up entries takes none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from backstory.ops import Bilinear, Elementwise, Linear, Op
from backstory.tensor import Tensor

__all__ = ["flops"]

# Per entry: what these compute in several sweeps.
_SWEEPS = {
    "cross_entropy": 5,  # largest, difference, exp, sum, and the logarithm's difference
    "log_softmax": 5,
    "logsumexp": 4,
    "mse": 3,
    "softmax": 5,
    "std": 4,
    "var": 4,
    "vector_norm": 2,
}
_ADDING = frozenset(("add", "cumsum", "fold", "index_add", "mean", "neg", "sub", "sum"))
_MOVING = frozenset(("argsort", "overwrite", "take"))


def flops(op: Op, args: Sequence[Any], result: Any, params: Any) -> int:
    """The floating-point operations of one call, from its shapes.

    >>> import backstory
    >>> from backstory.ops import TABLE
    >>> x, w = backstory.ones(5, 3), backstory.ones(3, 4)
    >>> flops(TABLE["matmul"], (x, w), x @ w, {})
    120
    """
    out = math.prod(result.shape)
    if op.name in _PRODUCTS:
        return _PRODUCTS[op.name](args, out)
    if result.dtype.kind != "f" or op.name in _MOVING:
        return 0
    if isinstance(op, (Elementwise, Bilinear)):
        return out
    entries = max([out, *(math.prod(x.shape) for x in args if isinstance(x, Tensor))])
    if op.name in _ADDING:
        return entries
    if isinstance(op, Linear):  # another shape, another order
        return 0
    return entries * _SWEEPS.get(op.name, 1)


def _matmul(args: Sequence[Any], out: int) -> int:
    return 2 * out * args[0].shape[-1]


def _linear(args: Sequence[Any], out: int) -> int:
    return _matmul(args, out) + (out if len(args) > 2 and args[2] is not None else 0)


def _conv(args: Sequence[Any], out: int) -> int:
    return 2 * out * math.prod(args[1].shape[1:])


def _inv(args: Sequence[Any], out: int) -> int:
    return 2 * out * args[0].shape[-1]


def _solve(args: Sequence[Any], out: int) -> int:
    """The elimination, and two triangular systems for each right side."""
    return 2 * math.prod(args[0].shape) * args[0].shape[-1] // 3 + 2 * out * args[0].shape[-1]


_PRODUCTS = {"conv": _conv, "inv": _inv, "linear": _linear, "matmul": _matmul, "solve": _solve}
