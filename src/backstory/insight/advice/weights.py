"""Weights as they start: copies of each other, too small or too large, or in a net too deep and narrow."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from backstory.insight.advice.finding import Finding
from backstory.insight.advice.trace import Activation, Layer
from backstory.insight.advice.trial import Trial

__all__ = ["born_dead_bounds", "born_dead_share", "copies", "depth", "scales"]

TOO_SMALL, TOO_LARGE = 0.6, 1.5
CHANCE = 0.1
FOLD = 10.0
DRAWS = 200


def copies(trial: Trial) -> Iterator[Finding]:
    """Units of a layer that are equal and receive equal gradients."""
    seen: set[int] = set()
    for layer in trial.layers:
        if id(layer.weight) in seen or layer.weight not in trial.probe or layer.units < 2:
            continue
        seen.add(id(layer.weight))
        groups = _groups(trial, layer)
        if groups:
            units = sum(map(len, groups))
            distinct = layer.units - units + len(groups)
            measured = {
                "copies": units,
                "units": layer.units,
                "distinct": distinct,
                "features": "one feature" if distinct == 1 else "several features",
            }
            yield Finding("symmetric-weights", "error", (layer.name,), measured)


def _groups(trial: Trial, layer: Layer) -> list[np.ndarray]:
    """The groups of two or more units of equal weights, biases and gradients."""
    values = [layer.rows(layer.weight.array)]
    gradients = [layer.rows(trial.probe[layer.weight])]
    if layer.bias is not None:
        values.append(layer.bias.array.reshape(-1, 1))
        if layer.bias in trial.probe:
            gradients.append(trial.probe[layer.bias].reshape(-1, 1))
    gradient = np.concatenate(gradients, axis=1)
    _, place = np.unique(np.concatenate(values, axis=1), axis=0, return_inverse=True)
    place = place.reshape(-1)
    near = 1e-4 * float(np.abs(gradient).max())
    found = []
    for number in np.flatnonzero(np.bincount(place) > 1):
        units = np.flatnonzero(place == number)
        same = units[(np.abs(gradient[units] - gradient[units[0]]) <= near).all(axis=1)]
        if len(same) > 1:
            found.append(same)
    return found


def scales(trial: Trial) -> Iterator[Finding]:
    """Weights whose size does not fit the activation behind them: Xavier before ReLU, He before tanh."""
    groups: dict[tuple[str, str, str], list[tuple[Layer, Activation]]] = {}
    for activation in trial.activations:
        layer = trial.layer_of(activation)
        if layer is None or activation is trial.last or activation.profile.at_zero != 0:
            continue
        code = _misfit(layer, activation)
        if code == "init-too-small" and activation.node not in trial.trunk:
            continue  # a skip connection carries the signal past it, and small branches are meant
        if code is not None:
            key = (code, activation.op.name, _rule(layer))
            pairs = groups.setdefault(key, [])
            if all(other.weight is not layer.weight for other, _ in pairs):
                pairs.append((layer, activation))
    for (code, name, rule), pairs in groups.items():
        signal, gradient = _folds(trial, pairs)
        grave = any(not 1 / FOLD < fold < FOLD for fold in (signal, gradient))
        first = pairs[0][1].profile
        measured = {
            "scale": math.exp(sum(math.log(layer.scale) for layer, _ in pairs) / len(pairs)),
            "wanted": first.wanted,
            "activation": name,
            "rule": rule,
            "count": len(pairs),
            "layers": "one layer" if len(pairs) == 1 else "several layers",
            "signal": signal,
            "gradient": gradient,
            "kept": first.gain**-2,
        }
        layers = tuple(layer.name for layer, _ in pairs)
        yield Finding(code, "warning" if grave else "note", layers, measured)


def _glorot(layer: Layer) -> float:
    positions = layer.fan_out / layer.units
    return 2.0 * layer.fan_in / (layer.fan_in + layer.units * positions)


def _misfit(layer: Layer, activation: Activation) -> str | None:
    """Whether the weights are surely too small or too large, beyond the chance of drawing them."""
    scale, wanted = layer.scale, activation.profile.wanted
    if float(np.ptp(layer.weight.array)) == 0.0:
        return None
    chance = 3.0 * math.sqrt(2.0 / layer.weight.numel())
    low = high = wanted
    if activation.profile.squashes:  # Glorot's compromise with fan_out is as good
        low, high = min(low, wanted * _glorot(layer)), max(high, wanted * _glorot(layer))
    if scale * (1.0 + chance) < TOO_SMALL * low:
        return "init-too-small"
    return "init-too-large" if scale * (1.0 - chance) > TOO_LARGE * high else None


def _rule(layer: Layer) -> str:
    """The name of the usual rule that such weights come from."""
    near = 0.1 + 3.0 * math.sqrt(2.0 / layer.weight.numel())
    rules = (("glorot", _glorot(layer)), ("lecun", 1.0), ("he", 2.0), ("default", 1.0 / 3.0))
    distance, name = min((abs(math.log(layer.scale / value)), name) for name, value in rules)
    ties = [name for name, value in rules if abs(math.log(layer.scale / value)) <= distance + 1e-12]
    return (ties[0] if ties else name) if distance < near else "unknown"


def _folds(trial: Trial, pairs: list[tuple[Layer, Activation]]) -> tuple[float, float]:
    """By how much a signal changes from before the first layer to behind the last, and a gradient back."""
    first, last = pairs[0], pairs[-1]
    signal = last[1].leaving / first[0].arriving if first[0].arriving else 1.0
    low, high = (trial.gradient_norm(one[1].source) for one in (first, last))
    return signal, low / high if low is not None and high else 1.0


def depth(trial: Trial) -> Iterator[Finding]:
    """Whether so many ReLU layers of such widths, with weights of both signs, are often born dead."""
    chain = []
    for activation in trial.activations:
        layer = trial.layer_of(activation)
        closes = activation.node in trial.trunk and activation.profile.closes
        if closes and layer is not None and layer.op != "conv":
            chain.append(layer)
    widths = [layer.units for layer in chain]
    if born_dead_bounds(widths)[1] < CHANCE or _leaning(chain):
        return
    x = trial.x[0].array
    if x.shape[1:] != (chain[0].fan_in,) or x.dtype.kind != "f":
        x = np.random.default_rng(1).standard_normal((len(x), chain[0].fan_in))
    drawn = born_dead_share(widths, x)
    if drawn < CHANCE:
        return
    wider = next(n for n in range(1, 64) if born_dead_bounds([n] * len(widths))[1] < 0.01)
    measured = {
        "depth": len(widths),
        "width": min(widths),
        "drawn": drawn,
        "chance": born_dead_bounds(widths)[1],
        "draws": DRAWS,
        "wider": wider,
    }
    yield Finding("likely-born-dead", "warning", tuple(layer.name for layer in chain), measured)


def _leaning(chain: list[Layer]) -> bool:
    """Whether the weights are positive more often than by chance, as those of ``asymmetric_`` are."""
    weights = np.concatenate([layer.weight.array.reshape(-1).astype(np.float64) for layer in chain])
    return float(weights.sum()) > 2.5 * math.sqrt(float((weights**2).sum()))


def born_dead_bounds(widths: Sequence[int]) -> tuple[float, float]:
    """Bounds of the probability that a ReLU net with hidden layers of these widths is born dead.

    That is, the same for every input. Weights are symmetric about 0. The upper bound, 1 − Π(1 − 2⁻ⁿ), is the
    probability that one given input is closed off by some layer: Lu et al. 2019 (arXiv:1903.06733), where
    biases are symmetric or 0. The lower bound holds for one input feature and biases of 0: such a net maps
    each half of the line to a ray, both rays are alive behind the first layer with probability 1 − 2¹⁻ⁿ
    and else one, and both die most seldom where they die independently.

    >>> low, high = born_dead_bounds([2] * 9)
    >>> round(low, 3), round(high, 3)
    (0.855, 0.925)
    >>> born_dead_bounds([64] * 9)[1] < 1e-17
    True
    """
    survives = [1.0 - 2.0**-n for n in widths]
    high = 1.0 - math.prod(survives)
    if not widths:
        return 0.0, 0.0
    dies, alone = 1.0 - math.prod(survives[1:]), 2.0 ** (1 - widths[0])
    return (1.0 - alone) * dies**2 + alone * dies, high


def born_dead_share(widths: Sequence[int], x: np.ndarray, draws: int = DRAWS, seed: int = 0) -> float:
    """Of so many nets drawn from He without biases, the share that is the same for all rows of ``x``.

    >>> x = np.linspace(-1, 1, 8)[:, None]
    >>> born_dead_share([2] * 9, x) > 0.8, born_dead_share([32] * 9, x)
    (True, 0.0)
    """
    rng = np.random.default_rng(seed)
    dead = 0
    for _ in range(draws):
        a = x
        for width in widths:
            a = np.maximum(a @ rng.standard_normal((a.shape[1], width)) * math.sqrt(2.0 / a.shape[1]), 0.0)
        dead += not a.any()
    return dead / draws
