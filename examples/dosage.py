"""A network with one input, drawn step by step: how two ReLUs make a bump.

Is a drug effective at a dose between 0 and 1? Seven pictures, each the exact curve of one more step of the
network: relu(w1·x + b1) times w3, plus (w2·x + b2) times w4, plus b3, and a last relu.

    python examples/dosage.py [picture.png]
"""

from __future__ import annotations

import sys
from typing import Any

import backstory
from backstory.insight import piecewise_linear
from backstory.plots.canvas import FONT, SMALL, Margins, panels, sheet, title
from backstory.plots.functions import draw_piecewise
from backstory.plots.palette import LINES, MUTED

w1, b1, w2, b2, w3, w4, b3 = 1.70, -0.85, 12.6, 0.0, -40.8, 2.70, -16.0
relu = backstory.relu

STEPS = {
    "1  relu(w1·x + b1)": lambda x: relu(w1 * x + b1),
    "2  times w3": lambda x: w3 * relu(w1 * x + b1),
    "3  w2·x + b2 (this unit has no ReLU)": lambda x: w2 * x + b2,
    "4  times w4": lambda x: w4 * (w2 * x + b2),
    "5  the sum of 2 and 4": lambda x: w3 * relu(w1 * x + b1) + w4 * (w2 * x + b2),
    "6  plus b3": lambda x: w3 * relu(w1 * x + b1) + w4 * (w2 * x + b2) + b3,
    "7  relu again: effective in between": lambda x: relu(w3 * relu(w1 * x + b1) + w4 * (w2 * x + b2) + b3),
}
BRANCHES = (0, 0, 1, 1, 2, 2, 3)  # each branch of the network has its colour


def draw() -> Any:
    """The seven pictures, the steps of one branch in one colour."""
    margins = Margins(left=44, right=20, top=76, bottom=84, between=66, beside=46)
    figure = sheet(980.0, 76 + 4 * 130.0 + 3 * 66 + 84)
    places = [axes for row in panels(figure, [130.0] * 4, 2, margins) for axes in row]
    for axes, (name, step), branch in zip(places, STEPS.items(), BRANCHES, strict=False):
        draw_piecewise(axes, piecewise_linear(step, 0.0, 1.0), LINES[branch % len(LINES)])
        title(axes, name, 8)
    draw_piecewise(places[-1], piecewise_linear(list(STEPS.values())[-1], 0.45, 0.55), LINES[-1])
    title(places[-1], "7  from nearby", 8)
    weights = f"w1 = {w1}, b1 = {b1}, w2 = {w2}, b2 = {b2:g}, w3 = {w3}, w4 = {w4}, b3 = {b3:g}"
    title(places[0], "How two units make a bump", 46, fontsize=FONT + 3)
    title(places[0], weights.replace("-", "−"), 28, color=MUTED, fontsize=SMALL, fontweight="normal")
    return figure


def main(path: str = "dosage.png") -> None:
    """Print the numbers that the pictures show, and save them."""
    x = backstory.tensor([0.0, 0.2, 0.6, 1.0])
    print("x             ", x.tolist())
    print("w1·x + b1     ", [round(v, 2) for v in (w1 * x + b1).tolist()])
    print("relu of it    ", [round(v, 2) for v in relu(w1 * x + b1).tolist()])
    curve = piecewise_linear(STEPS["7  relu again: effective in between"], 0.0, 1.0)
    rises, top, falls = curve.breaks
    print(f"effective between {rises:.5f} and {falls:.5f}, most at {top:g}: {curve.ys.max():.2f}")
    draw().savefig(path)
    print("saved", path)


if __name__ == "__main__":
    main(*sys.argv[1:])
