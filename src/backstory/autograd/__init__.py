"""Derivatives of recorded computations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backstory.autograd.anomaly import detect_anomaly, set_detect_anomaly
from backstory.autograd.backward import backward, cotangents, grad
from backstory.autograd.levels import new_level
from backstory.autograd.modes import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    relu_derivative_at_zero,
    set_grad_enabled,
)
from backstory.lazy import named

if TYPE_CHECKING:
    from backstory.autograd.differences import gradcheck, gradgradcheck
    from backstory.autograd.function import Function

_LAZY = {"Function": "function", "gradcheck": "differences", "gradgradcheck": "differences"}


def __getattr__(name: str) -> Any:
    return named(__name__, _LAZY, name)


__all__ = [
    "Function",
    "backward",
    "cotangents",
    "detect_anomaly",
    "enable_grad",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "inference_mode",
    "is_grad_enabled",
    "is_inference_mode_enabled",
    "new_level",
    "no_grad",
    "relu_derivative_at_zero",
    "set_detect_anomaly",
    "set_grad_enabled",
]
