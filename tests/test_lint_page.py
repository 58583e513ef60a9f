"""docs/lint.md: its programs print what stands below them, and its table is the catalogue."""

from __future__ import annotations

import re
from pathlib import Path

from backstory.insight.advice import catalogue

PAGE = (Path(__file__).parents[1] / "docs" / "lint.md").read_text(encoding="utf-8")


def words(text: str) -> list[str]:
    """The words, without the numbers, which the last digits of another machine may change."""
    return re.sub(r"[\d.,·⁻⁰¹²³⁴-⁹−]+", "#", text).split()


def test_the_programs_print_what_stands_below_them(capsys):
    found = re.findall(r"```python\n(.*?)```\n\n```\n(.*?)```", PAGE, re.DOTALL)
    assert len(found) == 2
    names: dict = {}
    for program, shown in found:
        exec(compile(program, "docs/lint.md", "exec"), names)
        assert words(capsys.readouterr().out) == words(shown)


def test_the_table_is_the_catalogue():
    assert catalogue() in PAGE
