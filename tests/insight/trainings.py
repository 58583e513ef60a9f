"""Small trainings that the tests record and rerun, and what they need; other processes import this too."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

import backstory
from backstory import nn, optim

CONFIG = {
    "seed": 3, "lr": 0.4, "momentum": 0.0, "dampening": 0.0, "weight_decay": 0.0, "nesterov": False,
    "optimizer": "sgd", "steps": 14, "batch": 16, "bias": True, "clip": None, "rows": 48, "snapshots": [],
}  # fmt: skip


def inputs(rows: int = 48, features: int = 5, seed: int = 1) -> np.ndarray:
    """Inputs that are all positive, as pixels are: units die easily on them."""
    return np.random.default_rng(seed).uniform(0.0, 2.0, (rows, features))


def targets(x: np.ndarray) -> np.ndarray:
    """Something to regress on."""
    return np.sin(3 * x[:, :1]) - 2.0 * x[:, 1:2]


def network(bias: bool = True, width: int = 8) -> nn.Sequential:
    """5-8-8-1, in float64."""
    sizes = [(5, width), (width, width), (width, 1)]
    first, second, last = (nn.Linear(n, m, bias=bias, dtype=backstory.float64) for n, m in sizes)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), last)


class Halved(optim.SGD):
    """A rule of its own: half of SGD's step."""

    def update(self, xp: Any, p: Any, g: Any, state: Any, group: Any) -> Any:
        change, state = super().update(xp, p, g, state, group)
        return change / 2, state


def optimizer_of(model: nn.Module, config: dict[str, Any]) -> optim.Optimizer:
    """The configured optimizer."""
    if config["optimizer"] == "adam":
        return optim.Adam(model.parameters(), lr=config["lr"])
    if config["optimizer"] == "adamw":
        return optim.AdamW(model.parameters(), lr=config["lr"], weight_decay=config["weight_decay"])
    keys = ("lr", "momentum", "dampening", "weight_decay", "nesterov")
    kind = Halved if config["optimizer"] == "halved" else optim.SGD
    return kind(model.parameters(), **{key: config[key] for key in keys})


def regress(config: dict[str, Any], watch: Any) -> None:
    """A regression at a large rate, in which units of both layers die and some revive.

    It goes on from ``run.step``, and takes snapshots before the steps that the config names.
    """
    x = inputs(config["rows"])
    y = targets(x)
    model = network(config["bias"])
    optimizer = optimizer_of(model, config)
    run = watch(model, optimizer, data=x)
    for step in range(run.step, config["steps"]):
        if step in config["snapshots"]:
            run.take_snapshot()
        batch = run.order(backstory.randperm(len(x))[: config["batch"]]).numpy()
        loss = nn.functional.mse_loss(model(backstory.as_tensor(x[batch])), backstory.as_tensor(y[batch]))
        optimizer.zero_grad()
        loss.backward()
        if config["clip"]:
            nn.utils.clip_grad_norm_(model.parameters(), config["clip"])
        optimizer.step()
    with backstory.no_grad():
        error = nn.functional.mse_loss(model(backstory.as_tensor(x)), backstory.as_tensor(y))
    run.log(score=-error.item())


def compiled(config: dict[str, Any], watch: Any) -> None:
    """A regression whose step is native code: normalised, in float32, with snapshots before steps."""
    x = inputs(config["rows"]).astype(np.float32)
    y = targets(x)
    parts = (nn.Linear(5, 16), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 16), nn.BatchNorm1d(16), nn.PReLU())
    model = nn.Sequential(*parts, nn.Dropout(0.1), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = optimizer_of(model, config)
    run = watch(model, optimizer, data=x)

    @backstory.compile
    def train(x: Any, y: Any) -> None:
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        if config["clip"]:
            nn.utils.clip_grad_norm_(model.parameters(), config["clip"])
        optimizer.step()

    for step in range(run.step, config["steps"]):
        if step in config["snapshots"]:
            run.take_snapshot()
        batch = run.order(backstory.randperm(len(x))[: config["batch"]]).numpy()
        train(x[batch], y[batch])
    run.log(score=-float(np.abs(model[0].weight.detach().numpy()).sum()))


def step_once(model: nn.Module, optimizer: optim.Optimizer, x: Any, y: Any = None) -> float:
    """One step on the mean square of the outputs (or of their distance to ``y``)."""
    out = model(backstory.as_tensor(x))
    loss = (out * out).mean() if y is None else nn.functional.mse_loss(out, backstory.as_tensor(y))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def from_outside(config: dict[str, Any], watch: Any) -> None:
    """From step 5 on it depends on a random source that nobody seeds."""
    x = inputs()
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=0.01)
    watch(model, optimizer, data=x)
    for step in range(8):
        noise = random.SystemRandom().random() if step >= 4 else 0.0
        step_once(model, optimizer, x, targets(x) + noise)


