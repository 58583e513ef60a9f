"""Every layer and every loss of the package in a compiled training step, which does as the eager step does.

The lists are the package's own: a layer or a loss without a case fails.
"""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from compiler.steps import alike
from nn.test_activation import CASES as ACTIVATIONS
from nn.test_activation import IN_PLACE
from nn.test_conv import CASES as WINDOWS
from nn.test_losses import CASES as LOSS_FUNCTIONS
from nn.test_losses import MODULES as LOSSES
from nn.test_normalization import EACH as NORMALISATIONS

import backstory
from backstory import nn, optim
from backstory.compiler.program import build as native
from backstory.compiler.replay import Replay
from backstory.func import tree
from backstory.tensor import Tensor

F = nn.functional
BATCH = (4, 3)
IMAGES, SEQUENCES = (2, 3, 4, 4), (2, 3, 4)


def cell(kind, steps=3, **options):
    """A cell called step by step."""

    class Unrolled(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = getattr(nn, kind)(3, 4, **options)

        def forward(self, x):
            state = None
            for _ in range(steps):
                state = self.cell(x, state)
            return state

    return Unrolled


def listed():
    """A network of lists of modules and of parameters."""

    class Listed(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
            self.named = nn.ModuleDict({"gate": nn.Sigmoid(), "out": nn.Linear(3, 2)})
            self.scales = nn.ParameterList([nn.Parameter(backstory.ones(3)), nn.Parameter(backstory.ones(1))])

        def forward(self, x):
            for layer, scale in zip(self.layers, self.scales, strict=True):
                x = self.named["gate"](layer(x)) * scale
            return self.named["out"](x)

    return Listed()


def recurrent(kind, given=False, **options):
    """A recurrent layer, with states from outside if they are ``given``."""

    class Run(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = getattr(nn, kind)(3, 2, **options)
            parts = 2 if kind == "LSTM" else 1
            self.states = nn.ParameterList([nn.Parameter(backstory.ones(1, 3, 2) / 3) for _ in range(parts)])

        def forward(self, x):
            states = tuple(self.states)
            return self.layer(x, *([states if len(states) == 2 else states[0]] if given else []))

    return Run


DEEP = {"num_layers": 2, "bidirectional": True, "batch_first": True, "bias": False}
# What a layer is built by, the shape of its input, and the classes that the case stands for.
BUILT = {
    "linear": (lambda: nn.Linear(3, 5), BATCH, "Linear"),
    "linear without bias": (lambda: nn.Linear(3, 5, bias=False), (2, *BATCH), "Linear"),
    "identity": (lambda: nn.Identity(), BATCH, "Identity"),
    "flatten": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), SEQUENCES, "Flatten Sequential"),
    "flatten, some": (lambda: nn.Flatten(0, 1), SEQUENCES, "Flatten"),
    "unflatten": (lambda: nn.Unflatten(1, (3, 1)), BATCH, "Unflatten"),
    "residual": (lambda: nn.Residual(nn.Linear(3, 3), nn.ReLU()), BATCH, "Residual"),
    "lists": (listed, BATCH, "ModuleList ModuleDict ParameterList"),
    "dropout": (lambda: nn.Dropout(0.3), (6, 7), "Dropout"),
    "dropout of nothing": (lambda: nn.Dropout(0.0), BATCH, "Dropout"),
    "dropout of all": (lambda: nn.Dropout(1.0), BATCH, "Dropout"),
    "dropout in place": (lambda: nn.Dropout(0.5, inplace=True), BATCH, "Dropout"),
    "dropout of channels": (lambda: nn.Dropout1d(0.4), SEQUENCES, "Dropout1d"),
    "dropout of images' channels": (lambda: nn.Dropout2d(0.4), IMAGES, "Dropout2d"),
    "alpha dropout": (lambda: nn.AlphaDropout(0.3), (6, 7), "AlphaDropout"),
    "statistics by average": (lambda: nn.BatchNorm1d(3, momentum=None), BATCH, "BatchNorm1d"),
    "no statistics": (lambda: nn.BatchNorm1d(3, track_running_stats=False), BATCH, "BatchNorm1d"),
    "rnn": (recurrent("RNN"), BATCH[:1] + BATCH, "RNN"),
    "rnn, relu, deep": (recurrent("RNN", nonlinearity="relu", **DEEP), (2, 3, 3), "RNN"),
    "rnn, given": (recurrent("RNN", True), (2, 3, 3), "RNN"),
    "lstm": (recurrent("LSTM"), (2, 3, 3), "LSTM"),
    "lstm, deep": (recurrent("LSTM", **DEEP), (2, 3, 3), "LSTM"),
    "lstm, given": (recurrent("LSTM", True), (2, 3, 3), "LSTM"),
    "gru": (recurrent("GRU"), (2, 3, 3), "GRU"),
    "gru, deep": (recurrent("GRU", **DEEP), (2, 3, 3), "GRU"),
    "gru, given": (recurrent("GRU", True), (2, 3, 3), "GRU"),
    "rnn cell": (cell("RNNCell"), BATCH, "RNNCell"),
    "lstm cell": (cell("LSTMCell", 1), BATCH, "LSTMCell"),
    "gru cell": (cell("GRUCell", bias=False), BATCH, "GRUCell"),
    "embedding": (lambda: nn.Embedding(5, 3), (4, 2, int), "Embedding"),
    "embedding, padded": (lambda: nn.Embedding(5, 3, padding_idx=0), (4, int), "Embedding"),
}


def made_by(name, arguments, keywords):
    return lambda: getattr(nn, name)(*arguments, **keywords)


LAYERS = {
    **BUILT,
    **{f"{n} {a}": (made_by(n, a, {}), BATCH, n) for n, a in ACTIVATIONS},
    **{f"{n} in place": (made_by(n, (), {"inplace": True}), BATCH, n) for n in IN_PLACE if n != "Threshold"},
    **{f"{n} {a} {k} {s}": (made_by(n, a, k), s, n) for n, a, k, s in WINDOWS},
    **{f"{n} {a} {s}": (made_by(n, a, {}), s, n) for n, a, s in NORMALISATIONS},
}


def hosts(step):
    """What the programs of a step leave to NumPy, between the native tables."""
    return {name for bound in step._bound for part in bound.program.explain().host for name in part.computes}


class Scaled(nn.Module):
    """A layer behind weights of its own, so that all layers have something to train."""

    def __init__(self, layer, shape):
        super().__init__()
        self.layer, self.scale = layer, nn.Parameter(backstory.tensor(np.linspace(0.5, 1.5, shape[-1])))

    def forward(self, x):
        return self.layer(x * self.scale)


def given(shape, count, rng):
    if shape[-1] is int:
        return [(backstory.tensor(rng.integers(0, 5, shape[:-1])),) for _ in range(count)]
    return [(backstory.tensor(rng.normal(size=shape)),) for _ in range(count)]


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_trains_and_is_evaluated_as_eagerly(name, rng):
    layer, shape, _ = LAYERS[name]

    def make():
        model = layer().double()
        if shape[-1] is not int:
            model = Scaled(model, shape).double()
        optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

        def step(x):
            optimizer.zero_grad()
            out = model(x)
            parts = [part for part in tree.flatten(out)[0] if isinstance(part, Tensor)]
            loss = sum(((part * part).mean() for part in parts), backstory.zeros((), dtype=np.float64))
            loss.backward()
            optimizer.step()
            return loss, out

        return step, [model, optimizer]

    def between(number, state):
        state[0].train(number != 2)

    step = alike(make, given(shape, 4, rng), native, misses=2, between=between)
    assert not hosts(step)


def test_every_layer_has_a_case():
    modules = {
        n for n in nn.__all__ if inspect.isclass(getattr(nn, n)) and issubclass(getattr(nn, n), nn.Module)
    }
    cased = {name for *_, names in LAYERS.values() for name in names.split()}
    assert modules - cased - set(LOSSES) == {"Module"}
    assert cased <= modules


def lessened(loss, arrays, build, lr=0.05):
    """The first array moved by a loss, for three steps."""

    def make():
        x = nn.Parameter(backstory.tensor(np.asarray(arrays[0])))
        optimizer = optim.SGD([x], lr=lr, momentum=0.9)

        def step(*others):
            optimizer.zero_grad()
            value = loss(x, *others)
            value.sum().backward()
            optimizer.step()
            return value

        return step, [x, optimizer]

    rest = tuple(backstory.tensor(np.asarray(array)) for array in arrays[1:])
    step = alike(make, [rest] * 3, build, misses=None)
    assert step.cache_info().misses <= 2  # at first, labels are taken to be classes
    return step


@pytest.mark.parametrize("name", LOSS_FUNCTIONS)
@pytest.mark.parametrize(
    ("build", "reduction"), [(native, "mean"), (Replay, "none"), (Replay, "sum")], ids=["mean", "none", "sum"]
)
def test_every_loss_is_lessened_as_eagerly(name, build, reduction):
    function, arrays, keywords = LOSS_FUNCTIONS[name]
    options = {k: backstory.tensor(v) if isinstance(v, np.ndarray) else v for k, v in keywords.items()}
    lr = 0.0 if function == "binary_cross_entropy" else 0.05  # probabilities stay what they are
    step = lessened(lambda *x: getattr(F, function)(*x, reduction=reduction, **options), arrays, build, lr)
    assert build is Replay or not hosts(step)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_module_is_lessened_as_eagerly(name):
    arrays, keywords = LOSSES[name]
    options = {k: backstory.tensor(v) if isinstance(v, np.ndarray) else v for k, v in keywords.items()}
    assert not hosts(lessened(getattr(nn, name)(**options), arrays, native, 0.001))
