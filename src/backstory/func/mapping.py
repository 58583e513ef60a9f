"""``vmap``: a function of one sample becomes a function of a batch, run once for all samples."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from backstory.autograd.levels import unlift
from backstory.errors import ArgumentError, BoundsError, ShapeError
from backstory.func import tree
from backstory.func.batched import Batched, first_axis
from backstory.func.level import VmapLevel
from backstory.func.transforming import transform
from backstory.graph import context
from backstory.history import Shared
from backstory.ops import TABLE
from backstory.tensor import Tensor, apply, as_tensor

__all__ = ["vmap"]

RANDOMNESS = ("error", "different", "same")


@transform
def vmap(
    function: Callable[..., Any],
    in_dims: Any = 0,
    out_dims: Any = 0,
    randomness: str = "error",
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """A function that maps ``function`` over an axis of its arguments, in one run for all samples.

    ``in_dims`` is the axis of each argument that holds the samples: one for all arguments, or one per
    argument, nested as the arguments are; ``None`` gives every sample the whole argument. ``out_dims``
    says likewise where the samples of the results go. Random draws inside raise an error, unless
    ``randomness`` is ``"different"`` (each sample draws its own numbers) or ``"same"`` (all share one
    draw). ``chunk_size`` runs at most so many samples at once, for less memory. Inside, tensors have
    the shapes of one sample. What cannot run for all samples at once runs one by one.

    >>> import backstory
    >>> x = backstory.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> vmap(lambda row: row.sum() * row)(x)
    tensor([[ 3.,  6.],
            [21., 28.]])
    """
    if randomness not in RANDOMNESS:
        raise ArgumentError(
            f"vmap(randomness={randomness!r})",
            why="random draws inside raise, differ between samples or are shared by them",
            instead="randomness='error', 'different' or 'same'",
        )
    if chunk_size is not None and chunk_size < 1:
        raise ArgumentError(
            f"vmap(chunk_size={chunk_size})", why="a chunk holds at least one sample", instead="None, or 1"
        )

    @functools.wraps(function)
    def mapped(*args: Any, **keywords: Any) -> Any:
        leaves, shape = tree.flatten(args)
        dims = _dims(in_dims, args, shape, len(leaves))
        keys, key_shape = tree.flatten(keywords)
        places = [*dims, *(0 if isinstance(leaf, Tensor) else None for leaf in keys)]
        leaves = [
            leaf if dim is None else _samples_first(leaf, dim, i)
            for i, (leaf, dim) in enumerate(zip([*leaves, *keys], places, strict=True))
        ]
        size = _size(leaves, places)

        def call(part: Sequence[Any]) -> Any:
            inner = tree.build(shape, part[: len(dims)]), tree.build(key_shape, part[len(dims) :])
            return function(*inner[0], **inner[1])

        if chunk_size is None or size <= chunk_size:
            return _once(call, leaves, places, size, out_dims, randomness)
        return _in_chunks(call, leaves, places, size, out_dims, randomness, chunk_size)

    return mapped


def _once(call: Any, leaves: list[Any], places: list[Any], size: int, out_dims: Any, randomness: str) -> Any:
    with context().inside(VmapLevel(size, randomness)) as level:
        lifted = [
            leaf if dim is None else level.of_samples(leaf) for leaf, dim in zip(leaves, places, strict=True)
        ]
        for wrapped, leaf, dim in zip(lifted, leaves, places, strict=True):
            if dim is not None:
                wrapped._counter = leaf._counter
                wrapped._view = Shared(origin=leaf)
        results, shape = tree.tensors(call(lifted), "vmap: what the function returned")
        dims = _out_dims(out_dims, shape, len(results))
        return tree.build(shape, [_out(x, level, dim) for x, dim in zip(results, dims, strict=True)])


def _in_chunks(
    call: Any, leaves: list[Any], places: list[Any], size: int, out_dims: Any, randomness: str, chunk: int
) -> Any:
    """As :func:`_once`, a part of the samples at a time, joined at the end."""
    parts, shape = [], None
    for start in range(0, size, chunk):
        stop = min(start + chunk, size)
        some = [x if dim is None else x[start:stop] for x, dim in zip(leaves, places, strict=True)]
        results, shape = tree.flatten(_once(call, some, places, stop - start, 0, randomness))
        parts.append(results)
    joined = [
        apply(TABLE["concat"], *column, axis=0, sizes=tuple(x.shape[0] for x in column))
        for column in zip(*parts, strict=True)
    ]
    dims = _out_dims(out_dims, shape, len(joined))
    return tree.build(shape, [_moved(x, dim) for x, dim in zip(joined, dims, strict=True)])


def _dims(in_dims: Any, args: tuple[Any, ...], shape: Any, count: int) -> list[int | None]:
    """The axis of each leaf, ``in_dims`` spread over the arguments as far as it is not nested itself."""
    if not args:
        raise ArgumentError(
            "a function of vmap without arguments", why="there is nothing to map over", instead="an argument"
        )
    if isinstance(in_dims, list):
        in_dims = tuple(in_dims)
    if isinstance(in_dims, tuple) and len(in_dims) != len(args):
        raise ArgumentError(
            f"vmap(in_dims={in_dims}) of a function called with {len(args)} arguments",
            why="in_dims has one entry for each argument",
            instead="one int for all arguments, or a tuple as long as they are",
        )
    found: list[int | None] = [None] * count
    _spread(in_dims, shape, found, "in_dims")
    return found


def _spread(dims: Any, shape: Any, found: list[Any], what: str) -> None:
    """Write the axis of every leaf below ``shape`` into ``found``."""
    if dims is None or (isinstance(dims, int) and not isinstance(dims, bool)):
        for place in tree.flatten(shape)[0]:
            found[place] = dims
        return
    if isinstance(dims, (list, tuple)) and isinstance(shape, (list, tuple)) and len(dims) == len(shape):
        for one, part in zip(dims, shape, strict=True):
            _spread(one, part, found, what)
    elif isinstance(dims, dict) and isinstance(shape, dict) and dims.keys() == shape.keys():
        for key, one in dims.items():
            _spread(one, shape[key], found, what)
    else:
        raise ArgumentError(
            f"vmap({what}={dims!r}) for values nested as {shape}",
            why="an axis is an int or None, nested as the values are, or less deeply",
            instead=f"{what}=0, or the same lists, tuples and dicts with an axis at each place",
        )


def _samples_first(x: Any, dim: int, place: int) -> Tensor:
    if not isinstance(x, Tensor):
        x = as_tensor(x)
    if not -x.ndim <= dim < x.ndim:
        raise BoundsError(
            f"vmap over axis {dim} of a tensor of shape {x.shape} (value {place} of the arguments)",
            why=f"it has {x.ndim} axes",
            instead="an axis that it has, or None where all samples share the tensor",
        )
    return first_axis(x, dim)


def _size(leaves: list[Any], places: list[Any]) -> int:
    sizes = [x.shape[0] for x, dim in zip(leaves, places, strict=True) if dim is not None]
    if not sizes:
        raise ArgumentError(
            "vmap over no argument (every in_dims is None)",
            why="without samples there is nothing to map",
            instead="in_dims=0 for at least one tensor",
        )
    if len(set(sizes)) > 1:
        raise ShapeError(
            f"vmap over axes of different lengths: {', '.join(map(str, sizes))}",
            why="every argument brings one value per sample",
            instead="axes of one length, or None where all samples share the tensor",
        )
    return sizes[0]


def _out_dims(out_dims: Any, shape: Any, count: int) -> list[int]:
    found: list[Any] = [0] * count
    # One result may name its axis in a tuple of one, as PyTorch allows.
    if isinstance(out_dims, tuple) and len(out_dims) == 1 and isinstance(shape, int):
        out_dims = out_dims[0]
    _spread(out_dims, shape, found, "out_dims")
    return found


def _out(x: Tensor, level: VmapLevel, dim: int | None) -> Tensor:
    """A result with its samples along ``dim``; one that all share is repeated, unless ``dim`` is ``None``."""
    held = unlift(x, level)
    if not isinstance(held, Batched):
        if dim is None:
            return held
        return _moved(apply(TABLE["broadcast_to"], held, shape=(level.size, *held.shape)), dim)
    if dim is None:
        raise ArgumentError(
            "vmap(out_dims=None) for a result that differs between samples",
            why="only what all samples share can be returned without an axis for them",
            instead="out_dims=0",
        )
    return _moved(held.array, dim)


def _moved(x: Tensor, dim: int) -> Tensor:
    """``x`` with its first axis moved to ``dim``."""
    if not -x.ndim <= dim < x.ndim:
        raise BoundsError(
            f"vmap(out_dims={dim}) for results that have {x.ndim} axes with that of the samples",
            why="the samples need an axis of the result",
            instead=f"an axis from {-x.ndim} to {x.ndim - 1}",
        )
    if dim % x.ndim == 0:
        return x
    order = list(range(1, x.ndim))
    order.insert(dim % x.ndim, 0)
    return apply(TABLE["permute"], x, axes=tuple(order))
