"""The activations as modules and functions, and the sites that they are. Oracle: PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import close

import backstory
from backstory import nn
from backstory.adapters.torch.activations import GATES, local_derivative
from backstory.adapters.torch.sites import SiteMode
from backstory.errors import ArgumentError, ShapeError
from backstory.insight.scan import scan
from backstory.insight.sites import site_name
from backstory.ops import TABLE

SETTINGS = {
    "ReLU": [()],
    "ReLU6": [()],
    "LeakyReLU": [(), (0.2,)],
    "PReLU": [(), (3, 0.1)],
    "RReLU": [(), (0.1, 0.3)],
    "ELU": [(), (0.5,)],
    "SELU": [()],
    "CELU": [(), (0.5,)],
    "GELU": [(), ("tanh",)],
    "SiLU": [()],
    "Mish": [()],
    "Softplus": [(), (2.0, 1.0)],
    "Softsign": [()],
    "Hardtanh": [(), (-0.5, 2.0)],
    "Hardsigmoid": [()],
    "Hardswish": [()],
    "Softshrink": [(), (0.1,)],
    "Hardshrink": [(), (0.1,)],
    "Sigmoid": [()],
    "LogSigmoid": [()],
    "Tanh": [()],
    "Softmax": [(1,)],
    "LogSoftmax": [(0,)],
    "Threshold": [(0.1, 2.0)],
    "GLU": [(0,)],
}
CASES = [(name, arguments) for name, many in SETTINGS.items() for arguments in many]
IN_PLACE = [name for name, _ in CASES if "inplace" in getattr(torch.nn, name).__init__.__code__.co_varnames]


@pytest.mark.parametrize(("name", "arguments"), CASES, ids=str)
def test_modules_equal_pytorch_in_value_gradient_and_print(name, arguments, rng):
    mine, theirs = getattr(nn, name)(*arguments).double(), getattr(torch.nn, name)(*arguments).double()
    assert repr(mine) == repr(theirs)
    mine.eval(), theirs.eval()
    data = 3 * rng.normal(size=(4, 3, 5))
    x, y = backstory.tensor(data, requires_grad=True), torch.tensor(data, requires_grad=True)
    out, expected = mine(x), theirs(y)
    close(out.detach().numpy(), expected.detach().numpy())
    upstream = rng.normal(size=out.shape)
    out.backward(upstream)
    expected.backward(torch.tensor(upstream))
    exact = name != "Hardsigmoid"  # PyTorch's slope is float32's sixth also in float64
    close(x.grad.numpy(), y.grad.numpy(), rtol=1e-12 if exact else 1e-7)
    for p, q in zip(mine.parameters(), theirs.parameters(), strict=True):
        close(p.grad.numpy(), q.grad.numpy())


@pytest.mark.parametrize("name", sorted(set(IN_PLACE)))
def test_in_place_modules_change_their_input_and_have_the_same_gradient(name):
    arguments = SETTINGS[name][-1]
    plain, changing = (getattr(nn, name)(*arguments, inplace=flag).eval() for flag in (False, True))
    assert repr(changing) == repr(getattr(torch.nn, name)(*arguments, inplace=True))
    data = np.linspace(-4.0, 4.0, 9)
    x, y = (backstory.tensor(data, requires_grad=True) for _ in range(2))
    kept, changed = x * 1.0, y * 1.0
    out, same = plain(kept), changing(changed)
    assert same is changed
    close(same.detach().numpy(), out.detach().numpy())
    out.sum().backward()
    same.sum().backward()
    close(y.grad.numpy(), x.grad.numpy())


@pytest.mark.parametrize("shape", [(), (4,), (4, 3), (2, 3, 4), (2, 3, 4, 4)], ids=str)
def test_prelu_has_its_weight_on_the_channel_axis_as_in_pytorch(shape, rng):
    for count in {1, shape[1] if len(shape) > 1 else 1}:
        data, weight = rng.normal(size=shape), rng.normal(size=count)
        x, w = (backstory.tensor(v, requires_grad=True) for v in (data, weight))
        y, v = (torch.tensor(v, requires_grad=True) for v in (data, weight))
        out, expected = nn.functional.prelu(x, w), torch.nn.functional.prelu(y, v)
        close(out.detach().numpy(), expected.detach().numpy())
        out.sum().backward()
        expected.sum().backward()
        close(x.grad.numpy(), y.grad.numpy())
        close(w.grad.numpy(), v.grad.numpy())


def test_a_random_slope_is_drawn_for_each_entry_in_training_alone():
    module = nn.RReLU(0.25, 0.75)
    x = -backstory.ones(10_000, requires_grad=True)
    x.retain_grad()
    out = module(x)
    out.sum().backward()
    slopes = -out.detach().numpy()
    np.testing.assert_array_equal(x.grad.numpy(), slopes)
    assert slopes.min() >= 0.25
    assert slopes.max() < 0.75
    assert slopes.mean() == pytest.approx(0.5, abs=0.01)
    assert slopes.std() == pytest.approx(0.5 / np.sqrt(12), rel=0.02)
    assert module.eval()(x).detach().numpy().tolist() == [-0.5] * 10_000
    backstory.manual_seed(1)
    first = module.train()(x).detach().numpy()
    backstory.manual_seed(1)
    np.testing.assert_array_equal(module(x).detach().numpy(), first)


def test_what_gates_is_the_same_in_both_engines():
    mine = {op.name for op in TABLE.values() if op.gates or op.gating}
    assert mine == {gate.name for gate in GATES.values()}


GATING = [case for case in CASES if case[0].lower().replace("leakyrelu", "leaky_relu") in TABLE]


@pytest.mark.parametrize(("name", "arguments"), GATING, ids=str)
def test_both_engines_find_the_same_sites_and_derivatives(name, arguments, rng):
    if name == "PReLU":
        arguments = ()
    data = 2 * rng.normal(size=(20, 3))
    mine = nn.Sequential(getattr(nn, name)(*arguments)).double()
    theirs = torch.nn.Sequential(getattr(torch.nn, name)(*arguments)).double()
    found = scan(mine, backstory.tensor(data))
    expected = {}

    class Finder(SiteMode):
        def gate(self, key, gate, func, args, kwargs):
            expected[site_name(key)] = local_derivative(func, args, kwargs).numpy()
            return func(*args, **kwargs)

    with Finder(theirs):
        theirs.eval()(torch.tensor(data))
    assert list(found) == list(expected)
    for key, site in found.items():
        np.testing.assert_allclose(site.low.astype(float), expected[key].min(0), rtol=1e-7)
        np.testing.assert_allclose(site.high.astype(float), expected[key].max(0), rtol=1e-7)


def test_a_clamp_from_zero_is_a_site_and_another_is_not():
    class Clamps(nn.Module):
        def forward(self, x):
            x.to(backstory.int64).clamp(min=0)  # whole numbers have no derivative
            return x.clamp(min=0).clamp(-1.0, 1.0).clamp(0.0, 2.0)

    assert list(scan(Clamps(), backstory.tensor([[1.0, -1.0]]))) == ["clamp#0", "clamp#1"]


def test_errors_say_what_to_write_instead():
    with pytest.raises(ShapeError, match="3 channels"):
        nn.functional.prelu(backstory.ones(2, 3), [0.1, 0.2])
    with pytest.raises(ShapeError, match="an even number"):
        nn.GLU()(backstory.ones(3))
    with pytest.raises(ArgumentError, match=r"Softmax\(dim=-1\)"):
        nn.Softmax()(backstory.ones(3))
    with pytest.raises(ArgumentError, match="approximate='none' or 'tanh'"):
        nn.GELU("sigmoid")(backstory.ones(3))
    with pytest.raises(ArgumentError, match="lower ≤ upper"):
        nn.RReLU(1.0, 0.0)(backstory.ones(3))
    with pytest.raises(ArgumentError, match="min_val < max_val"):
        nn.Hardtanh(1.0, 1.0)
    with pytest.raises(ArgumentError, match=r"PReLU\(channels\)"):
        nn.PReLU(0)
