"""What is drawn depends on the test alone, so that a run tells of the code and not of luck."""

from __future__ import annotations

import importlib.util
import sys

import pytest
from drawn import FLOATS, SEEDS, WHOLE, drawn
from hypothesis import given, settings
from hypothesis import strategies as st

from backstory.ops import TABLE


@st.composite
def arguments(draw):
    op = draw(st.sampled_from(list(TABLE.values())))
    return draw(drawn(op, (*FLOATS, *WHOLE), special=True))


@pytest.mark.parametrize("strategy", [SEEDS, arguments()], ids=["seeds", "arguments of records"])
def test_draws_are_the_same_whatever_other_modules_are_loaded(strategy, tmp_path, monkeypatch):
    @settings(derandomize=True, max_examples=100)
    @given(drawn=strategy)
    def draw(seen, drawn):
        seen.append(repr(drawn))

    before, after = [], []
    draw(before)
    path = tmp_path / "unheard_of.py"
    path.write_text("\n".join(f"x{n} = ({n * 1003}, {n * 1.37}, 'word{n}')" for n in range(300)))
    spec = importlib.util.spec_from_file_location("unheard_of", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "unheard_of", module)
    spec.loader.exec_module(module)
    draw(after)
    assert after == before
