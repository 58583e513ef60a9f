"""Findings as data, and how they are shown: in a terminal, as plain text, and as HTML."""

from __future__ import annotations

import math
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from types import MappingProxyType
from typing import Any

from backstory.insight.advice.words import CATALOGUE, GENERIC, TERMS, WORDS

__all__ = ["Advice", "Finding", "catalogue"]

SEVERITIES = ("error", "warning", "note")
MARKS = {"error": "✖", "warning": "▲", "note": "•"}
STYLES = {"error": "bold red", "warning": "bold yellow", "note": "bold cyan"}
SHOWN = 6  # layers that are named
WIDTH = 100
LABEL = 9

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def figure(value: float) -> str:
    """Two or three digits, as a reader wants them.

    >>> [figure(x) for x in (0.3333, 12345.6, 3.2e-7, float("inf"), 64)]
    ['0.333', '12,346', '3.2·10⁻⁷', '∞', '64']
    """
    if math.isinf(value) or math.isnan(value):
        return "NaN" if value != value else "∞" if value > 0 else "−∞"
    if float(value).is_integer() and abs(value) < 1e7:
        return f"{value:,.0f}".replace("-", "−")
    if 1e-3 <= abs(value) < 1e3:
        return f"{value:.3g}".replace("-", "−")
    if 1e3 <= abs(value) < 1e6:
        return f"{value:,.0f}".replace("-", "−")
    digits, _, exponent = f"{value:.1e}".partition("e")
    digits = digits.removesuffix(".0").replace("-", "−")
    power = "10" + str(int(exponent)).translate(_SUPERSCRIPTS)
    return power if digits == "1" else f"{digits}·{power}"


class _Filled(string.Formatter):
    def format_field(self, value: Any, format_spec: str) -> str:
        if isinstance(value, str):
            return TERMS.get(value, value)
        return format(value, format_spec) if format_spec else figure(value)


_fill = _Filled()


@dataclass(frozen=True)
class Finding:
    """One thing that a model would train better without.

    ``code`` names its kind, ``severity`` is ``"error"`` (it cannot learn as it is), ``"warning"`` or
    ``"note"``, ``layers`` names where, and ``measured`` holds the numbers. The words are looked up.
    """

    code: str
    severity: str
    layers: tuple[str, ...]
    measured: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert self.severity in CATALOGUE[self.code].severities
        object.__setattr__(self, "measured", MappingProxyType(dict(self.measured)))

    def _said(self, part: str) -> str:
        return _fill.vformat(getattr(CATALOGUE[self.code], part), (), self.measured)

    @property
    def layer(self) -> str:
        """Where: the names of the layers, the first few of many."""
        names = ", ".join(self.layers[:SHOWN])
        rest = len(self.layers) - SHOWN
        return f"{names} {WORDS['more'].format(count=rest)}" if rest > 0 else names

    @property
    def what(self) -> str:
        """What was seen, with the numbers."""
        return self._said("what")

    @property
    def why(self) -> str:
        """Why it matters."""
        return self._said("why")

    @property
    def instead(self) -> str:
        """What to write instead."""
        return self._said("instead")

    @property
    def reference(self) -> str:
        """Where to read on."""
        return self._said("reference")

    def __str__(self) -> str:
        return _text([_entry(self)])


@dataclass(frozen=True)
class Advice:
    """All findings, gravest first; it iterates, prints itself, and is false if there are none.

    ``print`` gives plain text, ``rich.print`` colours, and a notebook a table.
    """

    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, findings: Iterator[Finding]) -> Advice:
        """The findings, gravest first and else in the order in which they were found."""
        return cls(tuple(sorted(findings, key=lambda one: SEVERITIES.index(one.severity))))

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    def __getitem__(self, place: int) -> Finding:
        return self.findings[place]

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes of the findings, in order."""
        return tuple(one.code for one in self.findings)

    @property
    def worst(self) -> str | None:
        """The gravest severity; ``None`` if there is no finding."""
        return self.findings[0].severity if self.findings else None

    @property
    def summary(self) -> str:
        """One line: how many findings there are of each severity."""
        if not self.findings:
            return WORDS["clean"]
        counts = [(s, sum(one.severity == s for one in self.findings)) for s in SEVERITIES]
        said = [f"{n} {TERMS[s] if n == 1 else TERMS[s + 's']}" for s, n in counts if n]
        return WORDS["head"].format(counts=", ".join(said))

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        from rich.text import Text

        yield Text(self.summary, style="bold" if self.findings else "bold green")
        for one in self.findings:
            yield Text()
            yield _entry(one)

    def __str__(self) -> str:
        return _text([self])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return _html(self)


def _entry(finding: Finding) -> Any:
    """A finding as something that rich lays out: a line that names it, and a row for each part."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    style = STYLES[finding.severity]
    name = Text(f"{MARKS[finding.severity]} {TERMS[finding.severity]}  ", style=style, no_wrap=True)
    name.append(finding.code, style="bold")
    head = Table.grid(padding=(0, 2))
    head.add_row(name, Text(finding.layer, style=style.removeprefix("bold ")))
    rows = Table.grid(padding=(0, 1))
    rows.add_column(width=LABEL, justify="right", style="dim")
    rows.add_column(overflow="fold")
    for part in ("what", "why", "instead", "reference"):
        said = Text(getattr(finding, part), style={"instead": "green", "reference": "dim"}.get(part, ""))
        rows.add_row(WORDS[part], said)
    return Group(head, rows)


def _text(parts: list[Any]) -> str:
    """The parts as plain text, no wider than a page or the terminal."""
    import io
    import shutil

    from rich.console import Console

    width = min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)
    console = Console(file=io.StringIO(), width=width, color_system=None, highlight=False)
    console.print(*parts)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())  # type: ignore[attr-defined]


def catalogue() -> str:
    """All findings there are, as a table in Markdown."""
    columns = ("code", "severity", "when", "why", "instead", "reference")
    lines = [" | ".join(WORDS[column] for column in columns), " | ".join("---" for _ in columns)]
    for code, entry in CATALOGUE.items():
        severities = ", ".join(TERMS[one] for one in entry.severities)
        said = [_fill.vformat(getattr(entry, part), (), GENERIC) for part in columns[2:]]
        lines.append(" | ".join([f"`{code}`", severities, *said]))
    return "\n".join(f"| {line} |" for line in lines)


_CELL = "padding:1px 10px 1px 0;vertical-align:top;text-align:left"
_TABLE = "border-collapse:collapse;font-size:inherit;margin-left:1em"
_COLOURS = {"error": "#c33", "warning": "#b70", "note": "#38a"}


def _html(advice: Advice) -> str:
    """A block for a notebook; fonts and background are those of the page."""
    parts = [f"<strong>{escape(advice.summary)}</strong>"]
    for one in advice:
        parts.append(
            f'<div style="margin:10px 0 2px"><span style="color:{_COLOURS[one.severity]};font-weight:bold">'
            f"{MARKS[one.severity]} {escape(TERMS[one.severity])}</span> <strong>{escape(one.code)}</strong> "
            f"{escape(one.layer)}</div>"
        )
        rows = [(WORDS[part], getattr(one, part)) for part in ("what", "why", "instead", "reference")]
        body = "".join(
            f'<tr><td style="{_CELL};opacity:.6">{escape(name)}</td>'
            f'<td style="{_CELL}">{escape(said)}</td></tr>'
            for name, said in rows
        )
        parts.append(
            f'<table style="border-collapse:collapse;font-size:inherit;margin-left:1em">{body}</table>'
        )
    return f'<div style="font-size:13px;line-height:1.45">{"".join(parts)}</div>'
