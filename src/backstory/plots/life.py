"""Units alive over the steps, above the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from backstory.insight.lifetable import LifeTable
from backstory.insight.run import Run
from backstory.plots.canvas import (
    SMALL,
    Margins,
    decades,
    linear_limits,
    note,
    panels,
    sheet,
    shortened,
    step_axis,
    text_width,
    title,
    trace,
)
from backstory.plots.palette import DEAD, INK, MUTED, OPEN
from backstory.plots.words import WORDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["alive_and_loss"]

LINE = 17.0
LEFT = 44.0
LOG_RANGE = 100.0


def alive_and_loss(run: Run, width: float = 590.0, height: float = 470.0) -> Figure:
    """Living units, stacked by site in the order in which they run, above the loss; sizes in points.

    The fatal step, with the largest loss of living units, is marked in both. Where a run was not
    audited only the scanned steps are known: they are dots, and the fatal step is an interval.
    """
    table = run.life_table()
    figure = sheet(width, height)
    keys = _keys(table, width - 16)
    margins = Margins(left=LEFT, bottom=40, top=26 + LINE * (len(keys) + 1), between=40)
    room = height - margins.top - margins.bottom - margins.between
    (above,), (below,) = panels(figure, [0.6 * room, 0.4 * room], 1, margins)
    steps, losses = run.steps, run.losses
    first = min([0, *table.steps.tolist(), *steps.tolist()])
    last = max([0, *table.steps.tolist(), *steps.tolist()])
    step_axis(above, first, last, None)
    step_axis(below, first, last, WORDS["step"])
    _draw_alive(above, table, keys)
    _draw_losses(below, steps, losses)
    _mark_fatal(above, below, table, first, last)
    return figure


def _strengths(count: int) -> list[float]:
    """How opaque each site's area is: the earliest darkest."""
    return np.linspace(0.85, 0.25, count).tolist() if count > 1 else [0.7]


def _keys(table: LifeTable, width: float) -> list[list[tuple[int, str, float]]]:
    """The legend, in lines: (site, text, distance from the left)."""
    lines: list[list[tuple[int, str, float]]] = []
    at = width + 1
    texts = []
    for i, life in enumerate(table.sites):
        alive = int(table.alive[-1, i]) if len(table.alive) else life.width
        site = shortened(life.site.name, 110, SMALL)
        texts.append(WORDS["alive of"].format(site=site, alive=alive, units=life.site.units))
    each = max([text_width(text, SMALL) for text in texts], default=0.0) + 30
    for i, text in enumerate(texts):
        if at + each > width and at > 0:
            lines.append([])
            at = 0.0
        lines[-1].append((i, text, at))
        at += each
    return lines


def _draw_alive(axes: Axes, table: LifeTable, keys: list[list[tuple[int, str, float]]]) -> None:
    title(axes, WORDS["alive"], 6 + LINE * (len(keys) + 1), at=2 - LEFT)
    axes.set_ylim(0, max(table.units, 1))
    linear = axes.yaxis.get_major_locator()
    linear.set_params(nbins=4, integer=True)  # type: ignore[attr-defined]
    if not len(table.steps):
        note(axes, WORDS["no scans"])
        return
    tops = np.cumsum(table.alive, axis=1)
    every = bool(np.all(np.diff(table.steps) <= 1))
    for i, strength in enumerate(_strengths(len(table.sites))):
        below = tops[:, i - 1] if i else np.zeros(len(tops))
        kind = "post" if every and len(tops) > 1 else None
        axes.fill_between(table.steps, below, tops[:, i], step=kind, color=OPEN, alpha=strength, linewidth=0)
        if not every or len(tops) == 1:
            axes.plot(table.steps, tops[:, i], "o", color=OPEN, markersize=3, clip_on=False)
    axes.set_axisbelow(False)
    strengths = _strengths(len(table.sites))
    for line, entries in enumerate(keys):
        height = 5 + LINE * (len(keys) - line)
        plain = {"fontsize": SMALL, "fontweight": "normal"}
        for i, text, at in entries:
            title(axes, "■", height, at + 2 - LEFT, color=OPEN, alpha=strengths[i], **plain)
            title(axes, text, height, at + 16 - LEFT, color=MUTED, **plain)


def _draw_losses(axes: Axes, steps: np.ndarray, losses: np.ndarray) -> None:
    finite = losses[np.isfinite(losses)]
    log = bool(finite.size and finite.min() >= 0 and finite.max() > LOG_RANGE * max(finite.min(), 1e-300))
    name = WORDS["loss"]
    if log:
        decades(axes, finite, most=4)
        name = WORDS["log"].format(title=name)
    elif finite.size:
        linear_limits(axes, float(finite.min()), float(finite.max()))
    title(axes, name, 8, at=2 - LEFT)
    if not len(steps):
        note(axes, WORDS["no losses"])
    elif trace(axes, steps, losses, INK, log=log, linewidth=1.0):
        title(axes, WORDS["edges"], ha="right", color=MUTED, fontsize=SMALL, fontweight="normal")


def _mark_fatal(above: Axes, below: Axes, table: LifeTable, first: float, last: float) -> None:
    step = table.fatal_step
    if step is None:
        return
    at = int(np.flatnonzero(table.steps == step)[0])
    after = int(table.steps[at - 1])
    totals = table.alive.sum(axis=1)
    lost = int(totals[at - 1]) - int(totals[at])
    for axes in (above, below):
        if step - after > 1:
            axes.axvspan(after, step, color=DEAD, alpha=0.16, linewidth=0)
        axes.axvline(step, color=DEAD, linewidth=1.3, zorder=5)
    key = "fatal" if step - after <= 1 else "fatal between"
    left = step - first < 0.6 * max(last - first, 1)
    above.annotate(
        WORDS[key].format(step=step, after=after, lost=lost),
        (step, 1.0),
        (0 if left else 2, 5),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        ha="left" if left else "right",
        color=DEAD,
        fontsize=SMALL,
        fontweight="bold",
        annotation_clip=False,
    )
