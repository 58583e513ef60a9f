"""Nine ways to look for dead units that go wrong, each beside the right answer on the same model.

The snippets are those that are passed around, with backstory's modules in place of PyTorch's. "Right" is a
scan: a unit is dead when its activation's local derivative is 0 for every sample of the data, where the
activation runs, in evaluation mode.

    python examples/pitfalls.py
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import backstory
from backstory import nn, optim
from backstory.data import digits
from backstory.insight.scan import DEAD, scan


@dataclass(frozen=True)
class Pitfall:
    """What is done, what the snippet says and what is so, both in numbers, and why they differ."""

    name: str
    snippet: dict[str, float]
    right: dict[str, float]
    why: str


def data(centred: bool = True) -> Any:
    """All digits, pixels from 0 to 1, or less their means."""
    images = digits().tensors[0]
    return images - images.mean(0) if centred else images


def network(*layers: nn.Module, seed: int = 0) -> nn.Sequential:
    """The layers in a row, linear and convolutional ones from He with biases of 0."""
    generator = backstory.Generator(seed)
    for layer in layers:
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return nn.Sequential(*layers)


def dead(model: nn.Module, x: Any) -> int:
    """How many units are dead: the right answer."""
    return sum(int((site.states == DEAD).sum()) for site in scan(model, x).values())


def outputs(model: nn.Module, kind: type[nn.Module], x: Any) -> list[np.ndarray]:
    """What modules of a kind put out, by forward hooks."""
    seen: list[np.ndarray] = []
    handles = [
        module.register_forward_hook(lambda _, args, out: seen.append(out.detach().numpy()))
        for module in model.modules()
        if isinstance(module, kind)
    ]
    model(x)
    for handle in handles:
        handle.remove()
    return seen


def zeros_for_units() -> Pitfall:
    """(activations == 0).mean() is taken for the share of dead units."""
    model, x = network(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10)), data()
    (a,) = outputs(model, nn.ReLU, x)
    return Pitfall(
        "counting zeros instead of units",
        {"% dead": 100 * float((a == 0).mean())},
        {"% dead": float(dead(model, x))},
        "About half of the outputs of a healthy ReLU layer are 0; a dead unit is 0 for every sample.",
    )


def raw_input() -> Pitfall:
    """Every ReLU module is called on the raw input, instead of looking at it where it runs."""
    x = data(centred=False)
    models = {"healthy": network(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10))}
    models["all dead"] = network(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10), seed=1)
    nn.init.constant_(models["all dead"][0].bias, -100.0)
    told = {}
    for name, model in models.items():
        (relu,) = [module for module in model.modules() if isinstance(module, nn.ReLU)]
        told[f"% dead, {name} model"] = 100 * float((relu(x).numpy() == 0).mean())
    right = {f"% dead, {name} model": float(dead(model, x)) for name, model in models.items()}
    return Pitfall(
        "feeding the raw input to every ReLU",
        told,
        right,
        "The snippet counts black pixels: the same number for any model.",
    )


class Reusing(nn.Module):
    """One ReLU module that runs twice, and a functional relu; the units of its second run are dead."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.Linear(n, m) for n, m in ((64, 30), (30, 30), (30, 30)))
        network(self.first, self.second, self.third)
        nn.init.constant_(self.second.bias, -100.0)  # type: ignore[arg-type]
        nn.init.ones_(self.third.bias)  # type: ignore[arg-type]
        self.relu = nn.ReLU()

    def forward(self, x: Any) -> Any:
        """relu(third(relu(second(relu(first(x))))))"""
        a = self.relu(self.second(self.relu(self.first(x))))
        return nn.functional.relu(self.third(a))


def functional_and_reused() -> Pitfall:
    """Activations are counted as modules."""
    model, x = Reusing(), data()
    modules = [module for module in model.modules() if isinstance(module, nn.ReLU)]
    return Pitfall(
        "counting modules instead of where they run",
        {"sites": float(len(modules))},
        {"sites": float(len(scan(model, x)))},
        f"A module may run twice and a function is none; the sites are {', '.join(scan(model, x))}.",
    )


