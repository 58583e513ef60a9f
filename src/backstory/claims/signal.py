"""Claims about what flows through a network at its start: means, variances, dropout."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

import backstory
from backstory import nn
from backstory.claims.pairs import Sample, dots
from backstory.claims.record import Claim, Effort, Finding, weigh
from backstory.plots import Curves, Dots
from backstory.plots.canvas import in_words

__all__ = ["CLAIMS"]

CENTRED = 0.05  # of the standard deviation
DEPTH, WIDTH, BATCH = 20, 256, 256
KEPT = 0.05  # a factor per layer so near to what is claimed
ROUNDING = 1e-12

ACTIVATIONS: dict[str, nn.Module] = {
    "ReLU": nn.ReLU(),
    "LeakyReLU": nn.LeakyReLU(),
    "PReLU": nn.PReLU(dtype="float64"),
    "sigmoid": nn.Sigmoid(),
    "tanh": nn.Tanh(),
    "softplus": nn.Softplus(),
    "ELU": nn.ELU(),
    "GELU": nn.GELU(),
}


def batch_norm_centred(effort: Effort) -> Finding:
    """The mean of what comes out: batch norm in front of ReLU, none, and batch norm behind it."""
    orders: dict[str, Callable[[], list[nn.Module]]] = {
        "batch norm then ReLU": lambda: [nn.BatchNorm1d(64), nn.ReLU()],
        "ReLU alone": lambda: [nn.ReLU()],
        "ReLU then batch norm": lambda: [nn.ReLU(), nn.BatchNorm1d(64)],
    }
    outs = {
        name: [_behind_layer(seed, make()) for seed in range(effort.seeds)] for name, make in orders.items()
    }
    means = {name: Sample(tuple(float(a.mean() / a.std()) for a in found)) for name, found in outs.items()}
    plain = Sample(tuple(float(a.mean()) for a in outs["batch norm then ReLU"]))
    claimed = means["batch norm then ReLU"]
    return Finding(
        weigh({"batch norm then ReLU": max(map(abs, claimed.interval)) <= CENTRED}, "on the order"),
        "Mean of the outputs in their standard deviations",
        {name: f"{found:.2f}" for name, found in means.items()},
        {name: found.median for name, found in means.items()} | {"mean of ReLU": plain.median},
        (dots("Mean of the outputs in standard deviations", means, reference=0.0),),
        f"Behind batch norm ReLU's mean is {plain.median:.3f}; of a standard normal it would be 1/√(2π) = "
        f"{1 / math.sqrt(2 * math.pi):.3f}.",
    )


def _behind_layer(seed: int, modules: list[nn.Module]) -> np.ndarray:
    """What the modules make of a random layer's outputs, (512, 64), on normal inputs."""
    generator = backstory.Generator(seed)
    model = nn.Sequential(nn.Linear(32, 64, generator=generator), *modules)
    return model(backstory.randn(512, 32, generator=generator)).detach().numpy()


def he_variance(effort: Effort) -> Finding:
    """Second moment and variance through twenty layers of ReLU, from He."""
    found = [_moments(seed, math.sqrt(2)) for seed in range(effort.seeds)]
    kinds = {"second moment E[z²]": [f[0] for f in found], "variance over the samples": [f[1] for f in found]}
    factors = {name: _per_layer(moments) for name, moments in kinds.items()}
    holds = {name: all(abs(end - 1) <= KEPT for end in f.interval) for name, f in factors.items()}
    last = {name: float(np.median([m[-1] / m[0] for m in moments])) for name, moments in kinds.items()}
    return Finding(
        weigh(holds, "on what is called variance"),
        f"Pre-activations of {DEPTH} layers of {WIDTH} ReLU units from N(0, 2/fan_in)",
        {n: f"× {factors[n]:.2f} a layer, {last[n]:.2f} × the first in the last" for n in kinds},
        {name: factor.median for name, factor in factors.items()},
        (_by_layer(kinds),),
        "The samples grow alike from layer to layer: what is kept is what all of them share.",
    )


