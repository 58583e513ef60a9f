"""A second, slow, obvious implementation of what is recorded, in plain PyTorch, and its models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from backstory.insight import watch

BENDS, LINEAR, DEAD = 0, 1, 2
F64 = torch.float64


def inputs(rows: int = 40, features: int = 5, seed: int = 1) -> Tensor:
    """Inputs that are all positive, as pixels are: units die easily on them."""
    return torch.from_numpy(np.random.default_rng(seed).uniform(0.0, 2.0, (rows, features)))


def images(*shape: int, seed: int = 1) -> Tensor:
    """Inputs of any shape, of both signs."""
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def targets(x: Tensor) -> Tensor:
    """Something to regress on."""
    return torch.sin(3 * x[:, :1]) - 2.0 * x[:, 1:2]


def network(width: int = 8, seed: int = 0, dtype: torch.dtype = F64) -> nn.Sequential:
    """5-8-8-1."""
    torch.manual_seed(seed)
    sizes = [(5, width), (width, width), (width, 1)]
    first, second, last = (nn.Linear(n, m, dtype=dtype) for n, m in sizes)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), last)


class Gated(nn.Module):
    """What stands in front, one gate, and an output; it keeps a copy of every pre-activation."""

    def __init__(
        self, front: nn.Module, gate: Callable[[Tensor], Tensor], flat: int = 6, times: int = 1
    ) -> None:
        super().__init__()
        self.front, self.gate, self.times = front, gate, times
        self.out = nn.Linear(flat, 1, dtype=F64)
        self.kept: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        x = self.front(x)
        for _ in range(self.times):
            self.kept.append(x.detach().clone())
            x = self.gate(x)
        return self.out(x.flatten(1) if self.out.in_features != x.shape[-1] else x)


def wide_linear(features: int = 5, units: int = 6) -> nn.Linear:
    """A layer whose first unit is far below 0 on everything, and whose second is far above."""
    torch.manual_seed(0)
    layer = nn.Linear(features, units, dtype=F64)
    with torch.no_grad():
        layer.bias[0], layer.bias[1] = -900.0, 900.0
    return layer


def slow_derivative(gate: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """dy/dz of every entry, one entry at a time through a batch of one-hot upstreams: autograd's Jacobian."""
    flat = z.reshape(-1, z.shape[-1])
    rows = []
    for row in flat:
        jacobian: Any = torch.autograd.functional.jacobian(lambda r: gate(r.clone()[None])[0], row)
        assert torch.equal(jacobian, torch.diag(jacobian.diagonal())), "a gate works on each entry alone"
        rows.append(jacobian.diagonal())
    return torch.stack(rows).reshape(z.shape)


def by_unit(x: Tensor, axis: int) -> Tensor:
    """(units, everything else), with loops left to ``unbind``."""
    return torch.stack([unit.reshape(-1) for unit in x.unbind(axis)])


def slow_states(derivative: Tensor, axis: int = -1) -> list[int]:
    """BENDS, LINEAR or DEAD of every unit."""
    states = []
    for unit in by_unit(derivative, axis):
        values = set(unit.tolist())
        states.append(DEAD if values == {0.0} else LINEAR if len(values) == 1 else BENDS)
    return states


def slow_open(derivative: Tensor, axis: int = -1) -> list[int]:
    """In how many entries each unit is open."""
    return [sum(value != 0 for value in unit.tolist()) for unit in by_unit(derivative, axis)]


def gates_of(run: Any, site: str) -> list[tuple[int, int, list[int]]]:
    """(step, entries, open entries of every unit) as stored."""
    query = "SELECT step, samples, open FROM gates JOIN sites USING (site) WHERE name = ? ORDER BY step"
    rows = run._rows(query, site)
    return [
        (step, samples, np.frombuffer(blob, np.min_scalar_type(samples)).tolist())
        for step, samples, blob in rows
    ]


def states_of(run: Any, site: str) -> list[tuple[int, list[int]]]:
    """(step, state of every unit) of all scans."""
    query = "SELECT step, states FROM scans JOIN sites USING (site) WHERE name = ? ORDER BY step"
    return [(step, np.frombuffer(blob, np.uint8).tolist()) for step, blob in run._rows(query, site)]


def site_names(run: Any) -> list[str]:
    return [site.name for site in run.sites]


def step_once(model: nn.Module, optimizer: Any, x: Tensor, y: Tensor | None = None) -> float:
    """One step on the mean square of the outputs (or of their distance to ``y``)."""
    out = model(x)
    loss = (out if y is None else out - y).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def sgd(model: nn.Module, lr: float = 0.05, **options: Any) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=lr, **options)


def norm(x: Tensor | None) -> float:
    return 0.0 if x is None else float(x.detach().to(F64).square().sum().sqrt())


def parameters_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(first[key].nan_to_num(), second[key].nan_to_num()) for key in first
    )


def always(step: int) -> bool:
    return True


def never(step: int) -> bool:
    return False


__all__ = [name for name in dir() if not name.startswith("_")] + ["watch"]
