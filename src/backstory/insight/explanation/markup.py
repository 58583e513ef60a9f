"""An explanation as Markdown with LaTeX, and as a page's HTML with MathML."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from html import escape
from typing import NamedTuple

from backstory.insight.explanation.formula import plain
from backstory.insight.explanation.rows import Backward, Rows
from backstory.insight.explanation.words import WORDS

__all__ = ["html", "markdown"]

STYLE = """
.backstory-explain { font: 14px/1.45 system-ui, sans-serif; overflow-x: auto; }
.backstory-explain h4 { font-size: 14px; margin: 1.1em 0 .35em; }
.backstory-explain p { margin: .2em 0 .5em; opacity: .72; }
.backstory-explain table { border-collapse: collapse; margin: 0; }
.backstory-explain th, .backstory-explain td { text-align: left; padding: .28em 1.3em .28em 0; border: 0;
  border-bottom: 1px solid rgba(128, 128, 128, .22); vertical-align: middle; background: none; }
.backstory-explain th { font-weight: 500; font-size: 12px; opacity: .65; }
.backstory-explain td.remark { opacity: .72; font-size: 13px; min-width: 18em; max-width: 32em; }
.backstory-explain td { white-space: nowrap; }
.backstory-explain td.remark { white-space: normal; }
.backstory-explain td.number { font-variant-numeric: tabular-nums; }
.backstory-explain td.number span { opacity: .6; }
.backstory-explain tr.blocked td { opacity: .45; }
.backstory-explain tr.total td { font-weight: 600; }
.backstory-explain math { font-size: 1.1em; math-style: normal; }
"""


def markdown(rows: Rows) -> str:
    """Tables with LaTeX between dollar signs."""
    head = [WORDS[key] for key in ("step", "numbers", "value", "shape", "remark")]
    forward = [
        (_dollars(f"{row.symbol} = {row.formula}"), _dollars(row.numbers), row.value, row.shape, row.remark)
        for row in rows.forward
    ]
    parts = [f"**{WORDS['forward']}**", _table(head, forward), f"**{WORDS['backward']}**"]
    parts += ["; ".join(rows.notes)] if rows.notes else []
    head = [WORDS[key] for key in ("gradient", "upstream", "local", "product", "shape", "remark")]
    backward = [
        (
            _dollars(row.gradient if row.total else f"{row.gradient} = {row.formula}"),
            row.upstream,
            _dollars(row.local_formula) + (f" = {row.local}" if _differs(row) else ""),
            row.product,
            row.shape,
            row.role,
        )
        for row in rows.backward
    ]
    parts += [_table(head, backward), f"**{WORDS['short']}**"]
    short = [f"- {_dollars(f'{row.gradient} = {row.formula}')}{_equals(row.value)}" for row in rows.short]
    return "\n\n".join([*parts, "\n".join(short)]) + "\n"


class _Line(NamedTuple):
    """A row of a page's table: cells with their class, and the row's own."""

    cells: Sequence[tuple[str, str]]
    kind: str = ""


def html(rows: Rows) -> str:
    """Tables that stand on their own in any page; formulas as MathML where latex2mathml is installed."""
    forward = [
        _Line(
            [
                (_math(f"{row.symbol} = {row.formula}"), ""),
                (_math(row.numbers), ""),
                (_number(row.value, row.shape), "number"),
                (escape(row.remark), "remark"),
            ]
        )
        for row in rows.forward
    ]
    backward = [_backward(row) for row in rows.backward]
    short = [
        _Line([(_math(f"{row.gradient} = {row.formula}"), ""), (_number(row.value, row.shape), "number")])
        for row in rows.short
    ]
    notes = f"<p>{escape('; '.join(rows.notes))}</p>" if rows.notes else ""
    return (
        f'<div class="backstory-explain"><style>{STYLE}</style>'
        f"<h4>{escape(WORDS['forward'])}</h4>"
        + _html_table(("step", "numbers", "value", "remark"), forward)
        + f"<h4>{escape(WORDS['backward'])}</h4>{notes}"
        + _html_table(("gradient", "upstream", "local", "product", "remark"), backward)
        + f"<h4>{escape(WORDS['short'])}</h4>"
        + _html_table(("gradient", "value"), short)
        + "</div>"
    )


def _backward(row: Backward) -> _Line:
    local = _math(row.local_formula) + (escape(f" = {row.local}") if _differs(row) else "")
    formula = row.gradient if row.total else f"{row.gradient} = {row.formula}"
    kind = "total" if row.total else "blocked" if row.blocked else ""
    return _Line(
        [
            (_math(formula), ""),
            (escape(row.upstream), "number"),
            (local, "number"),
            (_number(row.product, row.shape), "number"),
            (escape(row.role), "remark"),
        ],
        kind,
    )


def _differs(row: Backward) -> bool:
    return bool(row.local) and plain(row.local_formula) != row.local


def _equals(value: str) -> str:
    return f" = {value}" if value else ""


def _dollars(latex: str) -> str:
    return f"${latex.replace('|', chr(92) + 'vert ')}$" if latex else ""


def _table(head: list[str], lines: list[tuple[str, ...]]) -> str:
    used = [i for i in range(len(head)) if any(line[i] for line in lines)]
    out = [[head[i] for i in used], ["---"] * len(used), *([line[i] for i in used] for line in lines)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in out)


def _row(cells: Sequence[tuple[str, str]], kind: str) -> str:
    inner = "".join(f'<td class="{name}">{cell}</td>' if name else f"<td>{cell}</td>" for cell, name in cells)
    return f'<tr class="{kind}">{inner}</tr>' if kind else f"<tr>{inner}</tr>"


def _html_table(keys: tuple[str, ...], lines: list[_Line]) -> str:
    """A table without the columns that are empty throughout."""
    used = [i for i in range(len(keys)) if any(line.cells[i][0] for line in lines)]
    head = "".join(f"<th>{escape(WORDS[keys[i]])}</th>" for i in used)
    body = "".join(_row([line.cells[i] for i in used], line.kind) for line in lines)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _number(value: str, shape: str) -> str:
    return escape(value) + (f"{' ' * bool(value)}<span>{escape(shape)}</span>" if shape else "")


@lru_cache(maxsize=4096)
def _math(latex: str) -> str:
    """MathML, or plain text where nothing can make it."""
    if not latex:
        return ""
    try:
        from latex2mathml.converter import convert
    except ImportError:
        return escape(plain(latex))
    return convert(latex)
