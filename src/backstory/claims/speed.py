"""Claims about time: what an activation costs, and whether zeros save work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import backstory
from backstory import nn, optim
from backstory.claims.clock import ratios as time_ratios
from backstory.claims.record import Claim, Effort, Finding, weigh
from backstory.plots import Curves
from backstory.plots.canvas import in_words

__all__ = ["CLAIMS"]

FUNCTIONS = {"ReLU": backstory.relu, "sigmoid": backstory.sigmoid, "tanh": backstory.tanh}
SIZES = (100, 10_000, 1_000_000)
ABOUT_TEN = 5.0
"""What counts as "about ten times": more than half of it."""

SHARES = (0.0, 0.25, 0.5, 0.75, 0.9)
UNITS = 768
DENSE = "no zeros"
SAVES = 0.5
"""What counts as saving: at least this part of what the zeros would be worth."""


def slow_sigmoid(effort: Effort) -> Finding:
    """Forward and backward of one activation on arrays of several sizes, and whole training steps."""
    draws = backstory.Generator(0)
    timed = {
        f"{size:,} entries": _passes(backstory.randn(size, generator=draws).requires_grad_())
        for size in SIZES
    }
    timed["a step of 64-128-10"] = {name: _step(function) for name, function in FUNCTIONS.items()}
    ratios = {case: time_ratios(functions, "ReLU", effort.seconds) for case, functions in timed.items()}
    holds = {case: max(found.values()) >= ABOUT_TEN for case, found in ratios.items()}
    of_arrays = [ratios[f"{size:,} entries"] for size in SIZES]
    return Finding(
        weigh(holds, "on what is timed"),
        "Time forwards and backwards in that of ReLU, float32",
        {
            case: f"sigmoid {found['sigmoid']:.1f} ×, tanh {found['tanh']:.1f} ×"
            for case, found in ratios.items()
        },
        {f"{case}, {name}": ratio for case, found in ratios.items() for name, ratio in found.items()},
        (
            Curves(
                "Time in that of ReLU",
                {name: (SIZES, [found[name] for found in of_arrays]) for name in ("sigmoid", "tanh")},
                "entries of the array",
                "x",
                references={"ten times": 10, "equal": 1},
            ),
        ),
    )


def _passes(x: Any) -> dict[str, Callable[[], Any]]:
    upstream = backstory.ones_like(x).detach()

    def both(function: Callable[[Any], Any]) -> Callable[[], Any]:
        return lambda: backstory.autograd.grad(function(x), x, upstream)

    return {name: both(function) for name, function in FUNCTIONS.items()}


def _step(function: Callable[[Any], Any]) -> Callable[[], Any]:
    generator = backstory.Generator(0)
    first, last = nn.Linear(64, 128, generator=generator), nn.Linear(128, 10, generator=generator)
    optimizer = optim.SGD([*first.parameters(), *last.parameters()], lr=1e-3)
    x, y = backstory.randn(64, 64, generator=generator), np.arange(64) % 10

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(last(function(first(x))), y).backward()
        optimizer.step()

    return step


def sparse_saves(effort: Effort) -> Finding:
    """A layer on activations with more and more zeros: scattered, in whole units, and those units removed."""
    ratios: dict[str, list[float]] = {}
    off = 0.0
    for share in SHARES:
        functions, change = _products(share)
        off = max(off, change)
        for name, found in time_ratios(functions, DENSE, effort.seconds).items():
            ratios.setdefault(name, []).append(found)
    del ratios[DENSE]
    half = SHARES.index(0.5)
    holds = {
        name: all(found[i] <= 1 - SAVES * SHARES[i] for i in (half, -1)) for name, found in ratios.items()
    }
    worth = [1 - share for share in SHARES]
    return Finding(
        weigh(holds, "on whether the zeros are units that are taken out"),
        f"Time of a layer of {UNITS} → {UNITS} units in that without zeros, at 50% and at 90% zeros",
        {name: f"{found[half]:.2f} × and {found[-1]:.2f} ×" for name, found in ratios.items()},
        {
            f"{name}, {share:.0%}": ratio
            for name, found in ratios.items()
            for share, ratio in zip(SHARES, found, strict=True)
        }
        | {"largest change": off},
        (
            Curves(
                "Time in that without zeros",
                {
                    **{name: (SHARES, found) for name, found in ratios.items()},
                    "what is not zero": (SHARES, worth),
                },
                "share of zeros",
            ),
        ),
        f"Without the dead units the outputs differ by {in_words(off, 'p')} at most: rounding.",
    )


def _products(share: float) -> tuple[dict[str, Callable[[], Any]], float]:
    """A layer's products at a share of zeros, and by how much the output changes without the dead units."""
    draws = np.random.default_rng(0)
    a = np.abs(draws.normal(size=(256, UNITS))).astype(np.float32)
    weight = draws.normal(size=(UNITS, UNITS)).astype(np.float32)
    dead = np.arange(UNITS) < share * UNITS
    scattered = np.where(draws.random(a.shape) < share, np.float32(0), a)
    kept = np.where(dead, np.float32(0), a)

    def product(x: np.ndarray, w: np.ndarray) -> Callable[[], Any]:
        left, right = backstory.as_tensor(x.copy()), backstory.as_tensor(w.copy())
        return lambda: left @ right

    functions = {
        DENSE: product(a, weight),
        "zeros scattered": product(scattered, weight),
        "whole units dead": product(kept, weight),
        "dead units removed": product(kept[:, ~dead], weight[~dead]),
    }
    change = functions["whole units dead"]().numpy() - functions["dead units removed"]().numpy()
    return functions, float(np.abs(change).max())


CLAIMS = (
    Claim(
        "slow-sigmoid",
        "Sigmoid and tanh are about 10 × slower than ReLU.",
        "Krizhevsky, Sutskever & Hinton 2012, figure 1, where it is about epochs, not time",
        slow_sigmoid,
        timed=True,
    ),
    Claim(
        "sparse-saves",
        "Sparse activations save computation.",
        "Glorot, Bordes & Bengio 2011, section 3.1",
        sparse_saves,
        timed=True,
    ),
)
