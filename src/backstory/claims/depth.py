"""Claims about depth: what weights and activations each do to a gradient on its way through many layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

import backstory
from backstory import nn
from backstory.claims.pairs import Sample, dots, over_seeds
from backstory.claims.record import Claim, Effort, Finding, weigh
from backstory.claims.training import inputs
from backstory.insight import GradientFactors, gradient_factors
from backstory.plots import Curves
from backstory.plots.canvas import in_words

__all__ = ["CLAIMS", "DEFAULT", "EXPLODED", "VANISHED", "Deep", "batch", "build", "first_in_last"]

VANISHED, EXPLODED = 1e-3, 1e3
"""The first layer's gradient in the last one's from which on it has vanished, or exploded."""

DEFAULT = math.sqrt(1 / 3)
"""The gain of PyTorch's default initialisation of linear layers."""


@dataclass(frozen=True)
class Deep:
    """``depth`` layers of ``width`` units on digits, weights from N(0, (``gain``/√width)²), biases 0.

    ``norm`` is put in front of every activation; with ``residual`` each layer is added to what it received.
    ``clip`` is the largest norm of the gradient in training.
    """

    depth: int = 30
    width: int = 64
    activation: Callable[[], nn.Module] = nn.ReLU
    gain: float = math.sqrt(2)
    norm: Callable[[int], nn.Module] | None = None
    residual: bool = False
    clip: float = math.inf


def build(recipe: Deep, seed: int) -> nn.Sequential:
    """The network, and a last layer of 10 units behind it."""
    generator = backstory.Generator(seed)
    layers: list[nn.Module] = []
    for i in range(recipe.depth):
        linear = nn.Linear(64 if i == 0 else recipe.width, recipe.width)
        nn.init.normal_(linear.weight, 0.0, recipe.gain / math.sqrt(linear.in_features), generator=generator)
        nn.init.zeros_(linear.bias)  # type: ignore[arg-type]
        parts = [linear, *([] if recipe.norm is None else [recipe.norm(recipe.width)]), recipe.activation()]
        layers += [nn.Residual(*parts)] if recipe.residual and i else parts
    last = nn.Linear(recipe.width, 10, generator=generator)
    return nn.Sequential(*layers, last)


@lru_cache(maxsize=256)
def factors(recipe: Deep, seed: int) -> GradientFactors:
    """The gradient's factors of the untrained network on 128 digits, centred and scaled."""
    images, labels = batch(slice(0, 128))
    model = build(recipe, seed)
    with np.errstate(all="ignore"):
        return gradient_factors(model, images, lambda out: nn.functional.cross_entropy(out, labels))


def batch(rows: slice | np.ndarray) -> tuple[backstory.Tensor, np.ndarray]:
    images, labels, *_ = inputs()
    scaled = (images[rows] - images.mean(axis=0)) / images.std()
    return backstory.as_tensor(scaled.astype(np.float32)), labels[rows]


def first_in_last(recipe: Deep, seeds: int) -> Sample:
    """‖∂L/∂z₁‖ in ‖∂L/∂z_last‖."""

    def ratio(seed: int) -> float:
        norms = factors(recipe, seed).norms
        return float(norms[0] / norms[-1]) if norms[-1] else 0.0

    return over_seeds(ratio, seeds)


def split(recipes: Mapping[str, Deep], seed: int = 0) -> tuple[Curves, Curves, Curves]:
    """By layer, from the last: the gradient's norm, and the products of both kinds of factors so far."""
    norms, activations, weights = {}, {}, {}
    for name, recipe in recipes.items():
        found = factors(recipe, seed)
        layers = np.arange(1, len(found.norms) + 1)
        norms[name] = (layers, found.norms / found.norms[-1])
        with np.errstate(all="ignore"):
            activations[name] = (layers, np.cumprod(found.activations[::-1])[::-1])
            weights[name] = (layers[:-1], np.cumprod(found.weights[::-1])[::-1])
    return (
        Curves("‖∂L/∂z‖ of a layer in that of the last", norms, "layer", "y"),
        Curves("Activations' factors, from the last layer to here", activations, "layer", "y"),
        Curves("Weights' factors, from the last layer to here", weights, "layer", "y"),
    )


