"""What is probably wrong with a gradient that differs from the numerical one.

Each suspicion is a change that would mend the gradient; the first one that does mend it is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

__all__ = ["Evidence", "diagnose"]

SENTENCES = {
    "kink": "there is a kink at or near the point, where left and right slope differ: "
    "move the input away from it, nothing need be wrong",
    "mutated": "{forward} changes {names} in place, and the backward reads what was changed, such as a mask "
    "taken from the output: compute on a copy",
    "sum": "{name} lacks sum(axis={axis}): what broadcasting copied over that axis, the gradient sums",
    "transposed result": "it is the transpose of the right gradient",
    "shape": "a gradient has the shape of its argument, {wanted}; this one has {shape}",
    "sign": "the sign is wrong",
    "times batch": "it is {count} times too large, the size of the batch: a division by N is missing",
    "by batch": "it is {count} times too small, the size of the batch: a division by N too many",
    "factor": "it is off by a constant factor: multiply by {factor}",
    "operand": "an operand is transposed: it is {wrong} and should be {right}",
    "mask": "the gate is missing or wrong: the gradient must be 0 where {name} ≤ 0; a mask may have been "
    "taken from an array that was changed since",
    "closed": "the gate is closed where it must be open: the mask keeps only a part of the entries",
    "missing": "a factor is missing: multiply by {factor}",
    "spurious": "a factor too many: divide by {factor}",
    "one row": "only one sample was counted: it equals the gradient of sample {row}, not the sum over all",
}


@dataclass(frozen=True)
class Evidence:
    """What is known of one gradient: itself, the numerical one, and all that could be in its formula.

    ``values`` are arrays by name: the arguments, ``dout`` and ``out``. ``rtol`` and ``atol`` say how well a
    mended gradient must agree.
    """

    name: str
    analytic: np.ndarray
    numerical: np.ndarray
    values: Mapping[str, np.ndarray]
    arguments: Sequence[str]
    rtol: float = 1e-3
    atol: float = 1e-5

    def mended(self, candidate: Any) -> bool:
        """Whether the candidate is the right gradient."""
        candidate = np.asarray(candidate)
        return candidate.shape == self.numerical.shape and bool(
            np.allclose(candidate, self.numerical, rtol=self.rtol, atol=self.atol)
        )


def diagnose(evidence: Evidence, kinks: Callable[[tuple[int, ...]], bool] | None = None) -> str:
    """The likely mistake in a sentence; empty if none of those known would explain it.

    ``kinks(entry)`` tells whether the function has a kink near that entry.

    >>> x, dout = np.array([1.0, 2.0]), np.array([1.0, 1.0])
    >>> diagnose(Evidence("dx", dout, 2 * x, {"x": x, "dout": dout}, ["x"]))
    'a factor is missing: multiply by 2·x'
    """
    with np.errstate(all="ignore"):
        if evidence.analytic.shape != evidence.numerical.shape:
            return _wrong_shape(evidence)
        if kinks is not None and _all_at_kinks(evidence, kinks):
            return SENTENCES["kink"]
        for suspicion in (_constant, _transposed, _operands, _gate, _rows, _factors):
            found = suspicion(evidence)
            if found:
                return found
    return ""


def _wrong_shape(evidence: Evidence) -> str:
    analytic, numerical = evidence.analytic, evidence.numerical
    for axes in _axes(analytic.ndim):
        summed = analytic.sum(axis=axes)
        for candidate in (summed, analytic.sum(axis=axes, keepdims=True)):
            if evidence.mended(candidate):
                axis = axes[0] if len(axes) == 1 else axes
                return SENTENCES["sum"].format(name=evidence.name, axis=axis)
    if evidence.mended(analytic.T):
        return SENTENCES["transposed result"]
    return SENTENCES["shape"].format(wanted=numerical.shape, shape=analytic.shape)


def _axes(rank: int) -> Iterator[tuple[int, ...]]:
    """Every set of axes, the smallest first, of the first few axes."""
    for count in range(1, min(rank, 4) + 1):
        yield from combinations(range(min(rank, 6)), count)


def _all_at_kinks(evidence: Evidence, kinks: Callable[[tuple[int, ...]], bool]) -> bool:
    """Whether every entry that differs sits at a kink (many entries cannot all do so by chance)."""
    wrong = ~np.isclose(evidence.analytic, evidence.numerical, rtol=evidence.rtol, atol=evidence.atol)
    places = [tuple(int(k) for k in place) for place in np.argwhere(wrong)]
    return 0 < len(places) <= 64 and all(kinks(place) for place in places)


def _constant(evidence: Evidence) -> str:
    """Sign, batch size, another constant."""
    analytic, numerical = evidence.analytic, evidence.numerical
    scale = float(np.vdot(analytic, numerical)) / (float(np.vdot(analytic, analytic)) or np.nan)
    if not np.isfinite(scale) or scale == 0 or not evidence.mended(scale * analytic):
        return ""
    if abs(scale + 1) < 1e-3:
        return SENTENCES["sign"]
    batches = {
        evidence.values[name].shape[0] for name in evidence.arguments if evidence.values[name].ndim > 1
    }
    batches |= {v.shape[0] for k, v in evidence.values.items() if k == "out" and v.ndim}
    for count in sorted(batches - {0, 1}):
        if abs(scale * count - 1) < 1e-3:
            return SENTENCES["times batch"].format(count=count)
        if abs(scale / count - 1) < 1e-3:
            return SENTENCES["by batch"].format(count=count)
    return SENTENCES["factor"].format(factor=f"{scale:.4g}")


def _transposed(evidence: Evidence) -> str:
    return SENTENCES["transposed result"] if evidence.mended(evidence.analytic.T) else ""


def _operands(evidence: Evidence) -> str:
    """A product of two matrices one of which (or both) should have been the other way round."""
    matrices = {name: value for name, value in evidence.values.items() if value.ndim == 2}
    turned = {f"{name}.T": value.T for name, value in matrices.items()}
    every = {**matrices, **turned}
    for left, a in every.items():
        for right, b in every.items():
            if left.removesuffix(".T") == right.removesuffix(".T") or a.shape[1] != b.shape[0]:
                continue
            product = a @ b
            if product.shape != evidence.analytic.shape or not np.allclose(product, evidence.analytic):
                continue
            for first in (left, _turned(left)):
                for second in (right, _turned(right)):
                    c, d = every[first], every[second]
                    if c.shape[1] == d.shape[0] and evidence.mended(c @ d):
                        return SENTENCES["operand"].format(
                            wrong=f"{left} @ {right}", right=f"{first} @ {second}"
                        )
    return ""


def _turned(name: str) -> str:
    return name.removesuffix(".T") if name.endswith(".T") else f"{name}.T"


def _gate(evidence: Evidence) -> str:
    """A mask that is missing, or closed where it must be open."""
    analytic, numerical = evidence.analytic, evidence.numerical
    for name in evidence.arguments:
        value = evidence.values[name]
        if value.shape == analytic.shape and evidence.mended(np.where(value > 0, analytic, 0)):
            return SENTENCES["mask"].format(name=name)
    closed = (analytic == 0) & ~np.isclose(numerical, 0, atol=evidence.atol)
    if closed.any() and not closed.all() and evidence.mended(np.where(closed, numerical, analytic)):
        return SENTENCES["closed"]
    return ""


def _rows(evidence: Evidence) -> str:
    """The gradient of one sample in place of the sum over all: seen in db, which is dout.sum(axis=0)."""
    dout = evidence.values.get("dout")
    if dout is None or dout.ndim < 2 or dout.shape[1:] != evidence.analytic.shape:
        return ""
    if evidence.mended(dout.sum(axis=0)):
        for row in range(len(dout)):
            if np.allclose(dout[row], evidence.analytic):
                return SENTENCES["one row"].format(row=row)
    return ""


def _factors(evidence: Evidence) -> str:
    """A local derivative that was left out, or applied once too often."""
    for text, factor in _known_factors(evidence.values):
        try:
            np.broadcast_shapes(factor.shape, evidence.analytic.shape)
        except ValueError:
            continue
        if evidence.mended(evidence.analytic * factor):
            return SENTENCES["missing"].format(factor=text)
        if (factor != 0).all() and evidence.mended(evidence.analytic / factor):
            return SENTENCES["spurious"].format(factor=text)
    return ""


def _known_factors(values: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """What local derivatives are made of, the simple ones first."""
    arrays = {name: value for name, value in values.items() if value.dtype.kind == "f"}
    yield from arrays.items()
    for name, v in arrays.items():
        yield f"2·{name}", 2 * v
        yield f"3·{name}²", 3 * v**2
        yield f"{name}·(1 − {name})", v * (1 - v)
        yield f"(1 − {name})", 1 - v
        yield f"(1 − {name}²)", 1 - v**2
        yield f"exp({name})", np.exp(v)
        yield f"cos({name})", np.cos(v)
        yield f"[{name} > 0]", (v > 0).astype(v.dtype)
    names = list(arrays)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            if arrays[first].shape == arrays[second].shape:
                yield f"({first} − {second})", arrays[first] - arrays[second]
                yield f"{first}·{second}", arrays[first] * arrays[second]
