"""Write the report: one HTML page with everything in it, from what the run holds."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backstory import plots
from backstory.errors import MissingExtraError
from backstory.insight.counterfactual import NO_CHANGE
from backstory.insight.lifetable import BORN_DEAD, DIED, REVIVED, LifeTable
from backstory.insight.run import Run
from backstory.insight.story import verdict
from backstory.insight.why import MOVEMENTS, SENTENCES
from backstory.plots.palette import DARK, LIGHT
from backstory.report import figures
from backstory.report.numbers import count, fixed, number, percent, signed, typographic
from backstory.report.svg import inline_svg
from backstory.report.words import PARTS, TERMS, WORDS

if TYPE_CHECKING:
    from jinja2 import Environment
    from matplotlib.figure import Figure

__all__ = ["write_report"]

OPEN_DEATHS, MOST_DEATHS = 10, 1000
WIDE, HALF, NARROW, TALL = 1150.0, 590.0, 352.0, 470.0


def write_report(run: Run, path: str | Path) -> Path:
    """Write the run's report to ``path``, a single HTML file; returns the path.

    The page needs no network and no scripts. It shows what the run holds at this moment; sections whose
    data are missing say in a line how to get them. An existing file is replaced at once or not at all.
    """
    page = _environment().get_template("page.html.j2").render(_context(run))
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    _replace(target, page)
    return target


def _replace(target: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-", suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _environment() -> Environment:
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise MissingExtraError.of("jinja2", "plots", "the report") from error
    made = Environment(
        loader=PackageLoader("backstory.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "number": number,
        "signed": signed,
        "percent": percent,
        "count": count,
        "fixed": fixed,
        "typographic": typographic,
    }
    return made


def _context(run: Run) -> dict[str, Any]:
    """Everything the template shows."""
    table, outcomes = run.life_table(), run.outcomes()
    found = figures.deaths(run, table)
    return {
        "w": WORDS,
        "terms": TERMS,
        "part_words": PARTS,
        "sentences": SENTENCES,
        "movements": MOVEMENTS,
        "light": LIGHT,
        "dark": DARK,
        "name": run.path.resolve().name,
        "meta": run.meta,
        "steps": len(run.steps),
        "verdict": verdict(run, table),
        "tiles": _tiles(table),
        "table": table,
        "exact": figures.exact_events(table),
        "deaths": found[:MOST_DEATHS],
        "death_count": len(found),
        "open_deaths": OPEN_DEATHS,
        "event_limit": MOST_DEATHS,
        "weights": figures.weights(run),
        "rows": figures.outcome_rows(outcomes),
        "metric": outcomes.metric,
        "pairs": len(outcomes.of(NO_CHANGE.name)),
        "pictures": _pictures(run, bool(outcomes.all)),
        "code": figures.code(run),
        "first_hint": f"{WORDS['hint bare']}, " if run.meta.get("experiment") is None else "",
    }


def _tiles(table: LifeTable) -> list[dict[str, str]]:
    """The large numbers: what, how many, of what."""
    seen = WORDS["exact"] if table.exact else WORDS["seen"].format(scans=len(table.steps))
    tiles = [
        _tile("dead", count(table.dead), WORDS["of units"].format(units=count(table.units)), table.dead > 0),
        _tile("born dead", count(table.count(BORN_DEAD)), WORDS["before first"]),
        _tile("deaths", count(table.count(DIED)), seen),
        _tile("revivals", count(table.count(REVIVED)), seen),
    ]
    if table.linear:
        tiles.append(_tile("linear", count(table.linear), WORDS["of units"].format(units=count(table.units))))
    return [*tiles, _widths(table)]


def _tile(key: str, value: str, note: str, fatal: bool = False) -> dict[str, str]:
    return {"label": WORDS[key], "value": value, "note": note, "kind": "fatal" if fatal else ""}


def _widths(table: LifeTable) -> dict[str, str]:
    """The effective width of every site, or of all together where they are many."""
    if len(table.sites) > 4:
        alive = table.units - table.dead
        note = WORDS["width many"].format(units=count(table.units), sites=len(table.sites))
        return _tile("width", count(alive), note)
    units = [life.site.units for life in table.sites]
    key = "width each" if len(set(units)) == 1 and len(units) > 1 else "width of"
    of = units[:1] if key == "width each" else units
    note = WORDS[key].format(units=" · ".join(map(count, of)))
    return _tile("width", " · ".join(count(life.width) for life in table.sites), note)


def _as_tall(run: Run, width: float) -> Figure:
    """The outcomes, where they stand beside the living units as high as these."""
    return plots.paired_outcomes(run, width, TALL if width == HALF else None)


def _pictures(run: Run, asked: bool) -> dict[str, list[tuple[str, str]]]:
    """Every picture as SVG for wide and for narrow pages: pairs of (class, SVG)."""
    drawn: dict[str, tuple[Callable[..., Figure], float]] = {"alive": (plots.alive_and_loss, HALF)}
    if asked:
        drawn["outcomes"] = (_as_tall, HALF)
    if any(len(run.gates(site)[0]) for site in run.sites):
        drawn["gates"] = (plots.gate_map, WIDE)
    if len(run.steps):
        drawn["norms"] = (plots.gradient_norms, WIDE)
        drawn["ratios"] = (plots.update_ratios, WIDE)
    return {
        name: [
            (kind, inline_svg(draw(run, width), f"{name}-{kind}", WORDS[f"{name} picture"]))
            for kind, width in (("wide", wide), ("narrow", NARROW))
        ]
        for name, (draw, wide) in drawn.items()
    }
