"""The README's code runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import backstory

README = Path(__file__).parents[1] / "README.md"


def test_the_readmes_program_runs_and_tells_its_story(tmp_path, monkeypatch, capsys):
    (program,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    backstory.manual_seed(0)
    exec(compile(program, str(README), "exec"), {})
    told = capsys.readouterr().out
    assert "0/relu" not in told  # the site is the activation's module, not the layer's
    assert "1/relu#0" in told
    assert "units are dead" in told
    assert backstory.open_run("runs/first").steps.tolist() == list(range(1, 101))
