"""Models with one planted fault each, and the nearest models without it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import backstory
from backstory import nn, optim

CLASSES, FEATURES, SAMPLES = 5, 20, 64
XAVIER, HE, LECUN = nn.init.xavier_normal_, nn.init.kaiming_normal_, nn.init.lecun_normal_
ORTHOGONAL = nn.init.orthogonal_


def labelled(features: int = FEATURES) -> tuple[Any, Any]:
    """Standard normal inputs and random labels."""
    return backstory.randn(SAMPLES, features), backstory.randint(0, CLASSES, (SAMPLES,))


def he(model: nn.Module) -> nn.Module:
    """Weights from He, biases of 0; normalisation stays as it is."""
    return drawn(model, lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu"))


def drawn(model: nn.Module, rule: Callable[[Any], Any]) -> nn.Module:
    """Weights by a rule, biases of 0."""
    for name, p in model.named_parameters():
        if p.ndim > 1:
            rule(p)
        elif name.endswith("bias"):
            nn.init.zeros_(p)
    return model


def mlp(*widths: int, act: Callable[[], nn.Module] = nn.ReLU, norm: bool = False) -> nn.Sequential:
    """Linear layers of these widths with an activation between them, and batch norm in front of it."""
    parts: list[nn.Module] = []
    for i, (a, b) in enumerate(pairwise(widths)):
        last = i == len(widths) - 2
        parts.append(nn.Linear(a, b, bias=last or not norm))
        if not last:
            parts += [nn.BatchNorm1d(b)] if norm else []
            parts.append(act())
    return nn.Sequential(*parts)


def convolutional(norm: bool) -> nn.Sequential:
    """Two convolutions on 8 × 8 images, with pooling, for ten classes."""
    parts: list[nn.Module] = []
    for channels, filters in ((1, 8), (8, 16)):
        parts.append(nn.Conv2d(channels, filters, 3, padding=1, bias=not norm))
        parts += [nn.BatchNorm2d(filters)] if norm else []
        parts += [nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(64, 10))


class Calls(nn.Module):
    """A network written with functions alone: ``between`` stands between two products."""

    def __init__(self, between: Callable[[Any], Any], width: int = 64, end: Any = None) -> None:
        super().__init__()
        self.w = nn.Parameter(backstory.randn(FEATURES, width) * (2 / FEATURES) ** 0.5)
        self.b = nn.Parameter(backstory.zeros(width))
        self.v = nn.Parameter(backstory.randn(CLASSES, width) * (2 / width) ** 0.5)
        self.between, self.end = between, end

    def forward(self, x: Any) -> Any:
        out = self.between(x @ self.w + self.b) @ self.v.T
        return out if self.end is None else self.end(out)


def batch_norm(z: Any) -> Any:
    """Batch norm written out, without a module and without the library's function."""
    return (z - z.mean(0)) / (z.var(0, correction=0) + 1e-5).sqrt()


def plain(model: nn.Module) -> tuple[Any, ...]:
    """The model from He, on labelled inputs."""
    return he(model), labelled()


def equal_units(heads: bool) -> tuple[Any, ...]:
    """Two hidden units are copies; the head tells them apart or not."""
    model = he(mlp(FEATURES, 16, CLASSES))
    with backstory.no_grad():
        model[0].weight[1] = model[0].weight[0]
        if not heads:
            model[2].weight[:, 1] = model[2].weight[:, 0]
    return model, labelled()


def shifted(bias: float) -> tuple[Any, ...]:
    """All hidden biases at one value."""
    model = he(mlp(FEATURES, 32, 32, CLASSES))
    nn.init.constant_(model[2].bias, bias)
    return model, labelled()


def narrow(width: int, rule: str = "he") -> tuple[Any, ...]:
    """Twelve ReLU layers of a width."""
    model = he(mlp(FEATURES, *[width] * 12, CLASSES))
    if rule == "asymmetric":
        for layer in model[:-1]:
            if isinstance(layer, nn.Linear):
                nn.init.asymmetric_(layer.weight, layer.bias)
    return model, labelled()


def scaled(factor: float) -> tuple[Any, ...]:
    """Ten ReLU layers whose weights are He's times a factor."""
    model = he(mlp(FEATURES, *[64] * 10, CLASSES))
    with backstory.no_grad():
        for p in model.parameters():
            p.mul_(factor)
    return model, labelled()


