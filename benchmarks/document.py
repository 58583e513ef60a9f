"""The document that the tables stand in: every part between marks of its own, to be measured apart."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import goals

__all__ = ["OVERVIEW", "insert", "write"]

OVERVIEW = "goals"
GOALS = re.compile(rf"^{re.escape(goals.table([]))}\n((?:\|.*\n)+)", re.MULTILINE)


def marks(part: str) -> tuple[str, str]:
    """What stands before and behind a part."""
    return f"<!-- {part}: begin -->", f"<!-- {part}: end -->"


def insert(document: str, part: str, text: str) -> str:
    """The document with ``text`` in place of what stands between the marks of ``part``.

    >>> insert("a\\n<!-- x: begin -->\\nold\\n<!-- x: end -->\\nb", "x", "new")
    'a\\n<!-- x: begin -->\\nnew\\n<!-- x: end -->\\nb'
    """
    begin, end = marks(part)
    before, found, rest = document.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        sys.exit(f"the document has no {begin} … {end}")
    return f"{before}{begin}\n{text}\n{end}{after}"


def overview(document: str) -> str:
    """All goals that stand in tables of their own in the document, as one table."""
    rows = [row for table in GOALS.findall(insert(document, OVERVIEW, "")) for row in table.splitlines()]
    return "\n".join([goals.table([]), *rows])


def write(path: Path, part: str, text: str) -> None:
    """Put a part into its place, and the goals of all parts into theirs."""
    changed = insert(path.read_text(), part, text)
    path.write_text(insert(changed, OVERVIEW, overview(changed)))
