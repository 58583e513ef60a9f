"""Functions that make tensors: constants, ranges, random numbers.

Floats that name no dtype have the default one (:func:`backstory.set_default_dtype`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from backstory.arrays import Generator
from backstory.core import Core, as_tensor, tensor, wrap
from backstory.errors import ArgumentError, GraphError, ShapeError
from backstory.graph import context
from backstory.indexing import lengths, raw
from backstory.promotion import checked_dtype, get_default_dtype

if TYPE_CHECKING:
    from backstory.tensor import Tensor

__all__ = [
    "arange",
    "empty",
    "empty_like",
    "eye",
    "from_numpy",
    "full",
    "full_like",
    "linspace",
    "logspace",
    "meshgrid",
    "ones",
    "ones_like",
    "rand",
    "rand_like",
    "randint",
    "randint_like",
    "randn",
    "randn_like",
    "randperm",
    "zeros",
    "zeros_like",
]


def _made(array: np.ndarray, dtype: Any, requires_grad: bool) -> Tensor:
    dtype = get_default_dtype() if dtype is None else checked_dtype(dtype)
    result = wrap(array.astype(dtype, copy=False), 0)
    return result.requires_grad_() if requires_grad else result


def zeros(*shape: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of zeros."""
    return _made(np.zeros(lengths(shape)), dtype, requires_grad)


