"""The life table: which units were born dead, died and revived, each event exact or between two steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from backstory.insight.scan import DEAD, LINEAR
from backstory.insight.sites import Site

__all__ = ["BORN_DEAD", "DIED", "REVIVED", "Event", "LifeTable", "SiteLife", "events_between"]

BORN_DEAD, DIED, REVIVED = "born dead", "died", "revived"


@dataclass(frozen=True)
class Event:
    """Something that happened to one unit with update ``step``, or with one after ``after`` up to it."""

    site: str
    unit: int
    kind: str
    step: int
    after: int

    @property
    def exact(self) -> bool:
        """Whether the very update is known."""
        return self.kind == BORN_DEAD or self.step - self.after <= 1

    def __str__(self) -> str:
        when = f"at step {self.step}" if self.exact else f"between steps {self.after} and {self.step}"
        if self.kind == BORN_DEAD:
            when = "before the first step"
        return f"{self.site}[{self.unit}] {self.kind} {when}"


def events_between(before: np.ndarray | None, now: np.ndarray, step: int) -> Iterator[tuple[int, str]]:
    """What changed from one scan's states to the next, after ``step`` updates.

    From none: what is born dead. A unit of a site that runs for the first time later was not dead before.
    """
    dead = now == DEAD
    if before is None:
        for unit in np.flatnonzero(dead):
            yield int(unit), DIED if step else BORN_DEAD
        return
    was = before == DEAD
    for unit in np.flatnonzero(dead != was):
        yield int(unit), DIED if dead[unit] else REVIVED


@dataclass(frozen=True)
class SiteLife:
    """One site at the last scan, and what happened to its units before."""

    site: Site
    dead: tuple[int, ...]
    linear: tuple[int, ...]
    born_dead: int
    deaths: int
    revivals: int

    @property
    def width(self) -> int:
        """The effective width: units that are not dead."""
        return self.site.units - len(self.dead)


@dataclass(frozen=True)
class LifeTable:
    """Every site's life, the events in order, and the number of living units after each scanned step."""

    sites: tuple[SiteLife, ...]
    events: tuple[Event, ...]
    steps: np.ndarray
    alive: np.ndarray
    audited: bool

    @property
    def exact(self) -> bool:
        """Whether the very update of every event is known: from an audit, or from a scan after each."""
        return self.audited or (len(self.steps) > 1 and bool((np.diff(self.steps) == 1).all()))

    @property
    def units(self) -> int:
        """How many units there are."""
        return sum(life.site.units for life in self.sites)

    @property
    def dead(self) -> int:
        """How many are dead at the end."""
        return sum(len(life.dead) for life in self.sites)

    @property
    def linear(self) -> int:
        """How many are linear at the end: they learn, and add no bend."""
        return sum(len(life.linear) for life in self.sites)

    def count(self, kind: str) -> int:
        """How many events of a kind there were."""
        return sum(event.kind == kind for event in self.events)

    @property
    def fatal_step(self) -> int | None:
        """The scanned step with the largest loss of living units; ``None`` if none was lost."""
        if len(self.alive) < 2:
            return None
        change = np.diff(self.alive.sum(axis=1).astype(np.int64))
        return int(self.steps[1 + np.argmin(change)]) if change.min() < 0 else None

    def __str__(self) -> str:
        how = "exact" if self.exact else "some events between two steps: run.audit() makes them exact"
        lines = [f"{'site':24} units  dead  linear  born dead  deaths  revivals   ({how})"]
        lines += [
            f"{life.site.name:24} {life.site.units:5} {len(life.dead):5} {len(life.linear):7}"
            f" {life.born_dead:10} {life.deaths:7} {life.revivals:9}"
            for life in self.sites
        ]
        return "\n".join(lines)


def life_table(
    sites: list[Site], scans: list[tuple[int, int, bytes]], events: list[Event], audited: bool
) -> LifeTable:
    """The table from stored rows: scans are (step, site, states), in order of steps."""
    states = {(step, index): np.frombuffer(blob, np.uint8) for step, index, blob in scans}
    steps = sorted({step for step, _ in states})
    alive = np.zeros((len(steps), len(sites)), np.int64)
    last: dict[int, np.ndarray] = {}
    for i, step in enumerate(steps):
        for site in sites:
            last[site.index] = states.get(
                (step, site.index), last.get(site.index, np.zeros(site.units, np.uint8))
            )
            alive[i, site.index] = int((last[site.index] != DEAD).sum())
    lives = []
    for site in sites:
        final = last.get(site.index, np.zeros(site.units, np.uint8))
        own = [event.kind for event in events if event.site == site.name]
        lives.append(
            SiteLife(
                site,
                tuple(np.flatnonzero(final == DEAD).tolist()),
                tuple(np.flatnonzero(final == LINEAR).tolist()),
                own.count(BORN_DEAD),
                own.count(DIED),
                own.count(REVIVED),
            )
        )
    return LifeTable(tuple(lives), tuple(events), np.array(steps), alive, audited)
