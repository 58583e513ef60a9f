"""Snapshots of PyTorch trainings, in the same files as backstory's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from backstory.errors import RunError
from backstory.insight.snapshot import Snapshot

__all__ = ["restore", "take_snapshot"]


def take_snapshot(step: int, model: nn.Module, optimizer: Any, generator: torch.Generator | None) -> Snapshot:
    """A copy of parameters, buffers, optimizer state and random streams."""
    tensors = {f"model/{name}": _array(x) for name, x in _state(model).items()}
    counts: dict[str, Any] = {}
    for name, p in model.named_parameters():
        state = optimizer.state.get(p, {})
        if any(isinstance(value, (list, tuple, dict)) for value in state.values()):
            continue  # LBFGS's history: half of a state would be worse than none
        for key, value in state.items():
            place = f"optimizer/{name}/{key}"
            if isinstance(value, Tensor):
                tensors[place] = _array(value)
            elif isinstance(value, (int, float)):
                counts[place] = value
    tensors["random/cpu"] = torch.get_rng_state().numpy().copy()
    if generator is not None:
        tensors["random/own"] = generator.get_state().numpy().copy()
    return Snapshot(step, tensors, counts, [])


def restore(
    taken: Snapshot, model: nn.Module, optimizer: Any = None, generator: torch.Generator | None = None
) -> None:
    """Put parameters and buffers back, and the optimizer's state and random streams if it is given."""
    now = _state(model)
    for name, x in now.items():
        kept = taken.tensors.get(f"model/{name}")
        if kept is None or kept.shape != tuple(x.shape):
            raise RunError(
                f"restoring {name} of shape {tuple(x.shape)}",
                why="the snapshot has no such entry"
                if kept is None
                else f"the snapshot has shape {kept.shape}",
                instead="a model like the one that was recorded",
            )
    with torch.no_grad():
        for name, x in now.items():
            x.copy_(torch.from_numpy(taken.tensors[f"model/{name}"].copy()))
    if optimizer is None:
        return
    for name, p in model.named_parameters():
        prefix = f"optimizer/{name}/"
        saved = {key: value for key, value in taken.tensors.items() if key.startswith(prefix)}
        state: dict[str, Any] = {key[len(prefix) :]: _like(value, p) for key, value in saved.items()}
        state |= {key[len(prefix) :]: value for key, value in taken.counts.items() if key.startswith(prefix)}
        if state:
            optimizer.state[p] = state
        else:
            optimizer.state.pop(p, None)
    torch.set_rng_state(torch.from_numpy(taken.tensors["random/cpu"].copy()))
    if generator is not None:
        generator.set_state(torch.from_numpy(taken.tensors["random/own"].copy()))


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _array(x: Tensor) -> np.ndarray:
    """A copy as an array; bfloat16, which NumPy lacks, as float32, which holds it exactly."""
    x = x.detach() if x.layout == torch.strided else x.detach().to_dense()
    x = x.to("cpu", torch.float32 if x.dtype == torch.bfloat16 else x.dtype, copy=True)
    return x.contiguous().numpy()


def _like(value: np.ndarray, p: Tensor) -> Tensor:
    """Optimizer state for ``p``: step counts stay on the CPU, as PyTorch keeps them."""
    found = torch.from_numpy(value.copy())
    return found.to(p.device, p.dtype) if found.ndim else found