def damped(factor: float) -> tuple[Any, ...]:
    """The gradient is scaled by a factor in each of ten layers, and the signal is kept."""
    model = he(mlp(FEATURES, *[64] * 10, CLASSES, act=lambda: Passing(factor)))
    return model, labelled()


class Passing(nn.Module):
    """ReLU whose gradient is multiplied by a factor: f·r + (1 − f)·(r without history)."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Any) -> Any:
        r = x.relu()
        return r * self.factor + r.detach() * (1 - self.factor)


def fed(mean: float = 0.0, scale: Any = 1.0) -> tuple[Any, ...]:
    """A healthy network on inputs of such a mean and scale."""
    x, y = labelled()
    return he(mlp(FEATURES, 64, CLASSES)), (x * scale + mean, y)


def rated(rate: float, kind: Any = optim.SGD) -> tuple[Any, ...]:
    """A healthy network with a learning rate."""
    model, sample = plain(mlp(FEATURES, 64, CLASSES))
    return model, sample, kind(model.parameters(), lr=rate)


def one_large(factor: float) -> Any:
    """Scales of the features, of which one is so much larger."""
    return backstory.tensor([1.0] * (FEATURES - 1) + [factor])


def of_calls(between: Callable[[Any], Any], end: Any = None) -> Callable[[], tuple[Any, ...]]:
    """A network of function calls on labelled inputs."""
    return lambda: (Calls(between, end=end), labelled())


def of_modules(*between: Callable[[], nn.Module], bias: bool = True) -> Callable[[], tuple[Any, ...]]:
    """Modules between two linear layers, from He, on labelled inputs."""

    def made() -> tuple[Any, ...]:
        head = nn.Linear(64, CLASSES)
        return plain(nn.Sequential(nn.Linear(FEATURES, 64, bias=bias), *(one() for one in between), head))

    return made


def deep(
    act: Callable[[], nn.Module], depth: int, rule: Callable[[Any], Any]
) -> Callable[[], tuple[Any, ...]]:
    """A deep network by a rule."""
    return lambda: (drawn(mlp(FEATURES, *[64] * depth, CLASSES, act=act), rule), labelled())


def ending(end: Callable[[], nn.Module] | None, labels: bool = True) -> Callable[[], tuple[Any, ...]]:
    """A healthy network with something behind its last layer."""

    def made() -> tuple[Any, ...]:
        parts = [end()] if end is not None else []
        model, (x, y) = he(nn.Sequential(*mlp(FEATURES, 64, CLASSES), *parts)), labelled()
        return model, ((x, y) if labels else x)

    return made


def binary(end: Callable[[], nn.Module] | None) -> tuple[Any, ...]:
    """One output and labels of 0 and 1."""
    parts = [end()] if end is not None else []
    x, y = labelled()
    return he(nn.Sequential(*mlp(FEATURES, 64, 1), *parts)), (x, (y > 2).to("int64"))


def negative() -> tuple[Any, ...]:
    """Positive inputs far from centred, and weights that are mostly negative."""
    model, (x, y) = fed(mean=10.0)
    with backstory.no_grad():
        model[0].weight.sub_(0.5)
    return model, (x, y)


def deep_narrow(act: Callable[[], nn.Module], norm: bool = False) -> Callable[[], tuple[Any, ...]]:
    """Twelve layers of three units."""
    return lambda: plain(mlp(FEATURES, *[3] * 12, CLASSES, act=act, norm=norm))


def quartered(factor: float) -> tuple[Any, ...]:
    """A network of function calls whose first weights are He's times a factor."""
    model = Calls(backstory.relu)
    with backstory.no_grad():
        model.w.mul_(factor)
    return model, labelled()


def deep_fed(scale: float) -> Callable[[], tuple[Any, ...]]:
    """A tanh network on inputs of a scale."""

    def made() -> tuple[Any, ...]:
        x, y = labelled()
        return drawn(mlp(FEATURES, 64, CLASSES, act=nn.Tanh), XAVIER), (x * scale, y)

    return made


def biased(bias: bool) -> nn.Sequential:
    """A convolution in front of batch norm, on the features as a line of one channel."""
    return nn.Sequential(
        nn.Unflatten(1, (1, FEATURES)),
        nn.Conv1d(1, 8, 3, bias=bias),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * (FEATURES - 2), CLASSES),
    )


def small_ones(count: int) -> Any:
    """Scales of the features, of which so many are a thousandth."""
    return backstory.tensor([1e-3] * count + [1.0] * (FEATURES - count))
