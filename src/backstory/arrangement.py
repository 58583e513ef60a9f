"""Functions that arrange entries, and the linear algebra, as methods; how is said in ``methods.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from backstory.inplace import in_place

if TYPE_CHECKING:
    from backstory.tensor import Tensor

__all__ = ["Arrangement"]


class Arrangement:
    """Shapes, parts, indices, matrices and dtypes."""

    __slots__ = ()

    if TYPE_CHECKING:

        @property
        def ndim(self) -> Any: ...
        def to(self, dtype: Any) -> Tensor: ...

    from backstory.functions.creation import new_empty, new_full, new_ones, new_tensor, new_zeros
    from backstory.functions.joining import chunk, flip, fliplr, flipud, roll, rot90, split, unbind
    from backstory.functions.linalg import (
        addbmm,
        addmm,
        addmv,
        addr,
        baddbmm,
        bmm,
        diag,
        diag_embed,
        diagonal,
        dot,
        inner,
        inverse,
        kron,
        matmul,
        mm,
        mv,
        outer,
        trace,
        tril,
        triu,
        vdot,
    )
    from backstory.functions.placement import (
        index_add,
        index_copy,
        index_fill,
        scatter,
        scatter_add,
    )
    from backstory.functions.selection import (
        argwhere,
        gather,
        index_select,
        masked_select,
        narrow,
        nonzero,
        select,
        take,
        take_along_dim,
    )
    from backstory.functions.shape import (
        broadcast_to,
        clone,
        expand,
        expand_as,
        flatten,
        moveaxis,
        movedim,
        permute,
        ravel,
        repeat,
        reshape,
        squeeze,
        swapaxes,
        swapdims,
        t,
        tile,
        transpose,
        unflatten,
        unsqueeze,
        view,
    )

    addbmm_ = in_place(addbmm)
    addmm_ = in_place(addmm)
    addmv_ = in_place(addmv)
    addr_ = in_place(addr)
    baddbmm_ = in_place(baddbmm)
    index_add_ = in_place(index_add)
    index_copy_ = in_place(index_copy)
    index_fill_ = in_place(index_fill)
    scatter_ = in_place(scatter)
    scatter_add_ = in_place(scatter_add)
    tril_ = in_place(tril)
    triu_ = in_place(triu)

    @property
    def T(self) -> Tensor:
        """The axes reversed: for a matrix its transpose."""
        return self.permute(tuple(range(self.ndim))[::-1])

    @property
    def mT(self) -> Tensor:
        """The last two axes swapped."""
        return self.transpose(-2, -1)

    def reshape_as(self, other: Any) -> Tensor:
        """The entries in the shape of ``other``."""
        return self.reshape(other.shape)

    def view_as(self, other: Any) -> Tensor:
        """A view in the shape of ``other``."""
        return self.view(other.shape)

    def type_as(self, other: Any) -> Tensor:
        """The entries converted to the dtype of ``other``."""
        return self.to(other.dtype)

    def contiguous(self) -> Tensor:
        """The entries in memory in the order of the axes; a copy where they do not lie so."""
        x: Any = self
        return x if x.level or x.array.flags.c_contiguous else x.clone()

    def half(self) -> Tensor:
        """``to(float16)``."""
        return self.to(np.float16)

    def float(self) -> Tensor:
        """``to(float32)``."""
        return self.to(np.float32)

    def double(self) -> Tensor:
        """``to(float64)``."""
        return self.to(np.float64)

    def short(self) -> Tensor:
        """``to(int16)``."""
        return self.to(np.int16)

    def int(self) -> Tensor:
        """``to(int32)``."""
        return self.to(np.int32)

    def long(self) -> Tensor:
        """``to(int64)``."""
        return self.to(np.int64)

    def bool(self) -> Tensor:
        """``to(bool)``: True where an entry is not 0."""
        return self.to(np.bool_)