def before_batch_norm() -> Pitfall:
    """Hooks stand on the linear layers, and what the ReLU sees is taken to be their output."""
    model, x = network(nn.Linear(64, 100), nn.BatchNorm1d(100), nn.ReLU(), nn.Linear(100, 10)), data()
    nn.init.constant_(model[0].bias, -100.0)
    for _ in range(50):
        model(x)  # the running statistics settle
    z = outputs(model, nn.Linear, x)[0]
    return Pitfall(
        "measuring before batch norm",
        {"dead units": float((z <= 0).all(axis=0).sum())},
        {"dead units": float(dead(model, x))},
        "Batch norm subtracts the mean, and the bias with it, before the ReLU sees anything.",
    )


def one_batch() -> Pitfall:
    """A unit that no sample of one batch opens is called dead."""
    model, x = network(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10)), data()
    nn.init.constant_(model[0].bias, -0.6)
    (a,) = outputs(model, nn.ReLU, x[:32])
    return Pitfall(
        "calling one batch's silent units dead",
        {"dead units": float((a == 0).all(axis=0).sum())},
        {"dead units": float(dead(model, x))},
        "They are silent on these 32 samples; other samples open them, and then they learn.",
    )


def positions() -> Pitfall:
    """Every entry of a convolution's output is taken for a unit."""
    layers = nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 8, 3, padding=1), nn.ReLU()
    model, x = network(*layers), data(centred=False)
    (a,) = outputs(model, nn.ReLU, x)
    return Pitfall(
        "counting positions of a convolution",
        {"units": float(np.prod(a.shape[1:])), "dead units": float((a == 0).all(axis=0).sum())},
        {"units": float(a.shape[1]), "dead units": float(dead(model, x))},
        "A unit of a convolution is a channel: its weights learn if any position opens it.",
    )


def training_mode() -> Pitfall:
    """The model is measured as the training loop left it, in training mode."""
    model, x = network(nn.Linear(64, 100), nn.BatchNorm1d(100), nn.ReLU(), nn.Linear(100, 10)), data()
    model[1].running_mean.fill_(20.0)  # statistics of other data
    right = {"dead units": float(dead(model, x)), "running mean": 20.0}
    (a,) = outputs(model, nn.ReLU, x)
    told = {"dead units": float((a == 0).all(axis=0).sum())}
    return Pitfall(
        "measuring in training mode",
        told | {"running mean": float(model[1].running_mean.mean().item())},
        right,
        "In training batch norm uses the batch's statistics, not those it will use; and it changes them.",
    )


def zero_gradient() -> Pitfall:
    """A unit whose weights have a gradient of 0 is called dead."""
    model, x = network(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10)), data()
    nn.init.zeros_(model[2].weight)  # as in many residual and output layers
    loss = nn.functional.cross_entropy(model(x), digits().tensors[1])
    answer = backstory.why(loss, model[0].weight, (0, 0))
    loss.backward()
    gradient = model[0].weight.grad.numpy()
    return Pitfall(
        "taking a zero gradient for a dead unit",
        {"dead units": float((gradient == 0).all(axis=1).sum())},
        {"dead units": float(dead(model, x))},
        f"why() says of it: {answer.verdict}. Its gates are open, and it learns once it is asked to.",
    )


def gradient_for_update() -> Pitfall:
    """Weights whose gradient is 0 are said to stand still."""
    model, x = network(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10)), data()
    labels = digits().tensors[1]
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for step in range(2):
        if step == 1:
            nn.init.constant_(model[0].bias, -100.0)  # all gates close
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), labels)
        loss.backward()
        before = model[0].weight.detach().numpy().copy()
        optimizer.step()
    moved = np.abs(model[0].weight.detach().numpy() - before).max(axis=1) > 0
    still = (model[0].weight.grad.numpy() == 0).all(axis=1)
    return Pitfall(
        "taking the gradient for the update",
        {"units that stand still": float(still.sum())},
        {"units that stand still": float((~moved).sum())},
        "Momentum goes on moving them, as weight decay would.",
    )


PITFALLS = (
    zeros_for_units,
    raw_input,
    functional_and_reused,
    before_batch_norm,
    one_batch,
    positions,
    training_mode,
    zero_gradient,
    gradient_for_update,
)


def main() -> None:
    """Print them all."""
    for number, make in enumerate(PITFALLS, 1):
        pitfall = make()
        print(f"{number}. {pitfall.name}")
        for what, told in pitfall.snippet.items():
            print(f"   {what}: the snippet says {told:.4g}, right is {pitfall.right[what]:.4g}")
        print(f"   {pitfall.why}\n")


if __name__ == "__main__":
    main()
