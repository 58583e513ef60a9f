"""Why on PyTorch's tensors: the factors must multiply and add up to PyTorch's own gradient."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import backstory
from backstory.errors import ArgumentError, GraphError


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


class Mixed(nn.Module):
    """A strided grouped convolution, batch norm, a residual sum, a head without bias."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(1, 0), groups=2)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, padding=2, dilation=2)
        self.head = nn.Linear(4, 3, bias=False)

    def forward(self, x):
        h = F.relu(self.norm(self.first(x)))
        h = F.relu(self.second(h) + h)
        return self.head(h.mean((2, 3)))


class ByHand(nn.Module):
    """x @ W + b, with the bias added apart."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(5, 4))
        self.b = nn.Parameter(torch.randn(4))

    def forward(self, x):
        return torch.relu(x @ self.w + self.b)


class Shared(nn.Module):
    """One layer used twice."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 5)

    def forward(self, x):
        return self.layer(F.leaky_relu(self.layer(x)))


CASES = {
    "linear": (lambda: nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3)), (9, 5)),
    "sequences": (lambda: nn.Sequential(nn.Linear(5, 6, bias=False), nn.GELU(), nn.Linear(6, 3)), (4, 7, 5)),
    "in place": (lambda: nn.Sequential(nn.Linear(5, 6), nn.ReLU(inplace=True), nn.Linear(6, 3)), (9, 5)),
    "mixed": (Mixed, (5, 2, 7, 6)),
    "by hand": (ByHand, (8, 5)),
    "shared": (Shared, (8, 5)),
    "conv1d": (lambda: nn.Sequential(nn.Conv1d(3, 4, 3, stride=2), nn.ReLU(), nn.Conv1d(4, 2, 1)), (5, 3, 9)),
    "elu": (lambda: nn.Sequential(nn.Linear(5, 6), nn.ELU(), nn.Linear(6, 3)), (9, 5)),
}


@pytest.mark.parametrize("case", CASES)
def test_the_factors_give_the_gradient_that_pytorch_computes(case):
    build, shape = CASES[case]
    model = build().double()
    loss = model(torch.randn(*shape, dtype=torch.float64)).square().mean()
    asked = 0
    for name, p in model.named_parameters():
        if name.startswith("norm"):
            continue
        (gradient,) = torch.autograd.grad(loss, p, retain_graph=True)
        for index in itertools.islice(itertools.product(*(range(n) for n in p.shape)), 0, None, 7):
            answer = backstory.why(loss, p, index, name=name)
            assert answer.gradient == pytest.approx(gradient[index].item(), rel=1e-9, abs=1e-15)
            asked += 1
            if answer.example:
                e = answer.example
                assert e["product"] == pytest.approx(e["upstream"] * e["gate"] * e["input"], rel=1e-12)
    assert asked >= 3


def unit(w=1.0, b=0.0):
    layer = nn.Linear(1, 1)
    with torch.no_grad():
        layer.weight.fill_(w)
        layer.bias.fill_(b)
    return layer


X = torch.tensor([[1.0], [2.0]])


def test_a_closed_gate_a_zero_upstream_and_a_zero_input_are_told_apart():
    closed = unit(-1.0)
    assert backstory.why(F.relu(closed(X)).sum(), closed.weight, (0, 0)).verdict == "gate closed"
    open_ = unit(1.0)
    assert backstory.why((0 * F.relu(open_(X))).sum(), open_.weight, (0, 0)).verdict == "upstream zero"
    assert backstory.why(F.relu(open_(0 * X + 0)).sum(), open_.weight, (0, 0)).verdict != "moves"
    biased = unit(1.0, 1.0)
    assert backstory.why(F.relu(biased(0 * X)).sum(), biased.weight, (0, 0)).verdict == "input zero"
    assert backstory.why(F.relu(biased(0 * X)).sum(), biased.bias, (0,)).verdict == "moves"


def test_samples_that_pull_both_ways_cancel():
    layer = unit()
    loss = (F.relu(layer(X)) * torch.tensor([[2.0], [-1.0]])).sum()
    assert backstory.why(loss, layer.weight, (0, 0)).verdict == "cancels"


def test_frozen_and_detached_parameters_are_named():
    layer = unit()
    layer.weight.requires_grad_(False)
    loss = F.relu(layer(X)).sum()
    assert backstory.why(loss, layer.weight, (0, 0)).verdict == "frozen"
    other = unit()
    assert backstory.why(loss, other.weight, (0, 0)).verdict == "not in the graph"
    cut = (layer(X) + other(X).detach()).sum()
    assert backstory.why(cut, other.weight, (0, 0)).verdict == "not in the graph"


