"""Pictures of runs of every kind: nothing warns, and what they show is what the run holds."""

from __future__ import annotations

import builtins
import io
import warnings

import numpy as np
import pytest

import backstory
from backstory import nn, optim, plots
from backstory.errors import MissingExtraError
from backstory.insight.lifetable import Event, LifeTable, SiteLife
from backstory.insight.sites import Site
from backstory.plots.canvas import envelope, shortened, text_width
from backstory.plots.gates import UNSURE, by_column, dead_at, last_opening
from backstory.plots.norms import measured

OF_A_RUN = ["alive_and_loss", "gate_map", "gradient_norms", "paired_outcomes", "update_ratios"]
PICTURES = [getattr(plots, name) for name in OF_A_RUN]
WIDTHS = (352.0, 1150.0)


class Tower(nn.Module):
    """As many ReLU layers as asked for, under any name."""

    def __init__(self, layers: int, name: str = "layer {}") -> None:
        super().__init__()
        self.order = [name.format(i) for i in range(layers)]
        for layer in self.order:
            setattr(self, layer, nn.Linear(4, 4))

    def forward(self, x):
        for layer in self.order:
            x = backstory.relu(getattr(self, layer)(x))
        return x


def recorded(path, layers=2, steps=6, factor=1.0, name="layer {}", **options):
    """A run of a tiny network; the loss of the middle step is multiplied by ``factor``."""
    backstory.manual_seed(3)
    model = Tower(layers, name)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    x = backstory.randn(8, 4)
    with backstory.watch(model, optimizer, path, data=x, **options), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the recorder tells of the loss that is not finite
        for step in range(steps):
            optimizer.zero_grad()
            (((model(x) - 1.0) ** 2).mean() * (factor if step == steps // 2 else 1.0)).backward()
            optimizer.step()
    return backstory.open_run(path)


def svg(figure) -> str:
    stream = io.StringIO()
    figure.savefig(stream, format="svg")
    return stream.getvalue()


@pytest.mark.parametrize("picture", PICTURES, ids=OF_A_RUN)
@pytest.mark.parametrize(
    "options",
    [
        {"steps": 0},
        {"steps": 1},
        {"steps": 2, "scan_at": lambda step: True},
        {"steps": 40, "layers": 12},
        {"factor": float("nan")},
        {"factor": float("inf")},
        {"factor": 0.0},
        {"factor": 1e30},
        {"name": "<b>$x_{}$&"},
    ],
    ids=["no step", "one step", "two steps", "12 sites", "nan", "inf", "zero", "huge", "odd names"],
)
def test_every_picture_of_every_run_is_drawn_without_a_warning(tmp_path, picture, options):
    run = recorded(tmp_path / "run", **options)
    for width in WIDTHS:
        figure = picture(run, width)
        assert figure.get_size_inches()[0] == pytest.approx(width / 72)
        assert svg(figure)


def test_pictures_leave_pyplot_alone(tmp_path):
    import sys

    known = "matplotlib.pyplot" in sys.modules
    run = recorded(tmp_path / "run")
    for picture in PICTURES:
        picture(run)
    assert ("matplotlib.pyplot" in sys.modules) == known


def test_the_lines_are_the_runs_losses_and_norms(tmp_path):
    run = recorded(tmp_path / "run", steps=9)
    losses = plots.alive_and_loss(run).axes[1].lines[0]
    np.testing.assert_array_equal(losses.get_xydata(), np.stack([run.steps, run.losses], axis=1))
    weight, bias = plots.gradient_norms(run).axes[0].lines[:2]
    np.testing.assert_array_equal(weight.get_ydata(), run.norms()["layer 0.weight"][0])
    np.testing.assert_array_equal(bias.get_ydata(), run.norms()["layer 0.bias"][0])
    ratio = plots.update_ratios(run).axes[1].lines[0]
    _, change, weights = run.norms()["layer 1.weight"]
    np.testing.assert_array_equal(ratio.get_ydata(), change / weights)


class Lost:
    """A run that lost units at a step of choice, as far as its picture asks."""

    def __init__(self, steps, alive) -> None:
        site = Site(0, "relu#0", "relu", 9)
        life = SiteLife(site, (), (), 0, 0, 0)
        self.table = LifeTable((life,), (), np.array(steps), np.array(alive)[:, None], False)
        self.steps, self.losses = np.arange(1, 10), np.linspace(1.0, 0.0, 9)

    def life_table(self):
        return self.table


@pytest.mark.parametrize(
    ("steps", "alive", "said"),
    [
        ([3, 4, 5, 6], [9, 8, 3, 3], "step 5: 5 fewer alive"),
        ([0, 1, 4, 8], [9, 9, 7, 1], "steps 4 to 8: 6 fewer alive"),
    ],
)
def test_the_fatal_step_is_marked_and_labelled(steps, alive, said):
    run = Lost(steps, alive)
    above, below = plots.alive_and_loss(run).axes  # type: ignore[arg-type]
    fatal = run.table.fatal_step
    for axes in (above, below):
        assert any(list(line.get_xdata()) == [fatal, fatal] for line in axes.lines)
    assert said in [text.get_text() for text in above.texts]


def test_steps_that_were_not_measured_are_left_out_and_measured_nan_is_not(tmp_path):
    run = recorded(tmp_path / "run", steps=20, factor=float("nan"), every=4)
    steps, norms = measured(run)
    assert steps.tolist() == [1, 5, 9, 13, 17]
    assert np.isnan(norms["layer 0.weight"][0]).tolist() == [False, False, False, True, True]
    lines = plots.gradient_norms(run).axes[0].lines
    assert [9 in line.get_xdata() for line in lines[:1]] == [True]
    assert any(list(line.get_xdata()) == [13, 17] for line in lines)


def test_the_columns_of_a_long_run_are_means_over_its_steps(rng):
    shares = rng.random((3000, 2))
    ends, share, measured_there = by_column(np.arange(1, 3001), shares)
    assert len(ends) == 600
    assert measured_there.all()
    np.testing.assert_allclose(share, shares.reshape(600, 5, 2).mean(axis=1))
    np.testing.assert_array_equal(ends, np.arange(5, 3001, 5))


def test_dead_units_are_drawn_dead_from_the_step_after_their_death():
    site = Site(0, "relu#0", "relu", 3)
    events = (
        Event("relu#0", 0, "born dead", 0, 0),
        Event("relu#0", 1, "died", 2, 1),
        Event("relu#0", 1, "revived", 4, 3),
        Event("relu#0", 2, "died", 4, 1),
        Event("elsewhere", 2, "died", 1, 0),
    )
    table = LifeTable((), events, np.array([0]), np.zeros((1, 1)), False)
    state = dead_at(site, np.arange(1, 6), table).T
    assert state[0].tolist() == [1, 1, 1, 1, 1]
    assert state[1].tolist() == [0, 0, 1, UNSURE, 0]
    assert state[2].tolist() == [0, UNSURE, UNSURE, UNSURE, 1]


def test_last_opening_agrees_with_looking_at_every_step(rng):
    shares = rng.random((20, 30)) * (rng.random((20, 30)) < 0.1)
    slow = [max((t for t in range(20) if shares[t, unit] > 0), default=-1) for unit in range(30)]
    assert last_opening(shares).tolist() == slow


def test_the_envelope_keeps_every_bins_extremes_and_bears_gaps(rng):
    values = rng.normal(size=5000)
    values[100:400] = np.nan
    values[1234] = 99.0
    steps, kept = envelope(np.arange(5000), values)
    assert len(steps) <= 600
    assert np.all(np.diff(steps) > 0)
    assert np.nanmax(kept) == 99.0
    assert np.nanmin(kept) == np.nanmin(values)
    assert np.isnan(kept).any()


@pytest.mark.parametrize("text", ["", "a", "0", "encoder.block.2/relu#0", "층 이름 relu"])
def test_shortened_text_fits_or_is_as_short_as_can_be(text):
    for width in (5.0, 30.0, 60.0, 500.0):
        cut = shortened(text, width, 10.0)
        assert text_width(cut, 10.0) <= width or len(cut) <= 3
        assert cut == text or "…" in cut


def test_without_matplotlib_the_error_names_the_extra(tmp_path, monkeypatch):
    run, real = recorded(tmp_path / "run"), builtins.__import__

    def without(name, *rest):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"backstory\[plots\]"):
        plots.alive_and_loss(run)
