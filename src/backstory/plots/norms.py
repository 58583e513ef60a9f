"""Norms over the steps: of gradients, and of updates relative to the weights they change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from backstory.insight.run import Run
from backstory.plots.canvas import (
    FONT,
    SMALL,
    Margins,
    decades,
    message,
    panels,
    sheet,
    shortened,
    step_axis,
    text_width,
    title,
    trace,
)
from backstory.plots.palette import LINES, MUTED
from backstory.plots.words import WORDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["gradient_norms", "update_ratios"]

USUAL = 1e-3
PANEL = 110.0
LEFT = 46.0


def gradient_norms(run: Run, width: float = 1180.0) -> Figure:
    """The 2-norm of every parameter's gradient over the steps, on one log scale, a panel per layer."""
    steps, norms = measured(run)
    gradients = {name: rows[0] for name, rows in norms.items()}
    return _layers(gradients, steps, width, WORDS["gradient norms"], None)


def update_ratios(run: Run, width: float = 1180.0) -> Figure:
    """‖Δw‖ ÷ ‖w‖ of every parameter over the steps, on one log scale, a panel per layer.

    About 10⁻³ is usual; the ratio is not finite while the weights are all 0.
    """
    steps, norms = measured(run)
    ratios = {}
    with np.errstate(all="ignore"):
        for name, (_, change, weights) in norms.items():
            ratios[name] = np.where((change == 0) & (weights == 0), 0.0, change / weights)
    return _layers(ratios, steps, width, WORDS["update ratios"], USUAL)


def measured(run: Run) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The steps that were measured, and the norms at these: elsewhere they are NaN without having been so."""
    steps, norms = run.steps, run.norms()
    known = np.unique(np.concatenate([np.zeros(0, np.int64), *(run.gates(site)[0] for site in run.sites)]))
    seen = np.isin(steps, known)
    for rows in norms.values():
        seen |= ~np.isnan(rows[:2]).all(axis=0)
    return steps[seen], {name: rows[:, seen] for name, rows in norms.items()}


def _layers(
    lines: dict[str, np.ndarray], steps: np.ndarray, width: float, name: str, usual: float | None
) -> Figure:
    """Small multiples: a panel per layer, a line per kind of parameter (weight, bias), one scale."""
    if not lines or not len(steps):
        return message(sheet(width, 120.0), WORDS["no steps"])
    layers: dict[str, dict[str, np.ndarray]] = {}
    for parameter, values in lines.items():
        layer, _, kind = parameter.rpartition(".")
        layers.setdefault(layer, {})[kind] = values
    kinds = list(dict.fromkeys(kind for group in layers.values() for kind in group))
    tints = {kind: LINES[i % len(LINES)] for i, kind in enumerate(kinds)}
    columns = min(len(layers), max(1, int(width // 280)))
    rows = -(-len(layers) // columns)
    margins = Margins(left=LEFT, top=54, bottom=40, between=32, beside=22)
    figure = sheet(width, margins.top + rows * PANEL + (rows - 1) * margins.between + margins.bottom)
    grid = panels(figure, [PANEL] * rows, columns, margins)
    together = np.concatenate([*lines.values(), [] if usual is None else [usual]])
    edges = False
    for i, (layer, group) in enumerate(layers.items()):
        axes = grid[i // columns][i % columns]
        step_axis(axes, steps[0], steps[-1], WORDS["step"] if i + columns >= len(layers) else None, ticks=5)
        decades(axes, together, most=4)
        axes.tick_params(labelleft=i % columns == 0)
        room = axes.get_position().width * width
        title(axes, shortened(layer or WORDS["itself"], room, FONT))
        for kind, values in group.items():
            edges |= trace(axes, steps, values, tints[kind], log=True, linewidth=1.1)
        if usual is not None:
            _mark_usual(axes, usual, label=i == 0)
    for axes in grid[-1][len(layers) - (rows - 1) * columns :]:
        axes.set_visible(False)
    _key(grid[0][0], name, tints, edges, width)
    return figure


def _mark_usual(axes: Axes, usual: float, label: bool) -> None:
    axes.axhline(usual, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    if label:
        across = axes.get_yaxis_transform()
        axes.text(
            0.01, usual * 1.1, WORDS["usual"], color=MUTED, fontsize=SMALL, va="bottom", transform=across
        )


def _key(axes: Axes, name: str, tints: dict[str, str], edges: bool, width: float) -> None:
    """One line above the panels: what is drawn, and the colour of every kind."""
    at, line = 2 - LEFT, 29.0
    entries = [(name, MUTED, 18.0)]
    entries += [(f"━ {shortened(kind, 90, SMALL)}", tint, 14.0) for kind, tint in tints.items()]
    if edges:
        entries.append((WORDS["edges"], MUTED, 0.0))
    for text, colour, after in entries:
        if at + text_width(text, SMALL) < width:
            title(axes, text, line, color=colour, fontsize=SMALL, fontweight="normal", at=at)
        at += text_width(text, SMALL) + after
