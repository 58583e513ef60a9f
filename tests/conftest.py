"""What all tests share: reproducible examples, and modes and streams that no test leaks."""

from __future__ import annotations

import hypothesis
import numpy as np
import pytest

import backstory
from backstory.graph import context

hypothesis.settings.register_profile("deterministic", derandomize=True, deadline=None, max_examples=40)
hypothesis.settings.register_profile("search", deadline=None, max_examples=800, print_blob=True)
hypothesis.settings.load_profile("deterministic")


@pytest.fixture(autouse=True)
def _same_start():
    """Every test draws from seed 0 and leaves the thread's modes as it found them."""
    backstory.manual_seed(0)
    yield
    ctx = context()
    assert len(ctx.levels) == 1
    assert ctx.levels[0].grad_enabled
    assert ctx.ambient == 0
    assert ctx.observer is None
    assert ctx.relu_at_zero == 0.0
    assert backstory.get_default_dtype() == backstory.float32


@pytest.fixture
def rng() -> np.random.Generator:
    """A NumPy stream of its own for each test."""
    return np.random.default_rng(12345)
