"""Scans: the state of every unit on the whole declared data, at the present parameters.

A unit is *dead* when its activation's local derivative is 0 for every sample, *linear* when it is one
and the same other number for every sample, and else it *bends*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backstory.arrays import Generator, namespace
from backstory.errors import ArgumentError
from backstory.insight.sites import Observer, observing, site_name
from backstory.nn import Module
from backstory.nn.evaluation import evaluation
from backstory.ops import Op
from backstory.tensor import Tensor, as_tensor

__all__ = [
    "BENDS",
    "CHUNK",
    "DEAD",
    "LINEAR",
    "SiteScan",
    "checked_data",
    "local_derivative",
    "scan",
]

BENDS, LINEAR, DEAD = 0, 1, 2
CHUNK = 512


@dataclass
class SiteScan:
    """One site: per unit the extremes of the local derivative, and the most open sample."""

    name: str
    op: str
    low: np.ndarray
    high: np.ndarray
    peak: np.ndarray | None
    sample: np.ndarray | None

    @property
    def states(self) -> np.ndarray:
        """BENDS, LINEAR or DEAD for every unit."""
        same = self.low == self.high
        return np.where(same & (self.high == 0), DEAD, np.where(same, LINEAR, BENDS)).astype(np.uint8)

    def merge(self, part: SiteScan) -> None:
        """Take in the same site on further samples."""
        self.low, self.high = np.minimum(self.low, part.low), np.maximum(self.high, part.high)
        if self.peak is not None and part.peak is not None:
            larger = part.peak > self.peak
            self.peak = np.where(larger, part.peak, self.peak)
            self.sample = np.where(larger, part.sample, self.sample)  # type: ignore[arg-type]


def local_derivative(op: Op, args: Any, result: Tensor, params: Any, axis: int = -1) -> Any:
    """The activation's local derivative at every entry, (rows, units); a gate may be boolean.

    The units are on ``axis``, counted from the end.
    """
    values = [a.array if isinstance(a, Tensor) else a for a in args]
    partial = op.partials[0](namespace(result.array), result.array, *values, **params)  # type: ignore[attr-defined]
    return rows_of_units(partial, axis)


def rows_of_units(x: Any, axis: int = -1) -> Any:
    """The units, on ``axis``, as (rows, units): rows of one sample stand together."""
    if axis != -1:
        rank = len(x.shape)
        x = x.transpose((*(i for i in range(rank) if i != axis % rank), axis % rank))
    return x if len(x.shape) == 2 else x.reshape((-1, x.shape[-1] if x.shape else 1))


class _Scanner(Observer):
    def __init__(self, model: Module, peaks: bool) -> None:
        super().__init__(model)
        self.sites: dict[str, SiteScan] = {}
        self.peaks = peaks
        self.offset = self.samples = 0

    def gate(self, key: Any, op: Op, args: Any, result: Tensor, params: Any) -> None:
        axis = self.units_of(args[0])
        derivative = local_derivative(op, args, result, params, axis)
        if derivative.dtype == bool:
            low, high = np.logical_and.reduce(derivative, 0), np.logical_or.reduce(derivative, 0)
        else:
            low, high = np.minimum.reduce(derivative, 0), np.maximum.reduce(derivative, 0)
        peak = sample = None
        if self.peaks:
            z = rows_of_units(args[0].array, axis)
            place = np.argmax(z, axis=0)
            peak = z[place, np.arange(z.shape[1])]
            sample = place * self.samples // len(z) + self.offset
        found = SiteScan(site_name(key), op.name, low, high, peak, sample)
        whole = self.sites.setdefault(found.name, found)
        if whole is not found:
            whole.merge(found)


def scan(
    model: Module, data: Tensor, peaks: bool = False, generators: Sequence[Generator] = ()
) -> dict[str, SiteScan]:
    """Every site of ``model`` on ``data``, in the order in which they run.

    With ``peaks`` also each unit's largest pre-activation and the sample that has it.
    """
    scanner = _Scanner(model, peaks)
    with evaluation(model, generators), observing(scanner):
        for start in range(0, len(data), CHUNK):
            part = data if len(data) <= CHUNK else data[start : start + CHUNK]
            scanner.restart()
            scanner.offset, scanner.samples = start, len(part)
            model(part)
    return scanner.sites


def checked_data(data: Any, where: str = "watch(data=…)") -> Tensor:
    """The data that ``where`` received, as a tensor, or an error that says what is wrong with it."""
    x = as_tensor(data).detach()
    if x.ndim == 0 or len(x) == 0:
        raise ArgumentError(
            f"{where} received shape {x.shape}",
            why="a unit is dead or alive on samples; there are none",
            instead="the training inputs, one sample per row",
        )
    if x.dtype.kind == "f" and not np.isfinite(x.array).all():
        rows = np.flatnonzero(~np.isfinite(x.array.reshape(len(x), -1)).all(axis=1))
        raise ArgumentError(
            f"{where} received NaN or infinity in {len(rows)} samples, first in sample {rows[0]}",
            why="no activation of such a sample means anything",
            instead="the data without these samples, or with the missing values filled in",
        )
    return x
