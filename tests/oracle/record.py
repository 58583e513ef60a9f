"""Writes down what is covered: ``cd tests; python -m oracle.record``."""

from __future__ import annotations

import json
from pathlib import Path

import conftest  # noqa: F401  (registers the profile of Hypothesis that the database sets again)
from oracle.coverage import COVERED
from oracle.opinfo import errors, samples


def main() -> None:
    """Count the samples and the error inputs of every covered operation."""
    counts = {name: [len(samples(name)), len(errors(name))] for name in sorted(COVERED)}
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(count)}" for name, count in counts.items())
    Path(__file__).with_name("covered.json").write_text("{\n" + lines + "\n}\n")


if __name__ == "__main__":
    main()
