"""A run as simple HTML, for notebooks: the story above the life table."""

from __future__ import annotations

from html import escape

from backstory.insight.lifetable import LifeTable
from backstory.insight.run import Run
from backstory.insight.story import story
from backstory.tables import html_table

__all__ = ["run_html"]

HEAD = ("site", "units", "dead", "linear", "born dead", "deaths", "revivals")


def run_html(run: Run) -> str:
    """The run's story and life table; colours and fonts are those of the page around it."""
    lines = "\n".join(escape(line) for line in story(run).splitlines())
    verdict, _, rest = lines.partition("\n")
    return (
        '<div style="font-size:13px;line-height:1.45">'
        f"<strong>{verdict}</strong>"
        f'<pre style="margin:4px 0 10px;background:none;color:inherit;white-space:pre-wrap">{rest}</pre>'
        f"{_table(run.life_table())}"
        f"<small>{escape(str(run.path))}: {len(run.steps):,} steps</small></div>"
    )


def _table(table: LifeTable) -> str:
    rows = []
    for life in table.sites:
        now = (len(life.dead), len(life.linear))
        rows.append((life.site.name, life.site.units, *now, life.born_dead, life.deaths, life.revivals))
    return html_table(HEAD, rows)
