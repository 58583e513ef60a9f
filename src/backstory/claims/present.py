"""Claims on the terminal, as a Markdown table and as pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from backstory.claims.record import DEPENDS, FALSE, TRUE, Claim, Measured
from backstory.plots import chart
from backstory.plots.palette import DEAD, GREEN, ORANGE

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import RenderableType

__all__ = ["listing", "markdown", "picture", "save", "shown"]

COLOURS = {TRUE: "green", FALSE: "red", DEPENDS: "yellow"}
TINTS = {TRUE: GREEN, FALSE: DEAD, DEPENDS: ORANGE}
MARKS = {"✔": "green", "✘": "red", "·": "dim"}


def shown(measured: Measured) -> RenderableType:
    """Claim, measurement and verdict for rich's console."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    claim, finding, verdict = measured.claim, measured.finding, measured.verdict
    cases = Table.grid(padding=(0, 2, 0, 0))
    for name, words in finding.cases.items():
        mark = finding.mark(name)
        cases.add_row(Text(mark, style=MARKS[mark]), Text(name), Text(words))
    told = Text.assemble(("verdict: ", "dim"), (verdict.short, f"bold {COLOURS[verdict.kind]}"))
    parts: list[RenderableType] = [Text(f"{finding.what}:"), cases]
    parts += [Text(finding.remark)] if finding.remark else []
    parts += [told, Text(f"see {claim.reference}", style="dim")]
    heading = Text.assemble((claim.text, "bold"), "  ", (claim.name, "dim"))
    return Group(heading, Padding(Group(*parts), (0, 0, 1, 2)))


def listing(claims: Sequence[Claim]) -> RenderableType:
    """Names and texts."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    for claim in claims:
        table.add_row(Text(claim.name, style="bold"), Text(claim.text))
    return table


def markdown(found: Sequence[Measured]) -> str:
    """A table: claim, measurement, verdict."""
    lines = ["| claim | measured | verdict |", "|---|---|---|"]
    for one in found:
        finding = one.finding
        cases = "<br>".join(f"{finding.mark(name)} {name}: {words}" for name, words in finding.cases.items())
        told = f"{finding.what}:<br>{cases}" + (f"<br>{finding.remark}" if finding.remark else "")
        verdict = f"**{one.verdict.kind}**" + (f": {one.verdict.on}" if one.verdict.on else "")
        cells = (f"{one.claim.text}<br>({one.claim.reference})<br>`{one.claim.name}`", told, verdict)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def picture(measured: Measured) -> Figure:
    """The claim, its verdict, and the panels of what was measured."""
    verdict = measured.verdict
    return chart(
        *measured.finding.panels, heading=measured.claim.text, remark=str(verdict), tint=TINTS[verdict.kind]
    )


def save(found: Sequence[Measured], place: Path) -> Iterator[Path]:
    """The pictures, into the file ``place`` if there is one, else into the folder; gives each file."""
    if len(found) > 1:
        place.mkdir(parents=True, exist_ok=True)
    for one in found:
        file = place / f"{one.claim.name}.png" if len(found) > 1 else place
        picture(one).savefig(file)
        yield file