def xavier_halves(effort: Effort) -> Finding:
    """The second moment through twenty layers from N(0, 1/fan_in), and from He to compare."""
    gains = {"Xavier (1/fan_in)": 1.0, "He (2/fan_in)": math.sqrt(2)}
    moments = {n: [_moments(seed, gain)[0] for seed in range(effort.seeds)] for n, gain in gains.items()}
    factors = {name: _per_layer(found) for name, found in moments.items()}
    halved = all(abs(end - 0.5) <= KEPT / 2 for end in factors["Xavier (1/fan_in)"].interval)
    last = {name: float(np.median([m[-1] / m[0] for m in found])) for name, found in moments.items()}
    return Finding(
        weigh({"Xavier (1/fan_in)": halved}, ""),
        f"E[z²] of the pre-activations of {DEPTH} layers of {WIDTH} ReLU units",
        {n: f"× {factors[n]:.2f} a layer, {in_words(last[n], 'p')} × the first in the last" for n in gains},
        {name: factor.median for name, factor in factors.items()},
        (_by_layer(moments),),
        "PyTorch's Xavier, 2/(fan_in + fan_out), is the same where layers are equally wide.",
    )


def _moments(seed: int, gain: float) -> tuple[np.ndarray, np.ndarray]:
    """Of the pre-activations of every layer: mean of z², and variance over the samples; std gain/√fan_in."""
    generator = backstory.Generator(seed)
    a = backstory.randn(BATCH, WIDTH, generator=generator)
    second, variance = [], []
    for _ in range(DEPTH):
        weight = backstory.randn(WIDTH, WIDTH, generator=generator) * (gain / math.sqrt(WIDTH))
        z = a @ weight
        second.append((z.numpy() ** 2).mean())
        variance.append(z.numpy().var(axis=0).mean())
        a = backstory.relu(z)
    return np.array(second), np.array(variance)


def _per_layer(moments: list[np.ndarray]) -> Sample:
    return Sample(tuple(float((m[-1] / m[0]) ** (1 / (DEPTH - 1))) for m in moments))


def _by_layer(kinds: dict[str, list[np.ndarray]]) -> Curves:
    layers = np.arange(1, DEPTH + 1)
    parts = {kind: np.array([m / m[0] for m in found]) for kind, found in kinds.items()}
    return Curves(
        "By layer, the first = 1",
        {kind: (layers, np.median(part, axis=0)) for kind, part in parts.items()},
        "layer",
        "y",
        {kind: (part.min(axis=0), part.max(axis=0)) for kind, part in parts.items()},
    )


def dropout_order(effort: Effort) -> Finding:
    """dropout(f(z)) against f(dropout(z)) with the same mask."""
    z = backstory.randn(64, 64, dtype="float64", generator=backstory.Generator(0))
    drop = nn.Dropout(0.3)
    differences = {}
    for name, activation in ACTIVATIONS.items():
        outs = []
        for order in ((activation, drop), (drop, activation)):
            backstory.manual_seed(1)
            outs.append(nn.Sequential(*order)(z).detach().numpy())
        differences[name] = float(np.abs(outs[0] - outs[1]).max())
    return Finding(
        weigh({name: value > ROUNDING for name, value in differences.items()}, "on the activation"),
        "Largest difference between both orders with the same mask, float64",
        {name: in_words(value, "p") for name, value in differences.items()},
        differences,
        (Dots("Largest difference between the orders", {n: [v] for n, v in differences.items()}, form="p"),),
        "They commute where f(cz) = c·f(z) for every c ≥ 0.",
    )


CLAIMS = (
    Claim(
        "batch-norm-centred",
        "Batch norm makes ReLU's outputs centred.",
        "Ioffe & Szegedy 2015 put it in front of the activation",
        batch_norm_centred,
    ),
    Claim("he-variance", "He initialisation keeps the variance.", "He et al. 2015, section 2.2", he_variance),
    Claim(
        "xavier-halves",
        "With Xavier initialisation (1/fan_in) every ReLU layer halves the signal.",
        "He et al. 2015, section 2.2",
        xavier_halves,
    ),
    Claim(
        "dropout-order",
        "Dropout must come after the activation.",
        "Srivastava et al. 2014; tutorials",
        dropout_order,
    ),
)
