"""What every picture shares: sheets of panels, axes in one style, lines that bear 0, NaN and infinity."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from backstory.errors import MissingExtraError
from backstory.plots.palette import DEAD, FAINT, INK, MUTED, PAPER

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "FONT",
    "POINTS",
    "SMALL",
    "Margins",
    "decades",
    "envelope",
    "in_words",
    "linear_limits",
    "message",
    "note",
    "panels",
    "power_of_ten",
    "sheet",
    "shortened",
    "step_axis",
    "style",
    "text_width",
    "title",
    "trace",
]

FONT, SMALL = 12.5, 11.5
POINTS = 72.0
MOST_POINTS = 600
FEW_POINTS = 32
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Margins:
    """Room around and between panels, in points."""

    left: float = 40.0
    right: float = 12.0
    top: float = 24.0
    bottom: float = 36.0
    between: float = 30.0
    beside: float = 16.0


def sheet(width: float, height: float) -> Figure:
    """An empty figure of ``width`` × ``height`` points, apart from pyplot's global state."""
    try:
        import matplotlib  # noqa: F401

        from backstory.plots.fonts import Sheet
    except ImportError as error:
        raise MissingExtraError.of("matplotlib", "plots", "a picture of a run") from error
    return Sheet(figsize=(width / POINTS, height / POINTS), facecolor=PAPER, dpi=2 * POINTS)


def panels(figure: Figure, rows: Sequence[float], columns: int, margins: Margins) -> list[list[Axes]]:
    """Axes in rows of the given heights (points), from the top, in columns of equal width."""
    width, height = (size * POINTS for size in figure.get_size_inches())
    each = (width - margins.left - margins.right - (columns - 1) * margins.beside) / columns
    made, top = [], height - margins.top
    for row in rows:
        line = []
        for column in range(columns):
            left = margins.left + column * (each + margins.beside)
            box = (left / width, (top - row) / height, each / width, row / height)
            line.append(figure.add_axes(box))
            style(line[-1])
        made.append(line)
        top -= row + margins.between
    return made


def style(axes: Axes) -> None:
    """Thin grey axes at the left and below; no frame, no ticks that stick out."""
    axes.set_facecolor("none")
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(FAINT)
        spine.set_linewidth(1.0)
    axes.tick_params(length=0, pad=4, labelsize=SMALL, labelcolor=MUTED, which="both")


def message(figure: Figure, text: str) -> Figure:
    """The figure with nothing but a line that says why it is empty."""
    figure.text(0.5, 0.5, text, ha="center", va="center", color=MUTED, fontsize=FONT, parse_math=False)
    return figure


def note(axes: Axes, text: str) -> None:
    """A line in the middle of axes that have nothing to show."""
    place: dict[str, Any] = {"transform": axes.transAxes, "ha": "center", "va": "center"}
    axes.text(0.5, 0.5, text, color=MUTED, fontsize=SMALL, parse_math=False, **place)


def text_width(text: str, size: float) -> float:
    """Roughly how wide ``text`` is, in points; a fallback font may be wider than the one measured.

    >>> text_width("ab", 10.0) < text_width("가나", 10.0)
    True
    """
    return size * sum(1.0 if unicodedata.east_asian_width(letter) in "WF" else 0.58 for letter in text)


