"""Panels of curves and dots: what is drawn is what the records hold, also of values 0 or not finite."""

from __future__ import annotations

import io

import numpy as np
import pytest

from backstory.errors import ArgumentError
from backstory.plots import Curves, Dots, chart


def svg(figure):
    stream = io.StringIO()
    figure.savefig(stream, format="svg")
    return stream.getvalue()


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_lines_bands_and_references_are_those_of_the_record():
    panel = Curves(
        "two", {"a": ([1, 10, 100], [1.0, 2.0, 3.0]), "b": ([1, 10, 100], [3.0, 2.0, 1.0])}, "n", "x",
        bands={"a": ([0.5, 1.5, 2.5], [1.5, 2.5, 3.5])}, references={"two": 2.0},
    )  # fmt: skip
    (axes,) = chart(panel).axes
    assert axes.lines[0].get_xydata().tolist() == [[1, 1], [10, 2], [100, 3]]
    assert axes.get_xscale() == "log"
    assert axes.lines[2].get_ydata()[0] == 2.0
    assert len(axes.collections) == 1
    assert {"━ a", "━ b", "two"} <= set(texts(axes))


def test_dots_have_a_row_per_name_and_their_median_in_words():
    (axes,) = chart(Dots("shares", {"before": [0.1, 0.2, 0.6], "after": [0.0, 0.0, 0.0]}, form=".0%")).axes
    rows = [line.get_xdata().tolist() for line in axes.lines if line.get_marker() == "o"]
    assert rows == [[0.1, 0.2, 0.6], [0.0, 0.0, 0.0]]
    assert {"before", "after", "20%", "0%"} <= set(texts(axes))


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(
    "values", [[0.0], [0.0, 0.0], [1e-12, 1e12], [np.nan, 1.0], [np.inf, np.inf], [-1.0, 2.0], [5.0] * 3]
)
def test_any_values_are_drawn_without_a_warning(values, log):
    y = np.array(values)
    form = "p" if log else ".2f"
    panels = [
        Dots("d", {"x": values, "y": [1.0] * len(values)}, form=form, log=log, reference=1.0),
        Curves("c", {"x": (np.arange(1, len(y) + 1), y)}, log="xy" if log else ""),
    ]
    assert svg(chart(*panels, heading="a $heading_{}$ <b>&", remark="r"))


def test_panels_stand_two_in_a_row_below_heading_and_remark():
    figure = chart(*[Dots(str(i), {"a": [1.0, 2.0]}) for i in range(3)], heading="What " * 40, remark="true")
    first, second, third, spare = figure.axes
    assert first.get_position().y0 == second.get_position().y0 > third.get_position().y0
    assert not spare.get_visible()
    assert len(figure.texts) == 4  # the heading in two lines, the remark and its dot
    assert [text.get_text() for text in figure.texts[-2:]] == ["true", "●"]


def test_points_that_are_not_joined():
    (axes,) = chart(Curves("c", {"a": ([1, 2], [3, 4])}, joined=False)).axes
    assert axes.lines[0].get_linestyle() == "None"


def test_nothing_to_draw_is_refused():
    with pytest.raises(ArgumentError, match="no panel"):
        chart()
