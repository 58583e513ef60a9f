"""Signals and gradients by layer: whether they vanish or explode, and which units are closed or saturated."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from backstory.insight.advice.finding import Finding
from backstory.insight.advice.trace import Activation, Layer, Norm, spread
from backstory.insight.advice.trial import Trial

__all__ = ["born_dead", "derivatives", "flow", "saturated"]

FEW = 8  # samples; below, chance alone closes units
DEAD = 0.9
FOLD = 100.0
PRODUCT = 1e-3
FLAT = 0.1


def born_dead(trial: Trial) -> Iterator[Finding]:
    """Layers of which all, or nearly all, units are closed for every sample; the first closed one ends it."""
    samples = len(trial.output) if trial.output.ndim else 0
    for one in trial.activations:
        if samples < FEW or one.node not in trial.trunk:
            continue
        closed = (one.derivative == 0).all(axis=0)
        if closed.mean() >= DEAD:
            severity = "error" if closed.all() else "warning"
            measured = {"dead": int(closed.sum()), "units": len(closed), "samples": samples}
            yield Finding("born-dead", severity, (_name(trial, one),), measured)
            if closed.all():  # what stands above it sees no input any more
                return


def _name(trial: Trial, one: Activation) -> str:
    """The layer in front of an activation, or of its norm; the activation itself where there is none."""
    made: Any = trial.tape.front(one.source).made
    while isinstance(made, Norm):
        made = trial.tape.front(made.source).made
    return made.name if isinstance(made, Layer) else one.name


def _points(trial: Trial) -> list[tuple[str, Any, float]]:
    """Name, node and spread of every hidden pre-activation that all paths pass, and of bare layers."""
    inner = [one for one in trial.tape.made.values() if isinstance(one, (Activation, Norm))]
    fronts = {trial.tape.front(one.source).made for one in inner}
    found = []
    for one in trial.tape.made.values():
        if one.node not in trial.trunk or one is trial.last:
            continue
        if isinstance(one, Activation):
            found.append((_name(trial, one), one.source, spread(one.z)))
        elif isinstance(one, Layer) and one not in fronts:
            found.append((one.name, one.node, one.spread))
    return found


def flow(trial: Trial) -> Iterator[Finding]:
    """Whether the signal, upwards, and the gradient, downwards, keep their size through the hidden layers."""
    points = _points(trial)
    spreads = [size for _, _, size in points]
    names = tuple(name for name, _, _ in points)
    broken = next((i for i, size in enumerate(spreads) if not math.isfinite(size)), None)
    if broken is not None:
        measured = _change(names, [*spreads[:broken], math.inf])
        yield Finding("exploding-signal", "error", names[broken:], measured)
        return
    if len(points) < 2 or (trial.output.ndim and len(trial.output) < 2):
        return
    code = _code(spreads[0], spreads[-1])
    if code is not None:
        yield Finding(f"{code}-signal", "warning", names, _change(names, spreads))
    norms = [trial.gradient_norm(node) for _, node, _ in points]
    known = [norm for norm in norms if norm is not None]
    if len(known) < len(norms):
        return
    code = _code(known[-1], known[0])
    if code is not None:
        downwards = _change(names[::-1], known[::-1])
        downwards["first"], downwards["last"] = downwards["last"], downwards["first"]
        yield Finding(f"{code}-gradient", "warning", names, downwards)


def _code(before: float, after: float) -> str | None:
    if before == 0 or 1 / FOLD <= after / before <= FOLD:
        return None
    return "vanishing" if after < before else "exploding"


def _change(names: Sequence[str], sizes: Sequence[float]) -> dict[str, Any]:
    """From the first size to the last, and the layer at which it changes most in that direction."""
    grows = sizes[-1] > sizes[0]
    parts = [after / before if before else 1.0 for before, after in pairwise(sizes)]
    place = max(range(len(parts)), key=lambda i: parts[i] if grows else -parts[i]) if parts else 0
    return {
        "first": sizes[0],
        "last": sizes[-1],
        "ratio": sizes[-1] / sizes[0] if sizes[0] else math.inf,
        "count": len(sizes),
        "most": names[place + 1] if parts else names[0],
        "part": parts[place] if parts else math.inf,
    }


def derivatives(trial: Trial) -> Iterator[Finding]:
    """Activations in a row whose largest local derivatives multiply to next to nothing."""
    row = [
        one
        for one in trial.activations
        if one.node in trial.trunk and one is not trial.last and one.profile.steepest < 0.99
    ]
    bound = math.prod(one.profile.steepest for one in row)
    if bound >= PRODUCT:
        return
    typical = math.prod(math.sqrt(float((one.derivative.astype(np.float64) ** 2).mean())) for one in row)
    ends = [trial.gradient_norm(one.source) for one in (row[0], row[-1])]
    vanishes = None not in ends and _code(ends[1] or 0.0, ends[0] or 0.0) == "vanishing"
    measured = {
        "count": len(row),
        "activation": row[0].op.name,
        "steepest": max(one.profile.steepest for one in row),
        "bound": bound,
        "typical": typical,
    }
    names = tuple(_name(trial, one) for one in row)
    yield Finding("small-derivatives", "warning" if vanishes else "note", names, measured)


def saturated(trial: Trial) -> Iterator[Finding]:
    """Squashing activations of which a good part starts where they are flat."""
    found: dict[str, list[tuple[str, float, float]]] = {}
    for one in trial.activations:
        if not one.profile.squashes:
            continue
        flat = np.zeros(one.z.shape, bool)
        for low, high in one.profile.saturated:
            flat |= (one.z > low) & (one.z < high)
        share = float(flat.mean())
        if share > FLAT:
            found.setdefault(one.op.name, []).append((_name(trial, one), share, float(one.z.std())))
    for activation, sites in found.items():
        measured = {
            "share": sum(share for _, share, _ in sites) / len(sites),
            "spread": sum(size for _, _, size in sites) / len(sites),
            "activation": activation,
        }
        yield Finding("saturated", "warning", tuple(name for name, _, _ in sites), measured)
