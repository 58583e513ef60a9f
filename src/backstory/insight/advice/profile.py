"""What an activation's record says of its shape: whether it squashes, how steep it is, where it closes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from backstory.arrays import eager
from backstory.ops import TABLE, Elementwise, Op, gain, saturation

__all__ = ["Profile", "activates", "numbers", "profile_of"]

_NEAR = np.linspace(-30.0, 30.0, 6001)


@dataclass(frozen=True)
class Profile:
    """An activation with its parameters, as far as advice depends on it.

    ``saturated`` are the intervals where it is all but flat; ``squashes`` says that it is flat on both
    sides and not around 0; ``closes`` that it and its derivative are 0 for every negative argument;
    ``homogeneous`` that f(s·z) = s·f(z) for s ≥ 0; ``low`` and ``high`` bound its values, ``steepest`` its
    local derivative, and ``gain`` is He's.
    """

    gain: float
    saturated: tuple[tuple[float, float], ...]
    squashes: bool
    closes: bool
    homogeneous: bool
    at_zero: float
    slope_at_zero: float
    steepest: float
    low: float
    high: float

    @property
    def wanted(self) -> float:
        """fan_in · E[w²] that keeps a signal: He's gain², or 1/f'(0)² where both sides saturate (Glorot)."""
        return 1.0 / self.slope_at_zero**2 if self.squashes else self.gain**2


def profile_of(op: Op, params: Mapping[str, Any], others: Sequence[Any] = ()) -> Profile:
    """The profile of one call; an argument with several entries, such as prelu's slopes, counts by its mean.

    >>> relu, tanh = profile_of(TABLE["relu"], {}), profile_of(TABLE["tanh"], {})
    >>> relu.closes, relu.squashes, round(relu.wanted, 6)
    (True, False, 2.0)
    >>> tanh.closes, tanh.squashes, round(tanh.wanted, 6)
    (False, True, 1.0)
    """
    return _profile(op.name, tuple(sorted(params.items())), numbers(others))


def numbers(others: Sequence[Any]) -> tuple[Any, ...]:
    """The arguments after the first as numbers: the mean of those that have several entries."""
    return tuple(None if a is None else float(np.mean(a)) for a in others)


@cache
def _profile(name: str, settings: tuple[tuple[str, Any], ...], others: tuple[Any, ...]) -> Profile:
    op, params = TABLE[name], dict(settings)
    assert isinstance(op, Elementwise)
    value, slope = _curve(op, params, others)
    flat = saturation(op, params, *others)
    left, right = _ends(flat)
    zero = len(_NEAR) // 2
    slope_at_zero = float(slope[zero])
    return Profile(
        gain=gain(op, params, *others),
        saturated=flat,
        squashes=left < 0.0 < right and 0.0 < slope_at_zero < math.inf,
        closes=bool((value[:zero] == 0).all() and (slope[:zero] == 0).all()),
        homogeneous=bool(np.allclose(_value(op, params, others, 2.0 * _NEAR), 2.0 * value, 1e-12, 0.0)),
        at_zero=float(value[zero]),
        slope_at_zero=slope_at_zero,
        steepest=float(np.nanmax(np.abs(slope))),
        low=-math.inf if left == math.inf and slope[0] > 0 else float(value.min()),
        high=math.inf if right == -math.inf and slope[-1] > 0 else float(value.max()),
    )


def _ends(flat: tuple[tuple[float, float], ...]) -> tuple[float, float]:
    """Up to where it is flat on the left and from where on the right; ±∞ where it is on no such side."""
    left = [high for low, high in flat if low == -math.inf]
    right = [low for low, high in flat if high == math.inf]
    return (left[0] if left else math.inf), (right[0] if right else -math.inf)


def _value(op: Elementwise, params: Mapping[str, Any], others: tuple[Any, ...], z: np.ndarray) -> Any:
    with np.errstate(all="ignore"):
        return op.forward(eager, z, *others, **params)


def _curve(op: Elementwise, params: Mapping[str, Any], others: tuple[Any, ...]) -> tuple[Any, Any]:
    value = _value(op, params, others, _NEAR)
    with np.errstate(all="ignore"):
        slope = np.asarray(op.partials[0](eager, value, _NEAR, *others, **params), np.float64)
    return value, np.broadcast_to(slope, _NEAR.shape)


def activates(op: Op, args: Any) -> bool:
    """Whether a call is an activation: it gates, or it squashes its only argument.

    >>> [name for name in ("relu", "tanh", "sigmoid", "exp", "mul") if activates(TABLE[name], ())]
    ['relu', 'tanh', 'sigmoid']
    """
    if op.gates or (op.gating is not None and op.gating(args)):
        return isinstance(op, Elementwise)
    return _squashes(op.name)


@cache
def _squashes(name: str) -> bool:
    """Of the operations with one argument and smooth everywhere: a value and a slope at every point."""
    op = TABLE.get(name)
    if not isinstance(op, Elementwise) or op.arguments != 1 or not op.differentiable or not op.partials:
        return False
    value, slope = _curve(op, {}, ())
    if not (np.isfinite(value).all() and np.isfinite(slope).all() and (slope >= 0).all()):
        return False
    left, right = _ends(saturation(op))
    return left < 0.0 < right and slope[len(_NEAR) // 2] > 0
