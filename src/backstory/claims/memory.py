"""Claims about gradients through time: whether the gates of LSTM and GRU keep them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import backstory
from backstory import nn
from backstory.claims.depth import VANISHED
from backstory.claims.pairs import Sample, dots
from backstory.claims.record import Claim, Effort, Finding, weigh
from backstory.plots import Curves

__all__ = ["CLAIMS"]

STEPS, FEATURES, UNITS, BATCH = 40, 8, 32, 16
OPENED = 3.0  # σ(3) = 0.95: the gate that keeps the state is almost open


def gates_remember(effort: Effort) -> Finding:
    """The gradient of the last output by the first input, in that by the last input."""
    layers: dict[str, Callable[[], nn.Module]] = {
        "RNN (tanh)": lambda: nn.RNN(FEATURES, UNITS),
        "LSTM": lambda: nn.LSTM(FEATURES, UNITS),
        "LSTM with forget bias 3": lambda: _opened(nn.LSTM(FEATURES, UNITS)),
        "GRU": lambda: nn.GRU(FEATURES, UNITS),
        "GRU with update bias 3": lambda: _opened(nn.GRU(FEATURES, UNITS)),
    }
    norms = {
        name: [_through_time(make, seed) for seed in range(effort.seeds)] for name, make in layers.items()
    }
    ratios = {name: Sample(tuple(float(n[0] / n[-1]) for n in found)) for name, found in norms.items()}
    plain, *gated = layers
    holds = {
        name: ratios[name].above(ratios[plain]) and ratios[name].interval[0] > VANISHED for name in gated
    }
    back = np.arange(STEPS - 1, -1, -1)
    return Finding(
        weigh(holds, "on the gates' biases"),
        f"Gradient of the last output by the first of {STEPS} inputs, in that by the last, untrained",
        {name: f"{ratio:p}" for name, ratio in ratios.items()},
        {name: ratio.median for name, ratio in ratios.items()},
        (
            Curves(
                "‖∂out/∂x‖ in that of the last input (seed 0)",
                {name: (back, found[0] / found[0][-1]) for name, found in norms.items()},
                "steps back",
                "y",
            ),
            dots("First input's gradient in the last's", ratios, form="p", log=True, compared=True),
        ),
        "A gate that is half open halves the state at every step; its bias says how far it is open at first.",
    )


def _opened(layer: Any) -> Any:
    """The same layer with the gate that keeps the state (the second of PyTorch's order) biased open."""
    layer.bias_ih_l0.detach()[UNITS : 2 * UNITS].add_(OPENED)
    return layer


def _through_time(make: Callable[[], nn.Module], seed: int) -> np.ndarray:
    """The norm of the last output's gradient by the input of every step."""
    backstory.manual_seed(seed)
    layer = make()
    generator = backstory.Generator(seed)
    x = backstory.randn(STEPS, BATCH, FEATURES, generator=generator).requires_grad_()
    upstream = backstory.randn(BATCH, UNITS, generator=generator)
    (found,) = backstory.autograd.grad((layer(x)[0][-1] * upstream).sum(), [x])
    assert found is not None
    return np.linalg.norm(found.numpy().reshape(STEPS, -1).astype(float), axis=1)


CLAIMS = (
    Claim(
        "gates-remember",
        "The gates of LSTM and GRU keep gradients from vanishing over time.",
        "Hochreiter & Schmidhuber 1997; Gers, Schmidhuber & Cummins 2000; Jozefowicz et al. 2015 on the bias",
        gates_remember,
    ),
)
