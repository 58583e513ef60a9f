"""The remedies that are told against vanishing and exploding gradients, each tried on a deep network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

import numpy as np

from backstory import nn, optim
from backstory.claims.depth import DEFAULT, EXPLODED, VANISHED, Deep, batch, build, first_in_last
from backstory.claims.pairs import dots, over_seeds
from backstory.claims.record import Claim, Effort, Finding, weigh
from backstory.claims.training import inputs
from backstory.plots.canvas import in_words

__all__ = ["CLAIMS"]

STEPS = 80
PLAIN = Deep(15, gain=DEFAULT)
LARGE = Deep(15, gain=2 * math.sqrt(2))
VANISHING = {
    "sigmoid": replace(PLAIN, activation=nn.Sigmoid),
    "ReLU": PLAIN,
    "ReLU from He": Deep(15),
    "residual connections": replace(PLAIN, residual=True),
    "batch norm": replace(PLAIN, norm=nn.BatchNorm1d),
    "layer norm": replace(PLAIN, norm=nn.LayerNorm),
    "clipping at norm 1": replace(PLAIN, clip=1.0),
}
"""What ails, and the remedies: the first is of sigmoids, all others of ReLUs."""

EXPLODING = {
    "twice He's std": LARGE,
    "He": Deep(15),
    "sigmoid": replace(LARGE, activation=nn.Sigmoid),
    "residual connections": replace(LARGE, residual=True),
    "batch norm": replace(LARGE, norm=nn.BatchNorm1d),
    "layer norm": replace(LARGE, norm=nn.LayerNorm),
    "clipping at norm 1": replace(LARGE, clip=1.0),
}


@lru_cache(maxsize=256)
def loss_left(recipe: Deep, seed: int) -> float:
    """The loss after training with Adam at 0.003, in that of guessing (ln 10); infinite if it got lost."""
    model, order = build(recipe, seed), np.random.default_rng(seed)
    optimizer = optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    with np.errstate(all="ignore"):
        for _ in range(STEPS):
            images, labels = batch(order.integers(0, len(inputs()[1]), 64))
            loss = nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            if recipe.clip < math.inf:
                nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
            optimizer.step()
            losses.append(loss.item())
    return float(np.mean(losses[-5:])) / math.log(10)


def cures(effort: Effort, recipes: Mapping[str, Deep], start: str) -> Finding:
    """The first of ``recipes`` is what ails. A cure keeps the gradient's size, and ends with less loss."""
    seeds = max(6, effort.seeds // 2)
    ratios = {name: first_in_last(recipe, seeds) for name, recipe in recipes.items()}
    losses = {
        name: over_seeds(lambda seed, recipe=recipe: loss_left(recipe, seed), seeds)
        for name, recipe in recipes.items()
    }
    ill, *tried = recipes
    kept = {name: min(r.interval) > VANISHED and max(r.interval) < EXPLODED for name, r in ratios.items()}
    holds = {name: kept[name] and losses[ill].above(losses[name]) for name in tried}
    return Finding(
        weigh(holds, "on the remedy"),
        f"15 layers {start}: first layer's gradient in the last's, loss after {STEPS} steps (guessing: 1)",
        {n: f"gradient {in_words(r.median, 'p')}, loss {losses[n]:p}" for n, r in ratios.items()},
        {f"{name}, gradient": ratio.median for name, ratio in ratios.items()}
        | {f"{name}, loss": loss.median for name, loss in losses.items()},
        (
            dots(
                "First layer's gradient in the last's",
                ratios,
                form="p",
                log=True,
                reference=1.0,
                compared=True,
            ),
            dots(
                f"Loss after {STEPS} steps (guessing: 1)",
                losses,
                form="p",
                log=True,
                reference=1.0,
                compared=True,
            ),
        ),
    )


def vanishing_remedies(effort: Effort) -> Finding:
    """Remedies for a network from PyTorch's default."""
    return cures(effort, VANISHING, "from PyTorch's default")


def exploding_remedies(effort: Effort) -> Finding:
    """The same for weights twice as large as He's."""
    return cures(effort, EXPLODING, "from twice He's std")


CLAIMS = (
    Claim(
        "vanishing-remedies",
        "ReLU, He, residual connections, normalisation and clipping cure vanishing gradients.",
        "Tutorials; He et al. 2015; Ioffe & Szegedy 2015; Ba et al. 2016",
        vanishing_remedies,
    ),
    Claim(
        "exploding-remedies",
        "He, sigmoid, residual connections, normalisation and clipping cure exploding gradients.",
        "Tutorials; Pascanu, Mikolov & Bengio 2013",
        exploding_remedies,
    ),
)
