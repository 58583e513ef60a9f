"""Scans of PyTorch models: the state of every unit on the declared data, leaving no trace in the model."""

from __future__ import annotations

import random
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from backstory.adapters.torch.activations import Gate, local_derivative, units_last
from backstory.adapters.torch.data import Declared
from backstory.adapters.torch.sites import (
    Key,
    SiteMode,
    channel_axis,
    default_axis,
    inherited_axis,
    tensors_of,
)
from backstory.errors import RunError
from backstory.insight.scan import SiteScan
from backstory.insight.sites import site_name

__all__ = ["Autocast", "AxisMode", "Scanner", "evaluation"]


@dataclass(frozen=True)
class Autocast:
    """Automatic mixed precision as it was where the training ran its forward pass."""

    device: str
    enabled: bool = False
    dtype: torch.dtype | None = None

    @classmethod
    def now(cls, device: str) -> Autocast:
        """What holds at this moment."""
        return cls(device, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device))


@contextmanager
def evaluation(
    model: nn.Module, autocast: Autocast, generator: torch.Generator | None = None
) -> Iterator[None]:
    """The model in evaluation mode, recording no graph and uncompiled.

    Training flags, buffers and random streams (also ``generator``, Python's and NumPy's) are put back.
    """
    flags = [(module, module.training) for module in model.modules()]
    buffers = [
        (module._buffers, name, buffer, buffer._version, buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(_random_streams(model, generator))
        # Without the cache: weights cast here would serve a forward pass around the scan, and have no graph.
        stack.enter_context(
            torch.autocast(autocast.device, autocast.dtype, autocast.enabled, cache_enabled=False)
        )
        if "torch._dynamo" in sys.modules:  # else nothing is compiled, and importing it takes a second
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # a checkpointed module asks for gradients, and so on
        try:
            for module, training in flags:
                if training:
                    module.__dict__["training"] = False
            yield
        finally:
            for module, training in flags:
                module.__dict__["training"] = training
            for holder, name, buffer, version, value in buffers:
                if buffer._version != version:
                    buffer.copy_(value)
                holder[name] = buffer


@contextmanager
def _random_streams(model: nn.Module, generator: torch.Generator | None) -> Iterator[None]:
    """What is drawn inside is drawn again behind it."""
    devices = {p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"}
    own = None if generator is None else generator.get_state()
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 (the user's, not ours)
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
            if generator is not None and own is not None:
                generator.set_state(own)


class AxisMode(SiteMode):
    """Knows on which axis the units of every tensor are, from the function that made it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self._axes: Any = WeakTensorKeyDictionary()

    def axis_of(self, x: Tensor) -> int:
        """On which axis the units are, counted from the end."""
        return self._axes.get(x, default_axis(x))

    def other(self, func: Any, args: Any, kwargs: Any) -> Any:
        result = func(*args, **kwargs)
        for one in tensors_of(result):
            axis = channel_axis(func, args, one)
            axis = inherited_axis(func, args, kwargs, one, self._axes) if axis is None else axis
            if axis is not None:
                self._axes[one] = axis
        return result


class Scanner(AxisMode):
    """Finds every site's derivatives, and with ``peaks`` each unit's most open sample."""

    def __init__(self, model: nn.Module, data: Declared, peaks: bool) -> None:
        super().__init__(model)
        self.model, self.data, self.peaks = model, data, peaks
        self.sites: dict[str, SiteScan] = {}
        self.axes: dict[Key, int] = {}
        self._offset = self._samples = 0

    def scan(self, autocast: Autocast, generator: torch.Generator | None) -> dict[str, SiteScan]:
        """Every site on the declared data, in the order in which they run."""
        with evaluation(self.model, autocast, generator):
            for offset, samples, (args, kwargs) in self.data.chunks():
                self._offset, self._samples = offset, samples
                self.restart()
                with self:
                    self.model(*args, **kwargs)
        return self.sites

    def gate(self, key: Key, gate: Gate, func: Any, args: Any, kwargs: Any) -> Any:
        axis = self.axes[key] = self.axis_of(args[0])
        derivative = units_last(local_derivative(func, args, kwargs), axis)
        peak = sample = None
        if self.peaks:
            rows = units_last(args[0].detach(), axis)
            highest, place = rows.max(0)
            peak = highest.to(torch.float64).cpu().numpy()
            sample = place.cpu().numpy() * self._samples // len(rows) + self._offset
        found = SiteScan(
            site_name(key), gate.name, _array(derivative.amin(0)), _array(derivative.amax(0)), peak, sample
        )
        whole = self.sites.setdefault(found.name, found)
        if whole is not found:
            if len(whole.low) != len(found.low):
                raise RunError(
                    f"scanning the site {found.name}, which ran with {len(whole.low)} units and with "
                    f"{len(found.low)}",
                    why="a unit is one feature, the same for every sample; the data is scanned in parts",
                    instead="data of one length (padded), or an activation whose last axis are features",
                )
            whole.merge(found)
        return self.other(func, args, kwargs)


def _array(x: Tensor) -> np.ndarray:
    return x.to(torch.float64).cpu().numpy()
