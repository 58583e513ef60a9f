"""Derivatives of recorded computations."""

from __future__ import annotations

from backstory.autograd.anomaly import detect_anomaly, set_detect_anomaly
from backstory.autograd.backward import backward, cotangents, grad
from backstory.autograd.function import Function
from backstory.autograd.gradcheck import gradcheck, gradgradcheck
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
