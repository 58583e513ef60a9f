"""Why a weight moves or not: CURRICULUM A by hand, and the factors against backward()."""

from __future__ import annotations

import math

import numpy as np
import pytest

import backstory
from backstory import nn, optim
from backstory.errors import ArgumentError, GraphError
from backstory.insight import why

W = (0, 0)


def unit(w=1.0, b=0.0, **relu):
    """z = wx + b and a = ReLU(z), in float64."""
    layer = nn.Linear(1, 1, dtype=backstory.float64)
    layer.load_state_dict({"weight": [[w]], "bias": [b]})
    return layer, lambda x: backstory.relu(layer(column(x)), **relu)


def column(x):
    return backstory.as_tensor(np.array(x, np.float64).reshape(-1, 1))


# One unit by hand


def test_with_a_closed_gate_nothing_moves():
    """w = −1, x = 1: z = −1, a = 0, and every gradient is 0."""
    layer, relu = unit(w=-1.0)
    loss = relu([1.0]).sum()
    for parameter, index in [(layer.weight, W), (layer.bias, 0)]:
        answer = why(loss, parameter, index)
        assert (answer.verdict, answer.gradient, answer.gate_closed) == ("gate closed", 0.0, 1)


def test_with_an_open_gate_weight_and_bias_move():
    """w = 1, x = 1: ∂J/∂w = ∂J/∂b = 1, so that w ← w − η and b ← b − η."""
    layer, relu = unit()
    optimizer = optim.SGD(layer.parameters(), lr=0.25)
    loss = relu([1.0]).sum()
    for parameter, index in [(layer.weight, W), (layer.bias, (0,))]:
        answer = why(loss, parameter, index, optimizer)
        assert (answer.verdict, answer.gradient) == ("moves", 1.0)
        assert answer.update == {"gradient": -0.25}
    loss.backward()
    optimizer.step()
    assert (layer.weight.item(), layer.bias.item()) == (0.75, -0.25)


def test_an_open_gate_is_a_way_and_not_a_gradient():
    """J = 0·a: the gate is open and the gradient 0."""
    layer, relu = unit()
    answer = why((relu([1.0]) * 0.0).sum(), layer.weight, W)
    assert (answer.verdict, answer.gate_closed, answer.upstream_zero) == ("upstream zero", 0, 1)


def test_an_input_of_zero_is_told_apart_too():
    layer, relu = unit(b=1.0)
    loss = relu([0.0]).sum()
    assert why(loss, layer.weight, W).verdict == "input zero"
    assert why(loss, layer.bias, 0).verdict == "moves"


def test_a_different_factor_may_be_zero_in_every_sample():
    layer, relu = unit(b=0.5)
    answer = why((relu([-1.0, 0.0, 2.0]) * column([1.0, 1.0, 0.0])).sum(), layer.weight, W)
    assert answer.verdict == "a zero in every sample"
    assert (answer.upstream_zero, answer.gate_closed, answer.input_zero) == (1, 1, 1)


def test_samples_may_cancel_exactly():
    layer, relu = unit(b=9.0)
    tenths = [0.1, 0.2, 0.3, -0.6, 0.7, -0.7]  # whose plain sum is not 0
    answer = why(relu([0.1, 0.7, -0.7, -0.1]).sum(), layer.weight, W)
    assert (answer.verdict, answer.gradient) == ("cancels", 0.0)
    answer = why(relu(tenths).sum(), layer.weight, W)
    assert answer.gradient == math.fsum(tenths)


def test_a_layer_without_activation_has_gate_one():
    layer, _ = unit()
    answer = why(layer(column([2.0, 3.0])).sum(), layer.weight, W)
    assert (answer.gradient, answer.gate_closed, answer.at_zero) == (5.0, 0, 0)


# The choice at exactly 0


@pytest.mark.parametrize(("at_zero", "verdict"), [(0.0, "gate closed"), (0.5, "moves"), (1.0, "moves")])
def test_a_pre_activation_of_exactly_zero_is_shown_with_the_choice(at_zero, verdict):
    layer, relu = unit(w=1.0, b=-1.0, at_zero=at_zero)
    loss = relu([1.0, 1.0]).sum()
    for parameter, index in [(layer.weight, W), (layer.bias, 0)]:
        answer = why(loss, parameter, index)
        assert (answer.verdict, answer.at_zero, answer.gradient) == (verdict, 2, 2 * at_zero)
        assert f"exactly 0 in 2 samples, where the derivative is taken as {at_zero:g}" in str(answer)


def test_nothing_is_said_about_zero_where_it_cannot_be_known():
    layer, relu = unit(w=1.0, b=-1.0)
    layer.bias.requires_grad_(False)
    assert why(relu([1.0]).sum(), layer.weight, W).at_zero == 0


