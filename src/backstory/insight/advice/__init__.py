"""Advice before training: ``lint`` and ``suggest_activation``."""

from __future__ import annotations

from backstory.insight.advice.finding import Advice, Finding, catalogue
from backstory.insight.advice.guide import Suggestion, suggest_activation
from backstory.insight.advice.lint import lint

__all__ = ["Advice", "Finding", "Suggestion", "catalogue", "lint", "suggest_activation"]
