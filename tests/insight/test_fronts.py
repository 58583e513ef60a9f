"""Certificates of convolutions, normalisations and sums: those of PyTorch's engine on the same training.

The adapter's certificates are judged against PyTorch's layers and formulas in ``tests/adapters/torch``.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

import backstory
from backstory import nn, optim
from backstory.insight import open_run, watch

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")


def net_of(lib: Any, front: Any, size: int) -> Any:
    """One gate with something in front, and an output."""

    class Net(lib.Module):
        def __init__(self) -> None:
            super().__init__()
            self.front, self.out = front, lib.Linear(size, 1)

        def forward(self, x: Any) -> Any:
            return self.out(lib.functional.relu(self.front(x)).flatten(1))

    return Net()


def skip(lib: Any, kind: str) -> Any:
    """A residual sum in front of the gate, in one of its spellings."""

    class Skip(lib.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.below = lib.Linear(4, 4, bias=kind != "after norm"), lib.Linear(4, 4)
            if kind == "after norm":
                self.norm = lib.BatchNorm1d(4)

        def forward(self, x: Any) -> Any:
            x = self.below(x).tanh()
            y = self.layer(x)
            if kind == "after norm":
                return self.norm(y) + x
            return x + y if kind == "reversed" else y + x

    return Skip()


# A bias in front of a batch norm has a gradient of rounding noise alone, of which Adam makes steps.
FRONTS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "positions": (lambda nn: nn.Linear(3, 6), (20, 4, 3)),
    "linear without bias": (lambda nn: nn.Linear(3, 6, bias=False), (20, 3)),
    "conv1d": (lambda nn: nn.Conv1d(2, 4, 3), (20, 2, 7)),
    "conv1d padded": (lambda nn: nn.Conv1d(2, 4, 3, stride=2, padding=2, dilation=2), (20, 2, 7)),
    "conv2d": (lambda nn: nn.Conv2d(2, 4, 3, stride=(1, 2), padding=(2, 1), bias=False), (20, 2, 5, 6)),
    "conv2d same": (lambda nn: nn.Conv2d(2, 4, (2, 3), padding="same", dilation=(1, 2)), (20, 2, 5, 6)),
    "conv2d in groups": (lambda nn: nn.Conv2d(4, 6, 2, groups=2, dilation=2), (20, 4, 5, 6)),
    "depthwise": (lambda nn: nn.Conv2d(3, 6, 2, groups=3), (20, 3, 4, 4)),
    "batch norm": (lambda nn: nn.Sequential(nn.Linear(3, 6, bias=False), nn.BatchNorm1d(6)), (20, 3)),
    "batch norm without weights": (
        lambda nn: nn.Sequential(nn.Linear(3, 6, bias=False), nn.BatchNorm1d(6, affine=False)),
        (20, 3),
    ),
    "conv2d, batch norm": (
        lambda nn: nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4)),
        (20, 2, 5, 5),
    ),
    "conv1d, batch norm": (
        lambda nn: nn.Sequential(nn.Conv1d(2, 4, 3, bias=False), nn.BatchNorm1d(4)),
        (20, 2, 7),
    ),
    "layer norm": (lambda nn: nn.Sequential(nn.Linear(3, 6), nn.LayerNorm(6)), (20, 4, 3)),
    "conv1d, layer norm": (lambda nn: nn.Sequential(nn.Conv1d(2, 4, 3), nn.LayerNorm([4, 5])), (20, 2, 7)),
    "dropout": (lambda nn: nn.Sequential(nn.Linear(3, 6), nn.Dropout(0.0)), (20, 3)),
    "skip": (lambda nn: skip(nn, "plain"), (20, 4)),
    "skip reversed": (lambda nn: skip(nn, "reversed"), (20, 4)),
    "skip after norm": (lambda nn: skip(nn, "after norm"), (20, 4)),
}
OPTIMIZERS = {"Adam": {"lr": 0.2}, "SGD": {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1}}


def trained(front: str, rule: str, path: Any, watching: dict[str, Any] | None = None) -> list[list[Any]]:
    """The certificates of both engines: the same weights at the start, the same data, the same steps."""
    make, shape = FRONTS[front]
    x = np.random.default_rng(2).uniform(0, 2, shape)
    torch.manual_seed(0)
    body = make(torch.nn)
    size = body(torch.tensor(x).float()).flatten(1).shape[1]
    theirs = net_of(torch.nn, body, size).double()
    mine = net_of(nn, make(nn), size).double()
    state = {key: value.numpy().copy() for key, value in theirs.state_dict().items()}
    mine.load_state_dict(state)
    found = []
    for name, model, given, lib in (
        ("mine", mine, backstory.tensor(x), optim),
        ("theirs", theirs, torch.tensor(x), torch.optim),
    ):
        optimizer = getattr(lib, rule)(model.parameters(), **OPTIMIZERS[rule])
        run = watch(model, optimizer, path / name, data=given, scan_at=lambda step: True, **(watching or {}))
        for step in range(14):
            optimizer.zero_grad()
            (model(given) + 3.0 * (-1) ** (step // 3)).square().mean().backward()
            optimizer.step()
        run.close()
        found.append(open_run(path / name).certificates())
    return found


def compare(mine: Any, theirs: Any) -> None:
    """One death in both engines."""
    keys = ("site", "unit", "step", "since", "sample")
    assert [getattr(mine, key) for key in keys] == [getattr(theirs, key) for key in keys]
    assert (mine.note, mine.at_zero) == (theirs.note, theirs.at_zero)
    size = sum(map(abs, mine.parts)) + abs(mine.before) + abs(mine.after)
    assert abs(sum(mine.parts) - (mine.after - mine.before)) < 1e-13 * max(size, 1.0)
    close = lambda x: pytest.approx(x, rel=1e-7, abs=1e-10)
    assert (mine.before, mine.after, mine.inputs) == close((theirs.before, theirs.after, theirs.inputs))
    for key in ("weights", "bias", "others"):
        assert getattr(mine, key) == close(getattr(theirs, key)), key


@pytest.mark.parametrize("rule", OPTIMIZERS)
@pytest.mark.parametrize("front", FRONTS)
def test_certificates_are_those_of_the_same_training_in_pytorch(front, rule, tmp_path):
    mine, theirs = trained(front, rule, tmp_path)
    assert len(mine) == len(theirs)
    for one, other in zip(mine, theirs, strict=True):
        compare(one, other)
    assert mine or rule == "SGD", "a training in which nothing dies tests nothing"


OTHERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "batch norm without statistics": (
        lambda: nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6, track_running_stats=False)),
        (20, 3),
    ),
    "group norm": (lambda: nn.Sequential(nn.Linear(3, 6), nn.GroupNorm(2, 6)), (20, 3)),
    "rms norm": (lambda: nn.Sequential(nn.Conv1d(2, 4, 3), nn.RMSNorm(5)), (20, 2, 7)),
    "instance norm": (
        lambda: nn.Sequential(nn.Conv1d(2, 4, 3), nn.InstanceNorm1d(4, affine=True)),
        (20, 2, 7),
    ),
    "weight norm": (lambda: nn.utils.weight_norm(nn.Conv1d(2, 4, 3)), (20, 2, 7)),
}


@pytest.mark.parametrize("front", OTHERS)
def test_other_fronts_have_parts_that_add_up_to_what_the_model_gives(front, tmp_path):
    make, shape = OTHERS[front]
    x = backstory.tensor(np.random.default_rng(2).uniform(0, 2, shape))
    backstory.manual_seed(0)
    body = make().double()
    with backstory.no_grad():
        size = body(x).flatten(1).shape[1]
    model = net_of(nn, body, size).double()
    optimizer = optim.Adam(model.parameters(), lr=0.7)
    after = [copy.deepcopy(model)]
    run = watch(model, optimizer, tmp_path / "run", data=x, scan_at=lambda step: True)
    for step in range(40):
        optimizer.zero_grad()
        (model(x) + 3.0 * (-1) ** (step // 3)).square().mean().backward()
        optimizer.step()
        after.append(copy.deepcopy(model))
    run.close()
    found = open_run(tmp_path / "run").certificates()
    assert found
    for c in found:
        with backstory.no_grad():
            z = [after[n].eval().front(x).numpy()[c.sample, c.unit] for n in (c.since, c.step)]
        place = int(z[0].argmax())
        assert (c.before, c.after) == pytest.approx(tuple(one.reshape(-1)[place] for one in z), rel=1e-12)
        assert c.change == pytest.approx(c.after - c.before, rel=1e-9, abs=1e-12)
        assert ("computed from parameters" in c.note) == (front == "weight norm")
        assert ("normalisation" in c.others) == (front != "weight norm")


def test_a_front_behind_a_pooling_gives_a_note_and_only_the_total(tmp_path):
    x = backstory.tensor(np.random.default_rng(2).uniform(0, 2, (20, 2, 8)))
    backstory.manual_seed(0)
    model = net_of(nn, nn.Sequential(nn.Conv1d(2, 4, 3), nn.MaxPool1d(2)), 12).double()
    optimizer = optim.Adam(model.parameters(), lr=0.7)
    with watch(model, optimizer, tmp_path / "run", data=x, scan_at=lambda step: True) as run:
        for step in range(40):
            optimizer.zero_grad()
            (model(x) + 3.0 * (-1) ** (step // 3)).square().mean().backward()
            optimizer.step()
        found = run.certificates()
    assert found
    for c in found:
        assert "only the total is known" in c.note
        assert c.weights == c.bias == {}
        assert c.change == c.after - c.before
