"""The public functions on tensors, in PyTorch's dialect. Each is thin: the operation is in ``ops``."""

from __future__ import annotations

from typing import Any

import numpy as np

from backstory.arrays import Generator, default_generator
from backstory.autograd.modes import checked_at_zero
from backstory.errors import DtypeError
from backstory.indexing import lengths
from backstory.methods import relu_parameters
from backstory.ops import TABLE
from backstory.promotion import checked_dtype, get_default_dtype, promote
from backstory.tensor import Tensor, apply, as_tensor

__all__ = [
    "arange",
    "exp",
    "full",
    "leaky_relu",
    "log",
    "log_softmax",
    "logsumexp",
    "matmul",
    "max",
    "maximum",
    "mean",
    "ones",
    "rand",
    "randn",
    "randperm",
    "relu",
    "reshape",
    "sigmoid",
    "sqrt",
    "sum",
    "tanh",
    "transpose",
    "where",
    "zeros",
    "zeros_like",
]


def exp(x: Any) -> Tensor:
    """eˣ, entry by entry; its local derivative is eˣ.

    >>> exp(0.0)
    tensor(1.)
    """
    return as_tensor(x).exp()


def log(x: Any) -> Tensor:
    """ln x, entry by entry; its local derivative is 1/x. ln 0 is −inf, of a negative number NaN."""
    return as_tensor(x).log()


def sqrt(x: Any) -> Tensor:
    """√x, entry by entry; its local derivative is 1/(2√x)."""
    return as_tensor(x).sqrt()


def tanh(x: Any) -> Tensor:
    """tanh x, entry by entry; its local derivative is 1 − tanh² x."""
    return as_tensor(x).tanh()


def sigmoid(x: Any) -> Tensor:
    """σ(x) = 1/(1 + e⁻ˣ), entry by entry; its local derivative is σ(1 − σ), at most ¼."""
    return as_tensor(x).sigmoid()


def relu(x: Any, at_zero: float | None = None) -> Tensor:
    """max(x, 0), entry by entry; its local derivative is 1 where x > 0 and 0 where x < 0.

    At exactly 0 the derivative is ``at_zero``, a number in [0, 1]; ``None`` takes the value of
    :func:`backstory.relu_derivative_at_zero`, which is 0 as in PyTorch unless set.

    >>> import backstory
    >>> x = backstory.tensor([-2.0, -1.0, 0.0, 1.0, 2.0], requires_grad=True)
    >>> relu(x).sum().backward()
    >>> x.grad
    tensor([0., 0., 0., 1., 1.])
    """
    if at_zero is not None:
        at_zero = checked_at_zero(at_zero)
    return apply(TABLE["relu"], as_tensor(x), **relu_parameters(at_zero))


def leaky_relu(x: Any, negative_slope: float = 0.01) -> Tensor:
    """x where x > 0, else ``negative_slope`` · x; its local derivative is 1 or ``negative_slope``.

    >>> leaky_relu([-1.0, 2.0])
    tensor([-0.01,  2.  ])
    """
    return apply(TABLE["leaky_relu"], as_tensor(x), negative_slope=float(negative_slope))


def maximum(x: Any, y: Any) -> Tensor:
    """The larger of two, entry by entry. Where they are equal each takes half of the gradient."""
    return apply(TABLE["maximum"], as_tensor(x), as_tensor(y))


def where(condition: Any, x: Any, y: Any) -> Tensor:
    """``x`` where the condition holds, else ``y``; the gradient goes to the one chosen.

    >>> where([True, False], 1.0, 2.0)
    tensor([1., 2.])
    """
    condition = as_tensor(condition)
    if condition.dtype.kind != "b":
        raise DtypeError(
            f"where received a condition of {condition.dtype}",
            why="a condition is true or false",
            instead="condition != 0",
        )
    # Of two scalars one becomes a tensor, so that they meet as two values anywhere do.
    first = x if isinstance(y, Tensor) and isinstance(x, (bool, int, float)) else as_tensor(x)
    second = y if isinstance(y, (bool, int, float)) else as_tensor(y)
    # Upwards: a cast of a tensor is recorded in the tensors' own namespace.
    from backstory import array_api

    return apply(TABLE["where"], condition, *promote("where", "promote", array_api, [first, second]))


def matmul(x: Any, y: Any) -> Tensor:
    """The matrix product X Y; vectors are rows on the left and columns on the right."""
    return as_tensor(x).matmul(y)


def sum(x: Any, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Σ x over ``dim``; each term receives the whole upstream gradient."""
    return as_tensor(x).sum(dim, keepdim)


def mean(x: Any, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Σ x / n over ``dim``; each term receives 1/n of the upstream gradient."""
    return as_tensor(x).mean(dim, keepdim)


def max(x: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """The largest entry, or with ``dim`` a pair of the largest entries and their indices."""
    return as_tensor(x).max(dim, keepdim)


def reshape(x: Any, shape: Any) -> Tensor:
    """The same entries in another shape."""
    return as_tensor(x).reshape(shape)


def transpose(x: Any, dim0: int, dim1: int) -> Tensor:
    """Two axes swapped."""
    return as_tensor(x).transpose(dim0, dim1)


def logsumexp(x: Any, dim: Any, keepdim: bool = False) -> Tensor:
    """ln Σ eˣ over ``dim``, computed without overflow; its local derivative is softmax(x).

    >>> logsumexp([1000.0, 1000.0], 0)
    tensor(1000.6932)
    """
    return as_tensor(x).logsumexp(dim, keepdim)


def log_softmax(x: Any, dim: int) -> Tensor:
    """x − ln Σ eˣ over ``dim``."""
    return as_tensor(x).log_softmax(dim)


# Creation


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