def shortened(text: str, width: float, size: float) -> str:
    """``text``, cut in the middle if it is wider than ``width`` points.

    >>> shortened("a_very_long_name/relu#0", 70.0, 10.0)
    'a_very…elu#0'
    """
    cut = text
    for keep in range(len(text) - 1, 1, -1):
        if text_width(cut, size) <= width:
            break
        cut = text[: (keep + 1) // 2] + "…" + text[len(text) - keep // 2 :]
    return cut


def step_axis(axes: Axes, first: float, last: float, label: str | None, ticks: int = 6) -> None:
    """Whole steps from ``first`` to ``last`` along x; without ``label`` without numbers too."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    room = 0.0 if last > first else 0.5
    axes.set_xlim(first - room, last + room)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=ticks, integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{int(x):,}" if x == int(x) else ""))
    if label is None:
        axes.tick_params(labelbottom=False)
    else:
        axes.set_xlabel(label, color=MUTED, fontsize=SMALL, labelpad=3, parse_math=False)


def linear_limits(axes: Axes, low: float, high: float) -> None:
    """A linear y axis with a little room and few numbers."""
    from matplotlib.ticker import MaxNLocator

    room = 0.06 * (high - low) or max(abs(high) * 0.1, 0.5)
    axes.set_ylim(low - room, high + room)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10]))


def decades(axes: Axes, values: np.ndarray, most: int = 5) -> None:
    """A log y axis over the whole decades that hold the positive finite ``values``, labelled 10⁻³."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    found = values[np.isfinite(values) & (values > 0)]
    low, high = (math.log10(found.min()), math.log10(found.max())) if found.size else (-1.0, 0.0)
    first, last = max(math.floor(low), -300), min(math.ceil(high), 300)
    last = max(last, first + 1)
    stride = max(1, math.ceil((last - first) / (most - 1)))
    shown = range(first, last + 1, stride)
    axes.set_yscale("log")
    axes.set_ylim(10.0 ** (first - 0.08 * (last - first)), 10.0 ** (last + 0.08 * (last - first)))
    axes.yaxis.set_major_locator(FixedLocator([10.0**power for power in shown]))
    axes.yaxis.set_major_formatter(FixedFormatter([power_of_ten(power) for power in shown]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(axis="y", color=FAINT, linewidth=0.6, alpha=0.6)
    axes.set_axisbelow(True)


def power_of_ten(power: int) -> str:
    """As text: it needs no mathematical typesetting.

    >>> power_of_ten(-3), power_of_ten(0)
    ('10⁻³', '1')
    """
    return {0: "1", 1: "10"}.get(power, "10" + str(power).translate(SUPERSCRIPTS))


def in_words(value: float, form: str) -> str:
    """A number by Python's ``form``, with a true minus; ``"p"`` writes small and large ones as powers of ten.

    >>> in_words(-0.25, ".2f"), in_words(5.1e-7, "p"), in_words(0.7, "p"), in_words(2e6, "p")
    ('−0.25', '5·10⁻⁷', '0.7', '2·10⁶')
    """
    if form != "p":
        text = f"{value:{form}}".replace("-", "−")
        return text if any(digit in text for digit in "123456789") else text.lstrip("−")
    if value == 0 or not math.isfinite(value) or 1e-3 <= abs(value) < 1e4:
        return f"{value:.2g}".replace("-", "−") if abs(value) < 100 else f"{value:,.0f}".replace("-", "−")
    digit, power = f"{value:.0e}".split("e")
    return f"{digit}·{power_of_ten(int(power))}".replace("-", "−")


def envelope(steps: np.ndarray, values: np.ndarray, most: int = MOST_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """At most about ``most`` of the points, so chosen that every extreme stays: the ends of each bin's range.

    >>> x, y = envelope(np.arange(10_000), np.sin(np.arange(10_000)))
    >>> len(x) <= 600, bool(y.max() == np.sin(np.arange(10_000)).max())
    (True, True)
    """
    if len(steps) <= most:
        return steps, values
    kept: list[int] = []
    for piece in np.array_split(np.arange(len(steps)), most // 2):
        part = values[piece]
        if np.all(np.isnan(part)):
            kept.append(int(piece[0]))
        else:
            kept += sorted({int(piece[np.nanargmin(part)]), int(piece[np.nanargmax(part)])})
    return steps[kept], values[kept]


def trace(axes: Axes, steps: np.ndarray, values: np.ndarray, colour: str, *, log: bool, **line: Any) -> bool:
    """Draw a line through what can be drawn, a dot on the lower edge for 0 (if log), a × on the upper
    edge for what is not finite. Returns whether there was any dot or ×."""
    finite = np.isfinite(values)
    shown = finite & (values > 0) if log else finite
    x, y = envelope(steps, np.where(shown, values, np.nan))
    marker = "o" if len(x) <= FEW_POINTS else None
    settings = {"linewidth": 1.2, "solid_capstyle": "round", "markersize": 3, **line}
    axes.plot(x, y, color=colour, marker=marker, **settings)
    zero = steps[finite & (values <= 0)] if log else steps[:0]
    lost = steps[~finite]
    for where, edge, symbol, tint in ((zero, 0.02, "o", colour), (lost, 0.98, "x", DEAD)):
        if len(where):
            few = where[:: max(1, len(where) // 100)]
            across = axes.get_xaxis_transform()
            height = np.full(len(few), edge)
            axes.plot(few, height, symbol, color=tint, markersize=3.5, transform=across, clip_on=False)
    return bool(len(zero) or len(lost))


def title(axes: Axes, text: str, above: float = 6.0, at: float = 0.0, **kwargs: Any) -> None:
    """A line above the axes: ``above`` points from their top, ``at`` points from the left (of the right
    edge with ``ha="right"``)."""
    corner = (1.0 if kwargs.get("ha") == "right" else 0.0, 1.0)
    usual = {"color": INK, "fontsize": FONT, "fontweight": "bold", "va": "baseline"}
    settings: dict[str, Any] = {**usual, **kwargs}
    axes.annotate(
        text,
        corner,
        (at, above),
        xycoords="axes fraction",
        textcoords="offset points",
        annotation_clip=False,
        parse_math=False,
        **settings,
    )
