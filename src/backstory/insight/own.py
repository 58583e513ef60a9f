"""The source of backstory's own models: scans, snapshots and fronts of modules of ``backstory.nn``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from backstory.autograd.modes import relu_derivative_at_zero
from backstory.insight.fronts import FrontFinder
from backstory.insight.scan import CHUNK, SiteScan, scan
from backstory.insight.sites import observing
from backstory.insight.snapshot import Snapshot, take_snapshot
from backstory.insight.source import Asked, Front
from backstory.insight.statistics import Statistics
from backstory.insight.updates import Before
from backstory.nn import BatchNorm1d, BatchNorm2d
from backstory.nn.evaluation import evaluation
from backstory.optim import SGD, Adam, Optimizer
from backstory.tensor import Tensor

__all__ = ["OwnSource", "rule_of"]

RULES = {SGD.update: "sgd", Adam.update: "adam"}


def rule_of(optimizer: Optimizer) -> str | None:
    """The name of the optimizer's rule in :mod:`backstory.insight.updates`; ``None`` for another."""
    return RULES.get(type(optimizer).update)


class OwnSource(Statistics):
    """A training of a module of ``backstory.nn`` by an optimizer of ``backstory.optim``."""

    engine = "backstory"
    _prepared: dict[str, Before] | None = None

    @property
    def optimizer_name(self) -> str:
        return type(self.optimizer).__name__

    def versions(self) -> dict[str, str]:
        return {"numpy": np.__version__}

    def scan(self, peaks: bool = False) -> dict[str, SiteScan]:
        # With relu's derivative at 0 that the training uses.
        with relu_derivative_at_zero(self.at_zero):
            return scan(self.model, self.data, peaks, self.generators)

    def snapshot(self) -> Snapshot:
        return take_snapshot(self.step, self.model, self.optimizer, self.generators)

    def restore(self, snapshot: Snapshot) -> None:
        snapshot.restore(self.model, self.optimizer, self.generators)
        self.step = snapshot.step

    def values(self) -> list[tuple[Tensor, np.ndarray]]:
        return [(x, x.array.copy()) for x in (*self.model.parameters(), *self.model.buffers())]

    def prepare(self) -> None:
        self._prepared = self._before(fused=True) if self._watching else None

    def complete(self, gradients: Mapping[str, np.ndarray]) -> None:
        assert self._prepared is not None, "a step that is seen before was prepared"
        found = {name: replace(one, gradient=gradients.get(name)) for name, one in self._prepared.items()}
        self._prepared = found

    def before(self) -> dict[str, Before]:
        prepared, self._prepared = self._prepared, None
        return self._before() if prepared is None else prepared

    def _before(self, fused: bool = False) -> dict[str, Before]:
        """Every parameter with what its update is made of; of a compiled step gradients come later."""
        names = {p: name for name, p in self.parameters}
        rule, optimizer = rule_of(self.optimizer), self.optimizer_name
        found = {}
        for group in self.optimizer.param_groups:
            settings = {key: value for key, value in group.items() if key != "params"}
            for p in group["params"]:
                if p in names:
                    gradient = None if fused or p.grad is None else p.grad.array.copy()
                    state = {
                        key: value.copy() if isinstance(value, np.ndarray) else value
                        for key, value in self.optimizer.state[p].items()
                    }
                    found[names[p]] = Before(rule, optimizer, p.array.copy(), gradient, state, settings)
        return found

    def fronts(self, asked: Sequence[Asked], values: Any = None) -> list[Front]:
        found: dict[Asked, Front] = {}
        for batch in self._batches({one.sample for one in asked}):
            finder = FrontFinder(self.model)
            with (
                self._holding(values),
                relu_derivative_at_zero(self.at_zero),
                evaluation(self.model, self.generators),
                observing(finder),
            ):
                self.model(self.data[np.array(batch)])
            for one in asked:
                if one.sample in batch:
                    found[one] = finder.front(one, batch.index(one.sample), len(batch))
        return [found[one] for one in asked]

    def _batches(self, samples: set[int]) -> Iterator[Sequence[int]]:
        """The samples in one batch; or, where a sample's values depend on the others, as they are scanned."""
        norms = (BatchNorm1d, BatchNorm2d)
        if not any(isinstance(m, norms) and m.running_mean is None for m in self.model.modules()):
            yield sorted(samples)
            return
        for start in range(0, self.samples, CHUNK):
            chunk = range(start, min(start + CHUNK, self.samples))
            if not samples.isdisjoint(chunk):
                yield chunk

    @contextmanager
    def _holding(self, values: Any) -> Iterator[None]:
        """The parameters and buffers as they were, inside the block."""
        now = [] if values is None else [(p, p.array.copy()) for p, _ in values]
        try:
            for p, value in values or []:
                np.copyto(p.array, value)
            yield
        finally:
            for p, value in now:
                np.copyto(p.array, value)
