"""The story of a run in a screenful of text, and the verdict in a sentence."""

from __future__ import annotations

import numpy as np

from backstory.insight.certificate import Certificate
from backstory.insight.lifetable import BORN_DEAD, DIED, REVIVED, LifeTable
from backstory.insight.run import Run

__all__ = ["first_to_die", "story", "verdict"]

MANY_DEAD = 0.1
NAMES = 4
SCREEN, WHYS = 25, 3  # how many lines and answers it shows at most


def verdict(run: Run, table: LifeTable) -> str:
    """Whether the network stopped learning, from its losses, and the last metrics."""
    metrics = ", ".join(f"{name} {value:.2f}" for name, value in run.result.items())
    ending = f": {metrics}." if metrics else "."
    broken = run.findings("non-finite-loss")
    if broken:
        return f"The loss of this network became {broken[0][1]} at step {broken[0][0]}{ending}"
    if stopped(run.losses):
        return f"This network stopped learning{ending}"
    if table.dead > MANY_DEAD * table.units:
        return f"This network learned, with a part of its units{ending}"
    return f"This network learned{ending}"


def stopped(losses: np.ndarray) -> bool:
    """No progress from the middle third of the steps to the last, or from the first loss.

    Progress is a fall of the median loss by a tenth. A median below a tenth of the first loss has
    converged, not stopped.
    """
    known = losses[np.isfinite(losses)]
    if len(known) < 9:
        return False
    third = len(known) // 3
    middle, last = np.median(known[third:-third]), np.median(known[-third:])
    return bool(last > 0.1 * known[0] and last > 0.9 * min(middle, known[0]))


def first_to_die(run: Run, table: LifeTable) -> Certificate | None:
    """The certificate of the first death for good; of several at one step the one that fell furthest."""
    dead = {(life.site.name, unit) for life in table.sites for unit in life.dead}
    last: dict[tuple[str, int], int] = {}
    for event in table.events:
        if event.kind == DIED:
            last[event.site, event.unit] = event.step
    final = [c for c in run.certificates() if (c.site, c.unit) in dead and last[c.site, c.unit] == c.step]
    return min(final, key=lambda c: (c.step, c.change), default=None)


def story(run: Run) -> str:
    """The verdict, the dead, one death explained, the whys, and what would have saved it."""
    table = run.life_table()
    lines = [verdict(run, table), _counts(table)]
    if table.linear:
        lines.append(f"{table.linear} units are linear: they learn, and add no bend.")
    if not table.exact and table.events:
        lines.append("Some of these events lie between two scans; run.audit() makes every one exact.")
    lines += _unmoved(run)
    death = first_to_die(run, table)
    if death is not None:
        lines += [f"Unit {death.site}[{death.unit}] died {death.when} and stayed dead."]
        lines += ["  " + line for line in death.lines()]
    lines += _whys(run)
    outcomes = run.outcomes()
    if outcomes.all:
        pairs = len(outcomes.of(outcomes.changes[0]))
        origin = ", each from step 0" if all(o.start == 0 for o in outcomes.all) else ""
        how = f"{pairs} paired seeds{origin}; ✔ helps, ◐ in part, ✘ not"
        lines.append(f"What would have saved it ({how}):")
        rows, room = outcomes.lines(), SCREEN - len(lines)
        if len(rows) > room:
            rows = [*rows[: room - 1], f"… and {len(rows) - room + 1} more: run.outcomes()"]
        lines += ["  " + line for line in rows]
    return "\n".join(lines)


def _unmoved(run: Run) -> list[str]:
    """A line on parameters that want a gradient and are in no optimizer, which is seldom meant."""
    names = [name for name, why in run.meta.get("unmoved", {}).items() if why == "in no optimizer"]
    if not names:
        return []
    shown = ", ".join(names[:NAMES]) + (f" and {len(names) - NAMES} more" if len(names) > NAMES else "")
    return [f"In no optimizer, so nothing moves them: {shown}."]


def _counts(table: LifeTable) -> str:
    widths = " and ".join(str(life.width) for life in table.sites)
    units = table.sites[0].site.units
    of = f" of {units}" if len({life.site.units for life in table.sites}) == 1 else ""
    return (
        f"{table.dead} of {table.units} units are dead: {table.count(BORN_DEAD)} born dead, "
        f"{table.count(DIED)} deaths, {table.count(REVIVED)} revivals.   effective width {widths}{of}"
    )


def _whys(run: Run) -> list[str]:
    answers = run.whys()
    if not answers:
        return []
    lines = ["Why did it not move?  gradient = Σ upstream × gate × input over the declared data"]
    for answer in answers[:WHYS]:
        lines += ["  " + line for line in answer.lines()]
    if len(answers) > WHYS:
        lines.append(f"  … and {len(answers) - WHYS} more: run.whys()")
    return lines
