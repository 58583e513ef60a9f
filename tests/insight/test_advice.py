"""lint as a whole: silent on healthy networks, exact in what it measures, and without a trace."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from insight.advised import (
    CLASSES,
    FEATURES,
    HE,
    SAMPLES,
    XAVIER,
    convolutional,
    damped,
    deep,
    fed,
    he,
    labelled,
    mlp,
    narrow,
    plain,
    rated,
    scaled,
)

import backstory
from backstory import nn, optim
from backstory.errors import ArgumentError, GraphError
from backstory.insight.advice.weights import born_dead_bounds, born_dead_share
from backstory.nn import functional as F

HEALTHY = {
    "one hidden layer": lambda: mlp(FEATURES, 64, CLASSES),
    "three": lambda: mlp(FEATURES, 64, 64, 64, CLASSES),
    "twelve": lambda: mlp(FEATURES, *[64] * 12, CLASSES),
    "narrowing": lambda: mlp(FEATURES, 256, 64, 16, CLASSES),
    "batch norm": lambda: mlp(FEATURES, 64, 64, CLASSES, norm=True),
    "ten with batch norm": lambda: mlp(FEATURES, *[64] * 10, CLASSES, norm=True),
    "leaky": lambda: mlp(FEATURES, 64, 64, CLASSES, act=nn.LeakyReLU),
    "gelu": lambda: mlp(FEATURES, 64, 64, CLASSES, act=nn.GELU),
    "silu": lambda: mlp(FEATURES, 64, 64, CLASSES, act=nn.SiLU),
    "dropout": lambda: nn.Sequential(mlp(FEATURES, 64, 64), nn.ReLU(), nn.Dropout(), nn.Linear(64, CLASSES)),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_network_from_he_gives_no_finding(name):
    for seed in range(5):
        backstory.manual_seed(seed)
        model, sample = plain(HEALTHY[name]())
        for optimizer in (optim.SGD(model.parameters(), lr=0.01), optim.Adam(model.parameters())):
            assert not backstory.lint(model, sample, optimizer), seed
        assert not backstory.lint(model, sample[0]), seed


@pytest.mark.parametrize("norm", [False, True])
def test_a_healthy_convolutional_network_gives_no_finding(norm):
    for seed in range(5):
        backstory.manual_seed(seed)
        model = he(convolutional(norm))
        sample = backstory.randn(32, 1, 8, 8), backstory.randint(0, 10, (32,))
        assert not backstory.lint(model, sample, optim.Adam(model.parameters())), seed


def test_a_regression_from_he_gives_no_finding():
    model = he(mlp(FEATURES, 64, 64, 1))
    x = backstory.randn(SAMPLES, FEATURES)
    for y in (backstory.randn(SAMPLES, 1), backstory.randn(SAMPLES), None):
        assert not backstory.lint(model, (x, y), optim.Adam(model.parameters()))


class ZeroBranches(nn.Module):
    """A residual network whose branches end in weights of 0, so that it starts as one layer."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.stem = nn.Linear(FEATURES, 64)
        self.blocks = nn.ModuleList([mlp(64, 64, 64) for _ in range(depth)])
        self.head = nn.Linear(64, CLASSES)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x.relu())


def test_weights_of_zero_where_they_are_right_give_no_finding():
    model = he(ZeroBranches(8))
    for block in model.blocks:
        nn.init.zeros_(block[2].weight)
    assert not backstory.lint(model, labelled())
    model, sample = plain(mlp(FEATURES, 64, 64, CLASSES))
    nn.init.zeros_(model[4].weight)
    assert not backstory.lint(model, sample)


def test_weights_from_xavier_of_few_inputs_and_outputs_are_nearly_hes():
    assert not backstory.lint(*deep(nn.Tanh, 3, XAVIER)())
    model = he(mlp(200, 20, CLASSES))
    nn.init.xavier_normal_(model[0].weight)  # 2/(200 + 20) is nearly 2/200
    assert "init-too-small" not in backstory.lint(model, labelled(200)).codes


