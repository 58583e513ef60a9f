"""The examples of docs/compile.md run as they stand there."""

from __future__ import annotations

import doctest
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "compile.md"


def test_the_pages_examples_run():
    text = "\n".join(line for line in PAGE.read_text(encoding="utf-8").splitlines() if "```" not in line)
    example = doctest.DocTestParser().get_doctest(text, {}, PAGE.name, str(PAGE), 0)
    runner = doctest.DocTestRunner()
    runner.run(example)
    assert runner.summarize().attempted > 10
    assert runner.summarize().failed == 0
