"""Which functions gate, how each counts as open, and what a scan makes of it: against autograd's Jacobian."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from adapters.torch.slow import (
    Gated,
    gates_of,
    inputs,
    sgd,
    site_names,
    slow_derivative,
    slow_open,
    slow_states,
    states_of,
    step_once,
    wide_linear,
)
from torch import nn
from torch.nn import functional as F

from backstory.adapters.torch.activations import GATES, gates, local_derivative, open_counts, units_last
from backstory.insight import watch

MODULES = {
    "ReLU": (nn.ReLU, "relu"),
    "ReLU in place": (lambda: nn.ReLU(inplace=True), "relu"),
    "ReLU6": (nn.ReLU6, "hardtanh"),
    "ReLU6 in place": (lambda: nn.ReLU6(inplace=True), "hardtanh"),
    "LeakyReLU": (nn.LeakyReLU, "leaky_relu"),
    "LeakyReLU of slope 0": (lambda: nn.LeakyReLU(0.0, inplace=True), "leaky_relu"),
    "PReLU": (lambda: nn.PReLU(6, dtype=torch.float64), "prelu"),
    "PReLU of slope 0": (lambda: nn.PReLU(init=0.0, dtype=torch.float64), "prelu"),
    "RReLU of slope 0": (lambda: nn.RReLU(0.0, 0.0), "rrelu"),
    "ELU": (nn.ELU, "elu"),
    "ELU in place": (lambda: nn.ELU(inplace=True), "elu"),
    "SELU": (nn.SELU, "selu"),
    "SELU in place": (lambda: nn.SELU(inplace=True), "selu"),
    "CELU": (nn.CELU, "celu"),
    "GELU": (nn.GELU, "gelu"),
    "GELU with tanh": (lambda: nn.GELU("tanh"), "gelu"),
    "SiLU": (nn.SiLU, "silu"),
    "SiLU in place": (lambda: nn.SiLU(inplace=True), "silu"),
    "Mish": (nn.Mish, "mish"),
    "Softplus": (nn.Softplus, "softplus"),
    "Hardtanh": (nn.Hardtanh, "hardtanh"),
    "Hardtanh in place": (lambda: nn.Hardtanh(inplace=True), "hardtanh"),
    "Hardsigmoid": (nn.Hardsigmoid, "hardsigmoid"),
    "Hardswish": (nn.Hardswish, "hardswish"),
    "Hardswish in place": (lambda: nn.Hardswish(inplace=True), "hardswish"),
    "Threshold": (lambda: nn.Threshold(0.1, -3.0), "threshold"),
    "Softshrink": (nn.Softshrink, "softshrink"),
    "Hardshrink": (nn.Hardshrink, "hardshrink"),
}
FUNCTIONS = {
    "F.relu": (F.relu, "relu"),
    "F.relu in place": (lambda z: F.relu(z, inplace=True), "relu"),
    "F.relu_": (F.relu_, "relu"),
    "torch.relu": (torch.relu, "relu"),
    "torch.relu by name": (lambda z: torch.relu(input=z), "relu"),
    "torch.relu_": (torch.relu_, "relu"),
    "x.relu()": (lambda z: z.relu(), "relu"),
    "x.relu_()": (lambda z: z.relu_(), "relu"),
    "clamp(min=0)": (lambda z: z.clamp(min=0), "clamp"),
    "clamp(0, 6)": (lambda z: z.clamp(0, 6), "clamp"),
    "clamp_(min=0.0)": (lambda z: z.clamp_(min=0.0), "clamp"),
    "clip(0)": (lambda z: z.clip(0), "clamp"),
    "clamp_min(0)": (lambda z: z.clamp_min(0), "clamp"),
    "clamp_min_(min=0)": (lambda z: z.clamp_min_(min=0), "clamp"),
    "torch.clamp": (lambda z: torch.clamp(z, min=0), "clamp"),
    "torch.clamp by name": (lambda z: torch.clamp(input=z, min=0), "clamp"),
    "torch.clip_": (lambda z: torch.clip_(z, 0), "clamp"),
    "torch.clamp_min": (lambda z: torch.clamp_min(z, 0), "clamp"),
    "F.relu6": (F.relu6, "relu6"),
    "F.leaky_relu": (lambda z: F.leaky_relu(z, -0.5), "leaky_relu"),
    "F.leaky_relu_": (lambda z: F.leaky_relu_(z, 0.2), "leaky_relu"),
    "F.rrelu": (F.rrelu, "rrelu"),
    "torch.rrelu": (torch.rrelu, "rrelu"),
    "F.elu_": (lambda z: F.elu_(z), "elu"),
    "F.selu_": (F.selu_, "selu"),
    "F.celu_": (F.celu_, "celu"),
    "F.gelu": (F.gelu, "gelu"),
    "F.silu": (lambda z: F.silu(z, inplace=True), "silu"),
    "F.mish": (lambda z: F.mish(z, inplace=True), "mish"),
    "F.hardtanh_": (lambda z: F.hardtanh_(z, -1, 2), "hardtanh"),
    "F.hardswish": (F.hardswish, "hardswish"),
    "F.hardsigmoid": (lambda z: F.hardsigmoid(z, inplace=True), "hardsigmoid"),
    "F.threshold_": (lambda z: F.threshold_(z, 0.0, 0.0), "threshold"),
    "torch.threshold": (lambda z: torch.threshold(z, 0.0, 0.0), "threshold"),
    "x.hardshrink()": (lambda z: z.hardshrink(0.2), "hardshrink"),
    "F.softshrink": (F.softshrink, "softshrink"),
    "F.prelu": (lambda z: F.prelu(z, torch.full((1,), 0.0, dtype=z.dtype)), "prelu"),
}  # fmt: skip


def judged(gate, site, tmp_path, x=None):
    """Watch one step with this gate, and compare counts and states with autograd's."""
    x = inputs() if x is None else x
    model = Gated(wide_linear(), gate)
    optimizer = sgd(model, lr=0.0)
    with watch(model, optimizer, tmp_path / "run", data=x) as run:
        model.kept.clear()
        step_once(model, optimizer, x)
        assert site_names(run) == [site]
        z = model.kept[0]
        derivative = slow_derivative(gate, z)
        assert gates_of(run, site) == [(1, len(x), slow_open(derivative))]
        states = slow_states(derivative)
        assert states_of(run, site)[-1] == (1, states)
    return states