def state(model, optimizer, x, y):
    """Everything that lint could change, as bytes and values."""
    arrays = [p.array for p in (*model.parameters(), *model.buffers(), x, y)]
    arrays += [p.grad.array for p in model.parameters() if p.grad is not None]
    arrays += [v for s in optimizer.state.values() for v in s.values() if isinstance(v, np.ndarray)]
    counts = [v for s in optimizer.state.values() for v in s.values() if not isinstance(v, np.ndarray)]
    groups = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    flags = [m.training for m in model.modules()]
    wanted = [p.requires_grad for p in model.parameters()]
    stream = str(backstory.arrays.default_generator().get_state())
    return [a.tobytes() for a in arrays], counts, groups, flags, wanted, stream, optimizer.changes


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "kind", [optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop, optim.Adagrad, optim.NAdam]
)
def test_model_optimizer_sample_and_random_streams_stay_as_they_are(kind, training):
    model = nn.Sequential(
        nn.ReLU(inplace=True),
        nn.Linear(FEATURES, 32),
        nn.BatchNorm1d(32),
        nn.Dropout(0.5, inplace=True),
        nn.ReLU(inplace=True),
        nn.Linear(32, CLASSES),
    )
    x, y = labelled()
    settings = {"momentum": 0.9} if kind is optim.SGD else {}
    optimizer = kind(model.parameters(), lr=0.1, weight_decay=0.01, **settings)
    F.cross_entropy(model(x.clone()), y).backward()
    optimizer.step()
    model.train(training)
    model[3].train()
    model[1].bias.requires_grad_(False)
    before = state(model, optimizer, x, y)
    first, second = (str(backstory.lint(model, (x, y), optimizer)) for _ in range(2))
    assert state(model, optimizer, x, y) == before
    assert first == second


def test_a_watched_model_is_not_disturbed(tmp_path):
    model, (x, y) = plain(mlp(FEATURES, 8, CLASSES))
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    with backstory.watch(model, optimizer, tmp_path / "run", data=x) as run:
        for _ in range(3):
            backstory.lint(model, (x, y), optimizer)
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    assert run.steps.tolist() == [1, 2, 3]
    assert np.isfinite(run.losses).all()


def test_rates_are_judged_by_the_update_that_the_optimizer_would_make():
    for kind in (optim.SGD, optim.Adam, optim.RMSprop, optim.Adagrad):
        model, (x, y), optimizer = rated(3.0, kind)
        (found,) = [f for f in backstory.lint(model, (x, y), optimizer) if f.code == "rate-too-large"]
        before = {n: p.array.copy() for n, p in model.named_parameters()}
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        ratios = {
            n: np.linalg.norm(p.array - before[n]) / np.linalg.norm(before[n])
            for n, p in model.named_parameters()
            if p.ndim > 1
        }
        assert found.measured["ratio"] == pytest.approx(max(ratios.values()), rel=1e-5)
        assert found.layers == tuple(n for n, ratio in ratios.items() if ratio > 0.1)


def test_momentum_counts_as_it_builds_up():
    model, sample = plain(mlp(FEATURES, 64, CLASSES))
    x, y = sample
    rate = 0.1
    optimizer = optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    (found,) = backstory.lint(model, sample, optimizer)
    assert (found.code, found.measured["update"]) == ("rate-too-large", "built up")
    assert not backstory.lint(model, sample, optim.SGD(model.parameters(), lr=rate))
    F.cross_entropy(model(x), y).backward()
    before = {n: p.array.copy() for n, p in model.named_parameters()}
    for _ in range(30):  # the same gradient, and the weights put back before each step
        for n, p in model.named_parameters():
            p.array[...] = before[n]
        optimizer.step()
    weights = [n for n, p in model.named_parameters() if p.ndim > 1]
    after = dict(model.named_parameters())
    sizes = [np.linalg.norm(after[n].array - before[n]) / np.linalg.norm(before[n]) for n in weights]
    assert found.measured["ratio"] == pytest.approx(max(sizes), rel=1e-4)


def test_the_demo_is_warned_of_the_rate_that_kills_it():
    from backstory import demo

    model, optimizer = demo.build(demo.CONFIG)
    x, y, *_ = demo.data(demo.CONFIG)
    codes = {f.code: f for f in backstory.lint(model, (x, y), optimizer)}
    assert codes["rate-too-large"].measured["update"] == "built up"
    for change in ({"lr": 0.05}, {"optimizer": "adam", "lr": 1e-3}):
        model, optimizer = demo.build({**demo.CONFIG, **change})
        assert "rate-too-large" not in backstory.lint(model, (x, y), optimizer).codes


def test_a_rate_that_only_normalised_weights_feel_is_not_too_large():
    sizes = {}
    for norm in (False, True):
        backstory.manual_seed(0)
        model, sample = plain(mlp(FEATURES, 64, CLASSES, norm=norm))
        groups = [{"params": [model[0].weight]}]
        sizes[norm] = backstory.lint(model, sample, optim.SGD(groups, lr=10.0)).codes
    assert sizes == {False: ("rate-too-large",), True: ()}


