"""Sites and their units: one for each call, one unit a feature or channel, whatever stands in front."""

from __future__ import annotations

import pytest
import torch
from adapters.torch.slow import (
    F64,
    Gated,
    gates_of,
    images,
    inputs,
    sgd,
    site_names,
    slow_derivative,
    slow_open,
    states_of,
    step_once,
)
from torch import nn

from backstory.insight import watch

FRONTS = {
    "conv1d": (lambda: nn.Conv1d(2, 3, 3), (9, 2, 8), -2),
    "conv2d": (lambda: nn.Conv2d(2, 3, 3), (9, 2, 6, 6), -3),
    "conv3d": (lambda: nn.Conv3d(1, 3, 2), (9, 1, 3, 3, 3), -4),
    "transposed convolution": (lambda: nn.ConvTranspose2d(2, 3, 2), (9, 2, 3, 3), -3),
    "linear on positions": (lambda: nn.Linear(4, 3), (9, 5, 4), -1),
    "linear on four axes": (lambda: nn.Linear(4, 3), (9, 2, 5, 4), -1),
    "convolution, then pooling": (
        lambda: nn.Sequential(nn.Conv1d(2, 3, 3), nn.MaxPool1d(2)), (9, 2, 8), -2),
    "convolution, then flatten": (lambda: nn.Sequential(nn.Conv2d(1, 2, 2), nn.Flatten()), (9, 1, 3, 3), -1),
    "convolution, then batch norm": (
        lambda: nn.Sequential(nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3)), (9, 1, 3, 3), -3),
    "convolution, then group norm": (
        lambda: nn.Sequential(nn.Conv1d(1, 4, 2), nn.GroupNorm(2, 4)), (9, 1, 5), -2),
    "convolution, then layer norm": (
        lambda: nn.Sequential(nn.Conv2d(1, 3, 2), nn.LayerNorm([3, 2, 4])), (9, 1, 3, 5), -3),
    "convolution, then instance norm": (
        lambda: nn.Sequential(nn.Conv1d(1, 4, 2), nn.InstanceNorm1d(4)), (9, 1, 5), -2),
    "linear, then batch norm": (lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), (9, 4), -1),
    "linear on positions, then layer norm": (
        lambda: nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3)), (9, 5, 4), -1),
    "channels moved last": (lambda: nn.Sequential(nn.Conv2d(1, 3, 2), Moved()), (9, 1, 3, 5), -1),
    "channels put together": (lambda: Together(), (9, 1, 6), -2),
    "channels cut out": (lambda: nn.Sequential(nn.Conv1d(1, 4, 2), Cut()), (9, 1, 6), -2),
    "embeddings": (lambda: nn.Embedding(5, 3), "indices", -1),
    "attention scores": (lambda: Scores(), (9, 4, 5), -1),
}  # fmt: skip


class Moved(nn.Module):
    def forward(self, x):
        return x.permute(0, 2, 3, 1) * 2.0


class Together(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv1d(1, 2, 3), nn.Conv1d(1, 3, 3)

    def forward(self, x):
        return torch.cat([self.a(x), self.b(x)], dim=1) + 0.1


class Cut(nn.Module):
    def forward(self, x):
        return x.chunk(2, dim=1)[0][:, :, 1:] * 1.0


class Scores(nn.Module):
    def __init__(self):
        super().__init__()
        self.q = nn.Linear(5, 6)

    def forward(self, x):
        q = self.q(x).reshape(len(x), 4, 2, 3).transpose(1, 2)
        return q @ q.transpose(2, 3)


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("inplace", [False, True])
def test_a_unit_is_one_feature_or_channel_whatever_stands_in_front(front, inplace, tmp_path):
    make, shape, axis = FRONTS[front]
    torch.manual_seed(1)
    x = torch.randint(0, 5, (9, 4)) if shape == "indices" else images(*shape)
    body = make().double()
    gate = nn.ReLU(inplace=inplace)
    model = Gated(body, gate, flat=body.train()(x).flatten(1).shape[1])
    optimizer = sgd(model)
    with watch(model, optimizer, tmp_path / "run", data=x) as run:
        model.kept.clear()
        step_once(model, optimizer, x)
        z = model.kept[0]
        step, entries, opened = gates_of(run, "gate/relu#0")[0]
        assert (step, entries) == (1, z.numel() // z.shape[axis])
        assert opened == slow_open((z > 0).double(), axis)
        model.kept.clear()
        run.scan()
        z = torch.cat(model.kept)
        derivative = (z > 0).double()
        expected = [{(True, False): 2, (False, True): 1}.get((not u.any(), bool(u.all())), 0)
                    for u in derivative.unbind(axis)]  # fmt: skip
        assert states_of(run, "gate/relu#0")[-1] == (1, expected)


class Residual(nn.Module):
    """A block of which the sum is made in place or not."""

    def __init__(self, inplace):
        super().__init__()
        self.conv = nn.Conv1d(3, 3, 3, padding=1, dtype=F64)
        self.norm = nn.BatchNorm1d(3, dtype=F64)
        self.relu, self.inplace, self.kept = nn.ReLU(inplace=inplace), inplace, []

    def forward(self, x):
        y = self.norm(self.conv(x))
        if self.inplace:
            y += x
        else:
            y = x + y
        self.kept.append(y.detach().clone())
        return self.relu(y).mean((1, 2))


@pytest.mark.parametrize("inplace", [False, True])
def test_a_residual_sum_keeps_the_channels(inplace, tmp_path):
    model, x = Residual(inplace), images(7, 3, 5)
    optimizer = sgd(model)
    with watch(model, optimizer, tmp_path / "run", data=x) as run:
        model.kept.clear()
        step_once(model, optimizer, x)
        assert gates_of(run, "relu/relu#0") == [(1, 35, slow_open(model.kept[0] > 0, 1))]


def test_an_encoder_of_a_transformer_is_seen_in_training_and_in_scans(tmp_path):
    """In evaluation PyTorch would take a fast path in which no activation is called."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, dtype=F64)
    model = nn.Sequential(
        nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(8, 1).double()
    )
    optimizer, x, kept = sgd(model), images(6, 5, 8), []
    block = model[0].layers[1]
    block.linear1.register_forward_hook(lambda m, a, out: kept.append(out.detach().clone()))
    with watch(model, optimizer, tmp_path / "run", data=x) as run:
        del kept[:]
        step_once(model, optimizer, x)
        assert site_names(run) == ["0.layers.0/relu#0", "0.layers.1/relu#0"]
        assert gates_of(run, "0.layers.1/relu#0") == [(1, 30, slow_open(kept[0] > 0))]
        assert len(states_of(run, "0.layers.1/relu#0")[0][1]) == 16


def test_a_module_that_is_used_again_is_a_site_for_each_call(tmp_path):
    model = Gated(nn.Linear(5, 6, dtype=F64), nn.Hardshrink(0.1), times=3)
    optimizer = sgd(model)
    with watch(model, optimizer, tmp_path / "run", data=inputs()) as run:
        model.kept.clear()
        step_once(model, optimizer, inputs())
        assert site_names(run) == [f"gate/hardshrink#{i}" for i in range(3)]
        for i in range(3):
            expected = slow_open(slow_derivative(nn.Hardshrink(0.1), model.kept[i]))
            assert gates_of(run, f"gate/hardshrink#{i}") == [(1, 40, expected)]