# Gradient and update are two things


def test_momentum_moves_a_weight_whose_gradient_is_zero():
    layer, relu = unit()
    optimizer = optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    relu([1.0]).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    loss = (relu([1.0]) * 0.0).sum()
    answer = why(loss, layer.weight, W, optimizer)
    assert answer.verdict == "upstream zero"
    before = layer.weight.item()
    loss.backward()
    optimizer.step()
    assert layer.weight.item() - before == pytest.approx(answer.update["momentum"], rel=1e-12)
    assert answer.update == pytest.approx({"gradient": 0.0, "momentum": -0.09})
    assert "momentum" in str(answer)


def test_weight_decay_moves_a_weight_whose_gate_is_closed():
    layer, relu = unit(w=-1.0)
    optimizer = optim.SGD(layer.parameters(), lr=0.1, weight_decay=0.5)
    loss = relu([1.0]).sum()
    answer = why(loss, layer.weight, W, optimizer)
    assert (answer.verdict, answer.update) == ("gate closed", {"gradient": 0.0, "weight decay": 0.05})
    loss.backward()
    optimizer.step()
    assert layer.weight.item() == pytest.approx(-0.95)


@pytest.mark.parametrize(
    "build",
    [
        lambda p: optim.Adam(p, lr=0.1),
        lambda p: optim.Adam(p, lr=0.1, weight_decay=0.2),
        lambda p: optim.Adam(p, lr=0.1, weight_decay=0.2, decoupled_weight_decay=True),
        lambda p: optim.AdamW(p, lr=0.1, weight_decay=0.2),
        lambda p: optim.AdamW(p, lr=0.1, weight_decay=0.2, amsgrad=True),
        lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    ],
    ids=["adam", "decayed adam", "decoupled adam", "adamw", "amsgrad", "nesterov"],
)
def test_the_terms_of_adam_and_nesterov_add_up_to_the_update(build):
    layer, relu = unit(w=2.0)
    optimizer = build(layer.parameters())
    for step in range(3):
        optimizer.zero_grad()
        loss = (relu([1.0, 3.0]) ** 2).sum()
        answer = why(loss, layer.weight, W, optimizer)
        before = layer.weight.item()
        loss.backward()
        optimizer.step()
        assert ("momentum" in answer.update) == (step > 0)
        assert layer.weight.item() - before == pytest.approx(sum(answer.update.values()), rel=1e-9)


def test_a_rule_without_a_split_gives_the_whole_update():
    class Halved(optim.SGD):
        def update(self, xp, p, g, state, group):
            change, state = super().update(xp, p, g, state, group)
            return change / 2, state

    layer, relu = unit(w=2.0)
    answer = why(relu([1.0]).sum(), layer.weight, W, Halved(layer.parameters(), lr=0.1))
    assert answer.update == {"Halved": pytest.approx(-0.05)}


def test_momentum_that_is_switched_on_later_has_no_velocity_yet():
    layer, relu = unit()
    optimizer = optim.SGD(layer.parameters(), lr=0.1)
    relu([1.0]).sum().backward()
    optimizer.step()
    optimizer.param_groups[0]["momentum"] = 0.9
    assert why(relu([1.0]).sum(), layer.weight, W, optimizer).update == {"gradient": -0.1}


def test_a_frozen_parameter_says_so():
    layer, relu = unit()
    layer.weight.requires_grad_(False)
    assert why(relu([1.0]).sum(), layer.weight, W).verdict == "frozen"


def test_a_parameter_of_another_network_is_not_in_the_graph_and_nothing_moves_it():
    layer, relu = unit()
    other, _ = unit()
    optimizer = optim.SGD(other.parameters(), lr=0.1, weight_decay=1.0)
    answer = why(relu([1.0]).sum(), other.weight, W, optimizer)
    assert (answer.verdict, answer.update) == ("not in the graph", None)
    assert "nothing moves it" in str(answer)
    relu([1.0]).sum().backward()
    optimizer.step()
    assert other.weight.item() == 1.0
    del layer


def test_a_parameter_that_the_optimizer_does_not_hold_says_so():
    layer, relu = unit()
    optimizer = optim.SGD([layer.bias], lr=0.1)
    answer = why(relu([1.0]).sum(), layer.weight, W, optimizer)
    assert (answer.verdict, answer.gradient, answer.update) == ("moves", 1.0, None)
    assert "the optimizer does not hold it" in str(answer)


# The factors against backward()


