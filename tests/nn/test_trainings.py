"""Whole trainings on real digits: PyTorch's loss curves, and He et al. 2015 in small."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

import backstory
from backstory import data, nn, optim

NETWORKS = {
    "convolutional": [
        ("Unflatten", 1, (1, 8, 8)),
        ("Conv2d", 1, 8, 3, 1, 1),
        ("ReLU",),
        ("MaxPool2d", 2),
        ("Conv2d", 8, 16, 3),
        ("BatchNorm2d", 16),
        ("ReLU",),
        ("AvgPool2d", 2),
        ("Flatten",),
        ("Linear", 16, 10),
    ],
    "two layers": [("Linear", 64, 100), ("ReLU",), ("Linear", 100, 10)],
}
OPTIMIZERS = {"SGD": {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4}, "Adam": {"lr": 0.01}}


@pytest.mark.parametrize("rule", OPTIMIZERS)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_training_on_digits_has_the_loss_curve_of_pytorch(name, rule):
    mine = nn.Sequential(*(getattr(nn, kind)(*arguments) for kind, *arguments in NETWORKS[name])).double()
    theirs = torch.nn.Sequential(
        *(getattr(torch.nn, kind)(*arguments) for kind, *arguments in NETWORKS[name])
    ).double()
    theirs.load_state_dict({key: torch.tensor(value.numpy()) for key, value in mine.state_dict().items()})
    ours = getattr(optim, rule)(mine.parameters(), **OPTIMIZERS[rule])
    reference = getattr(torch.optim, rule)(theirs.parameters(), **OPTIMIZERS[rule])
    order = backstory.Generator(1)
    batches = data.DataLoader(data.digits("float64"), batch_size=50, shuffle=True, generator=order)
    curves: list[list[float]] = [[], []]
    while len(curves[0]) < 100:
        for x, labels in batches:
            losses = (
                nn.functional.cross_entropy(mine(x), labels),
                torch.nn.functional.cross_entropy(
                    theirs(torch.from_numpy(x.numpy())), torch.from_numpy(labels.numpy())
                ),
            )
            for curve, optimizer, loss in zip(curves, (ours, reference), losses, strict=True):
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                curve.append(loss.item())
    np.testing.assert_allclose(curves[0], curves[1], rtol=0, atol=1e-9)
    assert np.mean(curves[0][-20:]) < 0.4 < curves[0][0]


def deep(start, seed: int, depth: int = 30) -> nn.Sequential:
    """A ReLU network of ``depth`` layers of 64 units, its weights started by ``start``."""
    generator = backstory.Generator(seed)
    sizes = [64] * depth + [10]
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        layer = nn.Linear(fan_in, fan_out)
        start(layer.weight, generator=generator)
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def he(weight, generator):
    nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)


def xavier(weight, generator):
    nn.init.xavier_normal_(weight, generator=generator)


def inputs():
    """The digits with mean 0 and variance 1, and their labels."""
    x, labels = data.digits().tensors
    return (x - x.mean()) / x.std(), labels


def test_a_relu_network_keeps_its_signal_from_he_and_halves_it_by_layer_from_xavier():
    x, _ = inputs()
    with backstory.no_grad():
        shares = {
            start: np.mean([np.log2((deep(start, seed)[:-1](x) ** 2).mean().item()) for seed in range(20)])
            for start in (he, xavier)
        }
    assert abs(shares[he]) < 2
    assert abs(shares[xavier] - shares[he] + 29) < 0.5


@pytest.mark.parametrize("seed", [0, 2])
def test_thirty_layers_train_from_he_and_stall_from_xavier(seed):
    """He et al. 2015 (arXiv:1502.01852), figure 3, in small."""
    x, labels = inputs()
    last = {}
    for start in (he, xavier):
        net, order = deep(start, seed), backstory.Generator(seed)
        optimizer = optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
        losses = []
        for _ in range(200):
            chosen = order.numpy.integers(0, len(x), 64)
            loss = nn.functional.cross_entropy(net(x[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        last[start] = np.mean(losses[-20:])
    assert last[he] < 1.8
    assert abs(last[xavier] - math.log(10)) < 0.01
