"""The code of docs/pytorch.md runs as it stands there."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

import backstory  # noqa: E402

GUIDE = Path(__file__).parents[1] / "docs" / "pytorch.md"


def program(start):
    """The block of the guide that begins with ``start``."""
    found = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    (block,) = [text for text in found if text.startswith(start)]
    return compile(block, str(GUIDE), "exec")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)


def test_the_plain_loop(capsys):
    exec(program("import torch\n"), {})
    told = capsys.readouterr().out
    assert "units are dead" in told
    assert "1/relu#0" in told
    assert len(backstory.open_run("runs/plain").losses) == 100


@dataclass
class Output:
    loss: torch.Tensor
    logits: torch.Tensor


class Classifier(nn.Module):
    """Takes a batch as keywords and returns an object, as models of transformers do."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(30, 12)
        self.hidden, self.head = nn.Linear(12, 16), nn.Linear(16, 3)

    def forward(self, input_ids, attention_mask=None, labels=None):
        mask = attention_mask.unsqueeze(-1).to(self.embed.weight.dtype)
        words = torch.relu(self.hidden(self.embed(input_ids))) * mask
        logits = self.head(words.sum(1) / mask.sum(1))
        return Output(nn.functional.cross_entropy(logits, labels), logits)


class Sentences(torch.utils.data.Dataset):
    def __init__(self):
        self.ids = torch.randint(0, 30, (96, 7))

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, i):
        return {"input_ids": self.ids[i], "attention_mask": torch.ones(7), "labels": self.ids[i, 0] % 3}


def test_the_loop_with_accumulation_and_clipping():
    model, dataset = Classifier(), Sentences()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=3)
    names = {
        "torch": torch, "backstory": backstory, "model": model, "dataset": dataset, "optimizer": optimizer,
        "scheduler": scheduler,
    }  # fmt: skip
    exec(program("from torch.utils.data"), names)
    run = backstory.open_run("runs/accumulated")
    assert run.steps.tolist() == [1, 2, 3]
    assert run._rows("SELECT DISTINCT backwards FROM steps") == [(4,)]
    assert run._rows("SELECT DISTINCT samples FROM gates") == [(4 * 8 * 7,)]  # words of four batches
    assert [(site.name, site.units) for site in run.sites] == [("relu#0", 16)]
    assert run.meta["samples"] == 96
    assert len(np.unique(run.rates)) == 3
    together = np.sqrt(sum(norms[0] ** 2 for norms in run.norms().values()))
    assert (together <= 1.0 + 1e-6).all()


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_the_lightning_callback(capsys):
    if importlib.util.find_spec("lightning") is None:
        pytest.skip("Lightning is not installed")
    lightning = importlib.import_module("lightning.pytorch")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))

        def training_step(self, batch, index):
            return nn.functional.mse_loss(self.net(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters())

    options = {
        "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
        "enable_model_summary": False, "accelerator": "cpu", "devices": 1,
    }  # fmt: skip
    loader = DataLoader(TensorDataset(torch.randn(32, 4), torch.randn(32, 1)), batch_size=8)
    names = {"lightning": lightning, "module": Module(), "loader": loader, "options": options}
    exec(program("from backstory.adapters"), names)
    assert "units are dead" in capsys.readouterr().out
    assert len(backstory.open_run("runs/lightning").losses) == 8
