"""Pictures of a run, one function each, as matplotlib figures; they only read insight's records."""

from __future__ import annotations

from backstory.plots.gates import gate_map
from backstory.plots.graph import graph
from backstory.plots.life import alive_and_loss
from backstory.plots.norms import gradient_norms, update_ratios
from backstory.plots.outcomes import paired_outcomes

__all__ = ["alive_and_loss", "gate_map", "gradient_norms", "graph", "paired_outcomes", "update_ratios"]
