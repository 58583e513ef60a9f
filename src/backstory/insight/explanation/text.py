"""An explanation as aligned text."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from backstory.insight.explanation.formula import plain
from backstory.insight.explanation.rows import Backward, Rows
from backstory.insight.explanation.words import WORDS

__all__ = ["text"]

WIDEST = 46  # a cell wider than this does not push the others of its column aside


def text(rows: Rows) -> str:
    """All of it, for a terminal."""
    forward = [
        (
            plain(row.symbol),
            f"= {plain(row.formula)}",
            f"= {plain(row.numbers)}" if row.numbers else "",
            _value(row.value, row.shape, row.numbers and plain(row.numbers)),
            row.remark,
        )
        for row in rows.forward
    ]
    backward = [
        (plain(row.gradient), _formula(row), _product(row), _value(row.product, row.shape), row.role)
        for row in rows.backward
    ]
    short = [
        (plain(row.gradient), f"= {plain(row.formula)}", _value(row.value, row.shape)) for row in rows.short
    ]
    seed = [(plain(rows.root), "= 1", "", "", "")] if rows.backward else []
    parts = [
        WORDS["forward"],
        *_aligned(forward),
        "",
        WORDS["backward"],
        *([f"  {'; '.join(rows.notes)}"] if rows.notes else []),
    ]
    parts += [*_aligned([*seed, *backward]), "", WORDS["short"], *_aligned(short)]
    return "\n".join(parts)


def _formula(row: Backward) -> str:
    return f"= {row.formula}" if row.total and row.formula else "" if row.total else f"= {plain(row.formula)}"


def _product(row: Backward) -> str:
    return f"= {row.upstream} × {row.local}" if row.upstream and row.local else ""


def _value(value: str, shape: str, shown: str = "") -> str:
    if value == shown and value:
        return ""
    return " ".join(part for part in (f"= {value}" if value else "", shape) if part)


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Columns padded to their widest cell; empty columns vanish."""
    if not lines:
        return []
    columns = [i for i in range(len(lines[0])) if any(line[i] for line in lines)]
    widths = {
        i: max((_width(line[i]) for line in lines if _width(line[i]) <= WIDEST), default=0) for i in columns
    }
    padded = []
    for line in lines:
        cells = [line[i] + " " * max(0, widths[i] - _width(line[i])) for i in columns]
        padded.append(("  " + "  ".join(cells)).rstrip())
    return padded


def _width(cell: str) -> int:
    """How many columns of a terminal the text takes."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in cell)
    return len(cell) + wide - sum(unicodedata.combining(letter) > 0 for letter in cell)
