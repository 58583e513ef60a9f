"""The source of PyTorch's models: the same questions and answers as for backstory's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from backstory.adapters.torch.data import Call, declared
from backstory.adapters.torch.fronts import FrontFinder
from backstory.adapters.torch.scan import Scanner, evaluation
from backstory.adapters.torch.snapshot import restore, take_snapshot
from backstory.adapters.torch.together import Together
from backstory.errors import BackstoryError, RunError
from backstory.insight.scan import SiteScan
from backstory.insight.snapshot import Snapshot
from backstory.insight.source import Asked, Front
from backstory.insight.updates import Before

__all__ = ["TorchSource", "rule_of"]


def rule_of(optimizer: Any) -> str | None:
    """The name of the optimizer's rule in :mod:`backstory.insight.updates`; ``None`` for another."""
    kind = type(optimizer)
    if kind is torch.optim.SGD:
        return "sgd"
    if kind in (torch.optim.Adam, torch.optim.AdamW):
        decoupled = optimizer.param_groups[0].get("decoupled_weight_decay", kind is torch.optim.AdamW)
        return "adamw" if decoupled else "adam"
    return None


class _Rows:
    """A copy of a tensor, read row by row as NumPy arrays."""

    def __init__(self, x: Tensor) -> None:
        self._x = x.detach().clone()
        self.shape = tuple(x.shape)

    def __getitem__(self, unit: int) -> np.ndarray:
        return self._x[unit].to("cpu", torch.float64).numpy()


class TorchSource(Together):
    """A training of a ``torch.nn.Module`` by an optimizer of ``torch.optim``."""

    engine = "torch"

    def __init__(self, model: nn.Module, optimizer: Any, data: Any, generator: Any = None) -> None:
        super().__init__(model, optimizer)
        self.data = declared(data, self.model)
        self.samples = self.data.size
        self.generator: torch.Generator | None = generator

    def versions(self) -> dict[str, str]:
        return {"torch": torch.__version__}

    def scan(self, peaks: bool = False) -> dict[str, SiteScan]:
        scanner = Scanner(self.model, self.data, peaks)
        try:
            found = scanner.scan(self.autocast, self.generator)
        except BackstoryError:
            raise
        except Exception as error:
            raise RunError(
                f"scanning {type(self.model).__name__} on the declared data",
                why=f"the model raised {type(error).__name__}: {error}",
                instead="watch(…, data=…) with what the model takes: a tensor of inputs, a tuple or dict of "
                "several, or a Dataset whose items hold them first",
            ) from error
        self.axes.update(scanner.axes)
        return found

    def snapshot(self) -> Snapshot:
        return take_snapshot(self.step, self.model, self.optimizer, self.generator)

    def restore(self, snapshot: Snapshot) -> None:
        restore(snapshot, self.model, self.optimizer, self.generator)
        self.step = snapshot.step

    def values(self) -> dict[str, Tensor]:
        state = {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}
        return {name: x.detach().to("cpu", copy=True) for name, x in state.items()}

    def before(self) -> dict[str, Before]:
        names = {id(p): name for name, p in self.named.items()}
        found = {}
        for group in self.optimizer.param_groups:
            settings = {key: value for key, value in group.items() if key != "params"}
            for p in group["params"]:
                if id(p) in names:
                    rule, gradient = self._rule_and_gradient(p)
                    state = {key: _kept(x) for key, x in self.optimizer.state.get(p, {}).items()}
                    found[names[id(p)]] = Before(
                        rule, self.optimizer_name, _Rows(p), gradient, state, settings
                    )
        return found

    def _rule_and_gradient(self, p: Tensor) -> tuple[str | None, _Rows | None]:
        """The rule and the gradient by which the coming step moves ``p``; no gradient: not at all."""
        g = p.grad
        if g is not None and g.is_sparse:
            return None, _Rows(p)  # it moves in a way that is not known here
        scale = getattr(self.optimizer, "grad_scale", None)
        if g is not None and scale is not None:  # a fused optimizer takes the GradScaler's factor out itself
            g = g / scale.to(g.device)
        return rule_of(self.optimizer), None if g is None else _Rows(g)

    def fronts(self, asked: Sequence[Asked], values: Mapping[str, Tensor] | None = None) -> list[Front]:
        now = {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}
        held = now if values is None else {name: x.to(now[name].device) for name, x in values.items()}
        names = {id(x): name for name, x in held.items()}
        found: dict[Asked, Front] = {}
        for batch, call in self._batches({one.sample for one in asked}):
            finder = FrontFinder(self.model, names)
            with evaluation(self.model, self.autocast, self.generator), finder:
                if values is None:
                    self.model(*call[0], **call[1])
                else:
                    torch.func.functional_call(self.model, held, *call)
            for one in asked:
                if one.sample in batch:
                    found[one] = finder.front(one, batch.index(one.sample), len(batch))
        return [found[one] for one in asked]

    def _batches(self, samples: set[int]) -> Iterator[tuple[Sequence[int], Call]]:
        """The samples in one batch; or, where a sample's values depend on the others, as they are scanned."""
        if not any(isinstance(m, _BatchNorm) and m.running_mean is None for m in self.model.modules()):
            batch = sorted(samples)
            yield batch, self.data.take(batch)
            return
        for start, count, call in self.data.chunks():
            if not samples.isdisjoint(range(start, start + count)):
                yield range(start, start + count), call


def _kept(x: Any) -> Any:
    """A copy of an entry of the optimizer's state."""
    if not isinstance(x, Tensor):
        return x
    return _Rows(x) if x.ndim else x.item()
