"""Common subexpressions: what is computed twice is computed once."""

from __future__ import annotations

from typing import Any

import numpy as np

from backstory.compiler.graph import Number, Value
from backstory.compiler.passes.rewriting import Emit, Rule

__all__ = ["common"]

_COMMUTE = frozenset(("add", "multiply", "equal", "not_equal", "bitwise_and", "bitwise_or", "bitwise_xor"))
# Up to this many bytes constants are compared by what they hold, above by which array they are.
_SMALL = 1 << 14


def common() -> Rule:
    """Values of the same primitive, inputs and parameters become one; checks stay."""
    seen: dict[Any, Value] = {}

    def rule(value: Value, emit: Emit) -> Value:
        if value.primitive == "check":
            return value
        inputs = [_key(x) for x in value.inputs]
        if value.primitive in _COMMUTE:
            inputs.sort(key=hash)  # any order will do that both have
        params = tuple([(name, _key(x)) for name, x in sorted(value.params.items())])
        key = (value.primitive, tuple(inputs), params, value.shape, value.dtype)
        return seen.setdefault(key, value)

    return rule


def _key(x: Any) -> Any:
    """What two things have in common exactly when they are the same: −0 and 0 are not, nor are 1 and 1.0."""
    if isinstance(x, (Value, Number)):
        return x
    if isinstance(x, np.ndarray):
        content = x.tobytes() if x.nbytes <= _SMALL else id(x)
        return ("array", x.dtype.str, x.shape, content)
    if isinstance(x, (tuple, list)):
        return tuple(_key(part) for part in x)
    if isinstance(x, slice):
        return ("slice", _key(x.start), _key(x.stop), _key(x.step))
    if isinstance(x, (bool, int, float, complex, str)) or x is None:
        return (type(x).__name__, repr(x))
    if isinstance(x, np.dtype):
        return ("dtype", x.str)
    return ("object", _equal_or_id(x))


def _equal_or_id(x: Any) -> Any:
    """Frozen records are the same when they are equal; what has no equality of its own, when one object."""
    return x if type(x).__hash__ is not None and type(x).__eq__ is not object.__eq__ else id(x)
