"""suggest_activation: every entry names what exists, and what it says agrees with the records."""

from __future__ import annotations

import pytest

import backstory
from backstory import nn
from backstory.errors import ArgumentError
from backstory.insight.advice.guide import POSITIONS, TASKS

ENTRIES = [
    (task, position)
    for task in TASKS
    for position in POSITIONS
    if position != "output" or task not in ("recurrent", "transformer", "self-normalising")
]


@pytest.mark.parametrize(("task", "position"), ENTRIES)
def test_every_suggestion_names_what_can_be_built(task, position):
    suggestion = backstory.suggest_activation(task, position)
    for name in (suggestion.activation, *(one.activation for one in suggestion.otherwise)):
        assert name == "none" or isinstance(getattr(nn, name)(), nn.Module)
    if suggestion.loss:
        assert issubclass(getattr(nn, suggestion.loss), nn.Module)
    if suggestion.init:
        weight = backstory.zeros(64, 64)
        eval(f"init.{suggestion.init}", {"init": nn.init, "weight": weight})
        assert weight.std().item() > 0
    assert all(part in str(suggestion) for part in (suggestion.activation, suggestion.why))


def test_the_usual_answers():
    def answer(task, position):
        return backstory.suggest_activation(task, position).activation

    assert answer("classification", "hidden") == answer("regression", "hidden") == "ReLU"
    assert answer("recurrent", "gate") == "Sigmoid"
    assert answer("recurrent", "hidden") == "Tanh"
    assert answer("transformer", "hidden") == "GELU"
    assert answer("classification", "output") == "none"


@pytest.mark.parametrize(
    "words", [("ranking", "hidden"), ("regression", "middle"), ("transformer", "output")]
)
def test_other_words_are_refused_with_those_that_exist(words):
    with pytest.raises(ArgumentError, match="one of"):
        backstory.suggest_activation(*words)
