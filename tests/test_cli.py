"""The command line: its words, and errors without a traceback."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest

import backstory
from backstory import nn, optim
from backstory.cli import main


def run(monkeypatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["backstory", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code or 0


@pytest.fixture
def folder(tmp_path):
    backstory.manual_seed(0)
    x = backstory.randn(16, 3)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    with backstory.watch(model, optimizer, tmp_path / "run", data=x):
        for _ in range(3):
            optimizer.zero_grad()
            model(x).sum().backward()
            optimizer.step()
    return tmp_path / "run"


def test_story_prints_the_runs_story(monkeypatch, capsys, folder):
    assert run(monkeypatch, "story", str(folder)) == 0
    assert capsys.readouterr().out.strip() == backstory.open_run(folder).story()


def test_report_writes_a_page_into_the_run(monkeypatch, capsys, folder):
    assert run(monkeypatch, "report", str(folder)) == 0
    assert (folder / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_audit_of_a_bare_run_says_why_it_cannot_be_rerun(monkeypatch, capsys, folder):
    assert run(monkeypatch, "audit", str(folder)) == 1
    said = capsys.readouterr().err
    assert "bare watch()" in said
    assert "experiment(train, config, path)" in said
    assert "Traceback" not in said


def test_a_folder_without_a_run_is_an_error_in_three_lines(monkeypatch, capsys, tmp_path):
    assert run(monkeypatch, "story", str(tmp_path)) == 1
    _, *rest = capsys.readouterr().err.splitlines()
    assert [line.strip().split(":")[0] for line in rest] == ["why", "instead"]


def test_train_trains_the_two_layer_classifier_on_digits(monkeypatch, capsys, tmp_path):
    words = (
        "--epochs",
        "3",
        "--lr",
        "0.01",
        "--out",
        str(tmp_path / "model"),
        "--watch",
        str(tmp_path / "run"),
    )
    assert run(monkeypatch, "train", "digits", *words) == 0
    out = capsys.readouterr().out
    assert float(re.findall(r"epoch 3, .* accuracy (\S+)", out)[0]) > 0.9
    state = backstory.load(tmp_path / "model")
    assert [state[name].shape for name in ("2.weight", "4.weight")] == [(100, 64), (10, 100)]
    assert backstory.open_run(tmp_path / "run").life_table().units == 100


def test_train_goes_on_from_its_checkpoint_to_the_same_parameters(monkeypatch, tmp_path):
    table = tmp_path / "table.csv"
    rows = [f"{i % 7},{i % 3},{'high' if i % 7 > 3 else 'low'}" for i in range(60)]
    table.write_text("\n".join(["a,b,kind", *rows]))
    for name, counts in (("once", [4]), ("twice", [2, 4])):
        for epochs in counts:
            words = ["--hidden", "5,4", "--epochs", str(epochs), "--out", str(tmp_path / name)]
            words += ["--checkpoint", str(tmp_path / f"{name}-state"), "--target", "kind"]
            assert run(monkeypatch, "train", str(table), *words) == 0
    assert (tmp_path / "once").read_bytes() == (tmp_path / "twice").read_bytes()


def test_train_on_a_target_of_floats_is_a_regression(monkeypatch, capsys, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("\n".join(f"{i / 10},{i / 5}" for i in range(50)))
    assert run(monkeypatch, "train", str(table), "--hidden", "4", "--epochs", "2", "--optimizer", "SGD") == 0
    out = capsys.readouterr().out
    assert "epoch 2, loss" in out
    assert "accuracy" not in out


@pytest.mark.parametrize(
    "words",
    [
        ["nowhere"],
        ["digits", "--optimizer", "Adamant"],
        ["digits", "--hidden", "ten"],
        ["digits", "--optimizer", "lr_scheduler"],
    ],
)
def test_train_refuses_what_it_does_not_know(monkeypatch, capsys, words):
    assert run(monkeypatch, "train", *words) == 1
    assert "why:" in capsys.readouterr().err


def test_train_reads_a_folder_of_cifars_files(monkeypatch, capsys, tmp_path, rng):
    for name, count in (("data_batch_1.bin", 30), ("test_batch.bin", 10)):
        records = rng.integers(0, 256, (count, 3073), np.uint8)
        records[:, 0] %= 10
        (tmp_path / name).write_bytes(records.tobytes())
    assert run(monkeypatch, "train", str(tmp_path), "--hidden", "8", "--epochs", "1", "--no-verify") == 0
    assert "epoch 1, loss" in capsys.readouterr().out
    assert run(monkeypatch, "train", str(tmp_path), "--epochs", "1") == 1
    assert "has 10000" in capsys.readouterr().err


MADE = """
import backstory
from backstory import nn, optim

def healthy(last=()):
    backstory.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3), *last)
    for layer in (model[0], model[2]):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
    sample = backstory.randn(32, 8), backstory.randint(0, 3, (32,))
    return model, sample, optim.Adam(model.parameters())

def faulty():
    return healthy([nn.Softmax(-1)])[:2]

def nothing():
    return 3
"""


@pytest.mark.parametrize(
    ("function", "code", "said"),
    [
        ("healthy", 0, "nothing to find fault with"),
        ("faulty", 1, "✖ error  softmax-before-cross-entropy"),
        ("nothing", 1, "which returned int"),
        ("missing", 1, "has no attribute 'missing'"),
    ],
)
def test_lint_takes_a_function_that_makes_the_parts(monkeypatch, capsys, tmp_path, function, code, said):
    (tmp_path / "my_parts.py").write_text(MADE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_parts", raising=False)
    assert run(monkeypatch, "lint", f"my_parts:{function}") == code
    shown = capsys.readouterr()
    assert said in shown.out + shown.err


def test_lint_of_a_module_that_is_not_there_says_so(monkeypatch, capsys):
    assert run(monkeypatch, "lint", "no_such_parts:make") == 1
    assert "No module named 'no_such_parts'" in capsys.readouterr().err


def test_cache_shows_and_clears_what_was_compiled(monkeypatch, capsys, tmp_path):
    from backstory.compiler.cache import object_of

    monkeypatch.setenv("BACKSTORY_CACHE", str(tmp_path))
    object_of("name", "source", lambda: b"code")
    for words, objects in (([], 1), (["--clear"], 1), ([], 0)):
        assert run(monkeypatch, "cache", *words) == 0
        assert f"{objects} compiled kernels" in capsys.readouterr().out
