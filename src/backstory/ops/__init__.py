"""The table of operations: one record each, found by name."""

from __future__ import annotations

from backstory.ops import (
    activation,
    arithmetic,
    comparison,
    conv,
    cumulative,
    extrema,
    indexing,
    linalg,
    loss,
    norm,
    reduction,
    shape,
    smooth,
    transcendental,
)
from backstory.ops.profile import gain, saturation
from backstory.ops.record import Bilinear, Case, Elementwise, General, Linear, Op, unbroadcast

__all__ = [
    "TABLE",
    "Bilinear",
    "Case",
    "Elementwise",
    "General",
    "Linear",
    "Op",
    "gain",
    "saturation",
    "unbroadcast",
]

SUBJECTS = (
    arithmetic,
    transcendental,
    activation,
    smooth,
    comparison,
    reduction,
    extrema,
    cumulative,
    norm,
    linalg,
    shape,
    indexing,
    conv,
    loss,
)
TABLE: dict[str, Op] = {op.name: op for subject in SUBJECTS for op in subject.OPS}
