"""The source of backstory's own models: scans, snapshots and fronts of modules of ``backstory.nn``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from backstory.autograd.modes import relu_derivative_at_zero
from backstory.insight.scan import SiteScan, rows_of_units, scan
from backstory.insight.sites import Observer, observing, site_name
from backstory.insight.snapshot import Snapshot, take_snapshot
from backstory.insight.source import Asked, Front, Layer
from backstory.insight.statistics import Statistics
from backstory.insight.updates import Before
from backstory.nn import Module
from backstory.nn.evaluation import evaluation
from backstory.ops import Op
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
        return [(p, p.array.copy()) for p in self.model.parameters()]

    def prepare(self) -> None:
        assert self.listener is not None, "what is not listened to is not followed"
        self._prepared = self._before(fused=True) if self.listener.sees_before else None

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
        samples = sorted({one.sample for one in asked})
        finder = _FrontFinder(self.model)
        with (
            self._holding(values),
            relu_derivative_at_zero(self.at_zero),
            evaluation(self.model, self.generators),
            observing(finder),
        ):
            self.model(self.data[np.array(samples)])
        names = {p: name for name, p in self.model.named_parameters()}
        return [
            finder.found[one.site].of(one, samples.index(one.sample), len(samples), names) for one in asked
        ]

    @contextmanager
    def _holding(self, values: Any) -> Iterator[None]:
        """The parameters as they were, inside the block."""
        now = [] if values is None else [(p, p.array.copy()) for p, _ in values]
        try:
            for p, value in values or []:
                np.copyto(p.array, value)
            yield
        finally:
            for p, value in now:
                np.copyto(p.array, value)


class _Linear:
    """A linear layer as it ran: its tensors, and copies of their values and of its input."""

    def __init__(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> None:
        self.weight, self.bias = weight, bias
        self.x, self.w = rows_of_units(x.array).copy(), weight.array.copy()
        self.b = None if bias is None else bias.array.copy()

    def layer(self, unit: int, row: int, names: dict[Tensor, str]) -> Layer:
        """The layer of one unit on one row."""
        return Layer(
            self.w[unit],
            self.x[row],
            0.0 if self.b is None else float(self.b[unit]),
            names.get(self.weight),
            None if self.bias is None else names.get(self.bias),
            unit,
            self.bias is not None,
        )


class _SiteFront:
    """All pre-activations of a site, and the linear layer that made them, if one did."""

    def __init__(self, z: np.ndarray, linear: _Linear | None, at_zero: float) -> None:
        self.z, self.linear, self.at_zero = z, linear, at_zero

    def of(self, asked: Asked, place: int, samples: int, names: dict[Tensor, str]) -> Front:
        """The front of one unit on the sample at ``place`` of ``samples``."""
        rows = max(len(self.z) // samples, 1)
        first = min(place * rows, len(self.z) - rows)
        own = self.z[first : first + rows, asked.unit]
        row = int(np.argmax(own)) if asked.row is None else asked.row
        z = float(own[row])
        if self.linear is None:
            note = "the layer in front is no linear layer: only the total is known"
            return Front(z, row, self.at_zero, note=note)
        return Front(z, row, self.at_zero, self.linear.layer(asked.unit, first + row, names))


class _FrontFinder(Observer):
    def __init__(self, model: Module) -> None:
        super().__init__(model)
        self.layers: list[tuple[Tensor, int, _Linear]] = []
        self.found: dict[str, _SiteFront] = {}

    def ran(self, op: Op, args: Any, result: Tensor, params: Any) -> None:
        if op.name == "linear":
            self.layers.append((result, result._version, _Linear(*args)))
        super().ran(op, args, result, params)

    def gate(self, key: Any, op: Op, args: Any, result: Tensor, params: Any) -> None:
        z = args[0]
        # Changed in place since, it is no longer what the layer made.
        linear = next(
            (one for made, version, one in self.layers if made is z and z._version == version), None
        )
        front = _SiteFront(
            rows_of_units(z.array, self.units_of(z)).copy(), linear, params.get("at_zero", 0.0)
        )
        self.found[site_name(key)] = front
