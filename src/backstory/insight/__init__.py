"""Insight: recordings of trainings and what can be asked of them."""

from __future__ import annotations

from backstory.insight.advice import Advice, Finding, lint, suggest_activation
from backstory.insight.certificate import Certificate
from backstory.insight.counterfactual import Change, Outcome, Outcomes
from backstory.insight.experiment import experiment
from backstory.insight.explain import Explanation, explain
from backstory.insight.factors import GradientFactors, gradient_factors
from backstory.insight.lifetable import Event, LifeTable
from backstory.insight.piecewise import PiecewiseLinear, piecewise_linear
from backstory.insight.run import Recording, Run, open_run, unwatched, watch
from backstory.insight.sites import Site
from backstory.insight.why import Why, why

__all__ = [
    "Advice",
    "Certificate",
    "Change",
    "Event",
    "Explanation",
    "Finding",
    "GradientFactors",
    "LifeTable",
    "Outcome",
    "Outcomes",
    "PiecewiseLinear",
    "Recording",
    "Run",
    "Site",
    "Why",
    "experiment",
    "explain",
    "gradient_factors",
    "lint",
    "open_run",
    "piecewise_linear",
    "suggest_activation",
    "unwatched",
    "watch",
    "why",
]