def without_watch(config: dict[str, Any], watch: Any) -> None:
    """Never watches."""


def watching_twice(config: dict[str, Any], watch: Any) -> None:
    """Watches two models."""
    for _ in range(2):
        model = network()
        watch(model, optim.SGD(model.parameters(), lr=0.1), data=inputs())


def raising(config: dict[str, Any], watch: Any) -> None:
    """Ends with an error after ``config["steps"]`` steps."""
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=0.4)
    watch(model, optimizer, data=inputs())
    for _ in range(config["steps"]):
        step_once(model, optimizer, inputs(), targets(inputs()))
    raise LookupError("the training's own error")


def starting_over(config: dict[str, Any], watch: Any) -> None:
    """Takes a snapshot, and begins at step 0 from whatever step it is started."""
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    run = watch(model, optimizer, data=inputs())
    for step in range(config["steps"]):
        if step == 3:
            run.take_snapshot()
        step_once(model, optimizer, inputs(), targets(inputs()))


def closing_early(config: dict[str, Any], watch: Any) -> None:
    """Stops being watched in the middle."""
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=0.4)
    with watch(model, optimizer, data=inputs()) as run:
        for _ in range(4):
            step_once(model, optimizer, inputs(), targets(inputs()))
        run.log(score=1.0)
    for _ in range(3):
        step_once(model, optimizer, inputs(), targets(inputs()))


def counted(config: dict[str, Any], watch: Any) -> None:
    """Takes exactly the entries that it knows, as ``Settings(**config)`` would."""
    assert set(config) == {"lr"}
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=config["lr"])
    run = watch(model, optimizer, data=inputs())
    step_once(model, optimizer, inputs())
    run.log(score=model[0].weight.detach().sum().item())


class Sequences(nn.Module):
    """A layer on inputs (samples, positions, features), then the mean over the positions."""

    def __init__(self, dtype: Any = backstory.float64) -> None:
        super().__init__()
        self.layer, self.out = nn.Linear(3, 6, dtype=dtype), nn.Linear(6, 1, dtype=dtype)

    def forward(self, x: Any) -> Any:
        return self.out(backstory.relu(self.layer(x)).mean(1))


class Masked(nn.Module):
    """Its weights are computed from a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.out = (
            nn.Linear(3, 6, dtype=backstory.float64),
            nn.Linear(6, 1, dtype=backstory.float64),
        )

    def forward(self, x: Any) -> Any:
        hidden = nn.functional.linear(x, self.layer.weight * 0.5, self.layer.bias)
        return self.out(backstory.relu(hidden))


class Added(nn.Module):
    """In front of its sites are a sum and another ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = (nn.Linear(3, 6, dtype=backstory.float64) for _ in range(2))
        self.out = nn.Linear(6, 1, dtype=backstory.float64)

    def forward(self, x: Any) -> Any:
        return self.out(backstory.relu(backstory.relu(self.a(x) + self.b(x))))


MODELS = {"sequences": Sequences, "masked": Masked, "added": Added}


def other_models(config: dict[str, Any], watch: Any) -> None:
    """A model of ``MODELS``, at a rate at which units die."""
    shape = (20, 4, 3) if config["model"] == "sequences" else (20, 3)
    x = np.random.default_rng(2).uniform(0.0, 2.0, shape)
    y = -3.0 * np.ones((20, 1))
    model = MODELS[config["model"]]()
    optimizer = optim.SGD(model.parameters(), lr=0.3, momentum=0.5)
    watch(model, optimizer, data=x)
    for _ in range(8):
        step_once(model, optimizer, x, y)


if __name__ == "__main__":  # a process that is killed while it trains
    import os
    import sys
    import time

    from backstory.insight import watch

    endless = network()
    descent = optim.SGD(endless.parameters(), lr=1e-3, momentum=0.9)
    recording = watch(endless, descent, sys.argv[1], data=inputs())
    print("watching", flush=True)
    tests = os.getppid()
    if sys.argv[2:] == ["compiled"]:

        @backstory.compile
        def step(x: Any, y: Any) -> None:
            descent.zero_grad()
            ((endless(x) - y) ** 2).mean().backward()
            descent.step()

        whole = backstory.as_tensor(inputs()), backstory.as_tensor(targets(inputs()))
        while os.getppid() == tests:
            step(*whole)
            time.sleep(1e-4)  # else readers in the tests would have millions of steps to read
    while os.getppid() == tests:  # it does not outlive them
        recording.order(np.arange(48))
        recording.log(step=recording.step)
        if recording.step % 50 == 0:
            recording.take_snapshot()
        step_once(endless, descent, inputs(), targets(inputs()))
