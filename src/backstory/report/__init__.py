"""The report: a run as one page that needs nothing else."""

from __future__ import annotations

from backstory.report.page import write_report

__all__ = ["write_report"]
