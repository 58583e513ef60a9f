"""Claims about open and closed gates: how many are open, and what zeros tell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from backstory.claims.pairs import dots, over_seeds
from backstory.claims.record import DEPENDS, FALSE, TRUE, Claim, Effort, Finding, Verdict, weigh
from backstory.claims.training import Recipe, build, inputs, open_shares, outcomes, train
from backstory.plots import Curves
from backstory.plots.canvas import in_words

__all__ = ["CLAIMS"]

HE = Recipe(initial="he", centred=True, lr=0.02)
MOMENTS = {
    "untrained (He)": replace(HE, steps=0),
    "untrained (PyTorch's default)": Recipe(steps=0),
    "untrained with biases −0.3": replace(HE, steps=0, bias=-0.3),
    "trained by SGD": replace(HE, steps=150),
    "trained by Adam": replace(HE, steps=150, optimizer="Adam", lr=0.002),
}
HALF = (0.45, 0.55)

RATES = (0.01, 0.05, 0.2, 0.5)
LEARNED, SHARE = 0.8, 0.2
"""What counts as a network that learned; and of networks, how many are few."""


def half_active(effort: Effort) -> Finding:
    """The share of open gates at different moments, over samples and units."""
    shares = {name: outcomes(recipe, effort.seeds)["open"] for name, recipe in MOMENTS.items()}
    holds = {
        name: HALF[0] <= share.interval[0] and share.interval[1] <= HALF[1] for name, share in shares.items()
    }
    images = inputs()[0]
    units = np.sort(np.concatenate(open_shares(build(MOMENTS["untrained (He)"], 0), images - images.mean(0))))
    return Finding(
        weigh(holds, "on when"),
        "Open gates of a 64-100-100-10 network on digits",
        {name: f"{share:.0%}" for name, share in shares.items()},
        {name: share.median for name, share in shares.items()},
        (
            dots("Share of open gates", shares, form=".0%", reference=0.5),
            Curves(
                "Share of samples that open each unit (He, seed 0)",
                {"units": (np.arange(len(units)), units)},
                "units of both layers, in order",
                references={"half": 0.5},
            ),
        ),
    )


def zeros_problem(effort: Effort) -> Finding:
    """Many trainings, from gentle to violent: do zeros tell which failed, or do dead units?"""
    starts, seeds = (Recipe(), HE), range(effort.seeds // 2)
    ended = [train(replace(start, lr=lr), seed) for start in starts for lr in RATES for seed in seeds]
    zeros, dead = np.array([1 - one.open for one in ended]), np.array([one.dead for one in ended])
    accuracy = np.array([one.accuracy for one in ended])
    fresh = over_seeds(lambda seed: 1 - train(replace(HE, steps=0), seed).open, effort.seeds)
    half = (zeros > 0.4) & (zeros < 0.65)
    failed = float((accuracy[half] < LEARNED).mean()) if half.any() else 0.0
    kind = TRUE if failed >= 1 - SHARE else FALSE if failed <= SHARE else DEPENDS
    tell = {"zeros": _rank_correlation(zeros, accuracy), "dead units": _rank_correlation(dead, accuracy)}
    return Finding(
        Verdict(kind, "on how many units are dead" if kind == DEPENDS else ""),
        f"{len(ended)} networks, trained from two initialisations at four rates each",
        {
            "zeros before training": f"{fresh:.0%} of the activations",
            "end with 40–65% zeros": f"{half.sum()} of them; {failed:.0%} of these fail (< {LEARNED:.0%})",
            **{
                f"rank correlation of accuracy with {name}": in_words(value, ".2f")
                for name, value in tell.items()
            },
        },
        {"failed of half zeros": failed, "networks of half zeros": float(half.sum()), **tell},
        tuple(
            Curves(
                f"Accuracy over the share of {name}",
                {"a network": (share, accuracy)},
                name,
                joined=False,
                references={"learned": LEARNED},
            )
            for name, share in (("zeros", zeros), ("dead units", dead))
        ),
    )


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's: Pearson's of the ranks, those of equal values averaged."""

    def ranks(values: np.ndarray) -> np.ndarray:
        _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
        return (np.cumsum(counts) - (counts - 1) / 2)[inverse]

    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


CLAIMS = (
    Claim(
        "half-active",
        "About half of the units are active.",
        "Glorot, Bordes & Bengio 2011, section 3.1: 50% after uniform initialisation",
        half_active,
    ),
    Claim(
        "zeros-problem",
        "If half of the activations are zeros, the network has a problem.",
        "Counts of zeros in tutorials; what counts are units that are 0 for all data",
        zeros_problem,
    ),
)
