"""Dropout: entries, channels, or to SELU's lowest value."""

from __future__ import annotations

import math
from typing import Any

from backstory.errors import ArgumentError, ShapeError
from backstory.graph import context
from backstory.inplace import change
from backstory.tensor import Tensor, as_tensor

__all__ = ["alpha_dropout", "dropout", "dropout1d", "dropout2d"]

# Where selu ends for x → −∞: −λα.
LOWEST = -1.7580993408473766


def checked_probability(name: str, p: float) -> float:
    """``p`` if it is a probability."""
    if not 0.0 <= p <= 1.0:
        raise ArgumentError(
            f"{name}(p={p})",
            why="it is the probability of an entry to be dropped",
            instead="a number from 0 to 1, such as 0.5",
        )
    return p


def _kept(p: float, shape: tuple[int, ...], dtype: Any) -> Any:
    """1 with probability 1 − p, else 0."""
    return (context().xp.draw(None, lambda stream: stream.random(shape)) >= p).astype(dtype)


def dropout(x: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Each entry 0 with probability ``p``, else divided by 1 − p, so that the mean is kept; x in evaluation.

    >>> sorted(set(dropout([1.0] * 100).tolist()))
    [0.0, 2.0]
    """
    x = as_tensor(x)
    return _dropped("dropout", x, p, training, inplace, x.shape)


def dropout1d(x: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """:func:`dropout` of whole channels of (N, C, L)."""
    return _channels("dropout1d", as_tensor(x), p, training, inplace, (3,))


def dropout2d(x: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """:func:`dropout` of whole channels of (N, C, H, W)."""
    return _channels("dropout2d", as_tensor(x), p, training, inplace, (3, 4))


def _channels(
    name: str, x: Tensor, p: float, training: bool, inplace: bool, ranks: tuple[int, ...]
) -> Tensor:
    if x.ndim not in ranks:
        raise ShapeError(
            f"{name} received x of shape {x.shape}",
            why="samples and channels come first, and positions after them",
            instead="x of shape (N, C, H, W), or dropout for single entries",
        )
    return _dropped(name, x, p, training, inplace, (*x.shape[:2], *(1,) * (x.ndim - 2)))


def _dropped(name: str, x: Tensor, p: float, training: bool, inplace: bool, shape: tuple[int, ...]) -> Tensor:
    checked_probability(name, p)
    if not training or p == 0.0:
        return x
    scale = 0.0 if p == 1.0 else 1.0 / (1.0 - p)
    factor = as_tensor(_kept(p, shape, x.dtype) * x.dtype.type(scale))
    return change(x, f"{name}_", lambda old: old * factor) if inplace else x * factor


def alpha_dropout(x: Any, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """Entries at SELU's lowest value with probability ``p``, then scaled to keep mean 0 and variance 1.

    Klambauer et al. 2017 (arXiv:1706.02515).
    """
    x = as_tensor(x)
    checked_probability("alpha_dropout", p)
    if not training or p == 0.0:
        return x
    kept = _kept(p, x.shape, x.dtype)
    scale = 0.0 if p == 1.0 else 1.0 / math.sqrt((LOWEST * LOWEST * p + 1.0) * (1.0 - p))
    factor = as_tensor(kept * x.dtype.type(scale))
    shift = as_tensor((LOWEST * scale * (1.0 - kept) - LOWEST * scale * p).astype(x.dtype))
    if inplace:
        return change(x, "alpha_dropout_", lambda old: old * factor + shift)
    return x * factor + shift
