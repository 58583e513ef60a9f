"""What training starts with besides the model: the inputs, and the first updates of the optimizer."""

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
SETTLED = 30  # steps after which momentum has built up


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
    """Whether updates are of a usual size, relative to the weights they move: the first, or with momentum."""
    names = {p: name for name, p in trial.model.named_parameters()}
    # Large steps lengthen what is normalised, and so turn it less and less: Arora et al., arXiv:1812.03981.
    turning = {id(layer.weight) for layer in trial.normalised}
    for group in optimizer.param_groups:
        moved = [p for p in group["params"] if p in names and p.ndim > 1]
        found = {p: sizes for p in moved if (sizes := _sizes(trial, optimizer, p, group)) is not None}
        if not found or float(group["lr"]) == 0.0:  # a warm-up starts from 0
            continue
        first, settled = (float(np.median([sizes[i] for sizes in found.values()])) for i in (0, 1))
        built_up = settled > 1.01 * first
        ratios = {names[p]: max(sizes) for p, sizes in found.items()}
        median = float(np.median(list(ratios.values())))
        large = {names[p]: max(sizes) for p, sizes in found.items() if id(p) not in turning}
        large = {name: ratio for name, ratio in large.items() if ratio > LARGE}
        if large:
            measured = _rated(trial, group, max(large.values()), BEARABLE, built_up)
            yield Finding("rate-too-large", "warning", tuple(large), measured)
        elif median < SMALL:
            layers = tuple(name for name, ratio in ratios.items() if ratio < SMALL)
            yield Finding("rate-too-small", "warning", layers, _rated(trial, group, median, USUAL, built_up))


def _sizes(trial: Trial, optimizer: Optimizer, p: Any, group: Any) -> tuple[float, float] | None:
    """‖update‖ / ‖weights‖ of the first step, and after many steps with the same gradient.

    ``None`` where there is no gradient, or nothing to compare with. A rule returns the change and the new
    state, so nothing moves.
    """
    g = trial.gradients.get(p)
    size = float(np.linalg.norm(p.array.astype(np.float64)))
    if g is None or size == 0.0 or not np.any(g):
        return None
    state = {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in optimizer.state[p].items()}
    value, quiet, sizes = p.array.copy(), context().quiet.copy(), []
    for _ in range(SETTLED):
        change, state = quiet.run(optimizer.update, eager, value, g, state, group)
        sizes.append(float(np.linalg.norm(np.asarray(change, np.float64))) / size)
    return sizes[0], sizes[-1]


def _rated(trial: Trial, group: Any, ratio: float, aim: float, built_up: bool) -> dict[str, Any]:
    rate = float(group["lr"])
    better = rate * aim / ratio
    digit = 10.0 ** math.floor(math.log10(better))
    return {
        "rate": rate,
        "update": "built up" if built_up else "first update",
        "ratio": ratio,
        "better": round(better / digit) * digit,
        "aim": aim,
        "loss": trial.loss,
        "targets": "random targets" if trial.y is None else "own targets",
    }