def ones(*shape: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of ones."""
    return _made(np.ones(lengths(shape)), dtype, requires_grad)


def empty(*shape: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor to be filled. It holds zeros: what was in the memory before is nobody's business."""
    return zeros(*shape, dtype=dtype, requires_grad=requires_grad)


def full(shape: Any, fill_value: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor that holds ``fill_value`` everywhere, of the dtype that the value has unless named.

    >>> full((2, 2), 7)
    tensor([[7, 7],
            [7, 7]])
    """
    value = np.asarray(raw(fill_value))
    kind = value.dtype if dtype is None and value.dtype.kind != "f" else dtype
    shape = lengths(shape if isinstance(shape, tuple) else (shape,))
    return _made(np.full(shape, value), kind, requires_grad)


def zeros_like(x: Any, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros of the shape of ``x``, and of its dtype unless one is named."""
    return full_like(x, 0, dtype=dtype, requires_grad=requires_grad)


def ones_like(x: Any, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones of the shape of ``x``, and of its dtype unless one is named."""
    return full_like(x, 1, dtype=dtype, requires_grad=requires_grad)


def empty_like(x: Any, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor to be filled, of the shape and dtype of ``x``; it holds zeros."""
    return zeros_like(x, dtype=dtype, requires_grad=requires_grad)


def full_like(x: Any, fill_value: Any, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """``fill_value`` everywhere, in the shape of ``x``, and in its dtype unless one is named."""
    x = as_tensor(x)
    kind = x.dtype if dtype is None else checked_dtype(dtype)
    return _made(np.full(x.shape, raw(fill_value)), kind, requires_grad)


def eye(n: int, m: int | None = None, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """n rows and m columns (n unless given) with 1 on the diagonal and 0 elsewhere.

    >>> eye(2)
    tensor([[1., 0.],
            [0., 1.]])
    """
    rows, columns = lengths((n, n if m is None else m))
    return _made(np.eye(rows, columns), dtype, requires_grad)


def arange(
    start: Any, end: Any = None, step: Any = 1, *, dtype: Any = None, requires_grad: bool = False
) -> Tensor:
    """start, start + step, … short of ``end``: int64, or the default dtype if one of them is a float.

    >>> arange(3), arange(1, 2, 0.5)
    (tensor([0, 1, 2]), tensor([1. , 1.5]))
    """
    start, end, step = (0, start, step) if end is None else (start, end, step)
    start, end, step = (np.asarray(raw(value)).item() for value in (start, end, step))
    if not step:
        raise ArgumentError("arange(step=0)", why="it would never end", instead="a step other than 0")
    if (end - start) * step < 0 or not np.isfinite([start, end, step]).all():
        raise ArgumentError(
            f"arange({start}, {end}, {step})",
            why="steps of that sign do not lead from the start to the end",
            instead="a negative step to count down, and finite numbers",
        )
    kinds = {type(value) for value in (start, end, step)}
    if dtype is None:
        dtype = get_default_dtype() if float in kinds else np.dtype("int64")
    count = int(np.ceil((end - start) / step))
    array = start + np.arange(count) * step
    return _made(np.asarray(array), dtype, requires_grad)


def linspace(start: Any, end: Any, steps: int, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """``steps`` numbers at even distances from ``start`` to ``end``, both included.

    >>> linspace(0, 1, 5)
    tensor([0.  , 0.25, 0.5 , 0.75, 1.  ])
    """
    if steps < 0:
        raise ShapeError(
            f"linspace(steps={steps})", why="there is no negative number of numbers", instead="0 or more"
        )
    first, last = _number("linspace", start), _number("linspace", end)
    kind = get_default_dtype() if dtype is None else checked_dtype(dtype)
    if kind.kind == "f":
        return _made(np.linspace(first, last, steps), kind, requires_grad)
    # Whole numbers are reached from the nearer end and cut off towards zero.
    places = np.arange(steps)
    step = (last - first) / max(steps - 1, 1)
    array = np.where(places < steps // 2, first + step * places, last - step * (steps - 1 - places))
    return _made(np.trunc(array if steps > 1 else np.full(steps, first)), kind, requires_grad)


def logspace(
    start: Any, end: Any, steps: int, base: float = 10.0, *, dtype: Any = None, requires_grad: bool = False
) -> Tensor:
    """``base`` to the powers of :func:`linspace`.

    >>> logspace(0, 2, 3)
    tensor([  1.,  10., 100.])
    """
    powers = linspace(start, end, steps, dtype=np.float64)
    return _made(np.power(float(base), powers.array), dtype, requires_grad)


def _number(name: str, value: Any) -> Any:
    """A number, or that of a 0-d tensor."""
    value = np.asarray(raw(value))
    if value.shape:
        raise ShapeError(
            f"{name} received an end of shape {value.shape}",
            why="a range has one start and one end",
            instead="numbers or 0-d tensors",
        )
    return value.item()


def _drawn(
    name: str,
    generator: Generator | None,
    draw: Callable[[Any, tuple[int, ...]], Any],
    shape: tuple[int, ...],
    dtype: Any,
    requires_grad: bool = False,
) -> Tensor:
    """A tensor of what ``draw(stream, shape)`` gives; for each sample of ``vmap`` its own, if it says so."""
    xp = context().xp
    levels = context().levels
    if len(levels) == 1:
        return _made(xp.asarray(xp.draw(generator, lambda s: draw(s, shape))), dtype, requires_grad)
    if any(level.randomness == "error" for level in levels):
        raise GraphError(
            f"{name} inside vmap",
            why="it is not said whether each sample draws its own numbers",
            instead="vmap(function, randomness='different') or 'same'",
        )
    apart = [level for level in levels if level.randomness == "different"]
    whole = (*(level.size for level in apart), *shape)
    result = _made(xp.asarray(xp.draw(generator, lambda s: draw(s, whole))), dtype, False)
    for level in apart:
        result = level.of_samples(result)
    return result.requires_grad_() if requires_grad else result


def rand(
    *shape: Any, generator: Generator | None = None, dtype: Any = None, requires_grad: bool = False
) -> Tensor:
    """Uniform in [0, 1), from ``generator`` or this thread's default stream."""
    return _drawn("rand", generator, lambda s, n: s.random(n), lengths(shape), dtype, requires_grad)


def randn(
    *shape: Any, generator: Generator | None = None, dtype: Any = None, requires_grad: bool = False
) -> Tensor:
    """Standard normal, from ``generator`` or this thread's default stream."""
    return _drawn("randn", generator, lambda s, n: s.standard_normal(n), lengths(shape), dtype, requires_grad)


def rand_like(x: Any, *, generator: Generator | None = None, dtype: Any = None) -> Tensor:
    """:func:`rand` of the shape of ``x``, and of its dtype unless one is named."""
    x = as_tensor(x)
    return rand(x.shape, generator=generator, dtype=x.dtype if dtype is None else dtype)


def randn_like(x: Any, *, generator: Generator | None = None, dtype: Any = None) -> Tensor:
    """:func:`randn` of the shape of ``x``, and of its dtype unless one is named."""
    x = as_tensor(x)
    return randn(x.shape, generator=generator, dtype=x.dtype if dtype is None else dtype)


def randint(
    low: int, high: Any = None, size: Any = None, *, generator: Generator | None = None, dtype: Any = np.int64
) -> Tensor:
    """Integers from ``low`` (0 if only one bound is given) up to, not including, ``high``.

    Written as ``randint(high, size)`` or ``randint(low, high, size)``.
    """
    if size is None:
        low, high, size = 0, low, high
    if not low < high:
        raise ArgumentError(
            f"randint({low}, {high})", why="there is no integer between them", instead="low < high"
        )
    return _drawn("randint", generator, lambda s, n: s.integers(low, high, n), lengths(tuple(size)), dtype)


def randperm(n: int, generator: Generator | None = None) -> Tensor:
    """The numbers 0 … n − 1 in random order."""

    def draw(stream: Any, shape: tuple[int, ...]) -> np.ndarray:
        orders = [stream.permutation(n) for _ in range(math.prod(shape[:-1]))]
        return np.reshape(orders, shape)

    return _drawn("randperm", generator, draw, (n,), np.int64)


def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor that shares the memory of ``array``.

    >>> import numpy as np
    >>> from_numpy(np.array([1, 2]))
    tensor([1, 2])
    """
    symbol = context().trace is not None and hasattr(array, "__array_namespace__")
    if isinstance(array, Core) or not (symbol or isinstance(array, np.ndarray)):
        raise ArgumentError(
            f"from_numpy received {type(array).__name__}",
            why="only a NumPy array has memory to share",
            instead="backstory.tensor(...)",
        )
    return as_tensor(array)


def _dtype_of(x: Any, dtype: Any) -> np.dtype:
    return as_tensor(x).dtype if dtype is None else checked_dtype(dtype)


def new_tensor(x: Any, data: Any, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A new leaf of ``data``, with the dtype of ``x`` unless named."""
    return tensor(data, dtype=_dtype_of(x, dtype), requires_grad=requires_grad)


def _beside(x: Any, made: Tensor) -> Tensor:
    """``made`` as a tensor of the transform that ``x`` is of: it may be filled with values of that."""
    if not getattr(x, "level", 0):
        return made
    nothing = x.reshape(-1)[:0].sum().to(made.dtype)
    return made | nothing if made.dtype == bool else made + nothing


def new_zeros(x: Any, *shape: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros with the dtype of ``x``."""
    return _beside(x, zeros(*shape, dtype=_dtype_of(x, dtype), requires_grad=requires_grad))


def new_ones(x: Any, *shape: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones with the dtype of ``x``."""
    return _beside(x, ones(*shape, dtype=_dtype_of(x, dtype), requires_grad=requires_grad))


def new_empty(x: Any, *shape: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Unset entries with the dtype of ``x``."""
    return _beside(x, empty(*shape, dtype=_dtype_of(x, dtype), requires_grad=requires_grad))


def new_full(x: Any, shape: Any, value: float, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """``value`` everywhere, with the dtype of ``x``."""
    return _beside(x, full(shape, value, dtype=_dtype_of(x, dtype), requires_grad=requires_grad))


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """The vectors as coordinates of a grid: each broadcast along the axes of the others.

    >>> [g.tolist() for g in meshgrid([1, 2], [3, 4])]
    [[[1, 1], [2, 2]], [[3, 4], [3, 4]]]
    """
    given = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else tensors
    found = [as_tensor(x) for x in given]
    if indexing not in ("ij", "xy") or any(x.ndim > 1 for x in found):
        raise ArgumentError(
            f"meshgrid(indexing={indexing!r}) of shapes {', '.join(str(x.shape) for x in found)}",
            why="coordinates are vectors, and the axes are in matrix or Cartesian order",
            instead="vectors; indexing='ij' or 'xy'",
        )
    if indexing == "xy" and len(found) > 1:
        second, first, *rest = meshgrid(found[1], found[0], *found[2:])
        return tuple(x for x in (first, second, *rest))
    shape = tuple(x.numel() for x in found)
    count = len(found)
    columns = [x.reshape([-1 if i == j else 1 for j in range(count)]) for i, x in enumerate(found)]
    return tuple(column.expand(shape) for column in columns)


def randint_like(
    x: Any, low: int, high: Any = None, *, generator: Generator | None = None, dtype: Any = None
) -> Tensor:
    """Integers from ``low`` (0) to ``high`` - 1, in the shape and dtype of ``x``."""
    x = as_tensor(x)
    low, high = (0, low) if high is None else (low, high)
    return randint(low, high, x.shape, generator=generator, dtype=x.dtype if dtype is None else dtype)
