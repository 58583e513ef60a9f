"""Pictures, one function each: of a run, of a graph, of functions; they only read what insight found."""

from __future__ import annotations

from backstory.plots.chart import Curves, Dots, chart
from backstory.plots.differentiation import differentiation, modes
from backstory.plots.functions import activation, piecewise
from backstory.plots.gates import gate_map
from backstory.plots.graph import graph
from backstory.plots.life import alive_and_loss
from backstory.plots.norms import gradient_norms, update_ratios
from backstory.plots.outcomes import paired_outcomes

__all__ = [
    "Curves",
    "Dots",
    "activation",
    "alive_and_loss",
    "chart",
    "differentiation",
    "gate_map",
    "gradient_norms",
    "graph",
    "modes",
    "paired_outcomes",
    "piecewise",
    "update_ratios",
]
