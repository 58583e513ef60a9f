"""What linear layers compute."""

from __future__ import annotations

from functools import partial
from typing import Any

from backstory.arrays import eager
from backstory.core import entries
from backstory.errors import DtypeError, LabelError, ShapeError
from backstory.functions.comparison import where
from backstory.functions.reduction import norm
from backstory.functions.selection import index_select
from backstory.functions.shape import broadcast_tensors, reshape
from backstory.graph import context
from backstory.ops import TABLE
from backstory.tensor import Tensor, apply, as_tensor

__all__ = ["cosine_similarity", "embedding", "linear", "normalize", "one_hot", "pairwise_distance"]


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x Wᵀ + b for x (…, in), W (out, in), b (out,): PyTorch's layout.

    dX = G·W, dW = Gᵀ·x, db = Σ G over the samples, where G is the upstream gradient.
    """
    if bias is None:
        return apply(TABLE["linear"], as_tensor(x), weight)
    return apply(TABLE["linear"], as_tensor(x), weight, bias)


def embedding(index: Any, weight: Tensor, padding_idx: int | None = None) -> Tensor:
    """The rows of ``weight`` that ``index`` names: (…) of integers → (…, features).

    A row that is named twice sums both gradients; the row ``padding_idx`` receives none.

    >>> embedding([1, 0], as_tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([[3., 4.],
            [1., 2.]])
    """
    index = as_tensor(index)
    if index.dtype.kind not in "iu":
        raise DtypeError(
            f"embedding received an index of {index.dtype}",
            why="rows are chosen by their number",
            instead="index.to(backstory.int64)",
        )
    rows = weight.shape[0]
    if index.level == 0:
        context().xp.assume(entries(index), 0, rows - 1, partial(_refuse_rows, rows))
    if padding_idx is not None and weight.requires_grad:
        # As values the same; but no gradient comes back to the padding row.
        row = padding_idx % rows
        blocked = as_tensor(eager.arange(rows) == row)
        weight = where(reshape(blocked, (-1, 1)), weight.detach(), weight)
    chosen = index_select(weight, 0, reshape(index, -1))
    return reshape(chosen, (*index.shape, weight.shape[1]))


def _refuse_rows(rows: int, index: Any) -> None:
    """Raise for an index that names no row."""
    low, high = int(index.min()), int(index.max())
    raise LabelError(
        f"embedding received the index {low if low < 0 else high}",
        why=f"there are {rows} rows, numbered 0 to {rows - 1}",
        instead="an Embedding with as many rows as there are words",
    )


def one_hot(index: Any, num_classes: int = -1) -> Tensor:
    """1 at each index and 0 elsewhere: (…) → (…, num_classes), of int64.

    >>> one_hot([0, 2])
    tensor([[1, 0, 0],
            [0, 0, 1]])
    """
    index = as_tensor(index)
    refuse = partial(_refuse_classes, num_classes)
    if num_classes == -1 and not index.numel():
        refuse(index.array)
    count = int(index.max().item()) + 1 if num_classes == -1 else num_classes
    if index.level == 0:
        context().xp.assume(entries(index), 0, count - 1, refuse)
    places = reshape(index, (*index.shape, 1)) == as_tensor(eager.arange(count))
    return places.to("int64")


def _refuse_classes(num_classes: int, index: Any) -> None:
    """Raise for an index that is no class."""
    raise LabelError(
        f"one_hot(num_classes={num_classes}) of indices up to {index.max() if index.size else -1}",
        why="classes are numbered from 0 to num_classes - 1",
        instead="a larger num_classes, and no negative index",
    )


def cosine_similarity(x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """x₁·x₂ / (max(‖x₁‖, ε) max(‖x₂‖, ε)) along ``dim``.

    >>> cosine_similarity([[1.0, 0.0]], [[3.0, 4.0]])
    tensor([0.6])
    """
    x1, x2 = broadcast_tensors(as_tensor(x1), as_tensor(x2))
    return (normalize(x1, dim=dim, eps=eps) * normalize(x2, dim=dim, eps=eps)).sum(dim)


def normalize(x: Any, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """x / max(‖x‖ₚ, ε) along ``dim``.

    >>> normalize([[3.0, 4.0]])
    tensor([[0.6, 0.8]])
    """
    x = as_tensor(x)
    return x / norm(x, p, dim, keepdim=True).clamp_min(eps)


def pairwise_distance(x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    """‖x₁ − x₂ + ε‖ₚ along the last axis.

    >>> pairwise_distance([[0.0, 0.0]], [[3.0, 4.0]])
    tensor([5.])
    """
    x1, x2 = as_tensor(x1), as_tensor(x2)
    if x1.ndim == 0 and x2.ndim == 0:
        raise ShapeError("pairwise_distance of two numbers", why="they have no axis", instead="vectors")
    return norm(x1 - x2 + eps, p, -1, keepdim=keepdim)
