"""Functions as methods: ``x.exp()`` is ``backstory.exp(x)``, the very same function.

A function whose first parameter is the tensor is a method once its name stands in an import below;
``exp_ = in_place(exp)`` makes the one that changes the tensor itself. Signatures and docstrings are the
function's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from backstory.core import apply
from backstory.graph import context
from backstory.indexing import index_level, raw_index
from backstory.inplace import in_place
from backstory.ops import TABLE

if TYPE_CHECKING:
    from backstory.tensor import Tensor

__all__ = ["Methods"]


class Methods:
    """Functions, reductions and shapes."""

    __slots__ = ()

    if TYPE_CHECKING:

        @property
        def shape(self) -> tuple[int, ...]: ...
        @property
        def ndim(self) -> int: ...

    from backstory.functions.activation import log_softmax, relu, sigmoid, tanh
    from backstory.functions.elementwise import exp, log, sqrt
    from backstory.functions.linalg import matmul
    from backstory.functions.reduction import argmax, logsumexp, max, mean, sum
    from backstory.functions.shape import broadcast_to, expand, flatten, permute, reshape, transpose

    view = reshape

    exp_ = in_place(exp)
    relu_ = in_place(relu)
    sigmoid_ = in_place(sigmoid)
    sqrt_ = in_place(sqrt)
    tanh_ = in_place(tanh)

    @property
    def T(self) -> Tensor:
        """The axes reversed: for a matrix its transpose."""
        return self.permute(tuple(range(self.ndim))[::-1])

    @property
    def mT(self) -> Tensor:
        """The last two axes swapped."""
        return self.transpose(-2, -1)

    def __getitem__(self, index: Any) -> Tensor:
        level = index_level(index)
        if level:
            return context().level(level, "getitem").getitem(self, index)
        return apply(TABLE["getitem"], self, index=raw_index(index))

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("len() of a 0-d tensor")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))
