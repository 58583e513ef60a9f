"""Recurrent layers and cells against PyTorch: outputs, states, all gradients, states by name, refusals."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from support import close

import backstory
from backstory import func, nn
from backstory.errors import ArgumentError, ShapeError

KINDS = {"RNN": {}, "RNN relu": {"nonlinearity": "relu"}, "LSTM": {}, "GRU": {}}
SETTINGS = {
    "plain": {},
    "two layers": {"num_layers": 2},
    "both ways": {"bidirectional": True},
    "everything": {"num_layers": 3, "bidirectional": True, "batch_first": True, "bias": False},
}


def twins(name, *arguments, **keywords):
    """The same module in both libraries, in float64, with the same weights, loaded by name."""
    mine = getattr(nn, name)(*arguments, **keywords).double()
    theirs = getattr(torch.nn, name)(*arguments, **keywords).double()
    theirs.load_state_dict({key: torch.tensor(value.numpy()) for key, value in mine.state_dict().items()})
    assert list(mine.state_dict()) == list(theirs.state_dict())
    assert repr(mine) == repr(theirs)
    return mine, theirs


def tensors(result):
    """All tensors of a nested result, in order."""
    return [result] if not isinstance(result, tuple) else [x for part in result for x in tensors(part)]


def equal(mine, theirs, inputs, rng):
    """Outputs, and the gradients of inputs and parameters for one random upstream gradient each."""
    x, y = [backstory.tensor(a, requires_grad=True) for a in inputs], [torch.tensor(a) for a in inputs]
    for one in y:
        one.requires_grad_()
    given = [(x[0], *_state(mine, x[1:])), (y[0], *_state(mine, y[1:]))]
    outs, expected = tensors(mine(*given[0])), tensors(theirs(*given[1]))
    losses: list = [0.0, 0.0]
    for out, other in zip(outs, expected, strict=True):
        close(out.detach().numpy(), other.detach().numpy())
        weight = rng.normal(size=out.shape)
        losses[0] = losses[0] + (out * backstory.tensor(weight)).sum()
        losses[1] = losses[1] + (other * torch.tensor(weight)).sum()
    for loss in losses:
        loss.backward()
    for a, b in zip([*x, *mine.parameters()], [*y, *theirs.parameters()], strict=True):
        close(a.grad.numpy(), b.grad.numpy(), rtol=1e-10)


def _state(module, parts):
    if not parts:
        return ()
    return (tuple(parts),) if type(module).__name__.startswith("LSTM") else (parts[0],)


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_layers_equal_pytorch_in_outputs_states_and_all_gradients(kind, setting, batched, rng):
    keywords = {**KINDS[kind], **SETTINGS[setting]}
    mine, theirs = twins(kind.split()[0], 3, 4, **keywords)
    shape = (2, 5, 3) if batched else (5, 3)
    batch = shape[0 if keywords.get("batch_first") else 1] if batched else ()
    count = keywords.get("num_layers", 1) * (2 if keywords.get("bidirectional") else 1)
    state = (count, batch, 4) if batched else (count, 4)
    for given in (0, 2 if kind == "LSTM" else 1):
        mine.zero_grad()
        theirs.zero_grad()
        equal(mine, theirs, [rng.normal(size=shape), *rng.normal(size=(given, *state))], rng)


@pytest.mark.parametrize("batched", [True, False])
def test_a_projected_lstm_equals_pytorch(batched, rng):
    mine, theirs = twins("LSTM", 3, 5, num_layers=2, bidirectional=True, proj_size=2)
    shape = (6, 2) if batched else (6,)
    states = [(4, *shape[1:], 2), (4, *shape[1:], 5)]
    equal(mine, theirs, [rng.normal(size=(*shape, 3)), *(rng.normal(size=s) for s in states)], rng)


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_cells_equal_pytorch_in_states_and_all_gradients(kind, batched, rng):
    for bias in (True, False):
        mine, theirs = twins(f"{kind.split()[0]}Cell", 3, 4, bias=bias, **KINDS[kind])
        lead = (2,) if batched else ()
        for given in (0, 2 if kind == "LSTM" else 1):
            mine.zero_grad()
            theirs.zero_grad()
            equal(mine, theirs, [rng.normal(size=(*lead, 3)), *rng.normal(size=(given, *lead, 4))], rng)


def test_parameters_start_within_the_bounds_of_pytorch_and_follow_their_generator():
    layer = nn.LSTM(3, 64, generator=backstory.Generator(5))
    for p in layer.parameters():
        assert 0.9 / 8 < np.abs(p.detach().numpy()).max() <= 1 / 8
    again = nn.LSTM(3, 64, generator=backstory.Generator(5))
    np.testing.assert_array_equal(layer.weight_hh_l0.detach().numpy(), again.weight_hh_l0.detach().numpy())
    assert nn.GRUCell(2, 3, dtype="float64").weight_ih.dtype == np.float64


def test_dropout_acts_between_layers_in_training_alone():
    net = nn.GRU(3, 50, num_layers=2, dropout=0.5)
    x = backstory.randn(4, 2, 3)
    first, second = net(x)[0], net(x)[0]
    assert (first.detach().numpy() != second.detach().numpy()).any()
    net.eval()
    np.testing.assert_array_equal(net(x)[0].detach().numpy(), net(x)[0].detach().numpy())
    with pytest.warns(UserWarning, match="between layers"):
        nn.LSTM(3, 4, dropout=0.5)


def test_an_lstm_trains_as_in_pytorch(rng):
    mine, theirs = twins("LSTM", 2, 8)
    x, y = rng.normal(size=(7, 4, 2)), rng.normal(size=(7, 4, 8))
    ours, reference = (
        backstory.optim.Adam(mine.parameters(), lr=0.01),
        torch.optim.Adam(theirs.parameters(), lr=0.01),
    )
    for _ in range(30):
        loss = nn.functional.mse_loss(mine(backstory.tensor(x))[0], backstory.tensor(y))
        expected = torch.nn.functional.mse_loss(theirs(torch.tensor(x))[0], torch.tensor(y))
        close(loss.detach().numpy(), expected.detach().numpy(), rtol=1e-11)
        for optimizer, value in ((ours, loss), (reference, expected)):
            optimizer.zero_grad()
            value.backward()
            optimizer.step()


def test_second_derivatives_and_per_sample_outputs(rng):
    net = nn.GRU(2, 3).double()
    theirs = torch.nn.GRU(2, 3).double()
    theirs.load_state_dict({key: torch.tensor(value.numpy()) for key, value in net.state_dict().items()})
    data = rng.normal(size=(4, 2))
    x, y = backstory.tensor(data, requires_grad=True), torch.tensor(data, requires_grad=True)
    (gradient,) = backstory.autograd.grad((net(x)[0] ** 2).sum(), [x], create_graph=True)
    (expected,) = torch.autograd.grad((theirs(y)[0] ** 2).sum(), [y], create_graph=True)
    (gradient**2).sum().backward()
    (expected**2).sum().backward()
    close(x.grad.numpy(), y.grad.numpy(), rtol=1e-10)
    batch = rng.normal(size=(3, 4, 2))
    together = func.vmap(lambda one: net(one)[0])(backstory.tensor(batch))
    close(
        together.detach().numpy(),
        net(backstory.tensor(batch.swapaxes(0, 1)))[0].detach().numpy().swapaxes(0, 1),
    )


def test_a_copied_layer_has_parameters_of_its_own():
    net = nn.LSTM(2, 3)
    twin = copy.deepcopy(net)
    x = backstory.randn(4, 2)
    np.testing.assert_array_equal(twin(x)[0].detach().numpy(), net(x)[0].detach().numpy())
    assert not np.shares_memory(twin.weight_ih_l0.detach().numpy(), net.weight_ih_l0.detach().numpy())


def test_the_gradient_of_a_long_sequence_costs_no_square_of_its_length():
    """Each step's gradient is cut from its half, so the nodes hold n log n entries and not n²."""
    x = backstory.zeros(64, 1, 1, requires_grad=True)
    parts = nn.functional.recurrent.pieces(x)
    assert [part.shape for part in parts] == [(1, 1)] * 64
    depth, node = 0, parts[-1].grad_fn
    while node is not None:
        depth += 1
        node = next((edge for edge, _ in node.next_functions if edge is not None), None)
    assert depth <= 9


