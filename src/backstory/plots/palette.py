"""The colours of every picture, defined once.

The hues are those of Okabe and Ito (2008), which people of every colour vision tell apart; apart from
them there are only greys. Each colour has a name by which a page can restyle it for a dark scheme.
"""

from __future__ import annotations

__all__ = [
    "DARK",
    "DEAD",
    "FAINT",
    "GREEN",
    "INK",
    "LIGHT",
    "LINES",
    "MARKS",
    "MUTED",
    "OPEN",
    "ORANGE",
    "PAPER",
    "PURPLE",
    "rgb",
]

INK = "#1b1f24"
MUTED = "#5d6570"
FAINT = "#d4d8dd"
PAPER = "#fdfdfc"
OPEN = "#0072b2"
DEAD = "#d55e00"
GREEN = "#009e73"
ORANGE = "#e69f00"
PURPLE = "#cc79a7"

LINES = (OPEN, ORANGE, GREEN, PURPLE)
"""Kinds of parameters: weight, bias and others."""

MARKS = {"✔": GREEN, "◐": ORANGE, "✘": DEAD, "?": MUTED}
"""How well a change did."""

LIGHT = {
    "ink": INK, "muted": MUTED, "faint": FAINT, "paper": PAPER, "open": OPEN,
    "dead": DEAD, "green": GREEN, "orange": ORANGE, "purple": PURPLE,
}  # fmt: skip
"""Name → colour on light paper."""

DARK = {
    "ink": "#e8eaed", "muted": "#a3abb5", "faint": "#3c424a", "paper": "#15181c", "open": "#4aa8e0",
    "dead": "#f08a3c", "green": "#2fc498", "orange": "#f2b93b", "purple": "#dd9cbf",
}  # fmt: skip
"""Name → colour on dark paper."""


def rgb(colour: str) -> tuple[float, float, float]:
    """``"#0072b2"`` as three numbers from 0 to 1.

    >>> rgb("#ff0000")
    (1.0, 0.0, 0.0)
    """
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue
