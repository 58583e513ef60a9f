"""What stands in front of a gate in a PyTorch model: a linear layer or convolution, a normalisation, a sum.

A pass over a few samples notes where every tensor came from; from the gate it is followed back through
sums, normalisations and what changes nothing (dropout in evaluation) to the layer that made it.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backstory.adapters.torch.activations import Gate, units_last
from backstory.adapters.torch.scan import AxisMode
from backstory.adapters.torch.sites import Key
from backstory.insight.sites import site_name
from backstory.insight.source import Asked, Front, Layer, entry_of

__all__ = ["FrontFinder"]


@dataclass(eq=False)
class _Made:
    """Where a tensor came from: the kind of function, its arguments by name, a copy of its value."""

    kind: str
    arguments: Mapping[str, Any]
    value: Tensor


def _named(*names: str) -> Callable[[Any, Any], dict[str, Any]]:
    """Arguments by name for functions that are no Python functions."""
    return lambda args, kwargs: {**dict(zip(names, args, strict=False)), **kwargs}


def _bound(function: Any) -> Callable[[Any, Any], dict[str, Any]]:
    """Arguments by name as the function's own signature has them, defaults included."""
    signature = inspect.signature(function)

    def bind(args: Any, kwargs: Any) -> dict[str, Any]:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return dict(bound.arguments)

    return bind


