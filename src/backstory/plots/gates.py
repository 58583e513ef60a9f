"""The gates of every unit over the steps, as a heat map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from backstory.insight.lifetable import DIED, REVIVED, LifeTable
from backstory.insight.run import Run
from backstory.insight.sites import Site
from backstory.plots.canvas import (
    FONT,
    POINTS,
    SMALL,
    Margins,
    message,
    panels,
    sheet,
    shortened,
    step_axis,
    text_width,
    title,
)
from backstory.plots.palette import DEAD, MUTED, OPEN, rgb
from backstory.plots.words import WORDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["by_column", "dead_at", "gate_map", "last_opening"]

MOST_COLUMNS, MOST_ROWS = 600, 400
UNSURE = 0.4


def gate_map(run: Run, width: float = 1180.0) -> Figure:
    """Per site a map, units × steps, of the share of the batch for which each gate was open.

    Units stand in the order of their last opening, the longest open on top; dead ones are drawn in
    another colour, faint where death lies between two scans. What is closed without being known dead
    stays blank. ``width`` in points.
    """
    table = run.life_table()
    found = [(site, *run.gates(site)) for site in run.sites]
    found = [(site, steps, shares) for site, steps, shares in found if len(steps)]
    if not found:
        return message(sheet(width, 120.0), WORDS["no gates"])
    columns = min(len(found), max(1, int(width // 360)))
    rows = -(-len(found) // columns)
    each = 250.0 if rows == 1 else 190.0
    margins = Margins(left=40, top=56, bottom=40, between=58, beside=36)
    figure = sheet(width, margins.top + rows * each + (rows - 1) * margins.between + margins.bottom)
    axes = [panel for line in panels(figure, [each] * rows, columns, margins) for panel in line]
    for panel, (site, steps, shares) in zip(axes, found, strict=False):
        _draw(panel, site, steps, shares, table)
        if panel.get_position().x0 * width < margins.left + 1:
            panel.set_ylabel(WORDS["unit"], color=MUTED, fontsize=SMALL, labelpad=-8, parse_math=False)
        title(panel, shortened(site.name, panel.get_position().width * width - 8, FONT))
    for panel in axes[len(found) :]:
        panel.set_visible(False)
    _key(figure, table)
    return figure


def last_opening(shares: np.ndarray) -> np.ndarray:
    """Per unit the row of its last open gate; −1 where it never was.

    >>> last_opening(np.array([[0.5, 0.0, 0.1], [0.0, 0.0, 0.2]])).tolist()
    [0, -1, 1]
    """
    opened = shares > 0
    last = len(shares) - 1 - np.argmax(opened[::-1], axis=0)
    return np.where(opened.any(axis=0), last, -1)


def dead_at(site: Site, steps: np.ndarray, table: LifeTable) -> np.ndarray:
    """Per step and unit 1 where the unit was dead in the forward pass, ``UNSURE`` where it may have been.

    The forward pass of step t runs on the parameters after update t − 1.
    """
    state = np.zeros((len(steps), site.units))
    for event in table.events:
        if event.site != site.name:
            continue
        sure, unsure = steps > event.step, (steps > event.after) & (steps <= event.step)
        if event.kind == REVIVED:
            state[unsure, event.unit] = UNSURE
            state[sure, event.unit] = 0.0
        else:
            if event.kind == DIED and event.step - event.after > 1:
                state[unsure, event.unit] = UNSURE
            state[sure, event.unit] = 1.0
    return state


def _draw(axes: Axes, site: Site, steps: np.ndarray, shares: np.ndarray, table: LifeTable) -> None:
    order = np.lexsort((-shares.sum(axis=0), -last_opening(shares)))
    ends, share, measured = by_column(steps, shares)
    dead = dead_at(site, ends, table)
    dead[measured & (share > 0)] = 0.0
    image = colours(_fewer_rows(share[:, order]), _fewer_rows(dead[:, order])).transpose(1, 0, 2)
    first, last = float(steps[0]) - 0.5, float(steps[-1]) + 0.5
    step_axis(axes, first, last, WORDS["step"])
    box = (first, last, site.units, 0.0)
    axes.imshow(image, interpolation="none", aspect="auto", extent=box)  # type: ignore[arg-type]
    axes.set_yticks([0, site.units], ["1", str(site.units)])
    axes.spines["left"].set_visible(False)


def by_column(steps: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The map's columns, of equally many steps: their last steps, mean shares, and which were measured.

    A column without a measured step shows the one before it.

    >>> ends, share, measured = by_column(np.array([1, 3]), np.array([[0.5], [0.25]]))
    >>> ends.tolist(), share[:, 0].tolist(), measured[:, 0].tolist()
    ([1, 2, 3], [0.5, 0.5, 0.25], [True, False, True])
    """
    span = int(steps[-1] - steps[0]) + 1
    columns = min(span, MOST_COLUMNS)
    at = (steps - steps[0]) * columns // span
    counts = np.bincount(at, minlength=columns)
    share = np.zeros((columns, shares.shape[1]))
    np.add.at(share, at, shares)
    share /= np.maximum(counts, 1)[:, None]
    shown = np.maximum.accumulate(np.where(counts > 0, np.arange(columns), 0))
    ends = steps[0] + ((np.arange(columns) + 1) * span - 1) // columns
    measured = np.broadcast_to((counts > 0)[:, None], share.shape)
    return ends, share[shown], measured


def _fewer_rows(values: np.ndarray) -> np.ndarray:
    """Means over neighbouring units, so that the picture has no more rows than a screen shows."""
    if values.shape[1] <= MOST_ROWS:
        return values
    return np.stack([part.mean(axis=1) for part in np.array_split(values, MOST_ROWS, axis=1)], axis=1)


def colours(share: np.ndarray, dead: np.ndarray) -> np.ndarray:
    """Red, green, blue and opacity: the opener the stronger, dead in its own colour, nothing transparent."""
    opened = np.sqrt(np.clip(share, 0.0, 1.0)) * (1 - dead)
    killed = 0.6 * dead
    total = np.maximum(opened + killed, 1e-12)
    mixed = opened[..., None] * np.array(rgb(OPEN)) + killed[..., None] * np.array(rgb(DEAD))
    return np.concatenate([mixed / total[..., None], np.minimum(total, 1.0)[..., None]], axis=-1)


def _key(figure: Figure, table: LifeTable) -> None:
    """What the colours mean, above the maps."""
    width, height = (size * POINTS for size in figure.get_size_inches())
    line = height - 16

    def words(text: str, at: float) -> float:
        settings: dict[str, Any] = {"color": MUTED, "fontsize": SMALL, "va": "center", "parse_math": False}
        figure.text(at / width, line / height, text, **settings)
        return at + text_width(text, SMALL)

    def bar(share: np.ndarray, dead: np.ndarray, at: float, long: float) -> float:
        axes = figure.add_axes((at / width, (line - 5) / height, long / width, 10 / height))
        axes.imshow(colours(share, dead)[None], interpolation="none", aspect="auto")
        axes.set_axis_off()
        return at + long

    ramp = np.linspace(0, 1, 64)
    at = words(WORDS["open share"], 2.0) + 6
    at = words("0", at) + 4
    at = bar(ramp, 0 * ramp, at, 70.0) + 5
    at = words("1", at) + 22
    at = words(WORDS["dead"], bar(np.zeros(1), np.ones(1), at, 14.0) + 5) + 22
    if any(not event.exact for event in table.events) and at + 200 < width:
        words(WORDS["dead between"], bar(np.zeros(1), np.full(1, UNSURE), at, 14.0) + 5)
