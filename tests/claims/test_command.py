"""`backstory claims`: its words, its pictures, its table, and the table in the docs."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import pytest
from rich.console import Console

from backstory.claims import CLAIMS, Effort, find, present
from backstory.cli import main

DOCS = Path(__file__).parents[2] / "docs" / "claims.md"
QUICK = ("--seeds", "6", "--jobs", "1")


def run(monkeypatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["backstory", "claims", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code or 0


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_list_names_every_claim(monkeypatch, capsys):
    assert run(monkeypatch, "--list") == 0
    said = capsys.readouterr().out
    assert all(name in said for name in CLAIMS)


def test_one_claim_is_told_and_drawn(monkeypatch, capsys, tmp_path):
    assert run(monkeypatch, "dropout-order", *QUICK) == 0
    said = capsys.readouterr().out
    assert "Dropout must come after the activation." in said
    assert re.search(r"✘ +ReLU +0 *\n", said)
    assert re.search(r"✔ +sigmoid +0\.5 *\n", said)
    assert "verdict: depends: on the activation" in said
    assert (tmp_path / "dropout-order.png").stat().st_size > 10_000


def test_pictures_go_where_they_are_asked_for(monkeypatch, capsys, tmp_path):
    assert run(monkeypatch, "dropout-order", "--plot", "one.svg", *QUICK) == 0
    assert (tmp_path / "one.svg").read_text(encoding="utf-8").startswith("<?xml")
    assert run(monkeypatch, "dropout-order", "zig-zag", "--plot", "all", *QUICK) == 0
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == ["dropout-order.png", "zig-zag.png"]


def test_several_claims_are_not_drawn_unless_asked_for(monkeypatch, capsys, tmp_path):
    assert run(monkeypatch, "dropout-order", "zig-zag", *QUICK) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_claim_that_is_not_there_is_an_error_that_names_those_that_are(monkeypatch, capsys):
    assert run(monkeypatch, "nonsense") == 1
    said = capsys.readouterr().err
    assert "no claim 'nonsense'" in said
    assert "half-active" in said


def test_the_markdown_table_has_a_row_per_claim(monkeypatch, capsys):
    assert run(monkeypatch, "dropout-order", "batch-norm-centred", "--markdown", "--plot", "a", *QUICK) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if line.startswith("| ")]
    assert len(rows) == 3
    assert all(line.count(" | ") == 2 for line in rows)
    assert "**false**" in rows[2]


@pytest.mark.parametrize("width", [50, 100])
def test_on_a_narrow_terminal_nothing_is_lost(width):
    found = find("dropout-order").measure(Effort(6))
    stream = io.StringIO()
    Console(file=stream, width=width).print(present.shown(found))
    told = stream.getvalue()
    assert all(len(line) <= width for line in told.splitlines())
    assert all(name in told for name in found.finding.cases)


def test_the_docs_have_every_claim_and_its_verdict():
    rows = re.findall(
        r"^\| .*?`([a-z-]+)` \| .* \| \*\*(true|false|depends)\*\*",
        DOCS.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert [name for name, _ in rows] == list(CLAIMS)
