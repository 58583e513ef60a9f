"""The same network fitted twice, with softplus and with ReLU: a smooth curve, and a piecewise linear one.

python examples/softplus_or_relu.py [picture.png]
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

import backstory
from backstory import nn, optim
from backstory.insight import piecewise_linear
from backstory.plots.canvas import FONT, SMALL, Margins, linear_limits, panels, sheet, title
from backstory.plots.palette import DEAD, INK, MUTED, OPEN

UNITS, STEPS = 8, 3000


class Net(nn.Module):
    """1 → 8 → 1 with an activation of choice."""

    def __init__(self, activation: Callable[[Any], Any]) -> None:
        super().__init__()
        generator = backstory.Generator(5)
        self.hidden = nn.Linear(1, UNITS, dtype="float64", generator=generator)
        self.out = nn.Linear(UNITS, 1, dtype="float64", generator=generator)
        nn.init.kaiming_normal_(self.hidden.weight, nonlinearity="relu", generator=generator)
        nn.init.uniform_(self.hidden.bias, -2.0, 2.0, generator=generator)  # type: ignore[arg-type]
        self.activation = activation

    def forward(self, x: Any) -> Any:
        """out(activation(hidden(x)))"""
        return self.out(self.activation(self.hidden(x)))


def data() -> tuple[np.ndarray, np.ndarray]:
    """40 noisy points of a smooth curve."""
    rng = np.random.default_rng(1)
    x = np.linspace(-2.0, 2.0, 40)[:, None]
    return x, np.sin(2 * x) + 0.3 * x + 0.06 * rng.normal(size=x.shape)


def fitted(activation: Callable[[Any], Any], steps: int = STEPS) -> tuple[Net, float]:
    """The network after training, and its loss."""
    x, y = (backstory.as_tensor(part) for part in data())
    model = Net(activation)
    optimizer = optim.Adam(model.parameters(), lr=0.02)
    loss = nn.functional.mse_loss(model(x), y)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
    return model, loss.item()


def draw(smooth: Net, straight: Net) -> Any:
    """Both fits beside each other, above their slopes."""
    x, y = data()
    fine = np.linspace(-2.0, 2.0, 801)
    curve = piecewise_linear(straight, -2.0, 2.0)
    with backstory.no_grad():
        values = smooth(backstory.as_tensor(fine[:, None])).numpy()[:, 0]
    margins = Margins(left=48, right=18, top=74, bottom=36, between=52, beside=44)
    figure = sheet(940.0, 74 + 220.0 + 52 + 120.0 + 36)
    above, below = panels(figure, [220.0, 120.0], 2, margins)
    low, high = float(y.min()), float(y.max())
    slopes = np.gradient(values, fine)
    for axes, slope in zip(above, below, strict=True):
        axes.plot(x[:, 0], y[:, 0], "o", color=MUTED, alpha=0.55, markersize=4, mew=0)
        linear_limits(axes, low, high)
        linear_limits(
            slope, float(min(slopes.min(), curve.slopes.min())), float(max(slopes.max(), curve.slopes.max()))
        )
        axes.set_xlim(-2, 2)
        slope.set_xlim(-2, 2)
    above[0].plot(fine, values, color=OPEN, linewidth=2.2)
    above[1].plot(curve.xs, curve.ys, color=DEAD, linewidth=2.2)
    above[1].plot(curve.breaks, curve.ys[1:-1], "o", color=INK, markersize=4.5, zorder=4)
    below[0].plot(fine, slopes, color=OPEN, linewidth=1.8)
    below[1].step(curve.xs, [*curve.slopes, curve.slopes[-1]], where="post", color=DEAD, linewidth=1.8)
    title(above[0], "softplus: smooth", 8)
    title(above[1], f"ReLU: {len(curve.slopes)} straight pieces", 8)
    for axes in below:
        title(axes, "its slope", 8, color=MUTED, fontsize=SMALL, fontweight="normal")
    title(above[0], f"1 → {UNITS} → 1, fitted to the same points", 42, fontsize=FONT + 3)
    return figure


def main(path: str = "softplus_or_relu.png", steps: str = str(STEPS)) -> None:
    """Fit both, print what they reached, save the picture."""
    (smooth, smooth_loss), (straight, straight_loss) = (
        fitted(f, int(steps)) for f in (backstory.softplus, backstory.relu)
    )
    breaks = piecewise_linear(straight, -2.0, 2.0).breaks
    print(f"softplus: loss {smooth_loss:.4f}, no breakpoint")
    print(f"ReLU:     loss {straight_loss:.4f}, breakpoints at {', '.join(f'{x:.3f}' for x in breaks)}")
    draw(smooth, straight).savefig(path)
    print("saved", path)


if __name__ == "__main__":
    main(*sys.argv[1:])
