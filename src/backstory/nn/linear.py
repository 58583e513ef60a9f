"""Linear, Embedding, and the layers that only shape."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from backstory.arrays import Generator
from backstory.autograd.modes import no_grad
from backstory.errors import ArgumentError, ShapeError
from backstory.functions.shape import flatten, unflatten
from backstory.nn import functional, init
from backstory.nn.module import Module
from backstory.nn.parameter import Parameter
from backstory.ops import TABLE
from backstory.promotion import get_default_dtype
from backstory.tensor import Tensor, apply, as_tensor

__all__ = ["Embedding", "Flatten", "Identity", "Linear", "Unflatten"]

_LINEAR = TABLE["linear"]


class Linear(Module):
    """y = x Wᵀ + b, for x of shape (…, in_features); W is (out_features, in_features).

    W and b start uniform in ±1/√in_features, as in PyTorch, drawn from ``generator``.

    >>> import backstory
    >>> Linear(3, 2)(backstory.ones(5, 3)).shape
    (5, 2)
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        dtype: Any = None,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        if in_features < 0 or out_features < 0:
            raise ArgumentError(
                f"Linear({in_features}, {out_features})",
                why="a number of features is not negative",
                instead="Linear(in_features, out_features) with both at least 0",
            )
        self.in_features, self.out_features = in_features, out_features
        dtype = get_default_dtype() if dtype is None else dtype
        self.weight = Parameter(as_tensor(np.empty((out_features, in_features), dtype)))
        self.register_parameter("bias", Parameter(as_tensor(np.empty(out_features, dtype))) if bias else None)
        self.reset_parameters(generator)

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draw W and b anew."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5), generator=generator)
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features) if self.in_features else 0.0
            init.uniform_(self.bias, -bound, bound, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """x Wᵀ + b"""
        shape = x.shape
        if not shape or shape[-1] != self.in_features:
            raise ShapeError(
                f"Linear({self.in_features}, {self.out_features}) received x of shape {shape}",
                why=f"its last axis must hold {self.in_features} features",
                instead=f"x of shape (…, {self.in_features}), or Linear({shape[-1] if shape else 1}, "
                f"{self.out_features})",
            )
        if self.bias is None:
            return apply(_LINEAR, x, self.weight)
        return apply(_LINEAR, x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
        )


class Identity(Module):
    """x itself, whatever it was built with."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, x: Any) -> Any:
        """x"""
        return x


class Flatten(Module):
    """The axes from ``start_dim`` to ``end_dim`` as one; by default all but the first, the samples.

    >>> import backstory
    >>> Flatten()(backstory.ones(2, 3, 4)).shape
    (2, 12)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Tensor) -> Tensor:
        """The entries in another shape."""
        return flatten(x, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """The axis ``dim`` as several, of the lengths ``unflattened_size``.

    >>> import backstory
    >>> Unflatten(1, (3, 4))(backstory.ones(2, 12)).shape
    (2, 3, 4)
    """

    def __init__(self, dim: int, unflattened_size: Any) -> None:
        super().__init__()
        self.dim, self.unflattened_size = dim, tuple(unflattened_size)

    def forward(self, x: Tensor) -> Tensor:
        """The entries in another shape."""
        return unflatten(x, self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


class Embedding(Module):
    """A row of numbers for each of ``num_embeddings`` words: an index of integers chooses rows of W.

    W (num_embeddings, embedding_dim) starts from N(0, 1). The row ``padding_idx`` starts at 0 and
    receives no gradient.

    >>> import backstory
    >>> Embedding(10, 3)(backstory.tensor([[1, 2], [4, 1]])).shape
    (2, 2, 3)
    """

    weight: Parameter

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        dtype: Any = None,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ArgumentError(
                f"Embedding({num_embeddings}, {embedding_dim}, padding_idx={padding_idx})",
                why=f"the rows are numbered 0 to {num_embeddings - 1}",
                instead="the number of the row that stands for no word",
            )
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        dtype = get_default_dtype() if dtype is None else dtype
        self.weight = Parameter(as_tensor(np.empty((num_embeddings, embedding_dim), dtype)))
        self.reset_parameters(generator)

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draw W anew."""
        init.normal_(self.weight, generator=generator)
        if self.padding_idx is not None:
            with no_grad():
                self.weight[self.padding_idx] = 0.0

    def forward(self, index: Any) -> Tensor:
        """W[index]: (…) → (…, embedding_dim)"""
        return functional.embedding(index, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"
