"""Helpers on parameters and their gradients."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from backstory.errors import ArgumentError
from backstory.history import count_change, user_line
from backstory.tensor import Tensor, as_tensor

__all__ = ["clip_grad_norm_"]


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
    with np.errstate(all="ignore"):
        total = np.sqrt(sum(np.vdot(g.array, g.array) for g in gradients))
        factor = max_norm / (total + 1e-6)
        if not factor >= 1.0:
            for g in gradients:
                g.array *= g.dtype.type(factor)
                count_change(g._counter, here)
    return as_tensor(np.asarray(total))
