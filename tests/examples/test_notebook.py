"""The notebook runs from top to bottom in a fresh kernel, and shows what is stored in it."""

from __future__ import annotations

import copy
import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "examples" / "relu.ipynb"
TIMED = "timed"  # the tag of cells that show times, which differ from run to run


@pytest.fixture(scope="module")
def stored():
    return nbformat.read(NOTEBOOK, 4)


@pytest.mark.filterwarnings("ignore")  # those of the kernel's own libraries; a cell's are part of its output
def test_it_runs_and_shows_what_is_stored(stored, tmp_path, monkeypatch):
    # A kernel talks to this process by files where it can, and keeps nothing of the user's settings.
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    fresh = copy.deepcopy(stored)
    for cell in fresh.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    client = NotebookClient(fresh, timeout=300, kernel_name="python3", env=os.environ.copy())
    client.execute(cwd=str(tmp_path))
    before, now = code(stored), code(fresh)
    assert len(before) == len(now) > 15
    for old, new in zip(before, now, strict=True):
        if TIMED not in old.metadata.get("tags", []):
            assert shown(new) == shown(old), old.source


def test_it_is_stored_executed_and_without_errors(stored):
    cells = code(stored)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    kinds = {output.output_type for cell in cells for output in cell.outputs}
    assert kinds <= {"execute_result", "display_data", "stream"}


@pytest.mark.parametrize("part", "ABCDEF")
def test_it_goes_through_every_part(stored, part):
    assert any(cell.source.startswith(f"## {part}. ") for cell in stored.cells)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(cell):
    """What a cell prints and then the texts it shows; of a picture that it is there, whatever its address."""
    assert all(output.get("name", "stdout") == "stdout" for output in cell.outputs), cell.outputs
    printed = "".join(output.text for output in cell.outputs if output.output_type == "stream")
    found: list[object] = [printed]
    for output in cell.outputs:
        if output.output_type != "stream":
            text = re.sub(r"0x[0-9a-f]+|[\d,]+ letters", "…", output.data["text/plain"])
            found.append((text, sorted(output.data)))
    return found