def test_momentum_and_decay_move_a_weight_whose_gate_is_closed():
    layer = unit(1.0)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5, momentum=0.9)
    F.relu(layer(X)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    answer = backstory.why(F.relu(layer(X)).sum(), layer.weight, (0, 0), optimizer)
    assert (answer.verdict, answer.movement) == ("gate closed", "momentum or decay")
    assert answer.update["momentum"] == pytest.approx(-0.5 * 0.9 * 3.0)
    assert "momentum or weight decay alone moves it" in str(answer)


def test_a_parameter_in_no_optimizer_is_moved_by_nothing():
    layer, other = unit(), unit()
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    answer = backstory.why(F.relu(layer(X)).sum(), layer.weight, (0, 0), optimizer)
    assert (answer.verdict, answer.movement) == ("moves", "not in the optimizer")


@pytest.mark.parametrize(
    "build",
    [
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.3, maximize=True),
        lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.1, amsgrad=True),
        lambda p: torch.optim.AdamW(p, lr=0.1),
    ],
)
def test_the_terms_add_up_to_the_step_that_pytorch_takes(build):
    layer = unit(2.0).double()
    optimizer = build(layer.parameters())
    for step in range(3):
        optimizer.zero_grad()
        loss = F.relu(layer(X.double())).square().sum()
        answer = backstory.why(loss, layer.weight, (0, 0), optimizer)
        before = layer.weight.item()
        loss.backward()
        optimizer.step()
        assert ("momentum" in answer.update) == (step > 0)
        assert layer.weight.item() - before == pytest.approx(sum(answer.update.values()), rel=1e-9)


def test_a_gate_behind_batch_norm_is_found():
    model = nn.Sequential(nn.Conv1d(1, 2, 3), nn.BatchNorm1d(2), nn.ReLU())
    with torch.no_grad():
        model[1].weight[0] = 0.0
        model[1].bias[0] = -1.0
    answer = backstory.why(model(torch.randn(4, 1, 8)).sum(), model[0].weight, (0, 0, 1))
    assert answer.verdict == "gate closed"
    assert "behind a normalisation" in answer.note


def test_pre_activations_of_exactly_zero_are_counted():
    layer = unit(0.0)
    answer = backstory.why(F.relu(layer(X)).sum(), layer.weight, (0, 0))
    assert (answer.verdict, answer.at_zero) == ("gate closed", 2)


def test_asking_leaves_gradients_and_graph_as_they_were():
    layer = unit()
    loss = F.relu(layer(X)).sum()
    backstory.why(loss, layer.weight, (0, 0))
    assert layer.weight.grad is None
    loss.backward()
    assert layer.weight.grad.item() == 3.0


def test_a_checkpointed_layer_answers_unless_the_checkpoint_hides_it():
    layer = unit()
    x = X.clone().requires_grad_()
    loss = checkpoint(lambda x: F.relu(layer(x)), x, use_reentrant=False).sum()
    assert backstory.why(loss, layer.weight, (0, 0)).gradient == 3.0
    hidden = checkpoint(lambda x: F.relu(layer(x)), x, use_reentrant=True).sum()
    with pytest.raises(GraphError, match="use_reentrant=False"):
        backstory.why(hidden, layer.weight, (0, 0))


def test_what_cannot_be_answered_is_refused_with_what_to_write():
    layer, norm = unit(), nn.LayerNorm(1)
    loss = norm(layer(X)).sum()
    with pytest.raises(ArgumentError, match=r"index \(3, 0\) of a parameter of shape \(1, 1\)"):
        backstory.why(loss, layer.weight, (3, 0))
    with pytest.raises(GraphError, match=r"a parameter of nn\.Linear"):
        backstory.why(loss, norm.weight, (0,))
    with pytest.raises(GraphError, match=r"a loss of shape \(2, 1\)"):
        backstory.why(layer(X), layer.weight, (0, 0))
    with pytest.raises(ArgumentError, match="received str"):
        backstory.why(loss, layer.weight, (0, 0), optimizer="sgd")
    loss.backward()
    with pytest.raises(GraphError, match=r"before loss.backward\(\)"):
        backstory.why(loss, layer.weight, (0, 0))