def ten_sigmoids(effort: Effort) -> Finding:
    """Ten sigmoids behind weights of three sizes: their own factor, and the whole gradient."""
    recipes = {
        f"weights of std {gain:g}/√fan_in": Deep(10, activation=nn.Sigmoid, gain=gain)
        for gain in (1.0, 4.0, 8.0)
    }
    own, whole = {}, {}
    for name, recipe in recipes.items():
        found = [factors(recipe, seed) for seed in range(effort.seeds)]
        own[name] = Sample(tuple(float(np.prod(one.activations)) for one in found))
        whole[name] = Sample(tuple(one.product for one in found))
    bound = 0.25**10
    return Finding(
        weigh({name: found.interval[1] <= bound for name, found in whole.items()}, "on the weights"),
        f"Ten sigmoids give at most 0.25¹⁰ = {bound:.2g}; their factor, and all factors".replace(
            "e-07", "·10⁻⁷"
        ),
        {name: f"{own[name]:p}, with the weights {whole[name]:p}" for name in recipes},
        {f"{name}, sigmoids": max(found.values) for name, found in own.items()}
        | {f"{name}, whole": found.median for name, found in whole.items()},
        split(recipes),
    )


def relu_vanishes(effort: Effort) -> Finding:
    """Thirty layers of ReLU from several weights, and of few units each."""
    recipes = {
        "He (2/fan_in)": Deep(),
        "Xavier (1/fan_in)": Deep(gain=1.0),
        "PyTorch's default (1/(3 fan_in))": Deep(gain=DEFAULT),
        "He with layers of 5 units": Deep(width=5),
    }
    ratios = {name: first_in_last(recipe, effort.seeds) for name, recipe in recipes.items()}
    gates = [
        np.prod(factors(recipes["He (2/fan_in)"], seed).activations[:-1]) for seed in range(effort.seeds)
    ]
    return Finding(
        weigh(
            {n: r.interval[0] > VANISHED for n, r in ratios.items()}, "on the weights and the closed gates"
        ),
        "First layer's gradient in the last's, of 30 layers",
        {name: f"{ratio:p}" for name, ratio in ratios.items()},
        {name: ratio.median for name, ratio in ratios.items()} | {"gates": float(np.median(gates))},
        split(recipes),
        f"The gates have a factor too: half of them are closed, which alone gives "
        f"{in_words(float(np.median(gates)), 'p')}; He's weights make up for it.",
    )


def norm_above_one(effort: Effort) -> Finding:
    """Weights whose spectral norm is above 1, and what they do to the gradient per layer."""
    gains = {"Xavier (1/fan_in)": 1.0, "He (2/fan_in)": math.sqrt(2), "twice He's std": 2 * math.sqrt(2)}
    growth, norms = {}, {}
    for name, gain in gains.items():
        ratios = first_in_last(Deep(gain=gain), effort.seeds)
        growth[name] = Sample(tuple(value ** (1 / 29) for value in ratios.values))
        norms[name] = over_seeds(lambda seed, gain=gain: _spectral_norm(gain, seed), effort.seeds)
    holds = {name: found.interval[0] ** 29 > EXPLODED for name, found in growth.items()}
    return Finding(
        weigh(holds, "on the whole product, not on one norm"),
        "Spectral norm of a layer of 64 ReLU units, and the gradient's growth per layer over 30",
        {name: f"‖W‖ = {norms[name]:.1f}, gradient × {found:.2f} a layer" for name, found in growth.items()},
        {f"{name}, norm": norms[name].median for name in gains}
        | {f"{name}, growth": found.median for name, found in growth.items()},
        (
            dots("Spectral norm ‖W‖ of a layer", norms, reference=1.0),
            dots("Growth of the gradient per layer, backwards", growth, reference=1.0),
        ),
        "Few directions are stretched by ‖W‖, and half of the gates are closed.",
    )


def _spectral_norm(gain: float, seed: int) -> float:
    weight: Any = build(Deep(depth=2, gain=gain), seed)[2].weight
    return float(np.linalg.norm(weight.detach().numpy(), 2))


CLAIMS = (
    Claim(
        "ten-sigmoids",
        "Ten sigmoids shrink the gradient to 0.25¹⁰ ≈ 10⁻⁶ or less.",
        "Tutorials; Glorot & Bengio 2010, section 4",
        ten_sigmoids,
    ),
    Claim(
        "relu-vanishes",
        "ReLU's gradient does not vanish.",
        "Glorot, Bordes & Bengio 2011, section 3.1",
        relu_vanishes,
    ),
    Claim(
        "norm-above-one",
        "Weights with a norm above 1 make gradients explode.",
        "Pascanu, Mikolov & Bengio 2013: necessary, not sufficient",
        norm_above_one,
    ),
)
