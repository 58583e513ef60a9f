"""Tables as plain text and as simple HTML, for what prints itself in terminals and notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

__all__ = ["html_table", "text_table"]

TABLE = "border-collapse:collapse;font-size:inherit;font-variant-numeric:tabular-nums;margin:0 0 6px"
CELL = "padding:2px 10px;border-bottom:1px solid #8884"


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Columns two spaces apart, the first ``left`` of them set left and the others right, below a rule.

    >>> print(text_table(("layer", "units"), [("0", "12"), ("encoder", "7")]))
    layer    units
    ──────────────
    0           12
    encoder      7
    """
    widths = [max(len(line[i]) for line in (head, *rows)) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join(padded).rstrip()

    return "\n".join([line(head), "─" * (sum(widths) + 2 * len(widths) - 2), *map(line, rows)])


def html_table(head: Sequence[object], rows: Sequence[Sequence[object]], left: int = 1) -> str:
    """The same as HTML; colours and fonts are those of the page around it.

    >>> html_table(("a",), [("<b>",)]).count("&lt;b&gt;")
    1
    """

    def cells(tag: str, row: Sequence[object]) -> str:
        return "".join(
            f'<{tag} style="text-align:{"left" if i < left else "right"};{CELL}">{escape(str(x))}</{tag}>'
            for i, x in enumerate(row)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f'<table style="{TABLE}"><thead><tr>{cells("th", head)}</tr></thead><tbody>{body}</tbody></table>'
