"""Derivatives of recorded computations."""

from __future__ import annotations

from backstory.autograd.backward import backward, cotangents, grad
from backstory.autograd.modes import (
    enable_grad,
    is_grad_enabled,
    new_level,
    no_grad,
    relu_derivative_at_zero,
    set_grad_enabled,
)

__all__ = [
    "backward",
    "cotangents",
    "enable_grad",
    "grad",
    "is_grad_enabled",
    "new_level",
    "no_grad",
    "relu_derivative_at_zero",
    "set_grad_enabled",
]
