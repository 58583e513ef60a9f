"""Functions that give the same entries another shape. All but copies share the memory of their argument."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from backstory.core import apply, as_tensor
from backstory.errors import ShapeError
from backstory.indexing import each_axis, ints, one_axis
from backstory.ops import TABLE

if TYPE_CHECKING:
    from backstory.tensor import Tensor

__all__ = [
    "broadcast_tensors",
    "broadcast_to",
    "clone",
    "flatten",
    "moveaxis",
    "movedim",
    "permute",
    "ravel",
    "reshape",
    "squeeze",
    "swapaxes",
    "swapdims",
    "t",
    "tile",
    "transpose",
    "unflatten",
    "unsqueeze",
]


def clone(x: Any) -> Tensor:
    """A copy with its own memory, through which gradients pass."""
    return apply(TABLE["clone"], x)


def reshape(x: Any, shape: Any = (), *more: int) -> Tensor:
    """The same entries in another shape; one axis may be -1, and is as long as it must be.

    >>> reshape([1, 2, 3, 4], 2, -1)
    tensor([[1, 2],
            [3, 4]])
    """
    return apply(TABLE["reshape"], x, shape=_known(as_tensor(x), ints((shape, *more))))


def _known(x: Tensor, shape: tuple[int, ...]) -> tuple[int, ...]:
    """``shape`` with the -1 of an empty tensor filled in, where NumPy's arithmetic gives up."""
    if -1 in shape and 0 in x.shape and shape.count(-1) == 1:
        others = math.prod(n for n in shape if n != -1)
        if others:
            return tuple(0 if n == -1 else n for n in shape)
    return shape


def view(x: Any, shape: Any = (), *more: int) -> Tensor:
    """:func:`reshape`, and an error where that would have to copy."""
    x = as_tensor(x)
    result = reshape(x, shape, *more)
    if x.level == 0 and x.numel() and not np.may_share_memory(x.array, result.array):
        raise ShapeError(
            f"view of a tensor of shape {x.shape} as {result.shape}",
            why="its entries do not lie in memory in that order, so a view cannot show them so",
            instead="x.reshape(...), which copies where it must",
        )
    return result


def flatten(x: Any, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """The axes from ``start_dim`` to ``end_dim`` folded into one.

    >>> import backstory
    >>> flatten(backstory.zeros(2, 3, 4), 1).shape
    (2, 12)
    """
    x = as_tensor(x)
    if x.ndim == 0:
        for dim in (start_dim, end_dim):
            one_axis("flatten", x, dim)
        return reshape(x, 1)
    start, end = one_axis("flatten", x, start_dim), one_axis("flatten", x, end_dim)
    if start > end:
        raise ShapeError(
            f"flatten({start_dim}, {end_dim}) of a tensor of shape {x.shape}",
            why="the first axis comes after the last",
            instead=f"flatten({end_dim}, {start_dim})",
        )
    return reshape(x, (*x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :]))


def ravel(x: Any) -> Tensor:
    """All axes folded into one."""
    return reshape(x, -1)


