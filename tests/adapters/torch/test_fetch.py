"""Nothing is fetched between commits, and nothing keeps activations alive."""

from __future__ import annotations

import gc
import weakref

import torch
from adapters.torch.slow import (
    always,
    inputs,
    never,
    sgd,
)
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from backstory.insight import watch


def test_no_number_is_fetched_between_commits(tmp_path, monkeypatch):
    """Hooks and steps ask the device for nothing: what the bare training asks for is all there is."""
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
