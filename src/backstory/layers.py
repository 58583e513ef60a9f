"""Layers as courses build them: ``forward(x)`` and ``backward(dout)`` on NumPy arrays, no graph between.

Nothing is derived here a second time: each layer runs operations of the table and their rules. The
layout is that of courses, XW + b, where a row is a sample; :class:`backstory.nn.Linear` computes xWᵀ + b.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from backstory.arrays import eager
from backstory.autograd.modes import checked_at_zero
from backstory.errors import ArgumentError, GraphError, LabelError, ShapeError
from backstory.ops import TABLE, Op, unbroadcast

__all__ = ["Affine", "ReLU", "Sigmoid", "SoftmaxWithLoss"]


class _Ran:
    """One operation that ran, and what its backward needs."""

    def __init__(self, op: Op, *inputs: Any, **params: Any) -> None:
        self.op, self.inputs, self.params, self.residuals = op, inputs, params, None
        with np.errstate(all="ignore"):
            out = op.forward(eager, *inputs, **params)
        if op.residuals:
            out, self.residuals = out
        self.out = np.asarray(out)

    def gradient(self, i: int, dout: Any) -> np.ndarray:
        """The upstream ``dout`` times the local derivative by input ``i``."""
        x = self.inputs[i]
        with np.errstate(all="ignore"):
            part = self.op.vjp(eager, i, dout, self.out, self.inputs, x.shape, self.params, self.residuals)
        return unbroadcast(eager, part, x.shape)


class _Layer:
    """What all layers share: the last forward, and what may come back."""

    _ran: _Ran | None = None

    def _last(self, dout: Any) -> tuple[_Ran, np.ndarray]:
        """The last forward and the upstream gradient, if they fit each other."""
        name = type(self).__name__
        if self._ran is None:
            raise GraphError(
                f"{name}.backward() before forward()",
                why="the local derivative depends on what went forwards",
                instead="layer.forward(x) first",
            )
        dout, out = np.asarray(dout), self._ran.out
        if dout.shape != out.shape:
            raise ShapeError(
                f"{name}.backward() received dout of shape {dout.shape}",
                why=f"the output of forward() had shape {out.shape}, and dout has one entry for each of its",
                instead=f"dout of shape {out.shape}",
            )
        return self._ran, dout


class Affine(_Layer):
    """Y = XW + b for X (N, D), W (D, H), b (H,); dX = dY·Wᵀ, dW = Xᵀ·dY, db = Σ dY over the rows.

    More axes of X than two, as images have, are folded into D and unfolded again. ``backward`` returns
    dX and leaves ``dW`` and ``db``.

    >>> layer = Affine(np.array([[1.0, 2.0]]), np.array([0.5, 0.5]))
    >>> layer.forward(np.array([[3.0], [4.0]]))
    array([[3.5, 6.5],
           [4.5, 8.5]])
    >>> layer.backward(np.ones((2, 2)))
    array([[3.],
           [3.]])
    >>> layer.dW, layer.db
    (array([[7., 7.]]), array([2., 2.]))
    """

    def __init__(self, W: Any, b: Any) -> None:
        self.W, self.b = np.asarray(W), np.asarray(b)
        if self.W.ndim != 2 or self.b.shape != self.W.shape[1:]:
            raise ShapeError(
                f"Affine received W of shape {self.W.shape} and b of shape {self.b.shape}",
                why="Y = XW + b adds one bias to each column of XW",
                instead="W of shape (D, H) and b of shape (H,)",
            )
        self.dW: np.ndarray | None = None
        self.db: np.ndarray | None = None
        self._product: _Ran | None = None

    def forward(self, x: Any) -> np.ndarray:
        """XW + b"""
        x = np.asarray(x)
        rows = x.reshape(len(x), math.prod(x.shape[1:])) if x.ndim > 1 else x
        if rows.ndim != 2 or rows.shape[1] != len(self.W):
            raise ShapeError(
                f"Affine.forward() received x of shape {x.shape} for W of shape {self.W.shape}",
                why=f"each sample must hold {len(self.W)} features",
                instead=f"x of shape (N, {len(self.W)}); nn.Linear takes W transposed, (H, D)",
            )
        self._shape = x.shape
        self._product = _Ran(TABLE["matmul"], rows, self.W)
        self._ran = _Ran(TABLE["add"], self._product.out, self.b)
        return self._ran.out

    def backward(self, dout: Any) -> np.ndarray:
        """dX of the shape of X; sets ``dW`` and ``db``."""
        added, dout = self._last(dout)
        assert self._product is not None
        upstream = added.gradient(0, dout)
        self.db = added.gradient(1, dout)
        self.dW = self._product.gradient(1, upstream)
        return self._product.gradient(0, upstream).reshape(self._shape)


class _Elementwise(_Layer):
    """A layer of one elementwise operation."""

    _name = ""

    def __init__(self) -> None:
        self._params: dict[str, Any] = {}

    def forward(self, x: Any) -> np.ndarray:
        """The function, entry by entry."""
        self._ran = _Ran(TABLE[self._name], np.asarray(x), **self._params)
        return self._ran.out

    def backward(self, dout: Any) -> np.ndarray:
        """dX = dout × local derivative, entry by entry."""
        ran, dout = self._last(dout)
        return ran.gradient(0, dout)


class ReLU(_Elementwise):
    """max(x, 0); dX = dout where the gate was open, else 0.

    ``at_zero`` is the derivative at exactly 0, where texts differ: 0 (PyTorch's choice), 1, or between.

    >>> gate = ReLU()
    >>> gate.forward(np.array([-2.0, -1.0, 0.0, 1.0, 2.0]))
    array([0., 0., 0., 1., 2.])
    >>> gate.backward(np.ones(5))
    array([0., 0., 0., 1., 1.])
    """

    _name = "relu"

    def __init__(self, at_zero: float = 0.0) -> None:
        super().__init__()
        self._params = {"at_zero": checked_at_zero(at_zero)}


class Sigmoid(_Elementwise):
    """σ(x) = 1/(1 + e⁻ˣ); dX = dout·σ(x)·(1 − σ(x)).

    >>> gate = Sigmoid()
    >>> gate.forward(np.array([0.0])), gate.backward(np.array([1.0]))
    (array([0.5]), array([0.25]))
    """

    _name = "sigmoid"


class SoftmaxWithLoss(_Layer):
    """Softmax with cross-entropy, averaged over the samples; dX = dout·(softmax(X) − T)/N.

    ``forward(x, t)`` takes scores (N, C) and the classes, as labels (N,) or one-hot (N, C). ``y`` holds
    the probabilities.

    >>> layer = SoftmaxWithLoss()
    >>> float(layer.forward(np.zeros((1, 2)), np.array([1])).round(4))
    0.6931
    >>> layer.backward()
    array([[ 0.5, -0.5]])
    """

    y: np.ndarray

    def forward(self, x: Any, t: Any) -> np.ndarray:
        """The mean loss."""
        x, labels = np.asarray(x, dtype=np.result_type(np.asarray(x), np.float32)), np.asarray(t)
        if labels.ndim == 2 and labels.shape == x.shape:
            labels = _labels_of(labels)
        if x.ndim != 2 or labels.shape != x.shape[:1] or labels.dtype.kind not in "iu":
            raise ShapeError(
                f"SoftmaxWithLoss received scores {x.shape} and classes {labels.dtype} {labels.shape}",
                why="each sample has one row of scores and one class",
                instead="scores (N, C), and labels (N,) of integers or one-hot rows (N, C)",
            )
        if labels.size and (labels.min() < 0 or labels.max() >= x.shape[1]):
            raise LabelError(
                f"SoftmaxWithLoss received the labels {labels.min()} to {labels.max()}",
                why=f"there are {x.shape[1]} classes, numbered 0 to {x.shape[1] - 1}",
                instead="labels that start at 0",
            )
        self.y = np.exp(TABLE["log_softmax"].forward(eager, x))
        self._ran = _Ran(TABLE["cross_entropy"], x, labels, reduction="mean")
        return self._ran.out

    def backward(self, dout: Any = 1.0) -> np.ndarray:
        """The gradient of the scores."""
        ran, dout = self._last(np.asarray(dout, dtype=np.float64))
        return ran.gradient(0, dout.astype(ran.inputs[0].dtype))


def _labels_of(rows: np.ndarray) -> np.ndarray:
    """The label that each one-hot row stands for."""
    if not (np.isin(rows, (0, 1)).all() and (rows.sum(axis=1) == 1).all()):
        raise ArgumentError(
            f"SoftmaxWithLoss received rows of classes of shape {rows.shape} that are not one-hot",
            why="a sample belongs to one class: a single 1 in its row, and 0 elsewhere",
            instead="one-hot rows, or labels of shape (N,)",
        )
    return rows.argmax(axis=1)
