"""The summary of a model: its counts against PyTorch's counter and by hand, and that it disturbs nothing."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import backstory
from backstory import nn
from backstory.errors import ArgumentError

CONV = [("Conv2d", 3, 8, 3, 2, 1, 1, 1, False), ("ReLU",), ("Flatten",), ("Linear", 128, 10, False)]


def test_products_are_counted_as_by_pytorch():
    layers = [*CONV[:1], ("Conv2d", 8, 8, 3, 1, 1, 1, 4, False), *CONV[1:]]
    mine = nn.Sequential(*(getattr(nn, name)(*arguments) for name, *arguments in layers))
    theirs = torch.nn.Sequential(*(getattr(torch.nn, name)(*arguments) for name, *arguments in layers))
    with FlopCounterMode(display=False) as counter:
        theirs(torch.ones(5, 3, 8, 8))
    found = nn.summary(mine, backstory.ones(5, 3, 8, 8))
    relu = found["2"].flops
    assert relu == 5 * 8 * 4 * 4
    assert found.flops - relu == counter.get_total_flops()
    assert found.parameters == sum(p.numel() for p in theirs.parameters())


class Block(nn.Module):
    """Functional calls, one layer used twice, one never, and one that is frozen."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.frozen = nn.Linear(4, 2, bias=False).requires_grad_(False)
        self.spare = nn.Linear(4, 9)

    def forward(self, x):
        x = nn.functional.relu(self.inner(x))
        return self.frozen(nn.functional.tanh(self.inner(x) * 2))


def test_operations_count_for_the_module_in_which_they_run():
    found = nn.summary(Block(), backstory.ones(3, 4))
    assert found[""].operations == {"relu": 1, "mul": 1, "tanh": 1}
    assert found[""].flops == 3 * 12
    assert found["inner"].calls == 2
    assert found["inner"].flops == 2 * (2 * 3 * 4 * 4 + 3 * 4)
    assert (found["inner"].parameters, found["inner"].output) == (20, ((3, 4),))
    assert (found["frozen"].parameters, found["frozen"].trained) == (8, 0)
    assert (found.parameters, found.trained) == (73, 65)
    text = str(found)
    assert "Linear × 2" in text
    assert "never ran: spare" in text
    assert "65 of 73 parameters" in text
    assert "(the model itself)" in text


def test_what_is_kept_is_what_the_graph_holds_for_backward():
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    found = nn.summary(net, backstory.ones(3, 4).double())
    # The outputs of relu and tanh, which are the inputs of the layers behind them as well.
    assert [layer.kept for layer in found.layers[1:]] == [0, 3 * 8 * 8, 0, 3 * 8 * 8, 0]
    assert nn.summary(net.requires_grad_(False), backstory.ones(3, 4).double()).kept == 0


def test_nothing_is_different_afterwards():
    net = nn.Sequential(
        nn.Conv1d(2, 3, 2), nn.BatchNorm1d(3), nn.Dropout(0.5), nn.RReLU(), nn.Sequential(nn.ReLU()).eval()
    )
    heard = []
    net[0].register_forward_hook(lambda *_: heard.append(1))
    before = {key: value.numpy().copy() for key, value in net.state_dict().items()}
    stream = backstory.arrays.default_generator().get_state()
    modes = [module.training for module in net.modules()]
    for training in (False, True):
        nn.summary(net, backstory.randn(4, 2, 6, generator=backstory.Generator(1)), training=training)
    assert backstory.arrays.default_generator().get_state() == stream
    assert [module.training for module in net.modules()] == modes
    for key, value in net.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[key])
    assert all(p.grad is None for p in net.parameters())
    assert [module._hooks is None for module in net] == [False, True, True, True, True]
    assert heard == [1, 1]
    net(backstory.randn(4, 2, 6))
    assert heard == [1, 1, 1]


def test_training_mode_counts_what_runs_in_training():
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5))
    x = backstory.randn(8, 3)
    resting, training = nn.summary(net, x), nn.summary(net, x, training=True)
    assert resting["1"].operations == {}
    assert training["1"].operations == {"mul": 1}
    assert training["0"].flops > resting["0"].flops
    assert "in training mode" in str(training)


def test_a_parametrized_layer_is_one_row_and_states_are_shown_by_shape():
    found = nn.summary(
        nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 2)), nn.LSTM(2, 3)), backstory.ones(5, 4)
    )
    assert [layer.path for layer in found.layers] == ["", "0", "1"]
    assert found["0"].parameters == 2 + 2 + 8
    assert found["1"].output == ((5, 3), (1, 3), (1, 3))


def test_it_prints_as_html_and_as_a_table_of_rich():
    import rich.console

    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    found = backstory.summary(net, np.ones((2, 3), "float32"))
    html = found._repr_html_()
    assert html.count("<tr>") == 4
    assert "(2, 4)" in html
    console = rich.console.Console(record=True, width=100, file=io.StringIO())
    console.print(found)
    shown = console.export_text()
    assert "parameters" in shown
    assert "16 of 16" in shown
    with pytest.raises(KeyError, match="'2' is none of"):
        found["2"]


def test_refusals_say_what_to_write_instead():
    with pytest.raises(ArgumentError, match=r"summary\(model, x\)"):
        nn.summary(nn.Linear(3, 4))
    with pytest.raises(ArgumentError, match=r"module of backstory\.nn"):
        nn.summary(lambda x: x, backstory.ones(2))