_CONV = _named("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_ADD = _named("input", "other", "alpha")

#: Every function that a front is made of: its kind, and how its arguments are named.
MAKERS: dict[Any, tuple[str, Callable[[Any, Any], dict[str, Any]]]] = {
    F.linear: ("linear", _named("input", "weight", "bias")),
    F.conv1d: ("conv", _CONV),
    F.conv2d: ("conv", _CONV),
    F.conv3d: ("conv", _CONV),
    F.batch_norm: ("batch norm", _bound(F.batch_norm)),
    F.layer_norm: ("layer norm", _bound(F.layer_norm)),
    F.dropout: ("same", _bound(F.dropout)),
    torch.add: ("sum", _ADD),
    Tensor.add: ("sum", _ADD),
    Tensor.add_: ("sum", _ADD),
    Tensor.__add__: ("sum", _ADD),
    Tensor.__radd__: ("sum", _ADD),
    Tensor.__iadd__: ("sum", _ADD),
}


class FrontFinder(AxisMode):
    """Notes every site's pre-activation and where it came from."""

    def __init__(self, model: nn.Module, names: Mapping[int, str]) -> None:
        super().__init__(model)
        self.sites: dict[str, tuple[_Made, int, float]] = {}
        self._names = names
        self._made: dict[int, tuple[Tensor, int, _Made]] = {}

    def gate(self, key: Key, gate: Gate, func: Any, args: Any, kwargs: Any) -> Any:
        z = args[0]
        self.sites[site_name(key)] = (self._origin(z), self.axis_of(z), 1.0 if gate.name == "clamp" else 0.0)
        return super().other(func, args, kwargs)

    def other(self, func: Any, args: Any, kwargs: Any) -> Any:
        kind, bind = MAKERS.get(func, (None, None))
        arguments: dict[str, Any] = {}
        if bind is not None:
            arguments = {
                name: self._origin(x) if isinstance(x, Tensor) and name in ("input", "other") else x
                for name, x in bind(args, kwargs).items()
            }
        result = super().other(func, args, kwargs)
        if kind is not None:
            made = _Made(kind, arguments, result.detach().clone())
            self._made[id(result)] = (result, result._version, made)
        return result

    def _origin(self, x: Tensor) -> _Made:
        """Where ``x`` came from; unknown if it was changed in place since."""
        tensor, version, made = self._made.get(id(x), (None, -1, None))
        if tensor is x and made is not None and x._version == version:
            return made
        return _Made("unknown", {}, x.detach().clone())

    def front(self, asked: Asked, place: int, samples: int) -> Front:
        """The front of one unit on the sample at ``place`` of ``samples``."""
        made, axis, at_zero = self.sites[asked.site]
        rows = units_last(made.value, axis)[:, asked.unit]
        count = max(len(rows) // samples, 1)
        first = min(place * count, len(rows) - count)
        own = rows[first : first + count]
        row = int(own.argmax()) if asked.row is None else asked.row
        where = _Where(asked.unit, axis, first + row, tuple(made.value.shape))
        z = float(own[row])
        try:
            return self._front(z, row, at_zero, made, where)
        except _Unknown as reason:
            return Front(z, row, at_zero, note=f"{reason}: only the total is known")

    def _front(self, z: float, row: int, at_zero: float, made: _Made, where: _Where) -> Front:
        skip: float | None = None
        scale, shift = 1.0, None
        while True:
            if made.kind == "same":
                made = made.arguments["input"]
            elif made.kind == "sum" and skip is None and shift is None:
                made, skip = _branches(made, where)
            elif made.kind in ("batch norm", "layer norm") and shift is None:
                scale, shift = _normalisation(made, where)
                made = made.arguments["input"]
            elif made.kind in ("linear", "conv"):
                x, output = _linear(made, where) if made.kind == "linear" else _convolution(made, where)
                return Front(z, row, at_zero, self._layer(made, x, output), scale, shift, skip)
            else:
                raise _Unknown("what stands in front is no linear layer or convolution")

    def _layer(self, made: _Made, x: Tensor, unit: int) -> Layer:
        """One output ``unit`` of the layer on its inputs ``x``."""
        weight, bias = made.arguments["weight"], made.arguments.get("bias")
        return Layer(
            _array(weight[unit]).reshape(-1),
            _array(x).reshape(-1),
            0.0 if bias is None else float(bias.detach()[unit]),
            self._names.get(id(weight)),
            None if bias is None else self._names.get(id(bias)),
            unit,
            bias is not None,
        )


class _Unknown(Exception):
    """The front cannot be split, and why."""


@dataclass(frozen=True)
class _Where:
    """One entry of a tensor: a unit on its axis, and the row among all other axes."""

    unit: int
    axis: int
    row: int
    shape: tuple[int, ...]

    @property
    def index(self) -> tuple[int, ...]:
        """The index into a tensor of that shape."""
        return entry_of(self.shape, self.axis, self.unit, self.row)

    def of(self, x: Tensor) -> float:
        """The entry of ``x``, which may broadcast to the shape."""
        return float(x.detach().expand(self.shape)[self.index])


def _array(x: Tensor) -> np.ndarray:
    return x.detach().to("cpu", torch.float64).numpy()


def _branches(made: _Made, where: _Where) -> tuple[_Made, float]:
    """The branch of a sum that a layer made, and the other's value; of two the first."""
    first, second = made.arguments["input"], made.arguments.get("other")
    if made.arguments.get("alpha", 1) != 1 or not isinstance(second, _Made):
        raise _Unknown("a sum in front has a factor or a number in it")
    for main, other in ((first, second), (second, first)):
        if main.kind != "unknown" and tuple(main.value.shape) == where.shape:
            return main, where.of(other.value)
    raise _Unknown("neither branch of the sum in front comes from a layer")


def _normalisation(made: _Made, where: _Where) -> tuple[float, float]:
    """(scale, shift) of z = scale·u + shift at one entry, in evaluation mode."""
    a = made.arguments
    weight, bias, eps = a.get("weight"), a.get("bias"), float(a["eps"])
    u = a["input"].value.to(torch.float64)
    index = where.index
    if made.kind == "batch norm":
        channel = index[1]
        if a["running_mean"] is None:
            others = [i for i in range(u.ndim) if i != 1]
            mean, variance = u.mean(others)[channel], u.var(others, correction=0)[channel]
        else:
            mean, variance = a["running_mean"][channel], a["running_var"][channel]
        gain = 1.0 if weight is None else float(weight.detach()[channel])
        offset = 0.0 if bias is None else float(bias.detach()[channel])
    else:
        size = len(a["normalized_shape"])
        own = u[index[: u.ndim - size]]
        mean, variance = own.mean(), own.var(correction=0)
        inner = index[u.ndim - size :]
        gain = 1.0 if weight is None else float(weight.detach()[inner])
        offset = 0.0 if bias is None else float(bias.detach()[inner])
    scale = gain / (float(variance) + eps) ** 0.5
    return scale, offset - scale * float(mean)


def _linear(made: _Made, where: _Where) -> tuple[Tensor, int]:
    """What made the entry: the last axis of the layer's input, on the entry's row; and which output."""
    x = made.arguments["input"].value
    return x[where.index[:-1]], where.index[-1]


def _convolution(made: _Made, where: _Where) -> tuple[Tensor, int]:
    """What made the entry: the patch under the kernel at its position; and which channel."""
    a = made.arguments
    x, weight = a["input"].value, a["weight"]
    spatial = weight.ndim - 2
    stride, dilation = (_each(a.get(name, 1), spatial) for name in ("stride", "dilation"))
    padding = _padding(a.get("padding", 0), weight, stride, dilation)
    sample, channel, *position = where.index if x.ndim == spatial + 2 else (None, *where.index)
    x = x if sample is None else x[sample]
    x = F.pad(x, [side for pair in reversed(padding) for side in pair])
    inputs = weight.shape[1]  # of one group
    group = channel // (len(weight) // a.get("groups", 1))
    windows = [
        slice(at * step, at * step + (kernel - 1) * gap + 1, gap)
        for at, step, kernel, gap in zip(position, stride, weight.shape[2:], dilation, strict=True)
    ]
    return x[(slice(group * inputs, (group + 1) * inputs), *windows)], channel


def _each(value: Any, count: int) -> Sequence[int]:
    return (
        [value] * count if isinstance(value, int) else list(itertools.islice(itertools.cycle(value), count))
    )


def _padding(padding: Any, weight: Tensor, stride: Any, dilation: Any) -> list[tuple[int, int]]:
    """Zeros before and after, on every spatial axis."""
    if padding == "same":
        totals = [gap * (kernel - 1) for gap, kernel in zip(dilation, weight.shape[2:], strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    if padding == "valid":
        padding = 0
    return [(n, n) for n in _each(padding, weight.ndim - 2)]
