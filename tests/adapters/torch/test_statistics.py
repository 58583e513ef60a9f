"""What is recorded of every step, against hand-written hooks."""

from __future__ import annotations

import contextlib
import threading

import numpy as np
import pytest
import torch
from adapters.torch.slow import (
    F64,
    Gated,
    always,
    gates_of,
    images,
    inputs,
    network,
    never,
    parameters_of,
    same,
    sgd,
    site_names,
    slow_derivative,
    slow_open,
    states_of,
    step_once,
    targets,
    wide_linear,
)
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from backstory.insight import open_run, watch

SITES = ("1/relu#0", "3/relu#0")


def open_of(model, x):
    """How many rows of ``x`` open each unit of the first hidden layer."""
    with torch.no_grad():
        return (F.linear(x, model[0].weight, model[0].bias) > 0).sum(0).tolist()


def setting(lr=0.05, **options):
    model = network()
    return model, sgd(model, lr, **options)


# Gates


def test_gates_of_every_step_are_those_that_hand_written_hooks_see(tmp_path):
    model, optimizer = setting(lr=0.3, momentum=0.5)
    x = inputs()
    seen = {site: [] for site in SITES}

    def hook(module, args, output):
        if module.training:
            seen[SITES[0] if module is model[1] else SITES[1]].append((output > 0).sum(0).tolist())

    with watch(model, optimizer, tmp_path / "run", data=x) as run:
        for place in (1, 3):
            model[place].register_forward_hook(hook)
        for step in range(9):
            batch = x[step : step + 11]
            step_once(model, optimizer, batch, targets(batch))
        for site in SITES:
            assert gates_of(run, site) == [(i + 1, 11, counts) for i, counts in enumerate(seen[site])]


def test_only_every_so_many_steps_are_measured_and_all_losses_kept(tmp_path):
    model, optimizer = setting()
    with watch(model, optimizer, tmp_path / "run", data=inputs(), every=3) as run:
        losses = [step_once(model, optimizer, inputs()) for _ in range(8)]
    run = open_run(tmp_path / "run")
    assert run.losses.tolist() == losses
    assert run.gates(SITES[1])[0].tolist() == [1, 4, 7]
    assert np.flatnonzero(np.isfinite(run.norms()["0.weight"][0])).tolist() == [0, 3, 6]


def test_a_module_that_is_used_again_is_a_site_for_each_call(tmp_path):
    model = Gated(nn.Linear(5, 6, dtype=F64), nn.Hardshrink(0.1), times=3)
    optimizer = sgd(model)
    with watch(model, optimizer, tmp_path / "run", data=inputs()) as run:
        model.kept.clear()
        step_once(model, optimizer, inputs())
        assert site_names(run) == [f"gate/hardshrink#{i}" for i in range(3)]
        for i in range(3):
            expected = slow_open(slow_derivative(nn.Hardshrink(0.1), model.kept[i]))
            assert gates_of(run, f"gate/hardshrink#{i}") == [(1, 40, expected)]


def test_several_forward_passes_of_a_step_add_up(tmp_path):
    model, optimizer = setting(lr=0.0)
    x = inputs()
    with watch(model, optimizer, tmp_path / "run", data=x) as run:
        (model(x).sum() + model(x[:7]).sum()).backward()
        optimizer.step()
        expected = [a + b for a, b in zip(open_of(model, x), open_of(model, x[:7]), strict=True)]
        assert gates_of(run, SITES[0]) == [(1, 47, expected)]


def test_evaluations_are_not_counted(tmp_path):
    model, optimizer = setting()
    x = inputs()
    with watch(model, optimizer, tmp_path / "run", data=x) as run:
        for step in (1, 2):
            with torch.no_grad():
                model(x[:5])
            with torch.inference_mode():
                model(x[:5])
            model.eval()
            model(-x)
            model.train()
            opened = open_of(model, x)
            step_once(model, optimizer, x)
            assert gates_of(run, SITES[0])[-1] == (step, 40, opened)


