"""Helpers on parameters and their gradients."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from backstory.arrays import eager
from backstory.autograd.modes import no_grad
from backstory.errors import ArgumentError, ShapeError
from backstory.functions.joining import cat
from backstory.functions.shape import reshape
from backstory.graph import context
from backstory.history import count_change, user_line
from backstory.tensor import Tensor, as_tensor

__all__ = ["clip_grad_norm_", "clip_grad_value_", "parameters_to_vector", "vector_to_parameters"]


def clip_grad_norm_(parameters: Tensor | Iterable[Tensor], max_norm: float) -> Tensor:
    """Scale all gradients together so that their joint 2-norm is at most ``max_norm``.

    Returns the norm before. The factor is max_norm / (norm + 1e-6), and 1 where that is larger, as in
    PyTorch.

    >>> import backstory
    >>> w = backstory.tensor([3.0, 4.0], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> clip_grad_norm_(w, 1.0)
    tensor(10.)
    """
    if not max_norm >= 0:
        raise ArgumentError(
            f"clip_grad_norm_(max_norm={max_norm})", why="a norm is not negative", instead="max_norm=1.0"
        )
    owners = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    gradients = [p.grad for p in owners if p.grad is not None]
    if not gradients:
        return as_tensor(0.0)
    here = user_line()
    xp = context().xp
    with np.errstate(all="ignore"):
        total = xp.sqrt(sum(_squares(xp, g.array) for g in gradients))
        factor = max_norm / (total + 1e-6)
        if xp is not eager or not factor >= 1.0:
            factor = xp.where(factor >= 1.0, 1.0, factor)
            for g in gradients:
                g.array *= xp.astype(factor, g.dtype)
                count_change(g._counter, here)
    return as_tensor(xp.asarray(total))


def _squares(xp: Any, g: Any) -> Any:
    """Σ g²"""
    return np.vdot(g, g) if xp is eager else xp.sum(g * g)


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Bring every entry of every gradient into [−clip_value, clip_value].

    >>> import backstory
    >>> w = backstory.tensor([3.0, 0.1], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> clip_grad_value_(w, 1.0)
    >>> w.grad
    tensor([1. , 0.2])
    """
    if not clip_value >= 0:
        raise ArgumentError(
            f"clip_grad_value_(clip_value={clip_value})",
            why="a bound on the size is not negative",
            instead="clip_value=1.0",
        )
    here = user_line()
    for p in [parameters] if isinstance(parameters, Tensor) else list(parameters):
        if p.grad is not None:
            xp = context().xp
            p.grad.array[...] = xp.minimum(xp.maximum(p.grad.array, -clip_value), clip_value)
            count_change(p.grad._counter, here)


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All parameters in a row, with their history.

    >>> from backstory import nn
    >>> parameters_to_vector(nn.Linear(3, 2).parameters()).shape
    (8,)
    """
    return cat([reshape(p, -1) for p in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Copy the entries of ``vec``, in order, into the parameters: the way back."""
    owners, vec = list(parameters), as_tensor(vec)
    count = sum(p.numel() for p in owners)
    if vec.shape != (count,):
        raise ShapeError(
            f"vector_to_parameters received a vector of shape {vec.shape}",
            why=f"the parameters have {count} entries together",
            instead=f"a vector of shape ({count},)",
        )
    start = 0
    with no_grad():
        for p in owners:
            p.copy_(reshape(vec[start : start + p.numel()], p.shape))
            start += p.numel()
