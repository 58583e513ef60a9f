"""Functions that make tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from backstory.arrays import Generator, default_generator
from backstory.core import as_tensor
from backstory.indexing import lengths
from backstory.promotion import checked_dtype, get_default_dtype

if TYPE_CHECKING:
    from backstory.tensor import Tensor

__all__ = ["arange", "full", "ones", "rand", "randn", "randperm", "zeros", "zeros_like"]


def _made(array: np.ndarray, dtype: Any, requires_grad: bool) -> Tensor:
    result = as_tensor(
        array.astype(get_default_dtype() if dtype is None else checked_dtype(dtype), copy=False)
    )
    return result.requires_grad_() if requires_grad else result


def zeros(*shape: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of zeros."""
    return _made(np.zeros(lengths(shape)), dtype, requires_grad)


def ones(*shape: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of ones."""
    return _made(np.ones(lengths(shape)), dtype, requires_grad)


def full(shape: Any, value: float, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor that holds ``value`` everywhere, of the dtype that ``value`` has unless named."""
    kind = np.result_type(type(value)) if dtype is None and isinstance(value, int) else dtype
    shape = lengths(shape if isinstance(shape, tuple) else (shape,))
    return _made(np.full(shape, value), kind, requires_grad)


def zeros_like(x: Tensor) -> Tensor:
    """Zeros of the shape and dtype of ``x``."""
    return as_tensor(np.zeros(x.shape, x.dtype))


def arange(start: float, stop: float | None = None, step: float = 1) -> Tensor:
    """start, start + step, … below stop: int64, or the default dtype if one of them is a float."""
    array = np.arange(start, stop, step) if stop is not None else np.arange(start)
    return as_tensor(array if array.dtype.kind == "i" else array.astype(get_default_dtype()))


def rand(*shape: Any, generator: Generator | None = None, dtype: Any = None) -> Tensor:
    """Uniform in [0, 1), from ``generator`` or this thread's default stream."""
    return _made((generator or default_generator()).numpy.random(lengths(shape)), dtype, False)


def randn(*shape: Any, generator: Generator | None = None, dtype: Any = None) -> Tensor:
    """Standard normal, from ``generator`` or this thread's default stream."""
    return _made((generator or default_generator()).numpy.standard_normal(lengths(shape)), dtype, False)


def randperm(n: int, generator: Generator | None = None) -> Tensor:
    """The numbers 0 … n − 1 in random order."""
    return as_tensor((generator or default_generator()).numpy.permutation(n))
