"""Normalisation and dropout against PyTorch, in training and evaluation, and unseen by scans."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import close

import backstory
from backstory import nn
from backstory.errors import ArgumentError, ShapeError
from backstory.insight.scan import scan

CASES = {
    "BatchNorm1d": [
        ((3,), (5, 3)),
        ((3,), (5, 3, 4)),
        ((3, 1e-3, None), (5, 3)),
        ((3, 1e-5, 0.1, False), (5, 3)),
    ],
    "BatchNorm2d": [((3,), (4, 3, 2, 5)), ((3, 1e-5, 0.3, True, False), (4, 3, 2, 5))],
    "LayerNorm": [((4,), (5, 4)), (((3, 4),), (2, 3, 4)), ((4, 1e-5, False), (5, 4))],
    "GroupNorm": [((2, 4), (5, 4)), ((2, 4), (3, 4, 2, 3)), ((4, 4, 1e-5, False), (3, 4, 5))],
    "InstanceNorm1d": [((3,), (4, 3, 5)), ((3, 1e-5, 0.2, True, True), (4, 3, 5))],
    "InstanceNorm2d": [((3,), (4, 3, 2, 3)), ((3, 1e-5, 0.2, True, True), (4, 3, 2, 3))],
    "RMSNorm": [((4,), (5, 4)), (((3, 4), 1e-3), (2, 3, 4))],
}
EACH = [(name, arguments, shape) for name, many in CASES.items() for arguments, shape in many]


@pytest.mark.parametrize(("name", "arguments", "shape"), EACH, ids=str)
def test_three_steps_and_evaluation_equal_pytorch(name, arguments, shape, rng):
    mine, theirs = getattr(nn, name)(*arguments).double(), getattr(torch.nn, name)(*arguments).double()
    assert list(mine.state_dict()) == list(theirs.state_dict())
    assert repr(mine) == repr(theirs)
    for p, q in zip(mine.parameters(), theirs.parameters(), strict=True):
        value = rng.normal(size=p.shape)
        p.detach().copy_(value)
        q.data.copy_(torch.tensor(value))
    for training in (True, True, True, False):
        mine.train(training), theirs.train(training)
        data = 2 + rng.normal(size=shape)
        x, y = backstory.tensor(data, requires_grad=True), torch.tensor(data, requires_grad=True)
        out, expected = mine(x), theirs(y)
        close(out.detach().numpy(), expected.detach().numpy(), rtol=1e-10, atol=1e-12)
        upstream = rng.normal(size=shape)
        out.backward(upstream)
        expected.backward(torch.tensor(upstream))
        close(x.grad.numpy(), y.grad.numpy(), rtol=1e-9, atol=1e-11)
        for p, q in zip(mine.parameters(), theirs.parameters(), strict=True):
            close(p.grad.numpy(), q.grad.numpy(), rtol=1e-9, atol=1e-11)
        for p, q in zip(mine.buffers(), theirs.buffers(), strict=True):
            close(p.numpy(), q.numpy())


def test_scans_leave_running_statistics_and_random_streams_alone():
    net = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout())
    net(backstory.randn(8, 2))
    before = {name: x.numpy().copy() for name, x in net.state_dict().items()}
    state = backstory.arrays.default_generator().get_state()
    sites = scan(net, backstory.randn(20, 2).detach())
    assert list(sites) == ["2/relu#0"]
    for name, x in net.state_dict().items():
        np.testing.assert_array_equal(x.numpy(), before[name])
    assert net[1].num_batches_tracked.item() == 1
    backstory.arrays.default_generator().set_state(state)


def test_running_statistics_stay_outside_of_transforms():
    layer = nn.BatchNorm1d(3)
    x = backstory.randn(5, 3)
    backstory.func.grad(lambda x: (layer(x) ** 3).sum())(x)
    assert layer.running_mean.level == 0
    close(layer.running_mean.numpy(), (0.1 * x.numpy().mean(0)).astype("float32"), rtol=1e-5)


@pytest.mark.parametrize("name", ["Dropout", "Dropout1d", "Dropout2d", "AlphaDropout"])
@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_dropout_keeps_a_share_and_the_mean(name, p):
    module = getattr(nn, name)(p)
    assert repr(module) == repr(getattr(torch.nn, name)(p))
    x = backstory.ones(100, 100, 4, 4)[:, :, 0] if name == "Dropout1d" else backstory.ones(100, 100, 4, 4)
    x = x.clone().requires_grad_()
    out = module(x)
    values = out.detach().numpy()
    if p == 0.0:
        np.testing.assert_array_equal(values, 1.0)
        return
    lowest = values.min()
    dropped = values == lowest if p < 1 else values == values
    assert dropped.mean() == pytest.approx(p, abs=0.01)
    if name in ("Dropout1d", "Dropout2d"):
        flat = dropped.reshape(100, 100, -1)
        np.testing.assert_array_equal(flat.all(-1), flat.any(-1))
    out.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy()[dropped], 0.0)
    if name != "AlphaDropout" and p < 1:
        np.testing.assert_allclose(values[~dropped], 1 / (1 - p), rtol=1e-6)
    assert module.eval()(x) is x


def test_alpha_dropout_keeps_mean_and_variance_behind_selu():
    x = nn.SELU()(backstory.randn(400_000))
    out = nn.AlphaDropout(0.2)(x).numpy()
    assert out.mean() == pytest.approx(0.0, abs=0.01)
    assert out.std() == pytest.approx(1.0, abs=0.01)


def test_refusals_say_what_to_write_instead():
    with pytest.raises(ShapeError, match=r"model\.eval"):
        nn.BatchNorm1d(3)(backstory.ones(1, 3))
    with pytest.raises(ShapeError, match=r"x of shape \(N, C, H, W\)"):
        nn.BatchNorm2d(3)(backstory.ones(2, 3))
    with pytest.raises(ShapeError, match="divides the number of channels"):
        nn.GroupNorm(3, 4)
    with pytest.raises(ShapeError, match=r"x of shape \(…, 4\)"):
        nn.LayerNorm(4)(backstory.ones(2, 3))
    with pytest.raises(ArgumentError, match="from 0 to 1"):
        nn.Dropout(1.5)
    with pytest.raises(ShapeError, match="dropout for single entries"):
        nn.Dropout2d()(backstory.ones(2, 3))
    with pytest.raises(ArgumentError, match="inside vmap"):
        backstory.vmap(nn.BatchNorm1d(3))(backstory.randn(2, 5, 3))
