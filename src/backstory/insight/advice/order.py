"""What stands where it should not: at the end, before cross-entropy, around dropout and batch norm."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from backstory.insight.advice.finding import Finding
from backstory.insight.advice.trace import Activation, Dropout, Layer, Norm
from backstory.insight.advice.trial import Trial
from backstory.insight.advice.words import WORDS
from backstory.insight.scan import rows_of_units

__all__ = ["biases", "dropouts", "ending", "norms"]

CANCELS = 1e-4
LAYER_TYPES = {"linear": "nn.Linear", "conv": "nn.Conv2d", "matmul": "the layer"}


def ending(trial: Trial) -> Iterator[Finding]:
    """A softmax before cross-entropy, and an activation after the last layer of a classifier."""
    seen = [(WORDS["whole"], trial.output.array, trial.classifies)]
    seen += [(path or WORDS["whole"], scores, True) for path, scores in trial.tape.scores]
    unlabelled = trial.y is None
    for layer, scores, sure in seen:
        if scores.ndim != 2 or scores.shape[1] < 2 or not (sure or unlabelled):
            continue
        if (scores >= 0).all() and np.allclose(scores.sum(axis=1), 1.0, 0.0, 1e-4):
            classes = scores.shape[1]
            measured = {"classes": classes, "floor": _floor(0.0, 1.0, classes)}
            severity = "error" if sure else "note"
            yield Finding("softmax-before-cross-entropy", severity, (layer,), measured)
            return
    last = trial.last
    many = trial.output.ndim == 2 and trial.output.shape[1] > 1
    if isinstance(last, Activation) and (trial.classifies or (unlabelled and many)):
        yield Finding(
            "activation-after-last-layer",
            "warning" if trial.classifies else "note",
            (last.name,),
            {
                "classes": trial.output.shape[1],
                "activation": last.op.name,
                "low": last.profile.low,
                "high": last.profile.high,
                "closed": float((last.derivative == 0).mean()),
                "floor": _floor(last.profile.low, last.profile.high, trial.output.shape[1]),
            },
        )


def _floor(low: float, high: float, classes: int) -> float:
    """The least cross-entropy of scores between ``low`` and ``high``: ln(1 + (C − 1)·e^(low − high)).

    >>> round(_floor(0.0, 1.0, 10), 4)
    1.4612
    """
    return math.log1p((classes - 1) * math.exp(low - high))


def dropouts(trial: Trial) -> Iterator[Finding]:
    """Dropout right in front of an activation, by whether the two commute."""
    for one in trial.activations:
        front = trial.tape.front(one.source)
        if front.dropout is None:
            continue
        p, name = front.dropout.p, one.op.name
        if one.profile.homogeneous:
            yield Finding("dropout-order", "note", (one.name,), {"p": p, "activation": name})
        else:
            yield Finding("dropout-before-activation", "warning", (one.name,), _kept(one, front.dropout))


def _kept(one: Activation, dropout: Dropout) -> dict[str, Any]:
    """What units hand on as it is, and what with the dropout behind the activation; sizes, on average."""
    scaled = one.z[one.z != 0]
    before, after = (
        float(np.abs(one.apply(z)).mean()) if z.size else 0.0 for z in (scaled, scaled * (1.0 - dropout.p))
    )
    return {
        "p": dropout.p,
        "activation": one.op.name,
        "at_zero": one.profile.at_zero,
        "before": before,
        "after": after / (1.0 - dropout.p),
    }


def norms(trial: Trial) -> Iterator[Finding]:
    """Batch norm of what an activation made."""
    found: dict[str, list[str]] = {}
    for one in trial.tape.made.values():
        if isinstance(one, Norm) and one.batch and one.node in trial.probe:
            made = trial.tape.front(one.source).made
            if isinstance(made, Activation):
                found.setdefault(made.op.name, []).append(one.path or WORDS["whole"])
    for activation, layers in found.items():
        yield Finding("norm-after-activation", "note", tuple(layers), {"activation": activation})


def biases(trial: Trial) -> Iterator[Finding]:
    """Biases whose gradient cancels over the samples, under any upstream: something behind takes them out."""
    found: dict[tuple[str, str], list[tuple[Layer, float]]] = {}
    for layer in trial.layers:
        if layer.bias is None or layer.bias not in trial.probe:
            continue
        g = np.abs(rows := rows_of_units(trial.probe[layer.node], layer.axis)).sum(axis=0, dtype=np.float64)
        moved = g > 0
        if not moved.any() or len(rows) < 2:
            continue
        left = float((np.abs(rows.sum(axis=0, dtype=np.float64))[moved] / g[moved]).max())
        if left < CANCELS:
            behind = "a norm" if layer in trial.normalised else "something"
            found.setdefault((LAYER_TYPES[layer.op], behind), []).append((layer, left))
    for (kind, behind), layers in found.items():
        measured = {
            "cancelled": max(left for _, left in layers),
            "units": sum(layer.units for layer, _ in layers),
            "layer_type": kind,
            "behind": behind,
        }
        yield Finding("bias-before-norm", "warning", tuple(layer.name for layer, _ in layers), measured)
