"""What training starts with besides the model: the inputs, and the first update of the optimizer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from backstory.arrays import eager
from backstory.graph import context
from backstory.insight.advice.finding import Finding
from backstory.insight.advice.trial import Trial
from backstory.insight.advice.words import WORDS
from backstory.optim import Optimizer

__all__ = ["inputs", "rates"]

FEW = 8
OFF_CENTRE, FAR_OFF = 0.5, 0.9
LARGER, SMALLER, FAR = 10.0, 100.0, 100.0
LARGE, SMALL = 0.1, 1e-5
USUAL, BEARABLE = 1e-3, 1e-2


def inputs(trial: Trial) -> Iterator[Finding]:
    """Whether the features have means near 0 and standard deviations of one size."""
    for number, x in enumerate(trial.x):
        if x.dtype.kind != "f" or x.ndim < 2 or len(x) < FEW:
            continue
        where = WORDS["input"] if len(trial.x) == 1 else f"{WORDS['input']} {number}"
        rows = _features(trial, x.array).astype(np.float64)
        mean, spread = rows.mean(axis=0), rows.std(axis=0)
        yield from _centring(where, mean, spread)
        yield from _scaling(where, spread[spread > 1e-12 * (1 + np.abs(mean))])


def _features(trial: Trial, x: np.ndarray) -> np.ndarray:
    """(rows, features): columns; channels of what a convolution takes; else the last axis."""
    convolves = bool(trial.layers) and trial.layers[0].op == "conv"
    if x.ndim > 2 and convolves:
        x = np.moveaxis(x, 1, -1)
    return x.reshape(-1, x.shape[-1])


def _centring(where: str, mean: np.ndarray, spread: np.ndarray) -> Iterator[Finding]:
    total = float((mean**2 + spread**2).sum())
    share = float((mean**2).sum()) / total if total else 0.0
    if share <= OFF_CENTRE:
        return
    most = int(np.argmax(np.abs(mean)))
    measured = {
        "share": share,
        "features": len(mean),
        "mean": float(mean[most]),
        "spread": float(spread[most]),
    }
    yield Finding("inputs-not-centred", "warning" if share > FAR_OFF else "note", (where,), measured)


def _scaling(where: str, spread: np.ndarray) -> Iterator[Finding]:
    if len(spread) < 2:
        return
    ordered = np.sort(spread)
    median, low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 4], ordered[-1]
    if high <= LARGER * median and median <= SMALLER * low:
        return
    measured = {"smallest": float(ordered[0]), "median": float(median), "largest": float(high)}
    grave = high > FAR * median or median > FAR * low
    yield Finding("inputs-on-different-scales", "warning" if grave else "note", (where,), measured)


def rates(trial: Trial, optimizer: Optimizer) -> Iterator[Finding]:
    """Whether the first update is of a usual size, relative to the weights it moves."""
    names = {p: name for name, p in trial.model.named_parameters()}
    for group in optimizer.param_groups:
        rate = float(group["lr"])
        found = [
            (names[p], ratio)
            for p in group["params"]
            if p in names and p.ndim > 1 and (ratio := _ratio(trial, optimizer, p, group)) is not None
        ]
        if not found or rate == 0.0:  # a warm-up starts from 0
            continue
        ratios = [ratio for _, ratio in found]
        largest, median = max(ratios), float(np.median(ratios))
        if largest > LARGE:
            layers = tuple(name for name, ratio in found if ratio > LARGE)
            yield Finding("rate-too-large", "warning", layers, _rated(trial, rate, largest, BEARABLE))
        elif median < SMALL:
            layers = tuple(name for name, ratio in found if ratio < SMALL)
            yield Finding("rate-too-small", "warning", layers, _rated(trial, rate, median, USUAL))


def _ratio(trial: Trial, optimizer: Optimizer, p: Any, group: Any) -> float | None:
    """‖update‖ / ‖weights‖ of the first step; ``None`` where there is no gradient or nothing to compare."""
    g = trial.gradients.get(p)
    size = float(np.linalg.norm(p.array.astype(np.float64)))
    if g is None or size == 0.0 or not np.any(g):
        return None
    state = {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in optimizer.state[p].items()}
    change, _ = context().quiet.copy().run(optimizer.update, eager, p.array.copy(), g.copy(), state, group)
    return float(np.linalg.norm(np.asarray(change, np.float64))) / size


def _rated(trial: Trial, rate: float, ratio: float, aim: float) -> dict[str, Any]:
    better = rate * aim / ratio
    digit = 10.0 ** math.floor(math.log10(better))
    return {
        "rate": rate,
        "ratio": ratio,
        "better": round(better / digit) * digit,
        "aim": aim,
        "loss": trial.loss,
        "targets": "random targets" if trial.y is None else "own targets",
    }
