"""Derivatives by differences, and how they are compared with analytic ones.

One routine for all who check a derivative: ``backstory.check`` for code written by hand and
``autograd.gradcheck`` for functions here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backstory.errors import ArgumentError, ShapeError

__all__ = ["Disagreement", "disagreement", "numerical_jacobian", "numerical_vjp", "one_sided_slopes"]

Function = Callable[..., Any]


def numerical_jacobian(
    function: Function, arguments: Sequence[np.ndarray], i: int, step: float = 1e-6
) -> np.ndarray:
    """∂ function / ∂ arguments[i] by central differences, (f(x + h) − f(x − h)) / 2h, entry by entry.

    ``function`` takes and returns NumPy arrays (or numbers). The result has the shape of the output
    followed by the shape of the argument. The error is of the order of h², plus ε|f|/h of rounding.
    The arguments are left as they are.

    >>> import numpy as np
    >>> numerical_jacobian(lambda x: x**2, [np.array([1.0, 3.0])], 0).round(6)
    array([[2., 0.],
           [0., 6.]])
    """
    x = _varied(arguments, i, step)
    columns = [
        (above - below) / (2 * step)
        for above, below in _pairs(function, arguments, i, x, np.ndindex(x.shape), step)
    ]
    if not columns:
        return np.zeros((*np.shape(function(*arguments)), *x.shape))
    stacked = np.stack(columns, axis=-1)
    return stacked.reshape((*stacked.shape[:-1], *x.shape))


def numerical_vjp(
    function: Function, arguments: Sequence[np.ndarray], i: int, upstream: Any = 1.0, step: float = 1e-6
) -> np.ndarray:
    """Σ upstream · ∂ function / ∂ arguments[i] by central differences: what a backward pass should give.

    It needs no room for the Jacobian. ``upstream`` has the shape of the output.

    >>> import numpy as np
    >>> numerical_vjp(lambda x: x**2, [np.array([1.0, 3.0])], 0, np.array([1.0, 10.0])).round(6)
    array([ 2., 60.])
    """
    x = _varied(arguments, i, step)
    gradient = np.zeros(x.shape)
    places = list(np.ndindex(x.shape))
    for place, (above, below) in zip(places, _pairs(function, arguments, i, x, places, step), strict=True):
        gradient[place] = np.sum((above - below) * upstream) / (2 * step)
    return gradient


def one_sided_slopes(
    function: Function,
    arguments: Sequence[np.ndarray],
    i: int,
    place: tuple[int, ...],
    upstream: Any = 1.0,
    step: float = 1e-6,
) -> tuple[float, float]:
    """The slope to the left and to the right at one entry; where they differ there is a kink nearby.

    >>> import numpy as np
    >>> left, right = one_sided_slopes(lambda x: np.maximum(x, 0), [np.array([0.0])], 0, (0,))
    >>> round(left, 6), round(right, 6)
    (0.0, 1.0)
    """
    x = _varied(arguments, i, step)
    here = np.array(function(*arguments), dtype=np.float64)
    ((above, below),) = _pairs(function, arguments, i, x, [place], step)
    left = float(np.sum((here - below) * upstream) / step)
    right = float(np.sum((above - here) * upstream) / step)
    return left, right


@dataclass(frozen=True)
class Disagreement:
    """The entry at which an analytic derivative is furthest from the numerical one."""

    entry: tuple[int, ...]
    analytic: float
    numerical: float
    wrong: int
    entries: int

    def __str__(self) -> str:
        return (
            f"entry {self.entry}: analytic {self.analytic:.6g}, numerical {self.numerical:.6g} "
            f"({self.wrong} of {self.entries} entries differ)"
        )


def disagreement(
    analytic: Any, numerical: Any, rtol: float = 1e-3, atol: float = 1e-5
) -> Disagreement | None:
    """Where |analytic − numerical| > atol + rtol·|numerical|, or ``None``; NaN agrees with NaN alone.

    >>> disagreement([1.0, 2.0], [1.0, 2.5])
    Disagreement(entry=(1,), analytic=2.0, numerical=2.5, wrong=1, entries=2)
    """
    analytic, numerical = np.asarray(analytic, np.float64), np.asarray(numerical, np.float64)
    if analytic.shape != numerical.shape:
        raise ShapeError(
            f"a gradient of shape {analytic.shape} for an argument of shape {numerical.shape}",
            why="a gradient has one entry for each entry of the argument",
            instead=f"a gradient of shape {numerical.shape}",
        )
    with np.errstate(all="ignore"):
        difference = np.abs(analytic - numerical)
        excess = difference - (atol + rtol * np.abs(numerical))
    same = (analytic == numerical) | (np.isnan(analytic) & np.isnan(numerical))
    excess = np.where(same, -np.inf, np.where(np.isnan(excess), np.inf, excess))
    wrong = int((excess > 0).sum())
    if not wrong:
        return None
    worst = np.unravel_index(int(np.argmax(excess)), excess.shape)
    entry = tuple(int(k) for k in worst)
    return Disagreement(entry, float(analytic[entry]), float(numerical[entry]), wrong, excess.size)


def _varied(arguments: Sequence[np.ndarray], i: int, step: float) -> np.ndarray:
    """A float64 copy of the argument to vary."""
    if not step > 0:
        raise ArgumentError(
            f"a step of {step}", why="a difference needs two distinct points", instead="a step such as 1e-6"
        )
    return np.array(arguments[i], dtype=np.float64)


def _pairs(
    function: Function, arguments: Sequence[Any], i: int, x: np.ndarray, places: Any, step: float
) -> Any:
    """f at x + h and at x − h for every place; the function sees a fresh copy each time."""
    before, after = list(arguments[:i]), list(arguments[i + 1 :])
    for place in places:
        sides = []
        for sign in (1.0, -1.0):
            moved = x.copy()
            moved[place] += sign * step
            sides.append(np.array(function(*before, moved, *after), dtype=np.float64))
        yield sides
