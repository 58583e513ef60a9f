"""The command line: its words, and errors without a traceback."""

from __future__ import annotations

import sys

import pytest

import backstory
from backstory import nn, optim
from backstory.cli import main


def run(monkeypatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["backstory", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code or 0


@pytest.fixture
def folder(tmp_path):
    backstory.manual_seed(0)
    x = backstory.randn(16, 3)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    with backstory.watch(model, optimizer, tmp_path / "run", data=x):
        for _ in range(3):
            optimizer.zero_grad()
            model(x).sum().backward()
            optimizer.step()
    return tmp_path / "run"


def test_story_prints_the_runs_story(monkeypatch, capsys, folder):
    assert run(monkeypatch, "story", str(folder)) == 0
    assert capsys.readouterr().out.strip() == backstory.open_run(folder).story()


def test_report_writes_a_page_into_the_run(monkeypatch, capsys, folder):
    assert run(monkeypatch, "report", str(folder)) == 0
    assert (folder / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_audit_of_a_bare_run_says_why_it_cannot_be_rerun(monkeypatch, capsys, folder):
    assert run(monkeypatch, "audit", str(folder)) == 1
    said = capsys.readouterr().err
    assert "bare watch()" in said
    assert "experiment(train, config, path)" in said
    assert "Traceback" not in said


def test_a_folder_without_a_run_is_an_error_in_three_lines(monkeypatch, capsys, tmp_path):
    assert run(monkeypatch, "story", str(tmp_path)) == 1
    _, *rest = capsys.readouterr().err.splitlines()
    assert [line.strip().split(":")[0] for line in rest] == ["why", "instead"]
