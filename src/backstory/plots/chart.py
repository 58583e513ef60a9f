"""Pictures of measurements: panels of curves and of repeated values, told as records and drawn in one way."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from backstory.errors import ArgumentError
from backstory.plots.canvas import (
    FONT,
    POINTS,
    SMALL,
    Margins,
    decades,
    in_words,
    linear_limits,
    panels,
    power_of_ten,
    sheet,
    shortened,
    text_width,
    title,
    trace,
)
from backstory.plots.palette import DEAD, FAINT, GREEN, INK, MUTED, OPEN, ORANGE, PAPER, PURPLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["TINTS", "Curves", "Dots", "chart"]

Numbers = Sequence[float] | np.ndarray
TINTS = (OPEN, DEAD, GREEN, ORANGE, PURPLE, MUTED, INK)
ROW, LINE, HEAD, CURVES = 37.0, 17.0, 21.0, 210.0
GAP = 16.0


@dataclass(frozen=True)
class Curves:
    """Lines over one axis: name → (x, y). ``log`` names the axes that are logarithmic: ``"x"``, ``"xy"``.

    ``bands`` shades (low, high) around the line of that name; ``references`` are level lines. ``joined`` says
    whether the points of a line are joined.
    """

    title: str
    lines: Mapping[str, tuple[Numbers, Numbers]]
    x: str = ""
    log: str = ""
    bands: Mapping[str, tuple[Numbers, Numbers]] = field(default_factory=dict)
    references: Mapping[str, float] = field(default_factory=dict)
    joined: bool = True


@dataclass(frozen=True)
class Dots:
    """A row per name with a dot per value, and an upright stroke at their median.

    ``form`` writes it as Python does, or ``"p"`` with powers of ten. ``reference`` is an upright line through
    all rows. ``compared`` says that the first row is what the others are compared with.
    """

    title: str
    rows: Mapping[str, Numbers]
    x: str = ""
    form: str = ".2f"
    log: bool = False
    reference: float | None = None
    compared: bool = False


def chart(
    *shown: Curves | Dots, heading: str = "", remark: str = "", tint: str = MUTED, width: float = 920.0
) -> Figure:
    """The panels, two in a row, below ``heading`` and ``remark`` (the latter in ``tint``).

    >>> from backstory.plots import Dots, chart
    >>> len(chart(Dots("two coins", {"heads": [4, 6], "tails": [6, 4]}), heading="A throw").axes)
    1
    """
    if not shown:
        raise ArgumentError(
            "chart() received no panel", why="there is nothing to draw", instead='chart(Dots("…", {…}))'
        )
    columns = min(2, len(shown))
    margins = Margins(left=50, right=22, top=0.0, bottom=46, beside=70)
    each = (width - margins.left - margins.right - (columns - 1) * margins.beside) / columns
    bold, plain = _wrapped(heading, width - 40, FONT + 3.5), _wrapped(remark, width - 60, FONT - 0.5)
    keys = [_key(panel, each) for panel in shown]
    above = 16.0 + LINE * (1 + max(len(lines) for lines in keys))
    top = 14.0 + HEAD * (len(bold) + len(plain)) + above
    rows = [list(shown[i : i + columns]) for i in range(0, len(shown), columns)]
    heights = [max(_height(panel) for panel in row) for row in rows]
    between = above + 46.0
    margins = Margins(margins.left, margins.right, top, margins.bottom, between, margins.beside)
    figure = sheet(width, top + sum(heights) + between * (len(rows) - 1) + margins.bottom)
    _head(figure, bold, plain, tint)
    for axes, panel, key in zip(
        [axes for row in panels(figure, heights, columns, margins) for axes in row], shown, keys, strict=False
    ):
        _draw(axes, panel, key, each)
    for spare in figure.axes[len(shown) :]:
        spare.set_visible(False)
    return figure


def _head(figure: Figure, bold: list[str], plain: list[str], tint: str) -> None:
    """The heading's lines, and below them the remark's behind a dot of its colour."""
    width, height = (size * POINTS for size in figure.get_size_inches())
    lines = [(20.0, line, INK, FONT + 2.5, "bold") for line in bold]
    lines += [(38.0, line, INK, FONT, "normal") for line in plain]
    for i, (left, line, colour, size, weight) in enumerate(lines):
        place = {"y": 1 - (26.0 + HEAD * i) / height, "va": "baseline", "parse_math": False}
        figure.text(left / width, s=line, color=colour, fontsize=size, fontweight=weight, **place)
        if plain and i == len(bold):
            figure.text(20 / width, s="●", color=tint, fontsize=size, **place)


def _wrapped(text: str, width: float, size: float) -> list[str]:
    return textwrap.wrap(text, max(20, int(width / (0.54 * size))))


def _height(panel: Curves | Dots) -> float:
    return CURVES if isinstance(panel, Curves) else max(ROW * len(panel.rows), 90.0)


def _key(panel: Curves | Dots, width: float) -> list[list[tuple[str, str, float]]]:
    """The names of the lines, each with its colour and place, in as many lines of text as they need."""
    if not isinstance(panel, Curves) or len(panel.lines) < 2:
        return []
    lines: list[list[tuple[str, str, float]]] = [[]]
    at = 0.0
    for name, tint in zip(panel.lines, TINTS, strict=False):
        text = f"{'━' if panel.joined else '●'} {shortened(name, width - 20, SMALL)}"
        if at and at + text_width(text, SMALL) > width:
            lines.append([])
            at = 0.0
        lines[-1].append((text, tint, at))
        at += text_width(text, SMALL) + GAP
    return lines


def _draw(axes: Axes, panel: Curves | Dots, key: list[list[tuple[str, str, float]]], width: float) -> None:
    title(axes, panel.title, 10 + LINE * len(key))
    for i, line in enumerate(reversed(key)):
        for text, tint, at in line:
            title(axes, text, 8 + LINE * i, at=at, color=tint, fontsize=SMALL, fontweight="normal")
    if panel.x:
        axes.set_xlabel(panel.x, color=MUTED, fontsize=SMALL, labelpad=4, parse_math=False)
    if isinstance(panel, Curves):
        _curves(axes, panel)
    else:
        _dots(axes, panel, width)


def _curves(axes: Axes, panel: Curves) -> None:
    xs = np.concatenate([np.asarray(x, float) for x, _ in panel.lines.values()])
    ys = [np.asarray(y, float) for _, y in panel.lines.values()]
    ys += [np.asarray(edge, float) for band in panel.bands.values() for edge in band]
    together = np.concatenate([*ys, np.array(list(panel.references.values()), float)])
    finite = together[np.isfinite(together)]
    if "y" in panel.log:
        decades(axes, together)
    elif finite.size:
        linear_limits(axes, float(finite.min()), float(finite.max()))
    _x_axis(axes, xs, "x" in panel.log)
    for (name, (x, y)), tint in zip(panel.lines.items(), TINTS, strict=False):
        if name in panel.bands:
            axes.fill_between(x, *panel.bands[name], color=tint, alpha=0.15, linewidth=0)
        if panel.joined:
            trace(axes, np.asarray(x, float), np.asarray(y, float), tint, log="y" in panel.log, linewidth=1.8)
        else:
            axes.plot(x, y, "o", color=tint, alpha=0.6, markersize=5.5, mew=0)
    for name, level in panel.references.items():
        axes.axhline(level, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        axes.annotate(
            name, (1.0, level), (0, 4), xycoords=axes.get_yaxis_transform(), textcoords="offset points",
            ha="right", color=MUTED, fontsize=SMALL - 0.5, parse_math=False,
        )  # fmt: skip


def _x_axis(axes: Axes, xs: np.ndarray, log: bool) -> None:
    from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator

    if not log:
        room = 0.02 * float(np.ptp(xs)) or 0.5
        axes.set_xlim(xs.min() - room, xs.max() + room)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=bool((xs == np.round(xs)).all())))
        return
    low, high = np.log10(xs.min()), np.log10(xs.max())
    axes.set_xscale("log")
    room = 0.03 * (high - low) or 0.2
    axes.set_xlim(10 ** (low - room), 10 ** (high + room))
    places = np.unique(xs) if len(np.unique(xs)) <= 7 else 10.0 ** np.arange(np.ceil(low), np.floor(high) + 1)
    axes.xaxis.set_major_locator(FixedLocator(list(places)))
    axes.xaxis.set_major_formatter(FixedFormatter([_number(place) for place in places]))
    axes.xaxis.set_minor_locator(NullLocator())


def _number(value: float) -> str:
    power = np.log10(value) if value > 0 else 0.5
    if abs(power - round(power)) < 1e-9 and abs(power) >= 4:
        return power_of_ten(round(power))
    return f"{value:,.6g}"


def _dots(axes: Axes, panel: Dots, width: float) -> None:
    """One row a name: its text above, its dots below."""
    axes.spines["left"].set_visible(False)
    axes.set_yticks([])
    axes.set_ylim(len(panel.rows), 0)
    every = np.concatenate([np.asarray(values, float) for values in panel.rows.values()])
    known = every[np.isfinite(every) & ((every > 0) | (not panel.log))]
    ends = [*known, *([] if panel.reference is None else [panel.reference])] or [1.0]
    _value_axis(axes, min(ends), max(ends), panel)
    if panel.reference is not None:
        axes.axvline(panel.reference, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    for i, ((name, values), tint) in enumerate(zip(panel.rows.items(), _tints(panel), strict=True)):
        shown = np.asarray(values, float)
        lost = ~np.isfinite(shown)
        least = axes.get_xlim()[0]
        placed = np.where(shown > 0, shown, least) if panel.log else shown
        level = i + 0.74
        axes.plot(
            placed[~lost], np.full((~lost).sum(), level), "o", color=tint, alpha=0.6, markersize=5.5, mew=0
        )
        if lost.any():
            across = axes.get_yaxis_transform()
            axes.plot(
                [1.0] * lost.sum(), [level] * lost.sum(), "x", color=DEAD, transform=across, clip_on=False
            )
        middle = median(shown[~lost].tolist()) if not lost.all() else float("nan")
        if len(shown) > 1 and np.isfinite(middle):
            at = max(middle, least) if panel.log else middle
            axes.plot([at, at], [level - 0.14, level + 0.14], color=INK, linewidth=2.0, zorder=4)
        said = in_words(middle, panel.form) if np.isfinite(middle) else "not finite"
        place: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center", "parse_math": False}
        label = shortened(name, width - text_width(said, SMALL) - 12, SMALL)
        behind = {"facecolor": PAPER, "edgecolor": "none", "pad": 1.0}
        axes.text(0.0, i + 0.34, label, color=INK, fontsize=SMALL, bbox=behind, **place)
        axes.text(1.0, i + 0.34, said, color=MUTED, fontsize=SMALL, ha="right", bbox=behind, **place)
        if i:
            axes.axhline(i, color=FAINT, linewidth=0.7)


def _tints(panel: Dots) -> list[str]:
    """The first row in grey if the others are compared with it."""
    count = len(panel.rows)
    return [MUTED, *[OPEN] * (count - 1)] if panel.compared else [OPEN] * count


def _value_axis(axes: Axes, low: float, high: float, panel: Dots) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.grid(axis="x", color=FAINT, linewidth=0.6, alpha=0.6)
    axes.set_axisbelow(True)
    if panel.log:
        from matplotlib.ticker import NullLocator

        first, last = np.floor(np.log10(low)), np.ceil(np.log10(high))
        last = max(last, first + 1)
        places = 10.0 ** np.arange(first, last + 1, max(1, np.ceil((last - first) / 6)))
        axes.set_xscale("log")
        axes.xaxis.set_ticks(places, [_number(place) for place in places])
        axes.xaxis.set_minor_locator(NullLocator())
        room = 10 ** (0.04 * (last - first))
        axes.set_xlim(low / room, high * room)
        return
    if panel.form == ".0%" and low >= 0.0 and high <= 1.0:
        low, high = 0.0, 1.0
    room = 0.03 * (high - low) or 0.1 * abs(high) or 0.5
    axes.set_xlim(low - room, high + room)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    if panel.form.endswith("%"):
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g}%"))
