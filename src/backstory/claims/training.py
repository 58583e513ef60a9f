"""The training on which claims about training are tried: a small network on handwritten digits.

A recipe says what is done; what it does not say is as usual. The same seed gives the same weights and batches
under every recipe, so that outcomes are pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

import backstory
from backstory import nn, optim
from backstory.claims.pairs import Sample
from backstory.data import digits
from backstory.insight.scan import DEAD, evaluation, local_derivative, scan
from backstory.insight.sites import Observer, observing
from backstory.ops import Op
from backstory.tensor import Tensor

__all__ = ["Outcome", "Recipe", "build", "fitted", "inputs", "open_shares", "outcomes", "prepared", "train"]


@dataclass(frozen=True)
class Recipe:
    """64 – ``hidden`` – 10 on digits, cross-entropy, ``steps`` batches of 64.

    ``initial`` is ``"default"`` (PyTorch's) or ``"he"``; ``bias`` is added to hidden biases, ``weight`` to
    hidden weights, ``shift`` to every pixel, after ``centred`` has subtracted their means. ``killed`` units
    of every hidden layer are dead from the start: their bias is −10⁶, and no gradient moves it.
    ``warm_up`` raises the rate from 0 over so many steps. ``labels="random"`` leaves nothing to learn but
    memory, of the first ``samples`` images.
    """

    hidden: tuple[int, ...] = (100, 100)
    activation: Callable[[], nn.Module] = nn.ReLU
    initial: str = "default"
    bias: float = 0.0
    weight: float = 0.0
    killed: int = 0
    batch_norm: bool = False
    centred: bool = False
    shift: float = 0.0
    optimizer: str = "SGD"
    lr: float = 0.05
    momentum: float = 0.9
    warm_up: int = 0
    steps: int = 100
    samples: int = 0
    labels: str = "true"


@dataclass(frozen=True)
class Outcome:
    """How a training ended: shares of dead units and of open gates, and the accuracy.

    That is on held-out digits, and on the training's own where the recipe tells how many ``samples``.
    """

    dead: float
    born_dead: float
    open: float
    accuracy: float


@cache
def inputs() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training and held-out images and labels; every fifth digit is held out."""
    images, labels = (part.numpy() for part in digits(dtype="float32").tensors)
    held_out = np.arange(len(labels)) % 5 == 4
    return images[~held_out], labels[~held_out], images[held_out], labels[held_out]


def build(recipe: Recipe, seed: int) -> nn.Sequential:
    """The network before its first step; a hidden layer is Linear, batch norm if asked for, activation."""
    generator = backstory.Generator(seed)
    layers: list[nn.Module] = []
    sizes = (64, *recipe.hidden, 10)
    for i, (n, m) in enumerate(pairwise(sizes)):
        layer = nn.Linear(n, m, generator=generator)
        if recipe.initial == "he":
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
        assert layer.bias is not None
        if recipe.initial != "default":
            nn.init.zeros_(layer.bias)
        layers.append(layer)
        if i < len(recipe.hidden):
            layer.weight.detach().add_(recipe.weight)
            layer.bias.detach().add_(recipe.bias)
            layer.bias.detach()[: recipe.killed].fill_(-1e6)
            layers += [nn.BatchNorm1d(m)] if recipe.batch_norm else []
            layers.append(recipe.activation())
    return nn.Sequential(*layers)


def prepared(recipe: Recipe, seed: int) -> tuple[Tensor, np.ndarray, Tensor, np.ndarray]:
    """The images as the recipe shows them, and the labels."""
    images, labels, held_out, held_labels = inputs()
    mean = images.mean(axis=0) if recipe.centred else 0.0
    images, held_out = (part - mean + np.float32(recipe.shift) for part in (images, held_out))
    if recipe.samples:
        images, labels = images[: recipe.samples], labels[: recipe.samples]
        if recipe.labels == "random":
            labels = np.random.default_rng(seed).integers(0, 10, len(labels))
        held_out, held_labels = images, labels
    return backstory.as_tensor(images), labels, backstory.as_tensor(held_out), held_labels


def fitted(recipe: Recipe, seed: int) -> nn.Sequential:
    """The network at the end of the training."""
    return _trained(recipe, seed)[0]


@lru_cache(maxsize=2048)
def train(recipe: Recipe, seed: int) -> Outcome:
    """One training from its seed to its end."""
    model, born = _trained(recipe, seed)
    images, _, held_out, held_labels = prepared(recipe, seed)
    with evaluation(model):
        right = model(held_out).numpy().argmax(axis=1) == held_labels
    shares = np.concatenate(open_shares(model, images))
    return Outcome(_dead(model, images), born, float(shares.mean()), float(right.mean()))


def _trained(recipe: Recipe, seed: int) -> tuple[nn.Sequential, float]:
    """The network, and the share of units that were born dead."""
    backstory.manual_seed(seed)
    model = build(recipe, seed)
    images, labels, *_ = prepared(recipe, seed)
    settings = {"momentum": recipe.momentum} if recipe.optimizer == "SGD" else {}
    optimizer = getattr(optim, recipe.optimizer)(model.parameters(), lr=recipe.lr, **settings)
    born = _dead(model, images)
    order = np.random.default_rng(seed + 1000)
    with np.errstate(all="ignore"):
        for step in range(recipe.steps):
            if recipe.warm_up:
                optimizer.param_groups[0]["lr"] = recipe.lr * min(1.0, (step + 1) / recipe.warm_up)
            batch = order.integers(0, len(labels), 64)
            loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model, born


def outcomes(recipe: Recipe, seeds: int) -> dict[str, Sample]:
    """The outcomes over seeds, each field a sample."""
    found = [train(recipe, seed) for seed in range(seeds)]
    return {key: Sample(tuple(getattr(one, key) for one in found)) for key in Outcome.__annotations__}


def _dead(model: nn.Module, images: Tensor) -> float:
    states = [site.states for site in scan(model, images).values()]
    return float(np.mean(np.concatenate(states) == DEAD)) if states else 0.0


class _Open(Observer):
    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.shares: list[np.ndarray] = []

    def gate(self, key: Any, op: Op, args: Any, result: Tensor, params: Any) -> None:
        derivative = local_derivative(op, args, result, params, self.units_of(args[0]))
        self.shares.append(np.asarray(derivative != 0).mean(axis=0))


def open_shares(model: nn.Module, x: Any) -> list[np.ndarray]:
    """For every site the share of samples for which each unit's gate is open (its local derivative not 0)."""
    observer = _Open(model)
    with evaluation(model), observing(observer):
        observer.restart()
        model(backstory.as_tensor(x))
    return observer.shares
