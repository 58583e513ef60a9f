"""Small PyTorch trainings that the tests record and rerun; other processes import this too."""

from __future__ import annotations

import random
from typing import Any

import torch
from adapters.torch.slow import F64, inputs, network, targets
from torch import nn, optim

CONFIG = {"seed": 3, "lr": 0.4, "steps": 14, "batch": 16, "optimizer": "sgd", "rows": 48, "snapshots": []}
NAMES = ("momentum", "dampening", "weight_decay", "nesterov", "maximize", "amsgrad", "foreach", "fused")
KINDS = {"sgd": optim.SGD, "adam": optim.Adam, "adamw": optim.AdamW, "rmsprop": optim.RMSprop}


def optimizer_of(model: nn.Module, config: dict[str, Any]) -> optim.Optimizer:
    """The configured optimizer."""
    options = {name: config[name] for name in NAMES if name in config}
    return KINDS[config["optimizer"]](model.parameters(), lr=config["lr"], **options)


def regress(config: dict[str, Any], watch: Any) -> None:
    """A regression at a large rate, in which units of both layers die and some revive.

    It goes on from ``run.step``, and takes snapshots before the steps that the config names.
    """
    x = inputs(config["rows"])
    y = targets(x)
    sign = -1.0 if config.get("maximize") else 1.0
    model = seeded_network(config)
    optimizer = optimizer_of(model, config)
    run = watch(model, optimizer, data=x)
    for step in range(run.step, config["steps"]):
        if step in config["snapshots"]:
            run.take_snapshot()
        batch = run.order(torch.randperm(len(x))[: config["batch"]])
        loss = sign * nn.functional.mse_loss(model(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        run.log(score=-nn.functional.mse_loss(model(x), y).item())


def seeded_network(config: dict[str, Any]) -> nn.Sequential:
    """From the present random stream, with dropout, which draws from it too, if the config says so."""
    parts = list(network(seed=int(torch.randint(2**31, ()))))
    torch.manual_seed(config["seed"])
    return nn.Sequential(*parts[:4], nn.Dropout(config.get("dropout", 0.0)), parts[4])


class Net(nn.Module):
    """One gate with something in front, and an output."""

    def __init__(self, front: nn.Module, size: int) -> None:
        super().__init__()
        self.front, self.out = front, nn.Linear(size, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.relu(self.front(x)).flatten(1))


class Skip(nn.Module):
    """A residual sum in front of the gate, in one of its spellings."""

    def __init__(self, kind: str, features: int = 4) -> None:
        super().__init__()
        self.kind = kind
        self.layer = nn.Linear(features, features)
        if kind == "after norm":
            self.norm = nn.BatchNorm1d(features)
        self.below = nn.Linear(features, features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(self.below(x))
        y = self.layer(x)
        if self.kind == "in place":
            y += x
            return y
        if self.kind == "after norm":
            return self.norm(y) + x
        if self.kind == "reversed":
            return torch.add(x, y)
        return y + x


class Normalised(nn.Module):
    """A layer on positions with its norm along another axis."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(3, 4), nn.BatchNorm1d(5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.layer(x))


FRONTS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(3, 6), (20, 3)),
    "linear without bias": (lambda: nn.Linear(3, 6, bias=False), (20, 3)),
    "positions": (lambda: nn.Linear(3, 6), (20, 4, 3)),
    "conv1d": (lambda: nn.Conv1d(2, 4, 3), (20, 2, 7)),
    "conv1d strided and padded": (lambda: nn.Conv1d(2, 4, 3, stride=2, padding=2, dilation=2), (20, 2, 7)),
    "conv1d same": (lambda: nn.Conv1d(2, 4, 4, padding="same"), (20, 2, 7)),
    "conv1d valid": (lambda: nn.Conv1d(2, 4, 2, padding="valid"), (20, 2, 7)),
    "conv2d": (lambda: nn.Conv2d(2, 4, 3, stride=(1, 2), padding=(2, 1), bias=False), (20, 2, 5, 6)),
    "conv2d same": (lambda: nn.Conv2d(2, 4, (2, 3), padding="same", dilation=(1, 2)), (20, 2, 5, 6)),
    "conv2d in groups": (lambda: nn.Conv2d(4, 6, 2, groups=2, dilation=2), (20, 4, 5, 6)),
    "depthwise": (lambda: nn.Conv2d(3, 6, 2, groups=3), (20, 3, 4, 4)),
    "conv3d": (lambda: nn.Conv3d(1, 4, 2, padding=1), (20, 1, 2, 3, 2)),
    "two layers": (lambda: nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 6)), (20, 3)),
    "batch norm": (lambda: nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6)), (20, 3)),
    "batch norm without statistics": (
        lambda: nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6, track_running_stats=False)), (20, 3)),
    "batch norm without weights": (
        lambda: nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6, affine=False)), (20, 3)),
    "conv2d, batch norm": (lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)), (20, 2, 5, 5)),
    "layer norm": (lambda: nn.Sequential(nn.Linear(3, 6), nn.LayerNorm(6)), (20, 3)),
    "layer norm on positions": (lambda: nn.Sequential(nn.Linear(3, 6), nn.LayerNorm(6)), (20, 4, 3)),
    "conv1d, layer norm of all": (
        lambda: nn.Sequential(nn.Conv1d(2, 4, 3), nn.LayerNorm([4, 5])), (20, 2, 7)),
    "norm along another axis": (Normalised, (20, 5, 3)),
    "dropout": (lambda: nn.Sequential(nn.Linear(3, 6), nn.Dropout(0.2)), (20, 3)),
    "skip": (lambda: Skip("plain"), (20, 4)),
    "skip reversed": (lambda: Skip("reversed"), (20, 4)),
    "skip in place": (lambda: Skip("in place"), (20, 4)),
    "skip after norm": (lambda: Skip("after norm"), (20, 4)),
    "group norm": (lambda: nn.Sequential(nn.Linear(3, 6), nn.GroupNorm(2, 6)), (20, 3)),
    "computed weights": (
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(3, 6)), (20, 3)),
}  # fmt: skip


def data_of(front: str) -> torch.Tensor:
    """Inputs that are all positive, for the front of that name."""
    shape = FRONTS[front][1]
    return torch.rand(shape, dtype=F64, generator=torch.Generator().manual_seed(2)) * 2


def make(front: str, seed: int = 0) -> Net:
    """The model with that front, in float64."""
    torch.manual_seed(seed)
    body = FRONTS[front][0]()
    return Net(body, body(data_of(front).float()).flatten(1).shape[1]).double()


def fronts(config: dict[str, Any], watch: Any) -> None:
    """A model of ``FRONTS``, driven to outputs at which units die."""
    x = data_of(config["front"])
    model = make(config["front"])
    optimizer = optimizer_of(model, config)
    watch(model, optimizer, data=x)
    for step in range(config["steps"]):
        loss = (model(x) + 3.0 * (-1) ** (step // 3)).square().mean()
        loss = -loss if config.get("maximize") else loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def from_outside(config: dict[str, Any], watch: Any) -> None:
    """From step 5 on it depends on a random source that nobody seeds."""
    x, model = inputs(), network()
    optimizer = optim.SGD(model.parameters(), lr=0.01)
    watch(model, optimizer, data=x)
    for step in range(8):
        noise = random.SystemRandom().random() if step >= 4 else 0.0
        optimizer.zero_grad()
        (model(x) - noise).square().mean().backward()
        optimizer.step()
