"""Layers in a compiled training step: the losses of the eager one."""

from __future__ import annotations

import pytest

import backstory
from backstory import nn, optim

NETWORKS = {
    "GRU": (lambda: nn.GRU(3, 4), (5, 2, 3), (5, 2, 4)),
    "LSTM": (lambda: nn.LSTM(3, 4, num_layers=2, bidirectional=True), (5, 2, 3), (5, 2, 8)),
    "GELU": (lambda: nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2)), (6, 3), (6, 2)),
    "convolution and pooling": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1, ceil_mode=True),
            nn.AdaptiveAvgPool2d((3, 2)),
            nn.Flatten(),
            nn.Linear(18, 2),
        ),
        (4, 2, 7, 6),
        (4, 2),
    ),
    "weight norm": (
        lambda: nn.Sequential(nn.utils.weight_norm(nn.Linear(3, 4)), nn.ReLU(), nn.Linear(4, 2)),
        (6, 3),
        (6, 2),
    ),
}


def step_of(model, optimizer):
    def step(x, y):
        optimizer.zero_grad()
        out = model(x)
        loss = nn.functional.mse_loss(out[0] if isinstance(out, tuple) else out, y)
        loss.backward()
        optimizer.step()
        return loss

    return step


@pytest.mark.parametrize("name", NETWORKS)
def test_a_compiled_step_has_the_losses_of_the_eager_one(name):
    build, inputs, outputs = NETWORKS[name]
    eager, compiled = build().double(), build().double()
    compiled.load_state_dict(eager.state_dict())
    steps = [
        step_of(model, optim.SGD(model.parameters(), lr=0.05, momentum=0.9)) for model in (eager, compiled)
    ]
    fast = backstory.compile(steps[1])
    x, y = backstory.randn(*inputs).double(), backstory.randn(*outputs).double()
    for _ in range(4):
        assert fast(x, y).item() == pytest.approx(steps[0](x, y).item(), rel=1e-12)
