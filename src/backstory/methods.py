"""The operations of the table as methods of tensors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from backstory.errors import DtypeError, ShapeError
from backstory.graph import context
from backstory.indexing import axes, ints, raw_index
from backstory.ops import TABLE

if TYPE_CHECKING:
    from backstory.tensor import Tensor

__all__ = ["MaxResult", "Methods", "relu_parameters"]


class MaxResult(NamedTuple):
    """What ``max(dim)`` returns: the values and where they stood."""

    values: Tensor
    indices: Tensor


def relu_parameters(value: float | None) -> dict[str, float]:
    """relu's parameter: the given derivative at 0, or this thread's; nothing for PyTorch's 0."""
    chosen = context().relu_at_zero if value is None else value
    return {"at_zero": chosen} if chosen else {}


class Methods:
    """Functions, reductions and shapes. Each method is thin: the operation is in ``ops``."""

    __slots__ = ()

    # Tensor fills these in: run an operation, make a value a tensor.
    _run: ClassVar[Any]
    _lift: ClassVar[Any]

    if TYPE_CHECKING:

        @property
        def shape(self) -> tuple[int, ...]: ...
        @property
        def ndim(self) -> int: ...
        @property
        def dtype(self) -> np.dtype: ...
        def to(self, dtype: Any) -> Tensor: ...

    def matmul(self, other: Any) -> Tensor:
        """Matrix product with PyTorch's rules: vectors are rows on the left, columns on the right."""
        x, y = self, self._lift(other)
        if x.ndim == 0 or y.ndim == 0:
            raise ShapeError(
                f"matmul received shapes {x.shape} and {y.shape}",
                why="a scalar has no axis to sum over",
                instead="x * y",
            )
        row, column = x.ndim == 1, y.ndim == 1
        if row or column:
            x = x.reshape(1, -1) if row else x
            y = y.reshape(-1, 1) if column else y
            product = self._run(TABLE["matmul"], x, y)
            lead = product.shape[:-2]
            kept = () if row and column else (product.shape[-1:] if row else product.shape[-2:-1])
            return product.reshape(lead + kept)
        return self._run(TABLE["matmul"], x, y)

    # Elementwise functions

    def exp(self) -> Tensor:
        """eˣ"""
        return self._run(TABLE["exp"], self)

    def log(self) -> Tensor:
        """ln x"""
        return self._run(TABLE["log"], self)

    def sqrt(self) -> Tensor:
        """√x"""
        return self._run(TABLE["sqrt"], self)

    def tanh(self) -> Tensor:
        """tanh x"""
        return self._run(TABLE["tanh"], self)

    def sigmoid(self) -> Tensor:
        """1 / (1 + e⁻ˣ)"""
        return self._run(TABLE["sigmoid"], self)

    def relu(self) -> Tensor:
        """max(x, 0)"""
        return self._run(TABLE["relu"], self, **relu_parameters(None))

    # Reductions

    def sum(self, dim: Any = None, keepdim: bool = False) -> Tensor:
        """Σ x over ``dim`` (all axes by default). Integers and bools sum as int64."""
        x = self if self.dtype.kind == "f" else self.to(np.int64)
        return self._run(TABLE["sum"], x, axis=axes(dim), keepdims=keepdim)

    def mean(self, dim: Any = None, keepdim: bool = False) -> Tensor:
        """Σ x / n over ``dim`` (all axes by default); floats only."""
        if self.dtype.kind != "f":
            raise DtypeError(
                f"mean() on a tensor of {self.dtype}",
                why="the mean of integers is not an integer",
                instead="x.to(backstory.float32).mean()",
            )
        return self._run(TABLE["mean"], self, axis=axes(dim), keepdims=keepdim)

    def max(self, dim: int | None = None, keepdim: bool = False) -> Any:
        """The largest entry; with ``dim`` a pair (values, indices), the first of equals.

        The gradient of ``max()`` is shared evenly between equal maxima; with ``dim`` the first has it.
        """
        if dim is None:
            return self._run(TABLE["max"], self)
        values = self._run(TABLE["max"], self, axis=dim, keepdims=keepdim, first=True)
        return MaxResult(values, self.argmax(dim, keepdim))

    def argmax(self, dim: int | None = None, keepdim: bool = False) -> Tensor:
        """Where the largest entry stands, the first of equals; of the flattened tensor by default."""
        return self._run(TABLE["argmax"], self, axis=dim, keepdims=keepdim)

    def logsumexp(self, dim: Any, keepdim: bool = False) -> Tensor:
        """ln Σ eˣ over ``dim``, without overflow."""
        return self._run(TABLE["logsumexp"], self, axis=axes(dim), keepdims=keepdim)

    def log_softmax(self, dim: int) -> Tensor:
        """x − ln Σ eˣ over ``dim``."""
        return self._run(TABLE["log_softmax"], self, axis=dim)

    # Shapes

    def reshape(self, *shape: Any) -> Tensor:
        """The same entries in another shape; one axis may be -1."""
        return self._run(TABLE["reshape"], self, shape=ints(shape))

    view = reshape

    def flatten(self, start_dim: int = 0) -> Tensor:
        """All axes from ``start_dim`` on folded into one."""
        return self.reshape((*self.shape[:start_dim], math.prod(self.shape[start_dim:])))

    def permute(self, *dims: Any) -> Tensor:
        """The axes in another order."""
        return self._run(TABLE["permute"], self, axes=ints(dims))

    def transpose(self, dim0: int, dim1: int) -> Tensor:
        """Two axes swapped."""
        axes = list(range(self.ndim))
        try:
            axes[dim0], axes[dim1] = axes[dim1], axes[dim0]
        except IndexError as error:
            raise ShapeError(
                f"transpose({dim0}, {dim1}) on a tensor of shape {self.shape}",
                why=f"it has {self.ndim} axes",
                instead=f"axes from {-self.ndim} to {self.ndim - 1}",
            ) from error
        return self.permute(axes)

    @property
    def T(self) -> Tensor:
        """The axes reversed: for a matrix its transpose."""
        return self.permute(tuple(range(self.ndim))[::-1])

    @property
    def mT(self) -> Tensor:
        """The last two axes swapped."""
        return self.transpose(-2, -1)

    def expand(self, *shape: Any) -> Tensor:
        """Axes of length 1 repeated without copying; -1 keeps an axis."""
        wanted = ints(shape)
        own = (1,) * (len(wanted) - self.ndim) + self.shape
        # What does not fit is left for the operation to refuse.
        full = tuple(own[i] if n == -1 and i < len(own) else n for i, n in enumerate(wanted))
        return self._run(TABLE["broadcast_to"], self, shape=full)

    broadcast_to = expand

    def __getitem__(self, index: Any) -> Tensor:
        return self._run(TABLE["getitem"], self, index=raw_index(index))

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("len() of a 0-d tensor")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))
