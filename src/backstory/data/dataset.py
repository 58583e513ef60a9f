"""Datasets: anything with a length and samples by number."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from backstory.arrays import Generator, default_generator
from backstory.errors import ArgumentError, BoundsError, DtypeError, ShapeError
from backstory.tensor import Tensor, as_tensor

__all__ = ["Dataset", "Subset", "TensorDataset", "random_split"]


class Dataset(ABC):
    """Samples by number: a subclass defines ``__len__`` and ``__getitem__``.

    One that can hand out many samples at once, already joined, also defines ``batch(indices)``.

    >>> class Squares(Dataset):
    ...     def __len__(self):
    ...         return 3
    ...     def __getitem__(self, index):
    ...         return index**2
    >>> [Squares()[i] for i in range(3)]
    [0, 1, 4]
    """

    @abstractmethod
    def __len__(self) -> int:
        """The number of samples."""

    @abstractmethod
    def __getitem__(self, index: int) -> Any:
        """Sample number ``index``, from 0."""


class TensorDataset(Dataset):
    """Samples along the first axis of tensors, NumPy arrays, or pandas frames and series.

    A sample is the tuple of their rows. Arrays are shared, not copied, and keep their dtype.

    >>> import backstory
    >>> dataset = TensorDataset(backstory.arange(6).reshape(3, 2), np.array([0, 1, 0]))
    >>> len(dataset), dataset[1]
    (3, (tensor([2, 3]), tensor(1)))
    """

    def __init__(self, *tensors: Any) -> None:
        if not tensors:
            raise ArgumentError(
                "TensorDataset() of nothing", why="it has no samples", instead="TensorDataset(x, y)"
            )
        self.tensors: tuple[Tensor, ...] = tuple(
            _tensor_of(f"TensorDataset's argument {i}", x) for i, x in enumerate(tensors)
        )
        lengths = [x.shape[0] if x.ndim else None for x in self.tensors]
        if len(set(lengths)) > 1 or None in lengths:
            raise ShapeError(
                f"TensorDataset of shapes {', '.join(str(x.shape) for x in self.tensors)}",
                why="their first axes number the same samples",
                instead="tensors of one length",
            )

    def __len__(self) -> int:
        return self.tensors[0].shape[0]

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return tuple(x[index] for x in self.tensors)

    def batch(self, indices: np.ndarray) -> tuple[Tensor, ...]:
        """The samples of these numbers, joined."""
        return tuple(as_tensor(x.array[indices]) for x in self.tensors)


class Subset(Dataset):
    """The samples of another dataset at ``indices``.

    >>> Subset([10, 20, 30], [2, 0])[0]
    30
    """

    def __init__(self, dataset: Any, indices: Sequence[int] | np.ndarray) -> None:
        self.dataset = dataset
        self.indices = np.asarray(indices, np.int64).reshape(-1)
        outside = self.indices[(self.indices < 0) | (self.indices >= len(dataset))]
        if outside.size:
            raise BoundsError(
                f"Subset with index {int(outside[0])}",
                why=f"the dataset has {len(dataset)} samples",
                instead=f"indices from 0 to {len(dataset) - 1}",
            )
        if hasattr(dataset, "batch"):
            self.batch = self._batch

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[int(self.indices[index])]

    def _batch(self, indices: np.ndarray) -> Any:
        return self.dataset.batch(self.indices[indices])


def random_split(
    dataset: Any, lengths: Sequence[int | float], generator: Generator | None = None
) -> list[Subset]:
    """Split at random into parts of these ``lengths``, or of these shares of 1.

    Shares are rounded down, and what is left over goes to the parts in turn, as in PyTorch. The order comes
    from ``generator``, or this thread's stream.

    >>> [len(part) for part in random_split(range(10), [0.75, 0.25])]
    [8, 2]
    """
    total, counts = len(dataset), list(lengths)
    if any(isinstance(n, float) for n in counts) and math.isclose(sum(counts), 1):
        shares, counts = counts, [math.floor(total * share) for share in counts]
        for i in range(total - sum(counts)):
            counts[i % len(shares)] += 1
    if sum(counts) != total or any(n < 0 for n in counts):
        raise ArgumentError(
            f"random_split() of {total} samples into {list(lengths)}",
            why="the lengths must add up to the dataset's, or the shares to 1",
            instead="random_split(dataset, [0.8, 0.2])",
        )
    order = (generator or default_generator()).numpy.permutation(total)
    ends = np.cumsum(np.array(counts, np.int64))
    return [Subset(dataset, part) for part in np.split(order, ends[:-1])]


def _tensor_of(name: str, x: Any) -> Tensor:
    """A tensor around ``x`` itself where that can be; pandas through its ``to_numpy``."""
    if hasattr(x, "to_numpy"):
        array = x.to_numpy()
        if array.dtype.kind not in "fiub":
            columns = [str(c) for c, t in getattr(x, "dtypes", {}).items()] if array.ndim == 2 else []
            words = [c for c in columns if x[c].to_numpy().dtype.kind not in "fiub"]
            raise DtypeError(
                f"{name} is a {type(x).__name__} that holds more than numbers"
                + (f", in {', '.join(words)}" if words else ""),
                why=f"as an array it is of {array.dtype}, which tensors cannot be",
                instead="columns of numbers: frame.drop(columns=…), or frame.astype('category') codes",
            )
        x = np.ascontiguousarray(array)
    return as_tensor(x).detach() if isinstance(x, (Tensor, np.ndarray)) else as_tensor(x)
