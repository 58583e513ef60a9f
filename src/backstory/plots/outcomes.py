"""Paired outcomes: every seed as it was and with each change."""

from __future__ import annotations

import math
from statistics import median
from typing import TYPE_CHECKING

from backstory.insight.counterfactual import NO_CHANGE, Outcomes
from backstory.insight.run import Run
from backstory.plots.canvas import FONT, SMALL, Margins, message, panels, sheet, shortened, text_width, title
from backstory.plots.palette import FAINT, INK, MARKS, MUTED
from backstory.plots.words import WORDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["paired_outcomes"]

ROW = 58.0
BEFORE, AFTER = 0.56, 0.2


def paired_outcomes(run: Run, width: float = 590.0, height: float | None = None) -> Figure:
    """One row a change: a dot per seed as it was (grey) and with the change, joined in pairs.

    Each row says the mark, the median and the median share of dead units; upright strokes are the
    medians. ``height`` in points; by default what the rows need.
    """
    outcomes = run.outcomes()
    changes = [name for name in outcomes.changes if name != NO_CHANGE.name]
    if not changes or NO_CHANGE.name not in outcomes.changes:
        return message(sheet(width, 120.0), WORDS["no outcomes"])
    margins = Margins(left=8, right=10, top=36, bottom=40)
    least = len(changes) * ROW
    room = least if height is None else max(height - margins.top - margins.bottom, 0.7 * least)
    figure = sheet(width, room + margins.top + margins.bottom)
    ((axes,),) = panels(figure, [room], 1, margins)
    axes.spines["left"].set_visible(False)
    axes.set_ylim(len(changes), 0)
    axes.set_yticks([])
    known = [value for name in outcomes.changes for value in outcomes.values(name) if math.isfinite(value)]
    _metric_axis(axes, outcomes.metric, min(known, default=0.0), max(known, default=1.0))
    _heading(axes, outcomes)
    for row, change in enumerate(changes):
        _draw(axes, outcomes, change, row, width - margins.left - margins.right)
    return figure


def _metric_axis(axes: Axes, metric: str, low: float, high: float) -> None:
    from matplotlib.ticker import MaxNLocator

    if low >= 0 and 0.5 < high <= 1:
        low, high = 0.0, 1.0
    room = 0.02 * (high - low) or 0.5
    axes.set_xlim(low - room, high + room)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.grid(axis="x", color=FAINT, linewidth=0.6, alpha=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel(metric, color=MUTED, fontsize=SMALL, labelpad=3, parse_math=False)


def _heading(axes: Axes, outcomes: Outcomes) -> None:
    values = outcomes.values(NO_CHANGE.name)
    dead = f"{outcomes.dead_share(NO_CHANGE.name):.0%}"
    texts = [WORDS["as it was"].format(median=_number(median(values)), dead=dead), WORDS["with change"]]
    at = 0.0
    for text, colour in zip(texts, (MUTED, INK), strict=True):
        title(axes, f"● {text}", 14, fontsize=SMALL, fontweight="normal", color=colour, at=at)
        at += text_width(text, SMALL) + 30


def _draw(axes: Axes, outcomes: Outcomes, change: str, row: int, width: float) -> None:
    """One change: its line of text, the seeds as it was, and below them the seeds with the change."""
    pairs = [pair for pair in outcomes.pairs(change) if all(map(math.isfinite, pair))]
    values = [value for value in outcomes.values(change) if math.isfinite(value)]
    mark = outcomes.mark(change)
    colour = MARKS[mark]
    before, after, top = row + 1 - BEFORE, row + 1 - AFTER, row + 0.16
    for old, new in pairs:
        axes.plot([old, new], [before, after], color=MUTED, alpha=0.25, linewidth=0.7, zorder=1)
    old_values = [old for old, _ in pairs]
    axes.plot(old_values, [before] * len(pairs), "o", color=MUTED, alpha=0.6, markersize=4.5, mew=0)
    axes.plot(values, [after] * len(values), "o", color=colour, alpha=0.75, markersize=5.5, mew=0)
    for line, group, tint in ((before, old_values, MUTED), (after, values, INK)):
        if group:
            middle = median(group)
            axes.plot([middle, middle], [line - 0.1, line + 0.1], color=tint, linewidth=2.2, zorder=4)
    dead = f"{outcomes.dead_share(change):.0%}"
    text = WORDS["change"].format(median=_number(median(outcomes.values(change))), dead=dead)
    place = {"transform": axes.get_yaxis_transform(), "va": "center", "parse_math": False}
    name = shortened(change, width - text_width(text, SMALL) - 30, FONT)
    axes.text(0.0, top, mark, color=colour, fontsize=FONT + 1, fontweight="bold", **place)
    axes.text(18 / width, top, name, color=INK, fontsize=FONT, fontweight="bold", **place)
    axes.text(1.0, top, text, color=MUTED, fontsize=SMALL, ha="right", **place)
    if row:
        axes.axhline(row - 0.06, color=FAINT, linewidth=0.8)


def _number(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")
