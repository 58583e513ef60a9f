"""What stands in front of a gate in a model of ``backstory.nn``: a linear layer or convolution, and more.

A pass over a few samples notes which operation made every tensor. From one entry of the gate's input the
operations are followed back to the layer: those that only move entries say where the entry stood before, sums
and products say what was added to it and what it was multiplied by. So normalisations and residual sums need
no rule of their own: z = scale·(w·x + b) + shift + skip, where ``skip`` is what another branch of the samples
added, and all else that was added is ``shift``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from backstory.arrays import eager
from backstory.insight.scan import rows_of_units
from backstory.insight.sites import Observer, site_name
from backstory.insight.source import Asked, Front, Layer, entry_of
from backstory.nn import Module, Parameter
from backstory.ops import Op
from backstory.tensor import Tensor

__all__ = ["MOVES", "FrontFinder"]

#: Operations that only move entries.
MOVES = frozenset(("broadcast_to", "clone", "flip", "getitem", "permute", "reshape", "roll"))
AFFINE = frozenset(("add", "div", "mul", "sub"))
LAYERS = frozenset(("conv", "linear"))


@dataclass(eq=False)
class _Made:
    """How a tensor came about: its value then, and the operation with its arguments; a leaf has none."""

    tensor: Tensor
    value: np.ndarray
    op: Op | None = None
    args: tuple[Any, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return "leaf" if self.op is None else self.op.name

    @cached_property
    def leads(self) -> bool:
        """Whether moves, sums and products lead from here back to a layer."""
        if self.kind in MOVES:
            return self.args[0].leads
        return self.kind in LAYERS or (self.kind in AFFINE and any(one.leads for one in self.mains()))

    def mains(self) -> Iterator[_Made]:
        """The arguments that may be the one to follow: as large as the result; of a quotient the first."""
        for one in self.args[:1] if self.kind == "div" else self.args:
            if isinstance(one, _Made) and one.value.shape == self.value.shape:
                yield one

    def parameter(self) -> Tensor | None:
        """The parameter that it is, perhaps in another shape."""
        made = self
        while made.kind in MOVES:
            made = made.args[0]
        return made.tensor if isinstance(made.tensor, Parameter) and made.op is None else None


class _Unknown(Exception):
    """The front cannot be split, and why."""


class FrontFinder(Observer):
    """Notes how every tensor came about, and the input of every gate."""

    def __init__(self, model: Module) -> None:
        super().__init__(model)
        self.names = {id(p): name for name, p in model.named_parameters()}
        self.fixed = {id(x) for x in (*model.parameters(), *model.buffers())}
        self._made: dict[int, tuple[_Made, int]] = {}
        self._sites: dict[str, tuple[_Made, int, float]] = {}

    def ran(self, op: Op, args: Any, result: Tensor, params: Any) -> None:
        super().ran(op, args, result, params)
        origins = tuple(self._origin(x) if isinstance(x, Tensor) else x for x in args)
        self._made[id(result)] = _Made(result, result.array.copy(), op, origins, params), result._version

    def gate(self, key: Any, op: Op, args: Any, result: Tensor, params: Any) -> None:
        z = args[0]
        self._sites[site_name(key)] = (self._origin(z), self.units_of(z), params.get("at_zero", 0.0))

    def _origin(self, x: Tensor) -> _Made:
        """How ``x`` came about; a leaf, if it was changed in place since."""
        made, version = self._made.get(id(x), (None, -1))
        if made is not None and made.tensor is x and x._version == version:
            return made
        leaf = _Made(x, x.array.copy())
        self._made[id(x)] = leaf, x._version
        return leaf

    def front(self, asked: Asked, place: int, samples: int) -> Front:
        """The front of one unit on the sample at ``place`` of ``samples``."""
        made, axis, at_zero = self._sites[asked.site]
        rows = rows_of_units(made.value, axis)[:, asked.unit]
        count = max(len(rows) // samples, 1)
        first = min(place * count, len(rows) - count)
        row = int(np.argmax(rows[first : first + count])) if asked.row is None else asked.row
        index = entry_of(made.value.shape, axis, asked.unit, first + row)
        z = float(made.value[index])
        walk = _Walk(self, index)
        try:
            layer = walk.to_layer(made)
        except _Unknown as reason:
            return Front(z, row, at_zero, note=f"{reason}: only the total is known")
        return Front(z, row, at_zero, layer, walk.scale, walk.shift, walk.skip)


class _Walk:
    """The way back from one entry: z = scale·(the entry at ``index``) + shift + skip at every point of it."""

    def __init__(self, finder: FrontFinder, index: tuple[int, ...]) -> None:
        self.finder, self.index = finder, index
        self.scale = 1.0
        self.shift: float | None = None
        self.skip: float | None = None
        self._bias: tuple[float, Tensor] | None = None  # a parameter that was added last

    def to_layer(self, made: _Made) -> Layer:
        """The layer that made the entry."""
        while made.kind not in LAYERS:
            if not made.leads:
                raise _Unknown("what stands in front is no linear layer or convolution")
            if made.kind in MOVES:
                self.index = _before_move(made, self.index)
                made = made.args[0]
            else:
                made = self._affine(made)
        return self._layer(made)

    def _affine(self, made: _Made) -> _Made:
        """Past a sum or a product."""
        self._settle()
        main = next(one for one in made.mains() if one.leads)
        first = made.args[0] is main
        other = made.args[1 if first else 0]
        value = _at(other, made.value.shape, self.index)
        if made.kind in ("mul", "div"):
            self.scale = self.scale * value if made.kind == "mul" else self.scale / value
            self.shift = self.shift or 0.0
            return main
        parameter = other.parameter() if isinstance(other, _Made) else None
        if made.kind == "add" and parameter is not None:
            self._bias = (value, parameter)
            return main
        added = self.scale * (-value if made.kind == "sub" and first else value)
        if isinstance(other, _Made) and other.value.shape == made.value.shape and not self._is_fixed(other):
            self.skip = (self.skip or 0.0) + added
        else:
            self.shift = (self.shift or 0.0) + added
        if made.kind == "sub" and not first:
            self.scale, self.shift = -self.scale, self.shift or 0.0
        return main

    def _settle(self) -> None:
        """The parameter that was added last stands behind another sum or product: it is no layer's bias."""
        if self._bias is not None:
            self.shift = (self.shift or 0.0) + self.scale * self._bias[0]
            self._bias = None

    def _is_fixed(self, made: _Made) -> bool:
        """Whether it was computed from parameters, buffers and numbers alone."""
        stack, seen = [made], set()
        while stack:
            one = stack.pop()
            if id(one) in seen:
                continue
            seen.add(id(one))
            if one.op is None and id(one.tensor) not in self.finder.fixed:
                return False
            stack.extend(x for x in one.args if isinstance(x, _Made))
        return True

    def _layer(self, made: _Made) -> Layer:
        x, weight, *rest = made.args
        if rest and rest[0] is not None:  # it has a bias of its own
            self._settle()
            parameter = rest[0].parameter()
            self._bias = (
                float(rest[0].value[self.index[-1]]),
                rest[0].tensor if parameter is None else parameter,
            )
        if made.kind == "linear":
            unit, inputs = self.index[-1], x.value[self.index[:-1]]
        else:
            unit, inputs = self.index[1], _patch(x.value, weight.value, made.params, self.index)
        value, bias = (0.0, None) if self._bias is None else self._bias
        parameter = weight.parameter()
        own = bias is not None and bias.shape == weight.value.shape[:1]
        return Layer(
            weight.value[unit].reshape(-1),
            inputs.reshape(-1),
            value,
            None if parameter is None else self.finder.names.get(id(parameter)),
            self.finder.names.get(id(bias)) if own else None,
            unit,
            bias is not None,
        )


