"""Helpers on parameters, their gradients, and on layers."""

from __future__ import annotations

from backstory.nn.utils import fusion, parametrizations, parametrize
from backstory.nn.utils.fusion import fuse
from backstory.nn.utils.gradients import (
    clip_grad_norm_,
    clip_grad_value_,
    parameters_to_vector,
    vector_to_parameters,
)
from backstory.nn.utils.parametrizations import weight_norm

__all__ = [
    "clip_grad_norm_",
    "clip_grad_value_",
    "fuse",
    "fusion",
    "parameters_to_vector",
    "parametrizations",
    "parametrize",
    "vector_to_parameters",
    "weight_norm",
]
