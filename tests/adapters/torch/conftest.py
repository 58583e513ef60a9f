"""What the tests of PyTorch's trainings share: numbers are fetched after so many steps, whatever the time."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _fetched_by_steps(monkeypatch):
    monkeypatch.setattr("backstory.adapters.torch.statistics.FETCH_SECONDS", 1e9)
