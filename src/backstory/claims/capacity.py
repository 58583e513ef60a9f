"""What dead units cost: accuracy against effective width, on digits and on labels that must be memorised."""

from __future__ import annotations

from dataclasses import replace

from backstory.claims.pairs import Sample
from backstory.claims.record import Claim, Effort, Finding, weigh
from backstory.claims.training import Recipe, outcomes
from backstory.plots import Curves

__all__ = ["CLAIMS"]

UNITS, DEAD = 100, 40
ALIVE = (5, 20, 40, 60, 80, 100)
LEARN = Recipe(hidden=(UNITS,), initial="he", centred=True, lr=0.05, steps=100)
MEMORISE = replace(LEARN, lr=0.1, steps=250, samples=300, labels="random")
TASKS = {"held-out digits": LEARN, "300 random labels memorised": MEMORISE}


def dead_capacity(effort: Effort) -> Finding:
    """One hidden layer of 100 units, of which some are dead from the start and stay so."""
    found = {
        task: {
            alive: outcomes(replace(recipe, killed=UNITS - alive), effort.seeds)["accuracy"]
            for alive in ALIVE
        }
        for task, recipe in TASKS.items()
    }
    part = UNITS - DEAD
    holds = {task: accuracy[UNITS].above(accuracy[part]) for task, accuracy in found.items()}
    lost = {task: accuracy[part].minus(accuracy[UNITS]).values for task, accuracy in found.items()}
    points = {task: Sample(tuple(100 * value for value in values)) for task, values in lost.items()}
    few = found["held-out digits"][ALIVE[0]].median
    return Finding(
        weigh(holds, "on how much of the width is needed"),
        f"Accuracy of 64-{UNITS}-10 with {DEAD} of its {UNITS} units dead from the start",
        {
            task: f"{accuracy[UNITS].median:.1%} without dead units, {points[task]:+.1f} points with them"
            for task, accuracy in found.items()
        },
        {f"{task}, {n} alive": s.median for task, accuracy in found.items() for n, s in accuracy.items()},
        (_over_width(found),),
        f"With {ALIVE[0]} units alive {few:.0%} of the held-out digits are right.",
    )


def _over_width(found: dict[str, dict[int, Sample]]) -> Curves:
    ends = {task: [s.interval for s in accuracy.values()] for task, accuracy in found.items()}
    return Curves(
        f"Accuracy over the units alive, of {UNITS}",
        {task: (ALIVE, [s.median for s in accuracy.values()]) for task, accuracy in found.items()},
        "units alive",
        bands={
            task: ([low for low, _ in pairs], [high for _, high in pairs]) for task, pairs in ends.items()
        },
    )


CLAIMS = (
    Claim(
        "dead-capacity",
        f"{DEAD} dead units of {UNITS} cost the network capacity.",
        "Tutorials on dying ReLU; Lu et al. 2019 (arXiv:1903.06733)",
        dead_capacity,
    ),
)