FRONTS = {
    "conv1d": (lambda: nn.Conv1d(2, 3, 3), (9, 2, 8), -2),
    "conv2d": (lambda: nn.Conv2d(2, 3, 3), (9, 2, 6, 6), -3),
    "conv3d": (lambda: nn.Conv3d(1, 3, 2), (9, 1, 3, 3, 3), -4),
    "transposed convolution": (lambda: nn.ConvTranspose2d(2, 3, 2), (9, 2, 3, 3), -3),
    "linear on positions": (lambda: nn.Linear(4, 3), (9, 5, 4), -1),
    "linear on four axes": (lambda: nn.Linear(4, 3), (9, 2, 5, 4), -1),
    "convolution, then pooling": (
        lambda: nn.Sequential(nn.Conv1d(2, 3, 3), nn.MaxPool1d(2)), (9, 2, 8), -2),
    "convolution, then flatten": (lambda: nn.Sequential(nn.Conv2d(1, 2, 2), nn.Flatten()), (9, 1, 3, 3), -1),
    "convolution, then batch norm": (
        lambda: nn.Sequential(nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3)), (9, 1, 3, 3), -3),
    "convolution, then group norm": (
        lambda: nn.Sequential(nn.Conv1d(1, 4, 2), nn.GroupNorm(2, 4)), (9, 1, 5), -2),
    "convolution, then layer norm": (
        lambda: nn.Sequential(nn.Conv2d(1, 3, 2), nn.LayerNorm([3, 2, 4])), (9, 1, 3, 5), -3),
    "convolution, then instance norm": (
        lambda: nn.Sequential(nn.Conv1d(1, 4, 2), nn.InstanceNorm1d(4)), (9, 1, 5), -2),
    "linear, then batch norm": (lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), (9, 4), -1),
    "linear on positions, then layer norm": (
        lambda: nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3)), (9, 5, 4), -1),
    "channels moved last": (lambda: nn.Sequential(nn.Conv2d(1, 3, 2), Moved()), (9, 1, 3, 5), -1),
    "channels put together": (lambda: Together(), (9, 1, 6), -2),
    "channels cut out": (lambda: nn.Sequential(nn.Conv1d(1, 4, 2), Cut()), (9, 1, 6), -2),
    "embeddings": (lambda: nn.Embedding(5, 3), "indices", -1),
    "attention scores": (lambda: Scores(), (9, 4, 5), -1),
}  # fmt: skip


class Moved(nn.Module):
    def forward(self, x):
        return x.permute(0, 2, 3, 1) * 2.0