def unflatten(x: Any, dim: int, sizes: Any) -> Tensor:
    """The axis ``dim`` unfolded into axes of lengths ``sizes``, of which one may be -1.

    >>> import backstory
    >>> unflatten(backstory.zeros(2, 6), 1, (3, -1)).shape
    (2, 3, 2)
    """
    x, sizes = as_tensor(x), ints((sizes,)) if not isinstance(sizes, int) else (sizes,)
    axis = one_axis("unflatten", x, dim)
    length, known = x.shape[axis], math.prod(n for n in sizes if n != -1)
    fits = length == known if -1 not in sizes else known > 0 and length % known == 0
    if not sizes or sizes.count(-1) > 1 or not fits:
        raise ShapeError(
            f"unflatten(dim={dim}, sizes={sizes}) of a tensor of shape {x.shape}",
            why=f"the axis has {length} entries, and the sizes hold {known}",
            instead="sizes whose product is the length of the axis; one of them may be -1",
        )
    sizes = tuple(length // known if n == -1 else n for n in sizes)
    return reshape(x, (*x.shape[:axis], *sizes, *x.shape[axis + 1 :]))


def squeeze(x: Any, dim: Any = None) -> Tensor:
    """Without the axes of length 1: all of them, or those of ``dim`` that have that length."""
    x = as_tensor(x)
    axes = range(x.ndim) if dim is None else each_axis("squeeze", x, dim)
    return reshape(x, tuple(n for i, n in enumerate(x.shape) if n != 1 or i not in axes))


def unsqueeze(x: Any, dim: int) -> Tensor:
    """With a new axis of length 1 at ``dim``."""
    x = as_tensor(x)
    axis = one_axis("unsqueeze", x, dim, x.ndim + 1)
    return reshape(x, (*x.shape[:axis], 1, *x.shape[axis:]))


def permute(x: Any, dims: Any = (), *more: int) -> Tensor:
    """The axes in another order."""
    return apply(TABLE["permute"], x, axes=ints((dims, *more)))


def transpose(x: Any, dim0: int, dim1: int) -> Tensor:
    """Two axes swapped."""
    x = as_tensor(x)
    axes = list(range(x.ndim))
    try:
        axes[dim0], axes[dim1] = axes[dim1], axes[dim0]
    except IndexError as error:
        if x.ndim == 0 and {dim0, dim1} <= {0, -1}:
            return permute(x, ())
        raise ShapeError(
            f"transpose({dim0}, {dim1}) on a tensor of shape {x.shape}",
            why=f"it has {x.ndim} axes",
            instead=f"axes from {-x.ndim} to {x.ndim - 1}",
        ) from error
    return permute(x, axes)


swapaxes = swapdims = transpose


def t(x: Any) -> Tensor:
    """A matrix with its axes swapped; a vector or a number as it is."""
    x = as_tensor(x)
    if x.ndim > 2:
        raise ShapeError(
            f"t() of a tensor of shape {x.shape}",
            why="it has more than two axes",
            instead="x.transpose(i, j)",
        )
    return permute(x, tuple(range(x.ndim))[::-1])


def movedim(x: Any, source: Any, destination: Any) -> Tensor:
    """The axes ``source`` at the places ``destination``; the others keep their order.

    >>> import backstory
    >>> movedim(backstory.zeros(2, 3, 4), 0, -1).shape
    (3, 4, 2)
    """
    x = as_tensor(x)
    starts, ends = each_axis("movedim", x, source), each_axis("movedim", x, destination)
    if len(starts) != len(ends):
        raise ShapeError(
            f"movedim({source}, {destination}) of a tensor of shape {x.shape}",
            why=f"{len(starts)} axes cannot stand at {len(ends)} places",
            instead="one place for each axis",
        )
    rest = iter(i for i in range(x.ndim) if i not in starts)
    places = dict(zip(ends, starts, strict=True))
    return permute(x, tuple(places[i] if i in places else next(rest) for i in range(x.ndim)))


moveaxis = movedim


def expand(x: Any, *shape: Any) -> Tensor:
    """Axes of length 1 repeated without copying; -1 keeps an axis."""
    x = as_tensor(x)
    wanted = ints(shape)
    new = len(wanted) - x.ndim
    own = (1,) * new + x.shape
    # What does not fit is left for the operation to refuse.
    full = tuple(own[i] if n == -1 and new <= i < len(own) else n for i, n in enumerate(wanted))
    if any(n < 0 for n in full):
        raise ShapeError(
            f"expand({wanted}) of a tensor of shape {x.shape}",
            why="-1 keeps the length of an axis, and a new axis has none",
            instead="the length of every new axis",
        )
    return apply(TABLE["broadcast_to"], x, shape=full)


def expand_as(x: Any, other: Any) -> Tensor:
    """``x`` broadcast to the shape of ``other``."""
    return expand(x, as_tensor(other).shape)


def broadcast_to(x: Any, shape: Any) -> Tensor:
    """``x`` with its axes of length 1 repeated to ``shape``, without copying."""
    return expand(x, shape)


def broadcast_tensors(*tensors: Any) -> tuple[Tensor, ...]:
    """All tensors broadcast to the shape that they have together."""
    found = [as_tensor(x) for x in tensors]
    shape = broadcast_shape("broadcast_tensors", *(x.shape for x in found))
    return tuple(x if x.shape == shape else expand(x, shape) for x in found)


def broadcast_shape(name: str, *shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that ``shapes`` broadcast to, or the error of ``name``."""
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError as error:
        raise ShapeError(
            f"{name} received shapes {', '.join(map(str, shapes))}",
            why=str(error),
            instead="shapes that broadcast: equal, or 1, axis by axis from the right",
        ) from error


def repeat(x: Any, *sizes: Any) -> Tensor:
    """The whole tensor ``sizes[i]`` times along axis i; more sizes than axes add axes in front. A copy.

    >>> repeat([1, 2], 2, 2)
    tensor([[1, 2, 1, 2],
            [1, 2, 1, 2]])
    """
    x, counts = as_tensor(x), ints(sizes)
    if len(counts) < x.ndim or any(n < 0 for n in counts):
        raise ShapeError(
            f"repeat({counts}) of a tensor of shape {x.shape}",
            why="every axis is repeated a number of times, and that is not negative",
            instead=f"at least {x.ndim} numbers; tile() takes fewer",
        )
    own = (1,) * (len(counts) - x.ndim) + x.shape
    rows = reshape(x, tuple(n for length in own for n in (1, length)))
    spread = expand(rows, tuple(n for pair in zip(counts, own, strict=True) for n in pair))
    result = reshape(spread, tuple(n * m for n, m in zip(counts, own, strict=True)))
    shared = result.level == 0 and np.may_share_memory(result.array, x.array)
    return clone(result) if shared else result


def tile(x: Any, dims: Any, *more: int) -> Tensor:
    """:func:`repeat`, where missing numbers are 1: the last axes are the ones repeated.

    >>> tile([[1, 2]], (2,))
    tensor([[1, 2, 1, 2]])
    """
    x, counts = as_tensor(x), ints((dims, *more))
    return repeat(x, (1,) * (x.ndim - len(counts)) + counts)