class Twice(nn.Module):
    """One layer used twice, in two places, and inputs of any number of axes."""

    def __init__(self, act, rng):
        super().__init__()
        self.first, self.shared, self.out = (
            nn.Linear(n, m, bias=bias, dtype=backstory.float64)
            for n, m, bias in [(3, 4, True), (4, 4, True), (4, 2, False)]
        )
        self.act = act
        for p in self.parameters():
            p.copy_(rng.normal(size=p.shape)) if not p.requires_grad else p.detach().copy_(
                rng.normal(size=p.shape)
            )

    def forward(self, x):
        hidden = self.act(self.first(x))
        hidden = self.act(self.shared(self.act(self.shared(hidden))))
        return self.out(hidden)


ACTS = {
    "relu": backstory.relu,
    "leaky": nn.LeakyReLU(0.1),
    "tanh": backstory.tanh,
    "sigmoid": nn.Sigmoid(),
    "none": lambda x: x,
}


@pytest.mark.parametrize("shape", [(3,), (7, 3), (2, 5, 3)], ids=["vector", "matrix", "three axes"])
@pytest.mark.parametrize("act", ACTS)
def test_the_sum_of_the_factors_is_the_gradient(act, shape, rng):
    model = Twice(ACTS[act], rng)
    x = backstory.as_tensor(rng.normal(size=shape))
    loss = (model(x) ** 2).sum()
    answers = {
        (name, index): why(loss, p, index)
        for name, p in model.named_parameters()
        for index in np.ndindex(p.shape)
    }
    loss.backward()
    for name, p in model.named_parameters():
        found = np.array([answers[name, index].gradient for index in np.ndindex(p.shape)]).reshape(p.shape)
        np.testing.assert_allclose(found, p.grad.array, rtol=1e-11, atol=1e-12)
    rows = math.prod(shape[:-1])
    assert answers["shared.bias", (1,)].samples == 2 * rows
    samples = shape[0] if len(shape) > 1 else 1
    assert all(0 <= answer.example["sample"] < samples for answer in answers.values())
    for answer in answers.values():
        e = answer.example
        assert e["product"] == pytest.approx(e["upstream"] * e["gate"] * e["input"], rel=1e-12)


def test_float32_networks_are_explained_too(rng):
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    loss = model(backstory.as_tensor(rng.normal(size=(6, 3)).astype(np.float32))).sum()
    found = why(loss, model[0].weight, (1, 2)).gradient
    loss.backward()
    assert found == pytest.approx(model[0].weight.grad.array[1, 2], rel=1e-5, abs=1e-7)


def test_an_infinite_upstream_through_a_closed_gate_is_no_warning_and_no_nan():
    layer, relu = unit(w=-1.0)
    loss = (relu([1.0]) * math.inf).sum()
    assert why(loss, layer.weight, W).verdict == "gate closed"


# What is refused


def test_after_backward_freed_the_graph_it_says_how_to_ask():
    layer, relu = unit()
    loss = (relu([1.0]) ** 2).sum()
    loss.backward()
    with pytest.raises(GraphError, match="freed the values"):
        why(loss, layer.weight, W)


def test_asking_keeps_the_graph_and_leaves_no_gradient():
    layer, relu = unit()
    loss = (relu([1.0]) ** 2).sum()
    why(loss, layer.weight, W)
    assert layer.weight.grad is None
    loss.backward()
    assert layer.weight.grad.item() == 2.0


@pytest.mark.parametrize("index", [0, (0,), (0, 0, 0), (1, 0), (0, -2)])
def test_an_index_that_names_no_entry_is_refused(index):
    layer, relu = unit()
    with pytest.raises(ArgumentError, match="one entry"):
        why(relu([1.0]).sum(), layer.weight, index)


def test_a_parameter_that_no_linear_layer_uses_is_refused(rng):
    layer = nn.Linear(2, 2, dtype=backstory.float64)
    token = nn.Parameter(rng.normal(size=(1, 2)))
    with pytest.raises(GraphError, match="linear layers"):
        why(layer(token).sum(), token, (0, 1))
    with pytest.raises(GraphError, match="linear layers"):
        why((token * 2.0).sum(), token, (0, 1))


def test_a_loss_without_history_is_refused():
    layer, _ = unit()
    with pytest.raises(GraphError, match="does not require grad"):
        why(backstory.tensor(1.0), layer.weight, W)


# Convolutions, and gates behind normalisations and sums


class Mixed(nn.Module):
    """A strided grouped convolution, batch norm, a residual sum, a head without bias."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(1, 0), groups=2)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, padding=2, dilation=2)
        self.head = nn.Linear(4, 3, bias=False)

    def forward(self, x):
        h = backstory.relu(self.norm(self.first(x)))
        h = backstory.relu(self.second(h) + h)
        return self.head(h.mean((2, 3)))


class Shared(nn.Module):
    """One convolution used twice."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv1d(3, 3, 3, padding=1)

    def forward(self, x):
        return self.layer(backstory.relu(self.layer(x)))


