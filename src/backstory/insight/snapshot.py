"""Snapshots: parameters, optimizer state and random streams in one safetensors file, without pickle."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from backstory.arrays import Generator
from backstory.errors import RunError
from backstory.nn import Module
from backstory.optim import Optimizer
from backstory.tensor import as_tensor

__all__ = ["Snapshot", "read_snapshot", "take_snapshot"]


@dataclass(frozen=True)
class Snapshot:
    """The whole state of a training after ``step`` updates."""

    step: int
    tensors: dict[str, np.ndarray]
    counts: dict[str, int]
    random: list[dict[str, Any]]

    def parameters(self) -> dict[str, np.ndarray]:
        """The parameters by their path."""
        return {key[6:]: value for key, value in self.tensors.items() if key.startswith("model/")}

    def restore(
        self, model: Module, optimizer: Optimizer | None, generators: Sequence[Generator] = ()
    ) -> None:
        """Put parameters, optimizer state and the given random streams back; lr and the like stay."""
        model.load_state_dict({name: as_tensor(value) for name, value in self.parameters().items()})
        for name, p in model.named_parameters():
            if optimizer is not None and p in optimizer.state:
                state = dict(optimizer.state[p])
                for key in state:
                    place = f"optimizer/{name}/{key}"
                    if place in self.tensors:
                        state[key] = self.tensors[place].copy()
                    elif place in self.counts:
                        state[key] = self.counts[place]
                optimizer.state[p] = state
        for generator, state in zip(generators, self.random, strict=False):
            generator.set_state(state)

    def write(self, file: Path) -> None:
        """Write the file whole or not at all."""
        from safetensors.numpy import save_file

        notes = {"step": self.step, "counts": self.counts, "random": self.random}
        part = file.with_suffix(".part")
        save_file(self.tensors, part, metadata={"backstory": json.dumps(notes)})
        part.replace(file)


def take_snapshot(
    step: int, model: Module, optimizer: Optimizer, generators: Sequence[Generator]
) -> Snapshot:
    """A copy of the present state."""
    tensors: dict[str, np.ndarray] = {}
    counts: dict[str, int] = {}
    for name, tensor in model.state_dict().items():
        tensors[f"model/{name}"] = tensor.array.copy()
    for name, p in model.named_parameters():
        for key, value in optimizer.state.get(p, {}).items():
            if isinstance(value, np.ndarray):
                tensors[f"optimizer/{name}/{key}"] = value.copy()
            else:
                counts[f"optimizer/{name}/{key}"] = value
    return Snapshot(step, tensors, counts, [g.get_state() for g in generators])


def read_snapshot(file: Path) -> Snapshot:
    """Read what :meth:`Snapshot.write` wrote."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as source:
            notes = json.loads(source.metadata()["backstory"])
            tensors = {key: source.get_tensor(key) for key in source.keys()}  # noqa: SIM118 (no iteration)
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise RunError(
            f"the snapshot {file.name}",
            why=f"it is missing, damaged or no snapshot of backstory: {error}",
            instead="another snapshot of the run",
        ) from error
    return Snapshot(notes["step"], tensors, notes["counts"], notes["random"])