def test_refusals_say_what_to_write_instead():
    with pytest.raises(ShapeError, match=r"\(L, N, 3\)"):
        nn.RNN(3, 4)(backstory.ones(5, 2, 2))
    with pytest.raises(ShapeError, match=r"\(N, L, 3\)"):
        nn.RNN(3, 4, batch_first=True)(backstory.ones(3))
    with pytest.raises(ShapeError, match="at least one step"):
        nn.GRU(3, 4)(backstory.ones(0, 2, 3))
    with pytest.raises(ShapeError, match=r"\(1, 2, 4\)"):
        nn.GRU(3, 4)(backstory.ones(5, 2, 3), backstory.ones(2, 4))
    with pytest.raises(ShapeError, match=r"as a tuple \(h, c\)"):
        nn.LSTM(3, 4)(backstory.ones(5, 2, 3), backstory.ones(1, 2, 4))
    with pytest.raises(ShapeError, match=r"\(N, 3\)"):
        nn.LSTMCell(3, 4)(backstory.ones(2, 2))
    with pytest.raises(ArgumentError, match="'tanh' or 'relu'"):
        nn.RNNCell(3, 4, nonlinearity="sigmoid")
    with pytest.raises(ArgumentError, match="at least one layer"):
        nn.GRU(3, 4, num_layers=0)
    with pytest.raises(ArgumentError, match="below hidden_size"):
        nn.LSTM(3, 4, proj_size=4)
    with pytest.raises(ArgumentError, match=r"nn\.LSTM"):
        nn.GRU(3, 4, proj_size=2)
    with pytest.raises(ArgumentError, match="at least one number"):
        nn.GRUCell(3, 0)
