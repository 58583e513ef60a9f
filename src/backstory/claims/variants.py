"""Claims about ReLU's relatives: whose outputs are nearer to zero, and which does better."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from backstory import nn
from backstory.claims.pairs import Sample, dots, over_seeds
from backstory.claims.record import Claim, Effort, Finding, weigh
from backstory.claims.training import Recipe, fitted, outcomes, prepared
from backstory.insight.scan import evaluation
from backstory.insight.sites import Observer, observing
from backstory.ops import Op
from backstory.tensor import Tensor

__all__ = ["CLAIMS"]

USUAL = Recipe(initial="he", centred=True, lr=0.02, steps=100)
FAMILY: dict[str, Any] = {
    "ReLU": nn.ReLU,
    "LeakyReLU": nn.LeakyReLU,
    "PReLU": nn.PReLU,
    "RReLU": nn.RReLU,
    "ELU": nn.ELU,
}


class _Means(Observer):
    """Of every site the mean size of its units' mean outputs, in standard deviations of all outputs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.found: list[float] = []

    def gate(self, key: Any, op: Op, args: Any, result: Tensor, params: Any) -> None:
        a = result.detach().numpy()
        self.found.append(float(np.abs(a.mean(axis=0)).mean() / a.std()))


def mean_size(recipe: Recipe, seed: int) -> float:
    """How far from 0 the outputs of the units are on average after the recipe, in standard deviations."""
    model = fitted(recipe, seed)
    observer = _Means(model)
    with evaluation(model), observing(observer):
        observer.restart()
        model(prepared(recipe, seed)[0])
    return float(np.mean(observer.found))


def elu_centred(effort: Effort) -> Finding:
    """The units' mean outputs on digits, before and after training."""
    moments = {"before training": 0, "after training": USUAL.steps}
    found = {
        moment: {
            name: over_seeds(
                lambda seed, kind=kind, steps=steps: mean_size(
                    replace(USUAL, activation=kind, steps=steps), seed
                ),
                effort.seeds,
            )
            for name, kind in FAMILY.items()
        }
        for moment, steps in moments.items()
    }
    rivals = [name for name in FAMILY if name != "ELU"]
    holds = {
        moment: all(sizes[name].above(sizes["ELU"]) for name in rivals) for moment, sizes in found.items()
    }
    near = [
        f"{name} {moment}"
        for moment, sizes in found.items()
        for name in rivals
        if not sizes[name].above(sizes["ELU"])
    ]
    return Finding(
        weigh(holds, "on when"),
        "Size of the units' mean outputs on digits, in standard deviations",
        {
            moment: ", ".join(f"{name} {size.median:.2f}" for name, size in sizes.items())
            for moment, sizes in found.items()
        },
        {f"{name}, {moment}": size.median for moment, sizes in found.items() for name, size in sizes.items()},
        tuple(dots(f"|mean output| of the units, {moment}", sizes) for moment, sizes in found.items()),
        f"No farther than ELU's: {', '.join(near)}." if near else "",
    )


def prelu_better(effort: Effort) -> Finding:
    """Accuracy on held-out digits, paired by seed."""
    accuracy = {
        name: outcomes(replace(USUAL, activation=kind), effort.seeds)["accuracy"]
        for name, kind in FAMILY.items()
    }
    rest = {name: accuracy[name].minus(accuracy["ReLU"]) for name in FAMILY if name != "ReLU"}
    gains = {name: Sample(tuple(100 * value for value in gain.values)) for name, gain in rest.items()}
    unclear = [
        name
        for name in rest
        if not (accuracy[name].above(accuracy["ReLU"]) or accuracy["ReLU"].above(accuracy[name]))
    ]
    return Finding(
        weigh({name: accuracy[name].above(accuracy["ReLU"]) for name in ("PReLU", "RReLU")}, "on which"),
        f"Accuracy on held-out digits, in points above ReLU's {accuracy['ReLU']:.1%}",
        {name: f"{gain:+.1f}" for name, gain in gains.items()},
        {name: gain.median for name, gain in gains.items()},
        (dots("Accuracy on held-out digits", accuracy, form=".1%", compared=True),),
        f"No difference that chance could not make: {', '.join(unclear)}." if unclear else "",
    )


CLAIMS = (
    Claim(
        "elu-centred",
        "ELU's outputs are nearer to zero mean than those of ReLU and its relatives.",
        "Clevert, Unterthiner & Hochreiter 2015 (arXiv:1511.07289)",
        elu_centred,
    ),
    Claim(
        "prelu-better",
        "PReLU and RReLU do better than ReLU.",
        "He et al. 2015 (arXiv:1502.01852); Xu et al. 2015 (arXiv:1505.00853)",
        prelu_better,
    ),
)