@pytest.mark.parametrize("name", MODULES)
def test_modules_gate_as_their_own_backward_does(name, tmp_path):
    make, op = MODULES[name]
    judged(make(), f"gate/{op}#0", tmp_path)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_and_methods_gate_as_their_own_backward_does(name, tmp_path):
    function, op = FUNCTIONS[name]
    judged(function, f"{op}#0", tmp_path)


def test_a_relu_has_a_dead_a_linear_and_bending_units_here(tmp_path):
    """Otherwise the tests above would test less than they say."""
    assert set(judged(nn.ReLU(), "gate/relu#0", tmp_path)) == {0, 1, 2}


@pytest.mark.parametrize("inplace", [False, True])
def test_slopes_that_are_drawn_count_as_open_and_the_drawing_is_the_users_alone(inplace, tmp_path):
    ends = []
    for watched in (False, True):
        torch.manual_seed(4)
        model = Gated(wide_linear(), nn.RReLU(0.0, 0.3, inplace=inplace))
        optimizer = sgd(model)
        torch.manual_seed(5)
        if watched:
            with watch(model, optimizer, tmp_path / "run", data=inputs()) as run:
                loss = step_once(model, optimizer, inputs())
                assert gates_of(run, "gate/rrelu#0") == [(1, 40, [40] * 6)]
        else:
            loss = step_once(model, optimizer, inputs())
        ends.append((loss, torch.rand(2).tolist()))
    assert ends[0] == ends[1]


@pytest.mark.parametrize(
    "function",
    [lambda z: z.clamp(min=0.1), lambda z: z.clamp(-1, 0), lambda z: z.clamp(max=0), torch.tanh, torch.abs],
    ids=["clamp(min=0.1)", "clamp(-1, 0)", "clamp(max=0)", "tanh", "abs"],
)
def test_what_does_not_gate_at_0_is_no_site(function):
    from backstory.adapters.torch.sites import SiteMode

    class Sites(SiteMode):
        def gate(self, key, gate, func, args, kwargs):
            raise AssertionError(key)

    with Sites(nn.Identity()):
        function(torch.ones(2))


def test_whole_numbers_pass_no_gate(tmp_path):
    """Indices, lengths and masks are clamped too, and have no derivative."""

    class Clamped(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.out = nn.Embedding(5, 3), nn.Linear(3, 1)

        def forward(self, x):
            return self.out(F.relu(self.table(x.clamp(min=0)).sum(1)))

    model = Clamped()
    optimizer = sgd(model)
    x = torch.randint(-2, 5, (12, 4))
    with watch(model, optimizer, tmp_path / "run", data=x) as run:
        step_once(model, optimizer, x)
        assert site_names(run) == ["relu#0"]


def test_a_relu_is_closed_at_exactly_0_and_a_clamp_is_open():
    z = torch.tensor([-1.0, 0.0, 1.0])
    assert local_derivative(torch.relu, (z,), {}).tolist() == [0, 0, 1]
    assert local_derivative(torch.clamp, (z,), {"min": 0}).tolist() == [0, 1, 1]
    assert local_derivative(torch.clamp_, (z,), {"min": 0}).tolist() == [0, 1, 1]
    assert z.tolist() == [-1, 0, 1], "in place on a copy"
    assert local_derivative(torch.clamp, (z,), {"min": 0, "out": torch.empty(3)}).tolist() == [0, 1, 1]


def test_every_spelling_of_a_gate_is_known():
    """Whatever torch calls relu, clamp or another name here is in the table, in place too."""
    names = {gate.name for gate in GATES.values()} | {"clip", "clamp_min"}
    for place in (F, torch, torch.Tensor):
        for name in names:
            for spelled in (name, name + "_"):
                if hasattr(place, spelled):
                    assert getattr(place, spelled) in GATES, (place, spelled)


def test_a_call_without_a_tensor_is_no_gate():
    assert gates(torch.relu, (), {}) is None
    assert gates(torch.relu, (3,), {}) is None


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("shape", "axis"),
    [((7, 3), -1), ((3, 7), -2), ((4, 3, 5), -2), ((4, 5, 3), -1), ((2, 3, 4, 5), -3), ((3,), -1),
     ((700, 3), -1), ((2, 3, 40, 30), -3), ((0, 3), -1), ((2, 3, 2, 2, 2), -4), ((3, 4, 5), -3)],
)  # fmt: skip
def test_open_entries_are_counted_exactly_on_every_axis(shape, axis, dtype):
    x = F.relu(torch.from_numpy(np.random.default_rng(0).normal(size=shape))).to(dtype)
    expected = [int((unit != 0).sum()) for unit in x.unbind(axis)]
    assert open_counts(x, axis).tolist() == expected
    assert units_last(x, axis).shape == (max(x.numel() // 3, 0), 3)