def test_the_suggested_rate_makes_the_update_that_it_names():
    model, sample, optimizer = rated(100.0)
    (found,) = [f for f in backstory.lint(model, sample, optimizer) if f.code == "rate-too-large"]
    ratio = found.measured["ratio"] * found.measured["better"] / 100.0
    assert ratio == pytest.approx(found.measured["aim"], rel=0.35)  # of one digit
    slower = optim.SGD(model.parameters(), lr=found.measured["better"])
    assert "rate-too-large" not in backstory.lint(model, sample, slower).codes


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_signals_are_measured_as_a_loop_over_the_layers_does(factor):
    model, (x, y) = scaled(factor)
    (found,) = [f for f in backstory.lint(model, (x, y)) if f.code.endswith("-signal")]
    a, spreads = x.array.astype(np.float64), []
    for layer in [layer for layer in model if isinstance(layer, nn.Linear)][:-1]:
        z = a @ layer.weight.array.T + layer.bias.array
        spreads.append(math.sqrt(((z - z.mean(axis=0)) ** 2).mean()))
        a = np.maximum(z, 0)
    assert found.measured["first"] == pytest.approx(spreads[0], rel=1e-5)
    assert found.measured["last"] == pytest.approx(spreads[-1], rel=1e-4)
    assert found.measured["count"] == len(spreads) == len(found.layers)


def test_a_gradient_that_is_halved_in_each_of_ten_layers_is_measured_as_that():
    (found,) = [f for f in backstory.lint(*damped(0.5)) if f.code == "vanishing-gradient"]
    (kept,) = (abs(math.log2(f / 512)) for f in [found.measured["last"] / found.measured["first"]])
    assert kept < 2.0  # 2⁹ from the last to the first, times what ten random layers do


def test_ten_sigmoids_let_a_millionth_through():
    (found,) = [f for f in backstory.lint(*deep(nn.Sigmoid, 10, XAVIER)()) if f.code == "small-derivatives"]
    assert found.measured["bound"] == pytest.approx(0.25**10)
    assert found.measured["typical"] < 0.25**10
    assert found.severity == "warning"


def test_thirty_relu_layers_keep_their_signal_from_he_and_lose_it_from_xavier():
    """He et al. 2015, figure 3: thirty layers train from He and stall from Xavier."""
    good = backstory.lint(*deep(nn.ReLU, 30, HE)())
    bad = {f.code: f for f in backstory.lint(*deep(nn.ReLU, 30, XAVIER)())}
    assert not good
    assert bad["init-too-small"].severity == "warning"
    expected = 2.0 ** (-30 / 2)  # each layer halves the second moment
    assert bad["init-too-small"].measured["signal"] == pytest.approx(expected, rel=0.9)
    assert {"vanishing-signal", "vanishing-gradient"} <= bad.keys()


def test_default_weights_are_named_as_such_and_pytorchs_are_the_same():
    model = mlp(FEATURES, 64, 64, 64, 64, CLASSES)
    (found,) = [f for f in backstory.lint(model, labelled()) if f.code == "init-too-small"]
    assert found.measured["rule"] == "default"
    assert found.measured["scale"] == pytest.approx(1 / 3, rel=0.1)
    weight = torch.nn.Linear(64, 64).weight.detach()
    assert 64 * float((weight**2).mean()) == pytest.approx(1 / 3, rel=0.1)


@pytest.mark.parametrize("width", [2, 3, 4])
@pytest.mark.parametrize("depth", [4, 9])
def test_nets_of_one_input_are_born_dead_as_often_as_the_bounds_say(depth, width):
    """Lu et al. 2019, arXiv:1903.06733; four standard errors of 2,000 draws."""
    x = np.linspace(-1.0, 1.0, 9)[:, None]
    share = born_dead_share([width] * depth, x, draws=2000)
    error = 4 * math.sqrt(0.25 / 2000)
    low, high = born_dead_bounds([width] * depth)
    assert low - error <= share <= high + error
    single = born_dead_share([width] * depth, x[-1:], draws=2000, seed=1)
    assert single == pytest.approx(high, abs=error)


