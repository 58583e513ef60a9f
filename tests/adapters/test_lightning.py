"""The Lightning callback, against the same training as a plain loop."""

from __future__ import annotations

import importlib
import pickle
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")
HOMES = [
    home
    for home in ("lightning.pytorch", "pytorch_lightning")
    if importlib.util.find_spec(home.split(".")[0])
]
if not HOMES:
    pytest.skip("Lightning is not installed", allow_module_level=True)

from torch import nn  # noqa: E402
from torch.utils.data import DataLoader, IterableDataset, TensorDataset  # noqa: E402

import backstory  # noqa: E402
from backstory.adapters.lightning import Watch  # noqa: E402
from backstory.errors import ArgumentError, MissingExtraError, RunError  # noqa: E402

# Lightning's own, of the PyTorch and the loaders that it finds.
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*lr_scheduler.step"),
]


@pytest.fixture(params=HOMES)
def lightning(request, monkeypatch):
    """One of the two Lightnings, as if the other had not been imported."""
    home = importlib.import_module(request.param)
    for other in HOMES:
        if other != request.param:
            monkeypatch.delitem(sys.modules, other, raising=False)
    return home


def inputs():
    torch.manual_seed(1)
    return torch.randn(48, 6, dtype=torch.float64)


def targets(x):
    return x[:, :1] * 2 - x[:, 1:2]


def loader():
    return DataLoader(TensorDataset(inputs(), targets(inputs())), batch_size=8)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1)).double()


def optimizer_of(model):
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


def loss_of(model, batch):
    x, y = batch
    return (model(x) - y).square().mean()


def module_of(lightning, **replaced):
    """A LightningModule that trains ``net``; methods may be replaced."""

    def __init__(self):
        lightning.LightningModule.__init__(self)
        self.net = network()

    methods = {
        "__init__": __init__,
        "training_step": lambda self, batch, index: loss_of(self.net, batch),
        "configure_optimizers": lambda self: optimizer_of(self),
    }
    return type("Net", (lightning.LightningModule,), {**methods, **replaced})()


def trainer_of(lightning, watch, **options):
    plain = {
        "max_epochs": 2, "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
        "enable_model_summary": False, "accelerator": "cpu", "devices": 1,
    }  # fmt: skip
    return lightning.Trainer(callbacks=[watch], **{**plain, **options})


def plain_run(folder, accumulate=1, clip=None, epochs=2):
    """The same training as a loop of one's own."""
    model = network()
    optimizer = optimizer_of(model)
    with backstory.watch(model, optimizer, folder, data=inputs()) as run:
        for _ in range(epochs):
            for number, batch in enumerate(loader()):
                (loss_of(model, batch) / accumulate).backward()
                if (number + 1) % accumulate == 0:
                    if clip:
                        nn.utils.clip_grad_norm_(model.parameters(), clip)
                    optimizer.step()
                    optimizer.zero_grad()
    return run


def assert_same(run, expected, prefix):
    """Everything recorded is equal, up to the names of sites and parameters."""
    np.testing.assert_array_equal(run.losses, expected.losses)
    np.testing.assert_array_equal(run.gates(f"{prefix}1/relu#0")[1], expected.gates("1/relu#0")[1])
    for name, norms in expected.norms().items():
        np.testing.assert_array_equal(run.norms()[prefix + name], norms)
    ours, theirs = run.life_table(), expected.life_table()
    assert [(e.unit, e.kind, e.step) for e in ours.events] == [
        (e.unit, e.kind, e.step) for e in theirs.events
    ]


@pytest.mark.parametrize("accumulate", [1, 3])
def test_automatic_optimization_is_recorded_as_a_plain_loop_is(lightning, tmp_path, accumulate):
    watch = Watch(tmp_path / "run")
    trainer = trainer_of(lightning, watch, accumulate_grad_batches=accumulate, gradient_clip_val=0.5)
    trainer.fit(module_of(lightning), loader())
    assert_same(watch.run, plain_run(tmp_path / "plain", accumulate, clip=0.5), "")
    assert backstory.open_run(tmp_path / "run").meta["status"] == "finished"
    assert "0 of 8 units are dead" in watch.run.story()


def test_manual_optimization_is_recorded_as_a_plain_loop_is(lightning, tmp_path):
    def init(self):
        lightning.LightningModule.__init__(self)
        self.net, self.automatic_optimization = network(), False

    def training_step(self, batch, index):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(loss_of(self, batch))
        optimizer.step()

    methods = {"__init__": init, "training_step": training_step, "forward": lambda self, x: self.net(x)}
    watch = Watch(tmp_path / "run")
    trainer_of(lightning, watch).fit(module_of(lightning, **methods), loader())
    assert_same(watch.run, plain_run(tmp_path / "plain"), "net.")