def _before_move(made: _Made, index: tuple[int, ...]) -> tuple[int, ...]:
    """Where the entry stood before a move: the move of the entries' numbers says it."""
    before = made.args[0].value
    numbers = np.arange(before.size).reshape(before.shape)
    assert made.op is not None
    number = np.asarray(made.op.forward(eager, numbers, **made.params))[index]
    return tuple(int(i) for i in np.unravel_index(int(number), before.shape))


def _at(x: Any, shape: tuple[int, ...], index: tuple[int, ...]) -> float:
    """The entry of ``x``, which may broadcast to the shape."""
    return float(np.broadcast_to(x.value, shape)[index]) if isinstance(x, _Made) else float(x)


def _patch(
    x: np.ndarray, weight: np.ndarray, params: Mapping[str, Any], index: tuple[int, ...]
) -> np.ndarray:
    """What the kernel met at one position: its group's channels under the window."""
    windows = params["windows"]
    sample, channel, *position = index
    inputs = weight.shape[1]
    start = channel // (len(weight) // params["groups"]) * inputs
    places = (
        slice(at * step, at * step + (kernel - 1) * gap + 1, gap)
        for at, step, kernel, gap in zip(
            position, windows.stride, windows.kernel, windows.dilation, strict=True
        )
    )
    return x[(sample, slice(start, start + inputs), *places)]