def test_the_predicted_share_of_dead_nets_is_that_of_nets_that_are_built():
    backstory.manual_seed(0)
    (found,) = [f for f in backstory.lint(*narrow(3)) if f.code == "likely-born-dead"]
    dead = 0
    for _ in range(200):
        model, (x, _) = narrow(3)
        out = model(x).array
        dead += bool((out == out[0]).all())
    assert dead / 200 == pytest.approx(found.measured["drawn"], abs=4 * math.sqrt(2 * 0.25 / 200))


def test_wide_enough_as_it_suggests_is_wide_enough():
    (found,) = [f for f in backstory.lint(*narrow(3)) if f.code == "likely-born-dead"]
    assert born_dead_bounds([found.measured["wider"]] * 12)[1] < 0.01
    assert "likely-born-dead" not in backstory.lint(*narrow(found.measured["wider"])).codes


def test_findings_come_gravest_first_and_name_layers_by_their_parameters():
    model = nn.Sequential(mlp(FEATURES, 64, 64), nn.ReLU(), nn.Linear(64, CLASSES), nn.Softmax(-1))
    advice = backstory.lint(he(model), (labelled()[0] + 10.0, labelled()[1]))
    assert advice.codes == ("softmax-before-cross-entropy", "inputs-not-centred")
    assert advice.worst == "error"
    model = mlp(FEATURES, 64, 64, CLASSES)
    assert backstory.lint(model, labelled())[0].layers == ("0", "2")


class Shared(nn.Module):
    """One layer that is used three times."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(FEATURES, FEATURES)
        self.head = nn.Linear(FEATURES, CLASSES)

    def forward(self, x):
        for _ in range(3):
            x = F.relu(self.inner(x))
        return self.head(x)


def test_a_layer_that_is_used_three_times_is_judged_once():
    (found,) = backstory.lint(Shared(), labelled())
    assert found.code == "init-too-small"
    assert found.layers == ("inner",)


class LastState(nn.Module):
    """A recurrent network that classifies by its last output."""

    def __init__(self, kind) -> None:
        super().__init__()
        self.recurrent, self.head = kind(FEATURES, 32, batch_first=True), nn.Linear(32, CLASSES)

    def forward(self, x):
        return self.head(self.recurrent(x)[0][:, -1])


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_recurrent_networks_of_a_dozen_steps_give_no_finding(kind):
    model = LastState(kind)
    sample = backstory.randn(SAMPLES, 12, FEATURES), labelled()[1]
    assert not backstory.lint(model, sample, optim.Adam(model.parameters()))


def test_a_layer_whose_weight_is_computed_is_judged_like_any_other():
    model = mlp(FEATURES, 64, CLASSES)
    before = backstory.lint(model, labelled())[0]
    nn.utils.parametrizations.weight_norm(model[0])
    after = backstory.lint(model, labelled())[0]
    assert (after.code, after.layers) == (before.code, before.layers) == ("init-too-small", ("0",))
    assert after.measured["scale"] == pytest.approx(before.measured["scale"], rel=1e-5)


class Attention(nn.Module):
    """Attention with one head over the positions of (N, T, features), and a skip around a gated part."""

    def __init__(self) -> None:
        super().__init__()
        self.queries, self.keys = nn.Linear(FEATURES, 16), nn.Linear(FEATURES, 16)
        self.values, self.head = nn.Linear(FEATURES, FEATURES), nn.Linear(FEATURES, CLASSES)
        self.up, self.down = nn.Linear(FEATURES, 64), nn.Linear(64, FEATURES)

    def forward(self, x):
        scores = self.queries(x) @ self.keys(x).transpose(1, 2) / 4.0
        x = x + scores.softmax(-1) @ self.values(x)
        return self.head((x + self.down(F.gelu(self.up(x)))).mean(1))


def test_the_bias_of_attentions_keys_does_nothing_and_small_branches_are_right():
    (found,) = backstory.lint(Attention(), (backstory.randn(SAMPLES, 6, FEATURES), labelled()[1]))
    assert (found.code, found.layers) == ("bias-before-norm", ("keys",))
    assert "softmax" in found.why
    model, x = Attention(), backstory.randn(SAMPLES, 6, FEATURES)
    before = model(x).array.copy()
    with backstory.no_grad():
        model.keys.bias.add_(backstory.randn(16))
    np.testing.assert_allclose(model(x).array, before, rtol=1e-4, atol=1e-5)


class Words(nn.Module):
    """Classifies by two words and a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 16)
        self.first, self.last = nn.Linear(32 + FEATURES, 64), nn.Linear(64, CLASSES)

    def forward(self, words, x):
        both = backstory.cat([self.table(words).flatten(1), x], 1)
        return self.last(F.relu(self.first(both)))


