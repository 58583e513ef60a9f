"""Norms of gradients, of true changes and of weights, and learning rates, against copies made by hand."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from adapters.torch.slow import F64, images, inputs, network, norm, parameters_of, same, sgd, targets
from torch import nn, optim

from backstory.insight import watch


def recorded(model, optimizer, path, steps=11, step=None, x=None, **options):
    """Watch a few steps; what was recorded, and the same by hand: per name (gradient, change, weight)."""
    x = inputs() if x is None else x
    truth = {name: [] for name, _ in model.named_parameters()}
    losses, rates = [], []
    with watch(model, optimizer, path, data=x, **options) as run:
        for i in range(steps):
            before = parameters_of(model)
            rates.append([float(group["lr"]) for group in optimizer.param_groups])
            losses.append((step or one_step)(model, optimizer, x, i))
            for name, p in model.named_parameters():
                truth[name].append([norm(p.grad), norm(p - before[name]), norm(p)])
        return run.norms(), run.losses, run.rates, truth, losses, rates


def one_step(model, optimizer, x, i):
    loss = (model(x) - targets(x)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def held(row):
    """Weights are taken at steps 1, 9, … and stand until the next."""
    return np.array([row[i - i % 8] for i in range(len(row))])


def agree(found, truth, slack=1e-12, moved=None):
    for name in found if moved is None else moved:
        expected = np.array(truth[name]).T
        np.testing.assert_allclose(found[name][0], expected[0], rtol=slack, atol=1e-14, err_msg=name)
        np.testing.assert_allclose(found[name][1], expected[1], rtol=slack * 10, atol=1e-14, err_msg=name)
        np.testing.assert_allclose(found[name][2], held(expected[2]), rtol=slack, err_msg=name)


OPTIMIZERS = {
    "SGD": (optim.SGD, {"lr": 0.1}),
    "SGD momentum": (optim.SGD, {"lr": 0.05, "momentum": 0.9}),
    "SGD dampening": (optim.SGD, {"lr": 0.05, "momentum": 0.9, "dampening": 0.5}),
    "SGD nesterov": (optim.SGD, {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
    "SGD decay": (optim.SGD, {"lr": 0.05, "weight_decay": 0.1}),
    "SGD maximize": (optim.SGD, {"lr": 0.001, "momentum": 0.5, "maximize": True}),
    "SGD everything": (optim.SGD, {"lr": 0.01, "momentum": 0.9, "dampening": 0.1, "weight_decay": 0.1,
                                   "maximize": True}),
    "SGD foreach": (optim.SGD, {"lr": 0.1, "foreach": True}),
    "SGD fused": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "fused": True}),
    "SGD tensor rate": (optim.SGD, {"lr": torch.tensor(0.1, dtype=F64)}),
    "Adam": (optim.Adam, {"lr": 0.01}),
    "Adam amsgrad": (optim.Adam, {"lr": 0.01, "amsgrad": True, "weight_decay": 0.1}),
    "Adam fused": (optim.Adam, {"lr": 0.01, "fused": True}),
    "AdamW": (optim.AdamW, {"lr": 0.01}),
    "RMSprop": (optim.RMSprop, {"lr": 0.01, "momentum": 0.5, "centered": True}),
    "Adagrad": (optim.Adagrad, {"lr": 0.01}),
    "NAdam": (optim.NAdam, {"lr": 0.01}),
    "Rprop": (optim.Rprop, {"lr": 0.01}),
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_norms_losses_and_rates_are_those_of_copies_made_by_hand(name, tmp_path):
    kind, options = OPTIMIZERS[name]
    model = network()
    optimizer = kind(model.parameters(), **options)
    norms, losses, rates, truth, seen, lrs = recorded(model, optimizer, tmp_path / "run")
    agree(norms, truth)
    assert losses.tolist() == seen
    assert rates.tolist() == lrs


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_watched_training_is_bit_for_bit_the_bare_one(name, tmp_path):
    ends = []
    kind, options = OPTIMIZERS[name]
    for watched in (False, True):
        model = network()
        optimizer = kind(model.parameters(), **options)
        if watched:
            with watch(model, optimizer, tmp_path / "run", data=inputs(), scan_at=lambda step: True):
                losses = [one_step(model, optimizer, inputs(), i) for i in range(5)]
        else:
            losses = [one_step(model, optimizer, inputs(), i) for i in range(5)]
        ends.append((losses, parameters_of(model)))
    assert ends[0][0] == ends[1][0]
    assert same(ends[0][1], ends[1][1])


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_a_step_with_a_closure_starts_from_its_first_loss(search, tmp_path):
    """LBFGS computes several gradients in a step; that of the first loss is the one it starts from."""
    first, gradients = [], []

    def step(model, optimizer, x, i):
        losses = []

        def closure():
            optimizer.zero_grad()
            loss = (model(x) - targets(x)).square().mean()
            loss.backward()
            losses.append(loss.item())
            if len(losses) == 1:
                gradients.append([p.grad.norm().item() for p in model.parameters()])
            return loss

        optimizer.step(closure)
        first.append(len(losses))
        return losses[0]

    model = network()
    optimizer = optim.LBFGS(model.parameters(), lr=0.1, max_iter=4, line_search_fn=search)
    norms, losses, _, truth, seen, _ = recorded(model, optimizer, tmp_path / "run", 9, step)
    assert losses.tolist() == seen
    assert max(first) > 1, "otherwise nothing is tested"
    for i, name in enumerate(truth):
        truth[name] = [[g[i], *rest] for g, (_, *rest) in zip(gradients, truth[name], strict=True)]
    agree(norms, truth)


def test_sgd_with_a_closure(tmp_path):
    def step(model, optimizer, x, i):
        def closure():
            optimizer.zero_grad()
            loss = (model(x) - targets(x)).square().mean()
            loss.backward()
            return loss

        return optimizer.step(closure).item()

    model = network()
    norms, losses, _, truth, seen, _ = recorded(model, sgd(model, momentum=0.9), tmp_path / "run", 5, step)
    assert losses.tolist() == seen
    agree(norms, truth)


def test_groups_schedules_clipping_and_what_does_not_move(tmp_path):
    model = network()
    model[4].bias.requires_grad_(False)
    optimizer = optim.SGD(
        [{"params": [model[0].weight, model[0].bias], "lr": 0.1, "momentum": 0.9},
         {"params": [model[2].weight, model[4].bias], "lr": 0.01, "weight_decay": 0.1}],
        lr=0.5,
    )  # fmt: skip
    schedule = optim.lr_scheduler.ExponentialLR(optimizer, 0.5)

    def step(model, optimizer, x, i):
        loss = (model(x) - targets(x)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        schedule.step()
        return loss.item()

    norms, losses, rates, truth, seen, lrs = recorded(model, optimizer, tmp_path / "run", 11, step)
    assert list(norms) == ["0.weight", "0.bias", "2.weight"]
    agree(norms, truth)
    assert losses.tolist() == seen
    assert rates.tolist() == lrs
    assert rates[3].tolist() == [0.0125, 0.00125]
    from backstory.insight import open_run

    expected = dict.fromkeys(("2.bias", "4.weight"), "in no optimizer") | {"4.bias": "frozen"}
    assert open_run(tmp_path / "run").meta["unmoved"] == expected


def test_a_group_that_is_added_on_the_way_is_told_and_its_rate_recorded(tmp_path):
    model = network()
    model[4].requires_grad_(False)
    optimizer = optim.SGD([*model[0].parameters(), *model[2].parameters()], lr=0.1)

    def step(model, optimizer, x, i):
        if i == 2:
            model[4].requires_grad_(True)
            optimizer.add_param_group({"params": list(model[4].parameters()), "lr": 0.3})
        return one_step(model, optimizer, x, i)

    with pytest.warns(RuntimeWarning, match=r"the optimizer moves 2 parameters that it did not.*4\.weight"):
        norms, losses, rates, truth, seen, _ = recorded(model, optimizer, tmp_path / "run", 5, step)
    agree(norms, truth)
    assert losses.tolist() == seen
    np.testing.assert_array_equal(rates, [[0.1, np.nan]] * 2 + [[0.1, 0.3]] * 3)


def test_after_load_state_dict_the_new_groups_count(tmp_path):
    model = network()
    optimizer = sgd(model, lr=0.1)

    def step(model, optimizer, x, i):
        if i == 2:
            optimizer.load_state_dict(optimizer.state_dict())
            optimizer.param_groups[0]["lr"] = 0.001
        return one_step(model, optimizer, x, i)

    norms, _, rates, truth, _, _ = recorded(model, optimizer, tmp_path / "run", 5, step)
    agree(norms, truth)
    assert rates[:, 0].tolist() == [0.1, 0.1, 0.001, 0.001, 0.001]


def test_a_rate_that_is_a_tensor_is_the_one_of_its_step(tmp_path):
    model = network()
    optimizer = sgd(model, lr=torch.tensor(0.1, dtype=F64))

    def step(model, optimizer, x, i):
        loss = one_step(model, optimizer, x, i)
        optimizer.param_groups[0]["lr"].mul_(0.5)
        return loss

    norms, _, rates, truth, _, _ = recorded(model, optimizer, tmp_path / "run", 4, step)
    assert rates[:, 0].tolist() == [0.1, 0.05, 0.025, 0.0125]
    agree(norms, truth)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["SGD", "SGD momentum", "Adam"])
def test_a_change_too_small_for_the_parameter_is_none(dtype, name, tmp_path):
    """In half precision most of a small step is lost; the true change is what is recorded."""
    kind, options = OPTIMIZERS[name]
    model = network(dtype=dtype)
    narrow = {"eps": 1e-4} if name == "Adam" else {}  # the default is 0 in half precision
    optimizer = kind(model.parameters(), **options | narrow | {"lr": 1e-4})

    def step(model, optimizer, x, i):
        return one_step(model, optimizer, x.to(dtype), i)

    norms, losses, _, truth, seen, _ = recorded(
        model, optimizer, tmp_path / "run", 3, step, inputs().to(dtype)
    )
    half = dtype != torch.float32
    agree(norms, truth, 1e-4 if half else 1e-3)
    assert losses.tolist() == seen


def test_parameters_of_several_precisions(tmp_path):
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(5, 4, dtype=F64), nn.Linear(4, 3, dtype=torch.bfloat16)
            self.c = nn.Linear(3, 1)

        def forward(self, x):
            return self.c(torch.relu(self.b(torch.relu(self.a(x)).bfloat16())).float())

    torch.manual_seed(0)
    model = Mixed()
    norms, _, _, truth, _, _ = recorded(model, sgd(model), tmp_path / "run", 3)
    agree(norms, truth, 1e-3)
    agree(norms, truth, 1e-12, ["a.weight", "a.bias"])


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sparse_gradients(momentum, tmp_path):
    class Sparse(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(7, 4, sparse=True, dtype=F64)
            self.out = nn.Linear(4, 1, dtype=F64)

        def forward(self, x):
            return self.out(torch.relu(self.table(x)).sum(1))

    torch.manual_seed(0)
    model, x = Sparse(), torch.randint(0, 7, (9, 3))

    def step(model, optimizer, x, i):
        loss = model(x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.table.weight.grad = model.table.weight.grad.to_dense()
        return loss.item()

    optimizer = sgd(model, 0.01, momentum=momentum)
    norms, _, _, truth, _, _ = recorded(model, optimizer, tmp_path / "run", 4, step, x)
    agree(norms, truth)


def test_tied_weights_are_one_parameter(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(5, 5, dtype=F64), nn.Linear(5, 5, dtype=F64)
            self.b.weight = self.a.weight
            self.out = nn.Linear(5, 1, dtype=F64)

        def forward(self, x):
            return self.out(torch.relu(self.b(torch.relu(self.a(x)))))

    torch.manual_seed(0)
    model = Tied()
    norms, losses, _, truth, seen, _ = recorded(model, sgd(model), tmp_path / "run", 4)
    assert list(norms) == ["a.weight", "a.bias", "b.bias", "out.weight", "out.bias"]
    agree(norms, truth)
    assert losses.tolist() == seen


def test_a_model_made_double_while_watched_goes_on_with_warnings_alone(tmp_path):
    """The declared data no longer fits: that is told, and norms are those of the new precision."""
    torch.manual_seed(0)
    model = network(dtype=torch.float32)
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.5, nesterov=True)
    truth = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with watch(model, optimizer, tmp_path / "run", data=inputs().float()) as run:
            for i in range(6):
                if i == 2:
                    model.double()
                    for p in model.parameters():
                        state = optimizer.state[p]
                        state["momentum_buffer"] = state["momentum_buffer"].double()
                before = parameters_of(model)
                one_step(model, optimizer, inputs().to(model[0].weight.dtype), i)
                truth.append(norm(model[0].weight - before["0.weight"]))
            np.testing.assert_allclose(run.norms()["0.weight"][1][2:], truth[2:], rtol=1e-12)
    assert len(caught) == 2, "the scans after step 4 and at the end"
    assert all("raised on the declared data" in str(one.message) for one in caught)


def test_a_parameter_without_a_gradient_has_norms_of_0(tmp_path):
    class Sometimes(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(5, 1, dtype=F64), nn.Linear(5, 1, dtype=F64)

        def forward(self, x):
            return torch.relu(self.used(x))

    torch.manual_seed(0)
    model = Sometimes()
    norms, _, _, truth, _, _ = recorded(model, sgd(model, momentum=0.9), tmp_path / "run", 3)
    agree(norms, truth)
    assert not norms["unused.weight"][:2].any()


def test_convolutions_have_norms_too(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 1)).double()

    def step(model, optimizer, x, i):
        loss = model(x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    optimizer = optim.Adam(model.parameters(), lr=0.01)
    found = recorded(model, optimizer, tmp_path / "run", 3, step, images(5, 1, 3, 3))
    agree(found[0], found[3])
