"""The demo's network in PyTorch and in backstory's own engine: the same units die at the same steps."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import backstory
from backstory import demo, nn

EXAMPLE = Path(__file__).parents[3] / "examples" / "pytorch_digits.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("example_pytorch_digits", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def in_own_engine(example, folder):
    images, labels, weights, orders = example.start()
    backstory.manual_seed(0)
    model, optimizer = demo.build(demo.CONFIG)
    for name, p in model.named_parameters():
        np.testing.assert_array_equal(p.detach().numpy(), weights[name])
    with backstory.watch(model, optimizer, folder, data=images, scan_at=lambda step: True) as run:
        for order in orders:
            for first in range(0, len(order), example.BATCH):
                batch = order[first : first + example.BATCH]
                optimizer.zero_grad()
                nn.functional.cross_entropy(
                    model(backstory.as_tensor(images[batch])), backstory.as_tensor(labels[batch])
                ).backward()
                optimizer.step()
    return run


def test_pytorchs_network_dies_the_deaths_of_backstorys_own(example, tmp_path, capsys):
    example.main(str(tmp_path / "torch"))
    told = capsys.readouterr().out
    theirs = backstory.open_run(tmp_path / "torch")
    ours = in_own_engine(example, tmp_path / "own")
    events = ours.life_table().events
    assert len(events) > 400
    assert all(event.exact for event in events)
    assert theirs.life_table().events == events
    assert [(c.site, c.unit, c.step, c.sample) for c in theirs.certificates()] == [
        (c.site, c.unit, c.step, c.sample) for c in ours.certificates()
    ]
    np.testing.assert_allclose(theirs.losses[:23], ours.losses[:23], rtol=1e-12)  # one epoch
    assert theirs.story() in told
    assert "died at step" in told
