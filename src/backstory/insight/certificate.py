"""Certificates: the change of one pre-activation, split exactly into what caused it.

For a unit with weights w and bias b on one sample, whose inputs x come from the layers below:

    Δz = Δw·x_old + Δb + w_new·Δx

and Δw and Δb each into the terms of the optimizer's update. Where a normalisation z = s·u + c stands
between the layer's u = w·x + b and the gate, these parts are scaled by s_old, and Δs·u_new + Δc is a
part of its own. All products are summed without rounding
(each product is split into two floats, then added exactly), so that the parts add up to Δz.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

__all__ = ["Certificate", "decompose", "exact_dot"]


@dataclass(frozen=True)
class Certificate:
    """Why the unit's pre-activation on ``sample`` changed from ``before`` to ``after`` with update ``step``.

    ``weights`` and ``bias`` hold the terms of the update (gradient, momentum, weight decay, rounding),
    ``inputs`` is w_new·Δx, the share of the layers below; ``others`` what a normalisation in front of the
    gate and another branch of a sum added. ``since`` is the step of the scan before: one less than
    ``step``, or the updates are explained together. Where the layer in front or the optimizer cannot be
    split, ``note`` says so and what is missing is empty.
    """

    site: str
    unit: int
    step: int
    sample: int
    before: float
    after: float
    weights: dict[str, float] = field(default_factory=dict)
    bias: dict[str, float] = field(default_factory=dict)
    inputs: float = 0.0
    at_zero: float = 0.0
    note: str = ""
    others: dict[str, float] = field(default_factory=dict)
    since: int | None = None

    @property
    def when(self) -> str:
        """The step, or the two scans between which it lies."""
        exact = self.since is None or self.step - self.since <= 1
        return f"at step {self.step}" if exact else f"between steps {self.since} and {self.step}"

    @property
    def parts(self) -> list[float]:
        """Every term that the change is made of."""
        return [*self.weights.values(), *self.bias.values(), self.inputs, *self.others.values()]

    @property
    def change(self) -> float:
        """Δz, the sum of the parts (without parts, the plain difference)."""
        return _exact_sum(np.array(self.parts)) if self.weights else self.after - self.before

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The certificate in two lines of text."""
        first = (
            f"last open sample #{self.sample}: pre-activation {_signed(self.before)} → {_signed(self.after)}"
        )
        if self.before == 0 or self.after == 0:
            first += f" (at exactly 0 the derivative is taken as {self.at_zero:g})"
        if not self.weights:
            return [first, self.note]
        parts = [_with_terms("weights", self.weights)]
        if self.bias:
            parts.append(_with_terms("bias", self.bias))
        parts.append(f"inputs {_signed(self.inputs)}")
        parts += [f"{name} {_signed(value)}" for name, value in self.others.items()]
        return [first, ", ".join(parts) + (f"  ({self.note})" if self.note else "")]

    def __str__(self) -> str:
        return f"Unit {self.site}[{self.unit}] died {self.when}\n  " + "\n  ".join(self.lines())


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−") if abs(value) >= 0.005 else f"{value:+.1g}".replace("-", "−")


def _with_terms(name: str, terms: Mapping[str, float]) -> str:
    total = _exact_sum(np.array(list(terms.values())))
    seen = {key: value for key, value in terms.items() if key != "rounding" and value != 0.0}
    shown = ", ".join(f"{key} {_signed(value)}" for key, value in seen.items()) if len(seen) > 1 else ""
    return f"{name} {_signed(total)}" + (f" ({shown})" if shown else "")


def exact_dot(a: np.ndarray, b: np.ndarray) -> float:
    """a·b in float64 with a single rounding at the end.

    >>> exact_dot(np.array([1e16, 1.0, -1e16]), np.array([1.0, 1.0, 1.0]))
    1.0
    """
    return _sum_of_products(np.asarray(a, np.float64), np.asarray(b, np.float64))


def _difference(plus: tuple[np.ndarray, np.ndarray], minus: tuple[np.ndarray, np.ndarray]) -> float:
    """plus·plus − minus·minus, with a single rounding at the end."""
    a = np.concatenate([plus[0], -minus[0]]).astype(np.float64)
    return _sum_of_products(a, np.concatenate([plus[1], minus[1]]).astype(np.float64))


def _sum_of_products(a: np.ndarray, b: np.ndarray) -> float:
    """Each product is a float plus its rounding error (Dekker's split), and ``math.fsum`` adds exactly.

    Where the split would leave the range of floats, fractions do the same, slowly.
    """
    with np.errstate(all="ignore"):
        product = a * b
        a_high, b_high = _upper_half(a), _upper_half(b)
        a_low, b_low = a - a_high, b - b_high
        error = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low
    terms = np.concatenate([product, error])
    tiny = (np.abs(product) < 1e-290) & (a != 0) & (b != 0)
    if np.isfinite(terms).all() and not tiny.any():
        return _exact_sum(terms)
    if np.isfinite(a).all() and np.isfinite(b).all():
        return _rounded(sum((Fraction(x) * Fraction(y) for x, y in zip(a, b, strict=True)), Fraction(0)))
    return _exact_sum(product)


def _rounded(value: Fraction) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.copysign(math.inf, value)


def _exact_sum(terms: np.ndarray) -> float:
    """The sum with a single rounding; of a diverged network, whatever infinity and NaN make of it."""
    if np.isfinite(terms).all():
        try:
            return math.fsum(terms)
        except OverflowError:  # of a partial sum, while the sum itself may be finite
            return _rounded(sum(map(Fraction, terms), Fraction(0)))
    with np.errstate(all="ignore"):
        return float(terms.sum())


def _upper_half(x: np.ndarray) -> np.ndarray:
    scaled = x * 134217729.0  # 2**27 + 1
    return scaled - (scaled - x)


def decompose(
    old: tuple[np.ndarray, float, np.ndarray],
    new: tuple[np.ndarray, float, np.ndarray],
    weight_terms: Mapping[str, np.ndarray] | None,
    bias_terms: Mapping[str, float] | None,
) -> tuple[dict[str, float], dict[str, float], float]:
    """The parts of Δz from (w, b, x) before and after; terms of the update where the rule is known.

    ``rounding`` is what the update's floating point added to its own terms. Without terms each of
    weights and bias is one ``update``.
    """
    (w_old, b_old, x_old), (w_new, b_new, x_new) = old, new
    if weight_terms is None:
        weights = {"update": _difference((w_new, x_old), (w_old, x_old))}
    else:
        weights = {key: exact_dot(term, x_old) for key, term in weight_terms.items()}
        columns = np.stack([w_new, -w_old, *(-term for term in weight_terms.values())], axis=1)
        weights["rounding"] = exact_dot(np.array([_exact_sum(row) for row in columns]), x_old)
    if bias_terms is None:
        bias = {"update": b_new - b_old} if (b_new or b_old) else {}
    else:
        bias = {key: float(term) for key, term in bias_terms.items()}
        bias["rounding"] = _exact_sum(np.array([b_new, -b_old, *(-term for term in bias.values())]))
    return weights, bias, _difference((w_new, x_new), (w_new, x_old))
