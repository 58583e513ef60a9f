"""Functions of one number: an activation beside its derivative, and the exact curve of a ReLU network."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

import backstory
from backstory.errors import ArgumentError
from backstory.insight.explanation.formula import plain, with_parameters
from backstory.insight.piecewise import PiecewiseLinear, piecewise_linear
from backstory.ops import TABLE
from backstory.plots.canvas import SMALL, Margins, panels, sheet, shortened, text_width, title
from backstory.plots.palette import DEAD, FAINT, INK, MUTED, OPEN
from backstory.plots.words import WORDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["activation", "draw_piecewise", "piecewise"]

POINTS = 1001
ROW = 118.0
LINES_BELOW = 3


def activation(
    *functions: str | Callable[[Any], Any], low: float = -5.0, high: float = 5.0, width: float = 760.0
) -> Figure:
    """Each function beside its derivative on [low, high], a row each.

    A function is the name of an operation (``"relu"``), a module or any function of a tensor. The derivative
    is the engine's own; where it jumps, a dot shows the value taken there.

    >>> from backstory import plots
    >>> len(plots.activation("relu", "sigmoid").axes)
    4
    """
    if not functions:
        raise ArgumentError(
            "activation() received no function", why="there is nothing to draw", instead='activation("relu")'
        )
    if not low < high:
        raise ArgumentError(
            f"an interval from {low} to {high}", why="a curve runs from left to right", instead="low < high"
        )
    curves = [_curve(function, low, high) for function in functions]
    margins = Margins(left=44, right=14, top=34, bottom=34, between=50, beside=52)
    figure = sheet(
        width, margins.top + len(curves) * (ROW + margins.between) - margins.between + margins.bottom
    )
    grid = panels(figure, [ROW] * len(curves), 2, margins)
    for (left, right), (name, formulas, x, y, slope) in zip(grid, curves, strict=True):
        for axes, values, tint in ((left, y, OPEN), (right, slope, DEAD)):
            _frame(axes, x, values)
            _line(axes, x, values, tint)
        title(left, shortened(name + formulas[0], 0.46 * width, 12.5), 8)
        title(right, WORDS["derivative"] + formulas[1], 8, color=MUTED, fontweight="normal")
    return figure


def _curve(function: Any, low: float, high: float) -> tuple[str, tuple[str, str], Any, Any, Any]:
    """Name, formulas, points, values and derivatives; 0 is one of the points."""
    points = np.linspace(low, high, POINTS)
    if low < 0 < high:
        points[np.argmin(np.abs(points))] = 0.0
    name, run = _resolved(function)
    x = backstory.tensor(points, requires_grad=True)
    y = run(x)
    if not isinstance(y, backstory.Tensor) or y.shape != x.shape:
        raise ArgumentError(
            f"activation({name}) returned {getattr(y, 'shape', type(y).__name__)} for x of shape {x.shape}",
            why="an activation works entry by entry",
            instead="a function of a tensor that returns one of the same shape",
        )
    y.sum().backward()
    slope = np.zeros_like(points) if x.grad is None else x.grad.numpy()
    record = TABLE.get(y.grad_fn.op.name) if y.grad_fn is not None else None
    formulas = ("", "")
    if record is not None and record.arguments == 1 and y.grad_fn is not None and y.grad_fn.edges[0] is x:
        formula = plain(with_parameters(record.formula, record, y.grad_fn.params).split(" = ")[-1])
        formulas = (
            f" = {formula}",
            f" = {plain(with_parameters(record.derivative[0], record, y.grad_fn.params))}",
        )
        name += "(x)"
    return name, formulas, points, y.detach().numpy(), slope


def _resolved(function: Any) -> tuple[str, Callable[[Any], Any]]:
    if isinstance(function, str):
        run = getattr(backstory, function, None)
        if run is None or not callable(run):
            raise ArgumentError(
                f"activation({function!r})",
                why="no function of that name is known",
                instead='a name such as "relu", "leaky_relu", "sigmoid" or "tanh", or a function of a tensor',
            )
        return function, run
    name = getattr(function, "__name__", None) or repr(function)
    return ("f" if name == "<lambda>" else name), function


def _frame(axes: Axes, x: np.ndarray, y: np.ndarray) -> None:
    """Limits with room, thin lines through 0."""
    from matplotlib.ticker import MaxNLocator

    finite = y[np.isfinite(y)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    room = 0.09 * (high - low) or 0.5
    axes.set_xlim(x[0], x[-1])
    axes.set_ylim(low - room, high + room)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    for line in (axes.axhline, axes.axvline):
        line(0, color=FAINT, linewidth=0.9, zorder=0)


def _line(axes: Axes, x: np.ndarray, y: np.ndarray, tint: str) -> None:
    """The curve, broken where it jumps, with a dot for the value taken at the jump."""
    steps = np.abs(np.diff(y))
    span = float(np.nanmax(y) - np.nanmin(y)) or 1.0
    jumps = np.flatnonzero(steps > 0.1 * span)
    broken = np.insert(y.astype(float), jumps + 1, np.nan)
    axes.plot(np.insert(x, jumps + 1, np.nan), broken, color=tint, linewidth=2.0, solid_capstyle="butt")
    if len(jumps):
        places = np.unique([x[j] if abs(x[j]) < abs(x[j + 1]) else x[j + 1] for j in jumps])
        at = np.isin(x, places)
        axes.plot(x[at], y[at], "o", color=tint, markersize=5)


def piecewise(
    network: Any,
    low: float = 0.0,
    high: float = 1.0,
    width: float = 760.0,
    height: float = 330.0,
    name: str = "",
) -> Figure:
    """The exact curve of a ReLU network of one input on [low, high], with its breakpoints from the weights.

    ``network`` is a module or a function of a tensor of shape (1, 1); see
    :func:`backstory.insight.piecewise_linear`, whose result is taken too. ``name`` becomes the title.
    """
    curve = network if isinstance(network, PiecewiseLinear) else piecewise_linear(network, low, high)
    figure = sheet(width, height)
    margins = Margins(left=48, right=18, top=40, bottom=74)
    ((axes,),) = panels(figure, [height - margins.top - margins.bottom], 1, margins)
    draw_piecewise(axes, curve)
    pieces = WORDS["pieces"].format(pieces=len(curve.slopes), breaks=len(curve.breaks))
    title(axes, name or pieces, 14)
    if name:
        title(axes, pieces, 14, ha="right", color=MUTED, fontsize=SMALL, fontweight="normal")
    return figure


def draw_piecewise(axes: Axes, curve: PiecewiseLinear, tint: str = OPEN, labels: bool = True) -> None:
    """The curve with a dot at each breakpoint, labelled with its place if there are few."""
    _frame(axes, curve.xs, curve.ys)
    axes.plot(curve.xs, curve.ys, color=tint, linewidth=2.0)
    axes.plot(curve.breaks, curve.ys[1:-1], "o", color=INK, markersize=4, zorder=4)
    for x, y in zip(curve.breaks, curve.ys[1:-1], strict=True):
        axes.plot(
            [x, x], [axes.get_ylim()[0], y], color=MUTED, linewidth=0.7, linestyle=(0, (3, 3)), zorder=1
        )
    if labels:
        _label_breaks(axes, curve)


def _label_breaks(axes: Axes, curve: PiecewiseLinear) -> None:
    """The places of the breakpoints below the axis, in a few lines; what finds no room is left out."""
    figure = axes.get_figure()
    assert figure is not None
    points = axes.bbox.width * 72 / figure.dpi
    across, ends = axes.get_xaxis_transform(), [-np.inf] * LINES_BELOW
    for x in curve.breaks:
        text = f"{x:.5g}".replace("-", "−")
        at = (x - curve.xs[0]) / (curve.xs[-1] - curve.xs[0]) * points
        half = text_width(text, SMALL) / 2
        line = next((i for i, end in enumerate(ends) if at - half > end + 6), None)
        if line is None:
            continue
        ends[line] = at + half
        axes.annotate(
            text, (x, 0), (0, -32 - 14 * line), xycoords=across, textcoords="offset points", ha="center",
            color=INK, fontsize=SMALL, annotation_clip=False,
        )  # fmt: skip
