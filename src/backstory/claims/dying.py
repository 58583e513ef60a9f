"""The causes that are told of dying ReLU, each made to happen in doses: steps, biases, inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from backstory.claims.pairs import Sample
from backstory.claims.record import Claim, Effort, Finding, weigh
from backstory.claims.training import Recipe, outcomes
from backstory.plots import Curves
from backstory.plots.canvas import in_words

__all__ = ["CAUSES", "CLAIMS"]

CAUSES = {
    "steps too large": Recipe(lr=0.5),
    "negative biases": Recipe(lr=0.05, bias=-0.5),
    "inputs off centre": Recipe(lr=0.02, shift=4.0),
}
"""Trainings in which units die, each for one reason; all start from PyTorch's default and raw digits."""

HEALTHY = Recipe(initial="he", centred=True, lr=0.02)

Runs = list[dict[str, Sample]]
Doses = Mapping[str, tuple[str, Sequence[float], Recipe]]


def doses(effort: Effort, series: Doses, axis: str, log: str = "") -> Finding:
    """Dead units over the dose of a cause: a setting of the recipe at several values, the first harmless.

    The claim holds in a series if the strongest dose leaves more units dead than the weakest, paired by seed.
    """
    found: dict[str, Runs] = {}
    for name, (setting, values, recipe) in series.items():
        settings: list[dict[str, Any]] = [{setting: value} for value in values]
        found[name] = [outcomes(replace(recipe, **one), effort.seeds) for one in settings]
    return Finding(
        weigh({name: runs[-1]["dead"].above(runs[0]["dead"]) for name, runs in found.items()}, "on the case"),
        f"64-100-100-10 on digits after 100 steps; {axis}",
        {name: _words(series[name][1], runs[0], runs[-1]) for name, runs in found.items()},
        {
            f"{name}, {value:g}": run["dead"].median
            for name, runs in found.items()
            for value, run in zip(series[name][1], runs, strict=True)
        },
        tuple(
            _over_doses(
                f"{title}{': ' + name if len(part) < len(found) else ''}", part, series, what, axis, log
            )
            for part in _together(found, series)
            for what, title in (("dead", "Share of dead units"), ("accuracy", "Accuracy on held-out digits"))
            for name in list(part)[:1]
        ),
    )


def _together(found: Mapping[str, Runs], series: Doses) -> list[dict[str, Runs]]:
    """Those with the same doses share a picture."""
    parts: dict[tuple[float, ...], dict[str, Runs]] = {}
    for name, runs in found.items():
        parts.setdefault(tuple(series[name][1]), {})[name] = runs
    return list(parts.values())


def _over_doses(
    title: str, part: Mapping[str, Runs], series: Doses, what: str, axis: str, log: str
) -> Curves:
    lines = {name: (series[name][1], [run[what].median for run in runs]) for name, runs in part.items()}
    ends = {name: [run[what].interval for run in runs] for name, runs in part.items()}
    bands = {name: ([low for low, _ in found], [high for _, high in found]) for name, found in ends.items()}
    return Curves(title, lines, axis, log, bands)


def _words(values: Sequence[float], weakest: dict[str, Sample], strongest: dict[str, Sample]) -> str:
    dead, accuracy = (f"{weakest[key].median:.0%} → {strongest[key]:.0%}" for key in ("dead", "accuracy"))
    born = strongest["born_dead"].median
    dose = in_words(values[-1], "g")
    return f"from {values[0]:g} to {dose}: {dead} dead ({born:.0%} born so), accuracy {accuracy}"


def large_steps(effort: Effort) -> Finding:
    """Learning rates, from raw digits and PyTorch's default and from centred digits and He."""
    rates = (0.01, 0.03, 0.1, 0.3, 1.0)
    series = {"raw digits, default": ("lr", rates, Recipe()), "centred digits, He": ("lr", rates, HEALTHY)}
    return doses(effort, series, "learning rate of SGD with momentum 0.9", "x")


def negative_bias(effort: Effort) -> Finding:
    """Biases, and weights with a mean, lowered in steps."""
    lowered = (0.0, -0.1, -0.25, -0.5, -1.0)
    series: Doses = {
        "biases": ("bias", lowered, replace(HEALTHY, lr=0.05)),
        "mean of the weights": ("weight", (0.0, -0.01, -0.02, -0.05, -0.1), Recipe()),
    }
    return doses(effort, series, "added before the first step")


def inputs_off_centre(effort: Effort) -> Finding:
    """Every pixel moved by the same number, up and down."""
    moved = (0.0, 1.0, 2.0, 4.0, 8.0)
    series: Doses = {
        "default": ("shift", moved, Recipe(centred=True, lr=0.02)),
        "He": ("shift", moved, HEALTHY),
    }
    return doses(effort, series, "added to every pixel of centred digits (standard deviation 0.3)")


CLAIMS = (
    Claim(
        "large-steps", "Steps that are too large kill ReLU units.", "CS231n, Neural Networks 1", large_steps
    ),
    Claim(
        "negative-bias",
        "Negative biases or a bad initialisation kill ReLU units.",
        "Lu et al. 2019 (arXiv:1903.06733)",
        negative_bias,
    ),
    Claim(
        "inputs-off-centre",
        "Inputs far from centred kill ReLU units.",
        "LeCun et al. 1998, Efficient BackProp, section 4.3",
        inputs_off_centre,
    ),
)
