"""One layer of 3 → 4 units, a batch of 5: what ReLU and what sigmoid make of the same pre-activations.

ReLU is sparse: about half of the entries are exactly 0, and the others keep their size. Sigmoid squashes
all into (0, 1) and none is 0. Below them is what each lets back: its local derivative.

    python examples/relu_or_sigmoid.py [picture.png]
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

import backstory
from backstory import nn
from backstory.plots.canvas import FONT, SMALL, Margins, panels, sheet, title
from backstory.plots.palette import FAINT, INK, MUTED, OPEN


def activations() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """For ReLU and sigmoid the outputs (5, 4) of the same layer, and the local derivatives."""
    generator = backstory.Generator(4)
    layer = nn.Linear(3, 4, generator=generator)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
    x = backstory.randn(5, 3, generator=generator)
    made = {}
    for name, function in (("ReLU", backstory.relu), ("sigmoid", backstory.sigmoid)):
        z = layer(x).detach().requires_grad_()
        a = function(z)
        a.sum().backward()
        assert z.grad is not None
        made[name] = a.detach().numpy(), z.grad.numpy()
    return made


def table(axes: Any, values: np.ndarray, name: str, said: str) -> None:
    """Numbers on cells: blank where 0, the bluer the larger."""
    axes.set_xlim(0, values.shape[1])
    axes.set_ylim(values.shape[0], 0)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_xticks(np.arange(values.shape[1]) + 0.5, [f"unit {i}" for i in range(values.shape[1])])
    axes.set_yticks(np.arange(values.shape[0]) + 0.5, [f"sample {i}" for i in range(values.shape[0])])
    for (row, column), value in np.ndenumerate(values):
        shade = 0.75 * float(value) / max(float(values.max()), 1.0)
        axes.fill_between(
            [column + 0.03, column + 0.97], row + 0.05, row + 0.95, facecolor=OPEN, alpha=shade,
            edgecolor=FAINT, linewidth=0.8,
        )  # fmt: skip
        axes.text(
            column + 0.5, row + 0.53, f"{value:.2f}" if value else "0", ha="center", va="center",
            color=INK if value else MUTED, fontsize=SMALL,
        )  # fmt: skip
    title(axes, name, 10)
    title(axes, said, 10, ha="right", color=MUTED, fontsize=SMALL, fontweight="normal")


def draw() -> Any:
    """Outputs above, local derivatives below."""
    margins = Margins(left=74, right=18, top=76, bottom=34, between=66, beside=92)
    figure = sheet(900.0, 76 + 2 * 170.0 + 66 + 34)
    above, below = panels(figure, [170.0, 170.0], 2, margins)
    for left, right, (name, (a, derivative)) in zip(above, below, activations().items(), strict=True):
        table(left, a, f"{name}: output", f"{(a == 0).mean():.0%} are 0")
        table(right, derivative, f"{name}: local derivative", f"at most {derivative.max():.2f}")
    title(above[0], "The same pre-activations through ReLU and through sigmoid", 42, fontsize=FONT + 3)
    return figure


def main(path: str = "relu_or_sigmoid.png") -> None:
    """Print both outputs and save the picture."""
    for name, (a, _) in activations().items():
        print(f"{name}: {(a == 0).mean():.0%} of the outputs are 0, from {a.min():.2f} to {a.max():.2f}")
    draw().savefig(path)
    print("saved", path)


if __name__ == "__main__":
    main(*sys.argv[1:])