class Together(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv1d(1, 2, 3), nn.Conv1d(1, 3, 3)

    def forward(self, x):
        return torch.cat([self.a(x), self.b(x)], dim=1) + 0.1


class Cut(nn.Module):
    def forward(self, x):
        return x.chunk(2, dim=1)[0][:, :, 1:] * 1.0


class Scores(nn.Module):
    def __init__(self):
        super().__init__()
        self.q = nn.Linear(5, 6)

    def forward(self, x):
        q = self.q(x).reshape(len(x), 4, 2, 3).transpose(1, 2)
        return q @ q.transpose(2, 3)


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("inplace", [False, True])
def test_a_unit_is_one_feature_or_channel_whatever_stands_in_front(front, inplace, tmp_path):
    make, shape, axis = FRONTS[front]
    torch.manual_seed(1)
    x = torch.randint(0, 5, (9, 4)) if shape == "indices" else images(*shape)
    body = make().double()
    gate = nn.ReLU(inplace=inplace)
    model = Gated(body, gate, flat=body.train()(x).flatten(1).shape[1])
    optimizer = sgd(model)
    with watch(model, optimizer, tmp_path / "run", data=x) as run:
        model.kept.clear()
        step_once(model, optimizer, x)
        z = model.kept[0]
        step, entries, opened = gates_of(run, "gate/relu#0")[0]
        assert (step, entries) == (1, z.numel() // z.shape[axis])
        assert opened == slow_open((z > 0).double(), axis)
        model.kept.clear()
        run.scan()
        z = torch.cat(model.kept)
        derivative = (z > 0).double()
        expected = [{(True, False): 2, (False, True): 1}.get((not u.any(), bool(u.all())), 0)
                    for u in derivative.unbind(axis)]  # fmt: skip
        assert states_of(run, "gate/relu#0")[-1] == (1, expected)


class Residual(nn.Module):
    """A block of which the sum is made in place or not."""

    def __init__(self, inplace):
        super().__init__()
        self.conv = nn.Conv1d(3, 3, 3, padding=1, dtype=F64)
        self.norm = nn.BatchNorm1d(3, dtype=F64)
        self.relu, self.inplace, self.kept = nn.ReLU(inplace=inplace), inplace, []

    def forward(self, x):
        y = self.norm(self.conv(x))
        if self.inplace:
            y += x
        else:
            y = x + y
        self.kept.append(y.detach().clone())
        return self.relu(y).mean((1, 2))


@pytest.mark.parametrize("inplace", [False, True])
def test_a_residual_sum_keeps_the_channels(inplace, tmp_path):
    model, x = Residual(inplace), images(7, 3, 5)
    optimizer = sgd(model)
    with watch(model, optimizer, tmp_path / "run", data=x) as run:
        model.kept.clear()
        step_once(model, optimizer, x)
        assert gates_of(run, "relu/relu#0") == [(1, 35, slow_open(model.kept[0] > 0, 1))]


def test_an_encoder_of_a_transformer_is_seen_in_training_and_in_scans(tmp_path):
    """In evaluation PyTorch would take a fast path in which no activation is called."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, dtype=F64)
    model = nn.Sequential(
        nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(8, 1).double()
    )
    optimizer, x, kept = sgd(model), images(6, 5, 8), []
    block = model[0].layers[1]
    block.linear1.register_forward_hook(lambda m, a, out: kept.append(out.detach().clone()))
    with watch(model, optimizer, tmp_path / "run", data=x) as run:
        del kept[:]
        step_once(model, optimizer, x)
        assert site_names(run) == ["0.layers.0/relu#0", "0.layers.1/relu#0"]
        assert gates_of(run, "0.layers.1/relu#0") == [(1, 30, slow_open(kept[0] > 0))]
        assert len(states_of(run, "0.layers.1/relu#0")[0][1]) == 16


def test_a_site_whose_width_changes_is_told_once_and_the_training_goes_on(tmp_path):
    class Slim(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.width = nn.Linear(5, 6, dtype=F64), 6

        def forward(self, x):
            return F.relu(self.layer(x)[:, : self.width]).sum(1)

    model = Slim()
    optimizer = sgd(model)
    with watch(model, optimizer, tmp_path / "run", data=inputs(), scan_at=never) as run:
        step_once(model, optimizer, inputs())
        model.width = 4
        with pytest.warns(RuntimeWarning, match=r"relu#0 ran with 4 units and with 6 before"):
            step_once(model, optimizer, inputs())
        step_once(model, optimizer, inputs())
        model.width = 6
        step_once(model, optimizer, inputs())
        assert [step for step, *_ in gates_of(run, "relu#0")] == [1, 4]
        assert len(run.losses) == 4


# Checkpointing


class Checkpointed(nn.Module):
    def __init__(self, reentrant, everything):
        super().__init__()
        self.body, self.reentrant, self.everything = network()[:4], reentrant, everything
        self.gelu, self.out = nn.GELU(), nn.Linear(8, 1, dtype=F64)
        self.runs = 0

    def block(self, x):
        self.runs += 1
        return self.gelu(self.body(x))

    def whole(self, x):
        return self.out(self.block(x))

    def forward(self, x):
        x = x.requires_grad_() if self.reentrant else x
        if self.everything:
            return checkpoint(self.whole, x, use_reentrant=self.reentrant)
        return self.out(checkpoint(self.block, x, use_reentrant=self.reentrant))


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("everything", [False, True])
def test_what_checkpointing_computes_again_counts_once(reentrant, everything, tmp_path):
    losses = []
    for watched in (False, True):
        model = Checkpointed(reentrant, everything)
        torch.manual_seed(3)
        model.out.reset_parameters()
        optimizer = sgd(model)
        if not watched:
            losses.append([step_once(model, optimizer, inputs()) for _ in range(3)])
            continue
        with watch(model, optimizer, tmp_path / "run", data=inputs()) as run:
            opened, found = [], []
            for _ in range(3):
                opened.append(open_of(model.body, inputs()))
                runs = model.runs
                found.append(step_once(model, optimizer, inputs()))
                assert model.runs == runs + 2 + 2 * (run.step in (1, 2)), "a scan runs in two chunks"
            assert gates_of(run, "body.1/relu#0") == [(i + 1, 40, opened[i]) for i in range(3)]
            assert [row[:2] for row in gates_of(run, "gelu/gelu#0")] == [(1, 40), (2, 40), (3, 40)]
            assert run.losses.tolist() == found
            assert run._rows("SELECT backwards FROM steps") == [(1,)] * 3
        losses.append(found)
    assert losses[0] == losses[1]


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_model_that_is_checkpointed_as_a_whole_counts_once(reentrant, tmp_path):
    model, optimizer = setting()
    x = inputs().requires_grad_()
    with watch(model, optimizer, tmp_path / "run", data=inputs()) as run:
        for step in (1, 2):
            opened = open_of(model, x)
            loss = checkpoint(model, x, use_reentrant=reentrant).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            assert gates_of(run, SITES[0])[-1] == (step, 40, opened)
            assert run.losses[-1] == loss.item()


def test_counting_saves_nothing_through_the_users_hooks(tmp_path):
    saved = []
    model = Gated(wide_linear(), nn.GELU())
    optimizer = sgd(model)

    def count():
        del saved[:]
        with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(1) or t, lambda t: t):
            model(inputs())
        return len(saved)

    bare = count()
    with watch(model, optimizer, tmp_path / "run", data=inputs()):
        assert count() == bare


# Precision


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_counted_exactly(dtype, tmp_path):
    model = network(dtype=dtype)
    optimizer = sgd(model, lr=1e-4)
    x = inputs(600).to(dtype)
    with watch(model, optimizer, tmp_path / "run", data=x) as run:
        opened = open_of(model, x)
        loss = step_once(model, optimizer, x)
        assert gates_of(run, SITES[0]) == [(1, 600, opened)]
        assert run.losses.tolist() == [loss]


def test_autocast_is_the_scans_too(tmp_path):
    torch.manual_seed(0)
    model = Gated(nn.Linear(5, 6), nn.ReLU())
    model.out = nn.Linear(6, 1)
    optimizer, x = sgd(model), inputs().float()
    with watch(model, optimizer, tmp_path / "run", data=x) as run:
        assert model.kept[0].dtype == torch.float32
        for _ in range(3):
            model.kept.clear()
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                loss = model(x).float().square().mean()
            loss.backward()
            optimizer.step()
            assert {z.dtype for z in model.kept} == {torch.bfloat16}
            assert gates_of(run, "gate/relu#0")[-1][2] == slow_open(model.kept[0] > 0)
        model.kept.clear()
    assert [z.dtype for z in model.kept] == [torch.bfloat16] * 2, "the last scan, in chunks"


def test_a_scan_inside_of_autocast_leaves_no_weight_without_a_graph(tmp_path):
    ends = []
    for watched in (False, True):
        model = network(dtype=torch.float32)
        optimizer, x = sgd(model), inputs().float()
        run = watch(model, optimizer, tmp_path / "run", data=x, scan_at=always) if watched else None
        for _ in range(3):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                if run is not None:
                    run.scan()
                model(x).float().square().mean().backward()
            optimizer.step()
        ends.append(parameters_of(model))
        if run is not None:
            run.close()
    assert same(*ends)


# Other threads, and interruptions


def stack():
    return torch.overrides._get_current_function_mode_stack()


def in_thread(function):
    errors = []

    def run():
        try:
            function()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


def test_watched_here_and_trained_in_another_thread(tmp_path):
    model, optimizer = setting()
    with watch(model, optimizer, tmp_path / "run", data=inputs()) as run:
        losses = [step_once(model, optimizer, inputs())]
        opened = open_of(model, inputs())
        in_thread(lambda: losses.append(step_once(model, optimizer, inputs())))
        assert gates_of(run, SITES[0])[-1] == (2, 40, opened)
        losses.append(step_once(model, optimizer, inputs()))
        assert run.losses.tolist() == losses
        assert stack() == []


def test_an_evaluation_in_another_thread_disturbs_nothing(tmp_path):
    x, elsewhere = inputs(), []

    class Between(nn.Sequential):
        def forward(self, x):
            for i, module in enumerate(self):
                x = module(x)
                if i == 1 and self.training and not elsewhere:
                    in_thread(evaluate)
            return x

    def evaluate():
        elsewhere.append(1)
        with torch.no_grad():
            model(x)
        model(x)  # with gradients, while the other is under way: not seen
        elsewhere.pop()

    model = Between(*network())
    optimizer = sgd(model)
    with watch(model, optimizer, tmp_path / "run", data=x) as run:
        for step in (1, 2):
            opened = open_of(model, x)
            loss = step_once(model, optimizer, x)
            assert run.losses[-1] == loss
            assert gates_of(run, SITES[0])[-1] == (step, 40, opened)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_ends_a_forward_pass_leaves_no_mode_behind(error, tmp_path):
    class Angry(nn.Module):
        angry = True

        def forward(self, x):
            if self.angry:
                raise error
            return x

    model, x = nn.Sequential(*network()[:2], Angry(), *network()[2:]), inputs()
    optimizer = sgd(model)
    model[2].angry = False
    with watch(model, optimizer, tmp_path / "run", data=x) as run:
        for step in (1, 2):
            model[2].angry = True
            with contextlib.suppress(error):
                model(x)
            assert stack() == []
            model[2].angry = False
            F.relu(x)
            opened = open_of(model, x)
            step_once(model, optimizer, x)
            found = gates_of(run, SITES[0])[-1]
            assert found[0] == step
            # What ran before the end has run, as in a hand-written hook.
            assert found[1:] == (80, [2 * n for n in opened])
        assert site_names(run) == ["1/relu#0", "4/relu#0"]


def test_while_an_interruption_is_held_nothing_is_counted_outside_of_the_model(tmp_path):
    class Interrupted(nn.Module):
        def forward(self, x):
            if self.training:
                raise KeyboardInterrupt
            return x

    model = nn.Sequential(*network()[:2], Interrupted())
    optimizer = sgd(model)
    with watch(model, optimizer, tmp_path / "run", data=inputs()) as run:
        with pytest.raises(KeyboardInterrupt) as held:
            model(inputs())
        F.relu(inputs())
        del held
        assert stack() == []
        assert site_names(run) == ["1/relu#0"]


# Synchronisation and memory


def test_no_number_is_fetched_between_commits(tmp_path, monkeypatch):
    """Hooks and steps ask the device for nothing: what the bare training asks for is all there is."""
    from torch.utils._python_dispatch import TorchDispatchMode

    asked = []

    class Asking(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if "_local_scalar_dense" in str(func) or "is_nonzero" in str(func):
                asked.append(str(func))
            return func(*args, **(kwargs or {}))

    for name in (
        "item",
        "cpu",
        "tolist",
        "numpy",
        "__bool__",
        "__float__",
        "__int__",
        "__array__",
        "nonzero",
    ):
        before = getattr(torch.Tensor, name)

        def noting(self, *args, _before=before, _name=name, **kwargs):
            asked.append(_name)
            return _before(self, *args, **kwargs)

        monkeypatch.setattr(torch.Tensor, name, noting)
    counts = []
    for watched in (False, True):
        model = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 6), nn.GELU(), nn.Linear(6, 1))
        optimizer = torch.optim.Adam(model.parameters(), lr=torch.tensor(0.01))
        scaler = torch.amp.GradScaler("cpu", enabled=False)
        x = inputs().float()
        run = None
        if watched:
            run = watch(model, optimizer, tmp_path / "run", data=x, scan_at=never)
            monkeypatch.setattr("backstory.adapters.torch.statistics.FETCH_SECONDS", 1e9)
        del asked[:]
        with Asking():
            for _ in range(20):
                optimizer.zero_grad()
                loss = model(x).square().mean()
                scaler.scale(loss).backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                scaler.step(optimizer)
        counts.append(sorted(asked))
        if run is not None:
            assert len(run.losses) == 20
            run.close()
    assert counts[0] == counts[1]


def test_nothing_keeps_an_activation_alive(tmp_path):
    """Storages, not only tensors: a view or a detached alias would keep the memory too."""
    import gc
    import weakref

    refs = []

    class Noting(nn.Module):
        def forward(self, x):
            refs.append(weakref.ref(x.untyped_storage()))
            return x

    parts = nn.Linear(5, 6), nn.ReLU(inplace=True), Noting(), nn.Linear(6, 6), nn.GELU(), Noting()
    model = nn.Sequential(*parts, nn.Linear(6, 1))
    optimizer, x = sgd(model), inputs().float()
    with watch(model, optimizer, tmp_path / "run", data=x, scan_at=always):
        gc.collect()
        gc.disable()
        try:
            for _ in range(2):
                out = model(x)
                refs.append(weakref.ref(out.untyped_storage()))
                optimizer.zero_grad()
                out[0, 0].backward()
                del out
                assert [ref() for ref in refs if ref() is not None] == []
                optimizer.step()
                assert [ref() for ref in refs if ref() is not None] == []
        finally:
            gc.enable()
