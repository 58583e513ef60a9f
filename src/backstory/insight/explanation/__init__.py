"""How a result was computed and how its gradient flows back, in symbols and in numbers."""

from __future__ import annotations

from backstory.insight.explanation.derivation import Derivation, Flow, Quantity, Step, derivation
from backstory.insight.explanation.names import Names
from backstory.insight.explanation.notation import Notation

__all__ = ["Derivation", "Flow", "Names", "Notation", "Quantity", "Step", "derivation"]
