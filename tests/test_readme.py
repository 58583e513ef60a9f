"""The README's code runs as it stands there."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import backstory

README = Path(__file__).parents[1] / "README.md"


def blocks(language):
    found = re.findall(r"^```(\w*)\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [text for name, text in found if name == language]


def test_the_readmes_program_runs_and_tells_its_story(tmp_path, monkeypatch, capsys):
    program = blocks("python")[0]
    monkeypatch.chdir(tmp_path)
    backstory.manual_seed(0)
    names: dict = {}
    exec(compile(program, str(README), "exec"), names)
    told = capsys.readouterr().out
    assert "0/relu" not in told  # the site is the activation's module, not the layer's
    assert "1/relu#0" in told
    assert "units are dead" in told
    assert backstory.open_run("runs/first").steps.tolist() == list(range(1, 101))
    advice = next(block for block in blocks("python") if "backstory.lint(" in block)
    exec(compile(advice, str(README), "exec"), names)
    told = capsys.readouterr().out
    assert told.startswith("lint: ")
    assert "regression, output: none" in told


def test_the_readmes_derivation_is_what_explain_prints(tmp_path, monkeypatch, capsys):
    program = next(block for block in blocks("python") if "backstory.explain(" in block)
    monkeypatch.chdir(tmp_path)
    exec(compile(program, str(README), "exec"), {"backstory": backstory})
    printed = next(block for block in blocks("") if block.startswith("Backward"))
    assert printed in capsys.readouterr().out
    assert (tmp_path / "graph.svg").exists()


def test_the_readmes_table_names_all_there_is_to_build_with():
    rows = re.findall(r"^\| `(nn|optim|data)([.\w]*)`[^|]*\|(.*)\|$", README.read_text("utf-8"), re.MULTILINE)
    named: dict[str, set[str]] = {}
    for start, rest, cells in rows:
        named.setdefault(start + rest, set()).update(re.findall(r"`(\w+)`", cells))
    others = {
        "nn": {"Module", "Parameter", "functional", "init", "summary", "utils"},
        "nn.utils": {"fusion", "parametrizations", "parametrize"},
        "optim": {"Optimizer", "lr_scheduler"},
        "optim.lr_scheduler": {"LRScheduler"},
        "data": {"Dataset", "ImageDataset", "Table", "default_collate"},
    }
    assert set(named) == {*others, "nn.init"}
    for path, names in named.items():
        module = importlib.import_module(f"backstory.{path}")
        assert names == set(module.__all__) - others.get(path, set()), path