def test_models_of_several_inputs_and_of_whole_numbers_are_judged():
    x, y = labelled()
    words = backstory.randint(0, 7, (SAMPLES, 2))
    model = Words()
    assert backstory.lint(model, ((words, x), y)).codes == ("init-too-small",)
    for layer in (model.first, model.last):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    assert not backstory.lint(model, ((words, x), None), optim.Adam(model.parameters()))
    deep_model = he(nn.Sequential(nn.Embedding(7, 16), nn.Flatten(), mlp(32, *[64] * 10, CLASSES)))
    with backstory.no_grad():
        for p in deep_model[2].parameters():
            p.mul_(0.5)
    assert "vanishing-signal" in backstory.lint(deep_model, (words, y)).codes


def test_a_loss_inside_the_model_is_judged_where_it_is():
    class WithLoss(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = he(nn.Sequential(*mlp(FEATURES, 64, CLASSES), nn.Softmax(-1)))

        def forward(self, x, y):
            return F.cross_entropy(self.net(x), y)

    model = WithLoss()
    (found,) = backstory.lint(model, (labelled(), None), optim.Adam(model.parameters()))
    assert (found.code, found.severity) == ("softmax-before-cross-entropy", "error")


def test_plain_arrays_and_batches_of_a_loader_will_do():
    model, (x, y) = plain(mlp(FEATURES, 64, CLASSES))
    loader = backstory.data.DataLoader(backstory.data.TensorDataset(x, y), batch_size=SAMPLES)
    assert not backstory.lint(model, next(iter(loader)))
    assert not backstory.lint(model, (x.array, y.array))
    assert not backstory.lint(model, x.tolist())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (lambda m, x, y: (torch.nn.Linear(2, 2), x), "a model of PyTorch"),
        (lambda m, x, y: (lambda x: x, x), "received function"),
        (lambda m, x, y: (m, (x, y[:3])), "targets of shape"),
        (lambda m, x, y: (m, (x, backstory.randn(SAMPLES, 3))), "neither labels"),
        (lambda m, x, y: (m, (x, x, y)), "a tuple of 3"),
        (lambda m, x, y: (m, x[:0]), "there are none"),
        (lambda m, x, y: (m, x / 0.0), "NaN or infinity"),
        (lambda m, x, y: (m, x, optim.SGD(mlp(2, 2).parameters(), lr=1)), "moves no parameter"),
        (lambda m, x, y: (m, x, torch.optim.SGD([torch.ones(1)], lr=1)), "an optimizer of backstory.optim"),
    ],
)
def test_what_cannot_be_judged_is_refused(arguments, said):
    model, (x, y) = plain(mlp(FEATURES, 8, CLASSES))
    with pytest.raises(ArgumentError, match=said):
        backstory.lint(*arguments(model, x, y))


def test_a_model_without_history_or_output_is_refused():
    class Silent(nn.Module):
        def forward(self, x):
            return x.detach() if x.ndim == 2 else None

    with pytest.raises(GraphError, match="no history"):
        backstory.lint(Silent(), backstory.randn(8, 2))
    with pytest.raises(ArgumentError, match="returns NoneType"):
        backstory.lint(Silent(), backstory.randn(8, 2, 2))


def test_advice_prints_itself_everywhere():
    from rich.console import Console

    advice = backstory.lint(*deep(nn.Sigmoid, 10, XAVIER)())
    text = str(advice)
    assert text == repr(advice)
    assert text.splitlines()[0] == "lint: 3 warnings"
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 100
    for finding in advice:
        assert finding.code in text
        assert str(finding).splitlines()[0] in text
    shown = io.StringIO()
    Console(force_terminal=True, color_system="standard", width=100, file=shown).print(advice)
    assert "\x1b[1;33m▲ warning" in shown.getvalue()
    page = advice._repr_html_()
    assert page.count("<table") == len(advice) == 3
    empty = backstory.lint(*plain(mlp(FEATURES, 64, CLASSES)))
    assert not empty
    assert str(empty) == "lint: nothing to find fault with"
    assert (list(empty), empty.worst) == ([], None)


def test_findings_are_records_that_nobody_changes():
    finding = backstory.lint(*fed(mean=10.0))[0]
    with pytest.raises(AttributeError):
        finding.code = "another"
    with pytest.raises(TypeError):
        finding.measured["share"] = 0.0