def test_of_several_optimizers_one_is_chosen_with_the_part_that_it_moves(lightning, tmp_path):
    def init(self):
        lightning.LightningModule.__init__(self)
        self.net, self.other, self.automatic_optimization = network(), network(), False

    def training_step(self, batch, index):
        for part, optimizer in zip((self.net, self.other), self.optimizers(), strict=True):
            optimizer.zero_grad()
            self.manual_backward(loss_of(part, batch))
            optimizer.step()

    methods = {
        "__init__": init,
        "training_step": training_step,
        "configure_optimizers": lambda self: (optimizer_of(self.net), optimizer_of(self.other)),
    }
    module = module_of(lightning, **methods)
    for wrong, why in [
        ({"model": "net"}, r"2 \(0: SGD, 1: SGD\)"),
        ({"model": "net", "optimizer": 2}, "optimizer=2"),
        ({"optimizer": 0}, "net, other"),
    ]:
        with pytest.raises(RunError, match=why):
            trainer_of(lightning, Watch(tmp_path / "run", **wrong)).fit(module, loader())
    watch = Watch(tmp_path / "run", optimizer=1, model="other")
    trainer_of(lightning, watch).fit(module_of(lightning, **methods), loader())
    assert_same(watch.run, plain_run(tmp_path / "plain"), "")


def test_an_exception_ends_the_recording_and_is_the_users(lightning, tmp_path):
    def training_step(self, batch, index):
        if index == 4:
            raise ZeroDivisionError("theirs")
        return loss_of(self.net, batch)

    watch = Watch(tmp_path / "run", scan_at=lambda step: True)
    with pytest.raises(ZeroDivisionError, match="theirs"):
        trainer_of(lightning, watch).fit(module_of(lightning, training_step=training_step), loader())
    run = backstory.open_run(tmp_path / "run")
    assert run.meta["status"] == "ended by ZeroDivisionError"
    assert run.steps.tolist() == [1, 2, 3, 4]
    assert not watch.run._recorder.source.model._forward_hooks


def test_logged_metrics_are_stored_and_validation_counts_no_gates(lightning, tmp_path):
    def validation_step(self, batch, index):
        self.log("validation", loss_of(self.net, batch))

    watch = Watch(tmp_path / "run")
    module = module_of(lightning, validation_step=validation_step)
    trainer_of(lightning, watch).fit(module, loader(), loader())
    assert len(watch.run.metrics("validation")) == 2
    assert watch.run._rows("SELECT DISTINCT samples FROM gates") == [(8,)]


def test_a_forward_that_the_training_step_never_calls_is_warned_of(lightning, tmp_path):
    module = module_of(lightning, forward=lambda self, x: self.net(x))
    watch = Watch(tmp_path / "run")
    with pytest.warns(RuntimeWarning, match="no forward pass of Net"):
        trainer_of(lightning, watch).fit(module, loader())
    assert len(watch.run.losses) == 12


class Stream(IterableDataset):
    def __iter__(self):
        return iter(TensorDataset(inputs(), targets(inputs())))


def test_what_cannot_be_watched_is_refused_with_what_to_write(lightning, tmp_path):
    trainer = trainer_of(lightning, Watch(tmp_path / "run"))
    with pytest.raises(RunError, match="must have a length"):
        trainer.fit(module_of(lightning), DataLoader(Stream(), batch_size=8))
    watch = Watch(tmp_path / "run", data=inputs())
    trainer_of(lightning, watch).fit(module_of(lightning), DataLoader(Stream(), batch_size=8))
    assert watch.run.meta["samples"] == 48
    with pytest.raises(ArgumentError, match="are net"):
        trainer_of(lightning, Watch(tmp_path / "other", model="not")).fit(module_of(lightning), loader())
    with pytest.raises(ArgumentError, match="received scan"):
        Watch(tmp_path / "run", scan=1)


def test_a_callback_can_be_sent_to_another_process(lightning, tmp_path):
    watch = pickle.loads(pickle.dumps(Watch(tmp_path / "run", every=2)))
    assert isinstance(watch, lightning.Callback)
    assert (watch.path, watch.options) == (tmp_path / "run", {"every": 2})


def test_without_lightning_the_error_says_what_to_install(monkeypatch, tmp_path):
    for home in ("lightning.pytorch", "pytorch_lightning"):
        monkeypatch.delitem(sys.modules, home, raising=False)

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr("backstory.adapters.lightning.importlib.import_module", missing)
    with pytest.raises(MissingExtraError, match="pip install lightning"):
        Watch(tmp_path / "run")
