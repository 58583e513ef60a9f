"""What a claim is, what measuring it gives, and how a verdict follows from cases that were measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from backstory.errors import ArgumentError
from backstory.plots import Curves, Dots

__all__ = ["FULL", "Claim", "Effort", "Finding", "Measured", "Verdict", "weigh"]

TRUE, FALSE, DEPENDS = "true", "false", "depends"


@dataclass(frozen=True)
class Effort:
    """How much is spent on a measurement: paired ``seeds`` where chance plays a part, and seconds a timing.

    Six seeds are the fewest for which all of one sign mean anything at 5 % (both sides).
    """

    seeds: int = 12
    seconds: float = 0.15

    def __post_init__(self) -> None:
        if self.seeds < 6 or not self.seconds > 0:
            raise ArgumentError(
                f"Effort(seeds={self.seeds}, seconds={self.seconds})",
                why="with fewer than six pairs nothing can be told from chance, and a timing takes time",
                instead="Effort(seeds=12, seconds=0.15)",
            )


FULL = Effort()


@dataclass(frozen=True)
class Verdict:
    """``true``, ``false`` or ``depends`` ``on`` something; ``yes`` and ``no`` are the cases that say so.

    >>> print(Verdict("depends", "on the weights", yes=("He",), no=("Xavier",)))
    depends: on the weights (yes: He; no: Xavier)
    """

    kind: str
    on: str = ""
    yes: tuple[str, ...] = ()
    no: tuple[str, ...] = ()

    @property
    def short(self) -> str:
        """Without the cases."""
        return f"{self.kind}: {self.on}" if self.on else self.kind

    def __str__(self) -> str:
        if self.kind != DEPENDS or not (self.yes and self.no):
            return self.short
        return f"{self.short} (yes: {', '.join(self.yes)}; no: {', '.join(self.no)})"


def weigh(holds: Mapping[str, bool], on: str) -> Verdict:
    """True if the claim holds in every case that was measured, false if in none; else it depends ``on``.

    >>> print(weigh({"He": False, "Xavier": False}, "on the weights"))
    false
    """
    yes = tuple(name for name, held in holds.items() if held)
    no = tuple(name for name, held in holds.items() if not held)
    if yes and no:
        return Verdict(DEPENDS, on, yes, no)
    return Verdict(TRUE if yes else FALSE, "", yes, no)


@dataclass(frozen=True)
class Finding:
    """What a measurement gave.

    ``what`` was measured, and the result of each of ``cases`` in words; ``remark`` says what to make of it.
    ``figures`` are the numbers by name, ``panels`` the picture.
    """

    verdict: Verdict
    what: str
    cases: Mapping[str, str]
    figures: Mapping[str, float]
    panels: tuple[Curves | Dots, ...]
    remark: str = ""

    @property
    def measurement(self) -> str:
        """All of it in words."""
        told = "; ".join(f"{name} {words}" for name, words in self.cases.items())
        return f"{self.what}: {told}." + (f" {self.remark}" if self.remark else "")

    def mark(self, case: str) -> str:
        """✔ where the claim holds, ✘ where it does not, a dot for what is there to compare with."""
        return "✔" if case in self.verdict.yes else "✘" if case in self.verdict.no else "·"


@dataclass(frozen=True)
class Claim:
    """Something that texts say: a short name, the words, where it comes from, and how it is measured.

    ``timed`` measurements are of time: they run alone, and differ from machine to machine.
    """

    name: str
    text: str
    reference: str
    experiment: Callable[[Effort], Finding]
    timed: bool = False

    def measure(self, effort: Effort = FULL) -> Measured:
        """Run the experiment."""
        return Measured(self, self.experiment(effort))


@dataclass(frozen=True)
class Measured:
    """A claim with what was found; prints as claim, measurement, verdict."""

    claim: Claim
    finding: Finding

    @property
    def verdict(self) -> Verdict:
        """The verdict."""
        return self.finding.verdict

    def __str__(self) -> str:
        found = self.finding
        wide = max(map(len, found.cases))
        return "\n".join(
            [
                f"{self.claim.name}: {self.claim.text}",
                f"  {found.what}",
                *(f"  {found.mark(name)} {name:{wide}}  {words}" for name, words in found.cases.items()),
                *([f"  {found.remark}"] if found.remark else []),
                f"  verdict: {self.verdict.short}",
            ]
        )
