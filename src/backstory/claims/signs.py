"""Claims about the signs of gradients behind activations that are never negative."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import backstory
from backstory import func, nn
from backstory.claims.pairs import Sample, dots
from backstory.claims.record import Claim, Effort, Finding, weigh
from backstory.plots import Curves

__all__ = ["CLAIMS"]

FEW = 0.05
DETOUR = 1.5


def one_sign(effort: Effort) -> Finding:
    """Gradients of a unit's weights, of one sample each and of a batch's mean, behind several activations."""
    single: dict[str, Sample] = {}
    batch: dict[str, Sample] = {}
    for name, activation in (
        ("ReLU", backstory.relu),
        ("sigmoid", backstory.sigmoid),
        ("tanh", backstory.tanh),
    ):
        shares = [_mixed(activation, seed) for seed in range(effort.seeds)]
        single[name] = Sample(tuple(one for one, _ in shares))
        batch[name] = Sample(tuple(of_batch for _, of_batch in shares))
    holds = {"one sample": True, "the mean of 64 samples": True}
    for name in ("ReLU", "sigmoid"):
        holds["one sample"] &= max(single[name].values) == 0.0
        holds["the mean of 64 samples"] &= batch[name].interval[1] <= FEW
    both = {"one sample": single, "the mean of 64 samples": batch}
    return Finding(
        weigh(holds, "on the batch"),
        "Units behind the activation whose weights' gradients have both signs",
        {
            case: ", ".join(f"{name} {found.median:.0%}" for name, found in shares.items())
            for case, shares in both.items()
        },
        {f"{n}, {case}": found.median for case, shares in both.items() for n, found in shares.items()},
        tuple(dots(f"Units with both signs: {case}", shares, form=".0%") for case, shares in both.items()),
    )


def _mixed(activation: Any, seed: int) -> tuple[float, float]:
    """The share of 32 units whose weights' gradients have both signs: of single samples, of the batch."""
    generator = backstory.Generator(seed)
    first, second, last = (nn.Linear(n, m, generator=generator) for n, m in ((16, 32), (32, 32), (32, 1)))
    for layer in (first, second, last):
        layer.requires_grad_(False)
    x = backstory.randn(64, 16, generator=generator)
    y = backstory.randn(64, 1, generator=generator)
    before = activation(first(x))

    def loss(weight: Any, a: Any, target: Any) -> Any:
        return ((last(backstory.relu(a @ weight.T + second.bias)) - target) ** 2).mean()

    weight = second.weight
    rows = func.vmap(func.grad(loss), in_dims=(None, 0, 0))(weight, before, y).numpy()
    whole = func.grad(loss)(weight, before, y).numpy()
    return tuple(float(((g > 0).any(-1) & (g < 0).any(-1)).mean()) for g in (rows, whole))  # type: ignore[return-value]


def zig_zag(effort: Effort) -> Finding:
    """One linear unit learns w* = (1, −1) from inputs in [0, 1]², and from the same inputs centred."""
    walks = {name: [_walk(seed, shift) for seed in range(effort.seeds)] for name, shift in _SHIFTS.items()}
    lengths = {
        name: Sample(tuple(_length(walk) / math.dist(walk[0], walk[-1]) for walk in found))
        for name, found in walks.items()
    }
    long, short = lengths["never negative"], lengths["centred"]
    zigs = long.above(short) and long.interval[0] > DETOUR
    return Finding(
        weigh({"never negative": zigs}, ""),
        "Way of one unit's weights to (1, −1), one sample at a time, in straight distances",
        {name: f"{found:.1f} ×" for name, found in lengths.items()},
        {name: found.median for name, found in lengths.items()},
        (
            Curves(
                "The way of the two weights (seed 0)",
                {name: (found[0][:, 0], found[0][:, 1]) for name, found in walks.items()},
                "second weight over the first",
            ),
            dots("Length of the way in straight distances", lengths, form=".1f"),
        ),
    )


_SHIFTS = {"never negative": 0.0, "centred": 0.5}


def _walk(seed: int, shift: float) -> np.ndarray:
    """The weights after every step until they are within 0.1 of (1, −1)."""
    draws = np.random.default_rng(seed)
    goal = np.array([1.0, -1.0])
    unit = nn.Linear(2, 1, bias=False, dtype="float64")
    nn.init.zeros_(unit.weight)
    optimizer = backstory.optim.SGD(unit.parameters(), lr=0.5)
    way = [np.zeros(2)]
    while math.dist(way[-1], goal) > 0.1 and len(way) < 2000:
        x = draws.random(2) - shift
        optimizer.zero_grad()
        (0.5 * (unit(backstory.as_tensor(x)) - float(x @ goal)) ** 2).sum().backward()
        optimizer.step()
        way.append(unit.weight.detach().numpy()[0].copy())
    return np.array(way)


def _length(way: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(way, axis=0), axis=1).sum())


CLAIMS = (
    Claim(
        "one-sign",
        "Behind activations that are never negative all gradients of a unit's weights have one sign.",
        "LeCun et al. 1998, Efficient BackProp, section 4.3",
        one_sign,
    ),
    Claim(
        "zig-zag",
        "Behind activations that are never negative the weights' path zig-zags.",
        "LeCun et al. 1998, Efficient BackProp, section 4.3",
        zig_zag,
    ),
)
