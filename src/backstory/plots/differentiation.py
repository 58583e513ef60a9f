"""The ways to differentiate as pictures: error over the step, and cost over inputs and outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from backstory.insight.differentiation import Comparison, ModeCost, ModeCosts
from backstory.plots.canvas import (
    FONT,
    SMALL,
    Margins,
    decades,
    panels,
    power_of_ten,
    sheet,
    title,
    trace,
)
from backstory.plots.palette import DEAD, FAINT, GREEN, INK, MUTED, OPEN, PURPLE
from backstory.plots.words import WORDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["differentiation", "modes"]

LEAST = 1e-17  # an error of exactly 0 is drawn on the lower edge


def differentiation(comparison: Comparison, width: float = 760.0, height: float = 380.0) -> Figure:
    """The error of the central difference over its step, and the automatic ways as lines to compare with.

    >>> import backstory
    >>> from backstory import plots
    >>> found = backstory.compare_differentiation(lambda x: x.exp(), 1.0)
    >>> len(plots.differentiation(found).axes)
    1
    """
    figure = sheet(width, height)
    margins = Margins(left=54, right=150, top=44, bottom=48)
    ((axes,),) = panels(figure, [height - margins.top - margins.bottom], 1, margins)
    order = np.argsort(comparison.steps)
    steps, errors = comparison.steps[order], comparison.errors[order]
    automatic = {
        WORDS["forward"]: (comparison.method("automatic, forward").error, OPEN, -1),
        WORDS["reverse"]: (comparison.method("automatic, reverse").error, GREEN, 1),
    }
    floor = [max(error, LEAST) for error, *_ in automatic.values()]
    decades(axes, np.concatenate([np.maximum(errors, LEAST), floor]), most=7)
    _log_axis(axes, steps)
    trace(axes, steps, errors, DEAD, log=True, linewidth=2.0)
    best = int(np.argmin(errors))
    axes.plot(steps[best], max(errors[best], LEAST), "o", color=INK, markersize=6, zorder=5)
    said = WORDS["best step"].format(step=_power(steps[best]), error=_power(max(errors[best], LEAST)))
    axes.annotate(
        said, (steps[best], max(errors[best], LEAST)), (0, -18), textcoords="offset points", ha="center",
        color=INK, fontsize=SMALL, annotation_clip=False,
    )  # fmt: skip
    same = floor[0] == floor[1]
    for (name, (error, tint, side)), level in zip(automatic.items(), floor, strict=True):
        axes.axhline(
            level, color=tint, linewidth=1.6, linestyle=(0, (5, 3)) if side < 0 or not same else (4, (5, 3))
        )
        said = name + (WORDS["no error"] if error == 0 else "")
        axes.annotate(
            said, (1.0, level), (6, 7 * side if same else 0), xycoords=axes.get_yaxis_transform(),
            textcoords="offset points", va="center", color=tint, fontsize=SMALL, annotation_clip=False,
        )  # fmt: skip
    for at, key, side in ((0.15, "rounding", "left"), (0.98, "cutting", "right")):
        axes.text(at, 0.92, WORDS[key], transform=axes.transAxes, color=MUTED, fontsize=SMALL, ha=side)
    axes.set_xlabel(WORDS["step h"], color=MUTED, fontsize=SMALL, labelpad=3)
    title(axes, WORDS["difference error"].format(x=f"{comparison.x:g}".replace("-", "−")), 14)
    return figure


def modes(costs: ModeCosts, width: float = 860.0, height: float = 330.0) -> Figure:
    """The time of a full Jacobian by JVPs and by VJPs: over the inputs, and beside it over the outputs."""
    figure = sheet(width, height)
    margins = Margins(left=54, right=64, top=70, bottom=48, beside=84)
    ((left, right),) = panels(figure, [height - margins.top - margins.bottom], 2, margins)
    half = len(costs.costs) // 2
    times = np.array([1000 * t for c in costs.costs for t in (c.jvp, c.vjp)])
    for axes, group, count in ((left, costs.costs[:half], "inputs"), (right, costs.costs[half:], "outputs")):
        other = "outputs" if count == "inputs" else "inputs"
        _mode_panel(axes, group, count, times)
        crossing = costs.crossing(count)
        if crossing is not None:
            axes.axvline(crossing, color=MUTED, linewidth=0.9, linestyle=(0, (3, 3)), zorder=1)
            said = WORDS["equal"].format(size=round(crossing))
            across = axes.get_xaxis_transform()
            axes.text(crossing / 1.06, 0.02, said, transform=across, color=MUTED, fontsize=SMALL, ha="right")
        fixed = getattr(group[0], other)
        title(axes, WORDS[f"over {count}"].format(fixed=fixed), 12)
        axes.set_xlabel(WORDS[count], color=MUTED, fontsize=SMALL, labelpad=3)
    title(left, WORDS["modes"], 42, fontsize=FONT + 2)
    return figure


def _mode_panel(axes: Axes, group: tuple[ModeCost, ...], count: str, times: np.ndarray) -> None:
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    sizes = np.array([getattr(c, count) for c in group], dtype=float)
    decades(axes, times, most=5)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(list(sizes)))
    axes.xaxis.set_major_formatter(FixedFormatter([f"{size:g}" for size in sizes]))
    axes.xaxis.set_minor_locator(NullLocator())
    lines: dict[str, tuple[list[float], Any]] = {
        "JVP": ([1000 * c.jvp for c in group], OPEN),
        "VJP": ([1000 * c.vjp for c in group], PURPLE),
    }
    for name, (values, tint) in lines.items():
        axes.plot(sizes, values, color=tint, linewidth=2.0, marker="o", markersize=4)
        axes.annotate(
            name, (sizes[-1], values[-1]), (7, 0), textcoords="offset points", va="center", color=tint,
            fontsize=FONT, fontweight="bold", annotation_clip=False,
        )  # fmt: skip


def _log_axis(axes: Axes, steps: np.ndarray) -> None:
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    low, high = np.floor(np.log10(steps[0])), np.ceil(np.log10(steps[-1]))
    powers = [int(p) for p in np.arange(low, high + 1, max(1.0, np.ceil((high - low) / 8)))]
    axes.set_xscale("log")
    axes.set_xlim(steps[0], steps[-1])
    axes.xaxis.set_major_locator(FixedLocator([10.0**p for p in powers]))
    axes.xaxis.set_major_formatter(FixedFormatter([power_of_ten(p) for p in powers]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(axis="x", color=FAINT, linewidth=0.6, alpha=0.6)


def _power(value: float) -> str:
    """The nearest power of ten, in words of the axes."""
    return power_of_ten(round(float(np.log10(value))))
