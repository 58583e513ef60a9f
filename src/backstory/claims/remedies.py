"""The remedies that are told against dying ReLU, each tried against each cause, and Adam over its rates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from backstory import nn
from backstory.claims.dying import CAUSES
from backstory.claims.pairs import dots
from backstory.claims.record import Claim, Effort, Finding, weigh
from backstory.claims.training import Recipe, outcomes

__all__ = ["CLAIMS", "REMEDIES"]

REMEDIES: dict[str, tuple[str, Callable[[Recipe], Recipe]]] = {
    "centring": ("Centring the inputs", lambda recipe: replace(recipe, centred=True, shift=0.0)),
    "lower-rate": ("Lowering the learning rate (÷ 10)", lambda recipe: replace(recipe, lr=recipe.lr / 10)),
    "warm-up": (
        "A schedule (warm-up over half of the steps)",
        lambda recipe: replace(recipe, warm_up=recipe.steps // 2),
    ),
    "he": ("He initialisation", lambda recipe: replace(recipe, initial="he")),
    "leaky-relu": ("LeakyReLU", lambda recipe: replace(recipe, activation=nn.LeakyReLU)),
    "batch-norm": ("Batch norm in front of ReLU", lambda recipe: replace(recipe, batch_norm=True)),
    "adam": ("Adam at its usual rate (0.001)", lambda recipe: replace(recipe, optimizer="Adam", lr=0.001)),
}
"""Name → words, and the recipe with that one thing changed."""

SHOWN = {"dead": "Dead units", "accuracy": "Accuracy"}
RATES = (0.003, 0.01, 0.03, 0.1)


def remedy(effort: Effort, name: str) -> Finding:
    """One change against every cause: dead units and accuracy, paired by seed."""
    words, change = REMEDIES[name]
    pairs = {
        cause: (outcomes(recipe, effort.seeds), outcomes(change(recipe), effort.seeds))
        for cause, recipe in CAUSES.items()
    }
    holds = {cause: before["dead"].above(after["dead"]) for cause, (before, after) in pairs.items()}
    vain = [c for c, (before, after) in pairs.items() if not after["accuracy"].above(before["accuracy"])]
    return Finding(
        weigh(holds, "on the cause"),
        f"Without → with it, medians of {effort.seeds} pairs",
        {
            cause: f"{before['dead'].median:.0%} → {after['dead'].median:.0%} dead, accuracy "
            f"{before['accuracy'].median:.0%} → {after['accuracy'].median:.0%}"
            for cause, (before, after) in pairs.items()
        },
        {f"{cause}, {what}": after[what].median for cause, (_, after) in pairs.items() for what in SHOWN}
        | {
            f"{cause}, {what} without": pair[0][what].median
            for cause, pair in pairs.items()
            for what in SHOWN
        },
        tuple(
            dots(
                f"{title}: {cause}",
                {"as it was": before[what], words: after[what]},
                form=".0%",
                compared=True,
            )
            for cause, (before, after) in pairs.items()
            for what, title in SHOWN.items()
        ),
        f"Accuracy gains nothing against {', '.join(vain)}." if vain else "",
    )


def adam_cures(effort: Effort) -> Finding:
    """Adam in place of SGD at the same rates, and at its usual rate in place of a rate that kills."""
    runs = {f"both at {rate:g}": (Recipe(lr=rate), Recipe(lr=rate, optimizer="Adam")) for rate in RATES}
    runs["Adam at 0.001 for SGD at 0.5"] = (Recipe(lr=0.5), Recipe(lr=0.001, optimizer="Adam"))
    dead = {
        name: tuple(outcomes(recipe, effort.seeds)["dead"] for recipe in pair) for name, pair in runs.items()
    }
    holds = {name: sgd.above(adam) for name, (sgd, adam) in dead.items()}
    worse = [name for name, (sgd, adam) in dead.items() if adam.above(sgd)]
    return Finding(
        weigh(holds, "on the rate"),
        "Dead units with SGD (momentum 0.9) → with Adam",
        {name: f"{sgd.median:.0%} → {adam.median:.0%}" for name, (sgd, adam) in dead.items()},
        {f"{name}, Adam": adam.median for name, (_, adam) in dead.items()}
        | {f"{name}, SGD": sgd.median for name, (sgd, _) in dead.items()},
        tuple(
            dots(f"Dead units: {name}", {"SGD": sgd, "Adam": adam}, form=".0%", compared=True)
            for name, (sgd, adam) in dead.items()
        ),
        f"Adam kills more: {', '.join(worse)}." if worse else "",
    )


CLAIMS = (
    Claim(
        "adam-cures",
        "Adam cures dying ReLU.",
        "Tutorials on dying ReLU; Kingma & Ba 2015 do not say so",
        adam_cures,
    ),
    *(
        Claim(name, f"{words} reduces dying.", "Tutorials on dying ReLU", partial(remedy, name=name))
        for name, (words, _) in REMEDIES.items()
    ),
)