CONVOLUTIONAL = {
    "mixed": (Mixed, (5, 2, 7, 6)),
    "conv1d": (lambda: nn.Sequential(nn.Conv1d(3, 4, 3, 2), nn.ReLU(), nn.Conv1d(4, 2, 1)), (5, 3, 9)),
    "one image": (lambda: nn.Sequential(nn.Conv2d(2, 3, 2), nn.GELU(), nn.Conv2d(3, 1, 2)), (2, 5, 5)),
    "prelu": (lambda: nn.Sequential(nn.Conv2d(2, 3, 2, bias=False), nn.PReLU(3), nn.Flatten()), (4, 2, 4, 4)),
    "pooled": (lambda: nn.Sequential(nn.Conv2d(2, 3, 2), nn.MaxPool2d(2), nn.ReLU()), (4, 2, 5, 5)),
    "shared": (Shared, (4, 3, 6)),
    "recurrent": (lambda: nn.LSTM(3, 4), (5, 2, 3)),
}


@pytest.mark.parametrize("case", CONVOLUTIONAL)
def test_the_factors_of_convolutions_add_up_to_the_gradient(case, rng):
    build, shape = CONVOLUTIONAL[case]
    backstory.manual_seed(1)
    model = build().double()
    out = model(backstory.tensor(rng.normal(size=shape)))
    loss = (out[0] if isinstance(out, tuple) else out).square().mean()
    asked = [
        (p, index, why(loss, p, index, name=name))
        for name, p in model.named_parameters()
        if not name.startswith("norm") and not (case == "prelu" and name.startswith("1"))
        for index in list(np.ndindex(p.shape))[::5]
    ]
    loss.backward()
    for p, index, answer in asked:
        assert answer.gradient == pytest.approx(p.grad.array[index], rel=1e-9, abs=1e-15)
        if answer.example:
            e = answer.example
            assert e["product"] == pytest.approx(e["upstream"] * e["gate"] * e["input"], rel=1e-12)
            assert 0 <= e["sample"] < (1 if case == "one image" else shape[0])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("layer", "norm", "shape"),
    [
        (lambda: nn.Conv1d(1, 2, 3), lambda: nn.BatchNorm1d(2), (4, 1, 8)),
        (lambda: nn.Linear(3, 2), lambda: nn.LayerNorm(2), (4, 3)),
        (lambda: nn.Linear(3, 2), lambda: nn.BatchNorm1d(2), (4, 3)),
        (lambda: nn.Conv2d(1, 2, 3), lambda: nn.GroupNorm(2, 2), (4, 1, 5, 5)),
    ],
)
def test_a_gate_behind_a_normalisation_is_found(layer, norm, shape, training):
    model = nn.Sequential(layer(), norm(), nn.ReLU()).train(training)
    with backstory.no_grad():
        model[1].weight.zero_()
        model[1].bias.fill_(-1.0)
    answer = why(model(backstory.randn(*shape)).sum(), model[0].weight, (0,) * model[0].weight.ndim)
    assert answer.verdict == "gate closed"
    assert "behind a normalisation" in answer.note


def test_a_gate_behind_a_residual_sum_is_found():
    layer = nn.Linear(2, 2)
    x = -100.0 * backstory.ones(3, 2)
    answer = why(backstory.relu(layer(x) * 0.01 + x).sum(), layer.weight, W)
    assert answer.verdict == "gate closed"
    assert answer.gate_closed == 3


def test_a_convolutions_closed_gate_zero_input_and_zeros_are_told_apart():
    layer = nn.Conv2d(1, 1, 2)
    layer.load_state_dict({"weight": np.ones((1, 1, 2, 2)), "bias": [-100.0]})
    images = backstory.ones(2, 1, 3, 3)
    entry = (0, 0, 1, 1)
    assert why(backstory.relu(layer(images)).sum(), layer.weight, entry).verdict == "gate closed"
    layer.load_state_dict({"weight": np.ones((1, 1, 2, 2)), "bias": [-4.0]})
    answer = why(backstory.relu(layer(images)).sum(), layer.weight, entry)
    assert (answer.verdict, answer.at_zero, answer.samples) == ("gate closed", 8, 8)
    layer.load_state_dict({"weight": np.ones((1, 1, 2, 2)), "bias": [1.0]})
    assert why(backstory.relu(layer(images * 0)).sum(), layer.weight, entry).verdict == "input zero"
    assert why((0 * backstory.relu(layer(images))).sum(), layer.weight, entry).verdict == "upstream zero"
    assert why(backstory.relu(layer(images)).sum(), layer.bias, 0).gradient == 8.0
