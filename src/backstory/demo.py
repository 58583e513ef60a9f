"""The demo: a network stops learning, and backstory says why.

An ordinary user's program: ``train`` is theirs, and the rest asks questions about the run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import backstory
from backstory import nn, optim
from backstory.data import digits
from backstory.insight import Change, Run, Why, experiment, why

__all__ = ["CHANGES", "CONFIG", "explain", "record", "save", "train"]

CONFIG = {
    "seed": 0, "lr": 0.5, "momentum": 0.9, "batch": 64, "epochs": 10, "optimizer": "sgd",
    "activation": "relu", "init": "default", "centred": False, "clip": None,
}  # fmt: skip

CHANGES = [
    Change("inputs centred", {"centred": True}),
    Change("learning rate ÷ 10", {"lr": 0.05}),
    Change("He initialisation", {"init": "he"}),
    Change("clipping at norm 1", {"clip": 1.0}),
    Change("LeakyReLU", {"activation": "leaky_relu"}),
    Change("Adam(1e-3)", {"optimizer": "adam", "lr": 1e-3}),
]


def data(config: dict[str, Any]) -> tuple[Any, Any, Any, Any]:
    """Training and test images and labels: every fifth digit is for the test."""
    images, labels = (x.numpy() for x in digits(dtype="float64").tensors)
    if config["centred"]:
        images = images - images.mean(axis=0)
    test = np.arange(len(labels)) % 5 == 4
    parts = images[~test], labels[~test], images[test], labels[test]
    return tuple(backstory.as_tensor(part) for part in parts)  # type: ignore[return-value]


def build(config: dict[str, Any]) -> tuple[nn.Sequential, optim.Optimizer]:
    """The 64-100-100-10 network and its optimizer."""
    act = nn.ReLU if config["activation"] == "relu" else nn.LeakyReLU
    sizes = [(64, 100), (100, 100), (100, 10)]
    layers = [nn.Linear(n, m, dtype=backstory.float64) for n, m in sizes]
    if config["init"] == "he":
        for layer in layers:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    model = nn.Sequential(layers[0], act(), layers[1], act(), layers[2])
    if config["optimizer"] == "adam":
        return model, optim.Adam(model.parameters(), lr=config["lr"])
    return model, optim.SGD(model.parameters(), lr=config["lr"], momentum=config["momentum"])


def train(config: dict[str, Any], watch: Any) -> None:
    """Ten epochs of a loop like any other; the only new words are ``watch``, ``order`` and ``log``."""
    images, labels, test_images, test_labels = data(config)
    model, optimizer = build(config)
    run = watch(model, optimizer, data=images)
    for _ in range(config["epochs"]):
        order = run.order(backstory.randperm(len(images))).numpy()
        for start in range(0, len(order), config["batch"]):
            batch = order[start : start + config["batch"]]
            loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            if config["clip"]:
                nn.utils.clip_grad_norm_(model.parameters(), config["clip"])
            optimizer.step()
    with backstory.no_grad():
        right = model(test_images).argmax(1) == test_labels
    run.log(accuracy=right.numpy().mean())


def record(path: Path) -> Run:
    """Train, watched."""
    return experiment(train, CONFIG, path)


def explain(run: Run) -> None:
    """Who died when and by which update, and why do weights stand still?"""
    run.audit()
    run.keep(*three_whys(run))


def save(run: Run, seeds: int) -> None:
    """What would have helped?"""
    run.counterfactuals(CHANGES, seeds=seeds)


def three_whys(run: Run) -> list[Why]:
    """Three weights of the first layer: of a dead unit, on a pixel that is always 0, and one that moves."""
    images, labels, _, _ = data(run.config)
    model, optimizer = build(run.config)
    run.restore(model, optimizer)
    loss = nn.functional.cross_entropy(model(images), labels)
    first = run.life_table().sites[0]
    brightness = images.numpy().mean(axis=0)
    bright, empty = int(brightness.argmax()), int(brightness.argmin())
    alive = next(unit for unit in range(first.site.units) if unit not in first.dead)
    asked = [(unit, bright) for unit in first.dead[:1]] + [(alive, empty), (alive, bright)]
    weight = dict(model.named_parameters())["0.weight"]
    return [why(loss, weight, index, optimizer, name="0.weight") for index in asked]
