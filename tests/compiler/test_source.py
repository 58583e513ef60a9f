"""The code of a step as people read it, and the account of its units."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import backstory
from backstory import nn, optim
from backstory.compiler import program
from backstory.compiler.program import Native

from .building import Building, classifier_step

GOLDEN = Path(__file__).with_name("classifier_step.txt")
WHOLE = Path(__file__).with_name("training_step.txt")


def training_step():
    """A compiled step of a small regression, after two calls."""
    backstory.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    @backstory.compile
    def step(x, y):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    for _ in range(2):
        step(backstory.randn(5, 3), backstory.randn(5, 1))
    return step


def test_the_whole_code_of_a_step_reads_as_it_did(monkeypatch):
    monkeypatch.setattr(program, "threads", lambda: 1)
    # To accept a change: write training_step().source to the file, and read it.
    assert training_step().source == WHOLE.read_text(encoding="utf-8")


def test_the_code_of_a_small_step_reads_as_it_did(monkeypatch):
    monkeypatch.setattr(program, "threads", lambda: 1)
    # To accept a change: write Native(classifier_step([64, 128, 10], 64)).source to the file, and read it.
    assert Native(classifier_step([64, 128, 10], 64)).source == GOLDEN.read_text(encoding="utf-8")


def test_the_account_counts_work_and_memory():
    given = Native(classifier_step([64, 128, 10], 64)).explain()
    products = [part for part in given.parts if part.kind == "product"]
    # Two products in each direction and one for the gradient of the first layer's weight; its bias and ReLU.
    assert sum(part.flops for part in products) == 2 * 64 * 128 * (2 * 64 + 3 * 10) + 2 * 64 * 128
    assert given.host == ()
    # The activation is overwritten by its cotangent; that of the logits is all else that is needed at once.
    assert given.arena < 4 * (2 * 64 * 128 + 128 * 64 + 2 * 64 * 10 + 10 * 128 + 1024)
    assert given.peak > given.arena


def test_the_account_says_why_something_runs_on_the_host():
    b = Building()
    x = b.input((3, 4))
    b.output(b("argsort", b("exp", x), axis=1, descending=False))
    b.output(b("sum", b.input((0, 3), "f2"), axis=(1,)))
    b.output(b("sum", b.input((1, 3), "f2"), axis=(1,)))
    given = Native(b.graph).explain()
    assert [part.why for part in given.host] == [
        "no kernel sorts",
        "kernels know bool, int8 to int64, uint8, float32 and float64",
    ]
    assert "on the host" in str(given)


def test_memory_is_used_again():
    b = Building()
    x = b.input((100, 100))
    for _ in range(6):
        x = b("matmul", b("exp", x), b("exp", b("negative", x)))
    b.output(x)
    arena = Native(b.graph).explain().arena
    assert arena <= 4 * np.prod((4, 100, 100)) + 4096
