"""The table of operations: one record each, found by name."""

from __future__ import annotations

from backstory.ops import elementwise, indexing, linalg, loss, reduction, shape
from backstory.ops.record import Bilinear, Case, Elementwise, General, Linear, Op, unbroadcast

__all__ = ["TABLE", "Bilinear", "Case", "Elementwise", "General", "Linear", "Op", "unbroadcast"]

TABLE: dict[str, Op] = {
    op.name: op for subject in (elementwise, reduction, linalg, shape, indexing, loss) for op in subject.OPS
}
