"""Claims that texts make about ReLU networks, each an experiment that finds its verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from backstory.claims import (
    capacity,
    cures,
    depth,
    dying,
    gates,
    memory,
    remedies,
    signal,
    signs,
    speed,
    variants,
)
from backstory.claims.record import FULL, Claim, Effort, Finding, Measured, Verdict
from backstory.errors import ArgumentError

__all__ = ["CLAIMS", "Claim", "Effort", "Finding", "Measured", "Verdict", "find", "measure"]

SUBJECTS = (speed, gates, signal, signs, variants, capacity, dying, remedies, depth, cures, memory)
CLAIMS: dict[str, Claim] = {claim.name: claim for subject in SUBJECTS for claim in subject.CLAIMS}


def find(name: str) -> Claim:
    """The claim of that name.

    >>> find("half-active").text
    'About half of the units are active.'
    """
    if name not in CLAIMS:
        raise ArgumentError(
            f"there is no claim {name!r}",
            why="claims are known by name",
            instead=f"one of {', '.join(CLAIMS)}",
        )
    return CLAIMS[name]


def measure(names: Sequence[str] | None = None, effort: Effort = FULL, jobs: int = -1) -> Iterator[Measured]:
    """Every claim, or those of ``names``, measured: timings one by one, then the others ``jobs`` at a time.

    They come in the order of the list, each as soon as it and those before it are done.
    """
    chosen = [find(name) for name in (CLAIMS if names is None else names)]
    timed = {claim.name: claim.measure(effort) for claim in chosen if claim.timed}
    rest = _together([claim.name for claim in chosen if not claim.timed], effort, jobs)
    for claim in chosen:
        yield timed[claim.name] if claim.timed else next(rest)


def _together(names: Sequence[str], effort: Effort, jobs: int) -> Iterator[Measured]:
    """In processes of their own, or here if there is one claim or one job alone."""
    if len(names) < 2 or jobs == 1:
        yield from (find(name).measure(effort) for name in names)
        return
    from joblib import Parallel, delayed

    work: Any = Parallel(jobs, return_as="generator")
    yield from work(delayed(_measured)(name, effort) for name in names)


def _measured(name: str, effort: Effort) -> Measured:
    return find(name).measure(effort)
