"""The declared data of a PyTorch training: tensors, tuples or mappings of them, data sets, loaders."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, default_collate

from backstory.errors import ArgumentError

__all__ = ["Call", "Declared", "declared"]

#: What the model is called with: positional and named arguments.
Call = tuple[tuple[Any, ...], dict[str, Any]]

ENTRIES = 2**21  # numbers of input in one chunk, at most
LEAST, MOST = 16, 512  # samples in one chunk


class Declared(ABC):
    """The inputs on which a unit counts as dead or alive."""

    def __init__(self, size: int, model: nn.Module) -> None:
        self.size, self.model = size, model

    @abstractmethod
    def take(self, samples: Sequence[int]) -> Call:
        """The call of the model on some samples."""

    def chunks(self) -> Iterator[tuple[int, int, Call]]:
        """(first sample, number of samples, call), so that the data never is on the device at once."""
        start, count = 0, min(LEAST, self.size)
        while start < self.size:
            samples = range(start, min(start + count, self.size))
            call = self.take(samples)
            yield start, len(samples), call
            start += len(samples)
            entries = sum(x.numel() for x in [*call[0], *call[1].values()] if isinstance(x, Tensor))
            count = min(max(ENTRIES * len(samples) // max(entries, 1), LEAST), MOST)

    def _moved(self, x: Any) -> Any:
        """``x`` where the model now is."""
        if not isinstance(x, Tensor):
            return x
        p = next(self.model.parameters(), None)
        return x if p is None else x.to(p.device, non_blocking=True)


class _Tensors(Declared):
    """Tensors with one sample per row; the arguments of the model."""

    def __init__(self, args: tuple[Tensor, ...], kwargs: dict[str, Tensor], model: nn.Module) -> None:
        super().__init__(_rows(args, kwargs), model)
        self.args, self.kwargs = args, kwargs

    def take(self, samples: Sequence[int]) -> Call:
        at: Any = slice(samples.start, samples.stop) if isinstance(samples, range) else list(samples)
        return (
            tuple(self._moved(x[at]) for x in self.args),
            {name: self._moved(x[at]) for name, x in self.kwargs.items()},
        )


class _Items(Declared):
    """A data set, whose items are collated as its loader does; of (inputs, targets) the inputs."""

    def __init__(self, items: Any, collate: Callable[..., Any], model: nn.Module) -> None:
        super().__init__(_length(items), model)
        self.items, self.collate = items, collate
        parameters = inspect.signature(model.forward).parameters.values()
        self.names = {p.name for p in parameters}
        self.any_name = any(p.kind is p.VAR_KEYWORD for p in parameters)

    def take(self, samples: Sequence[int]) -> Call:
        batch = self.collate([self.items[i] for i in samples])
        if isinstance(batch, (tuple, list)):
            batch = batch[0]
        if not isinstance(batch, Mapping):
            _check_finite(batch, samples)
            return (self._moved(batch),), {}
        named = {key: x for key, x in batch.items() if self.any_name or key in self.names}
        for x in named.values():
            _check_finite(x, samples)
        return (), {key: self._moved(x) for key, x in named.items()}


def declared(data: Any, model: nn.Module) -> Declared:
    """The declared data, or an error that says what is wrong with it."""
    first = next(model.parameters(), torch.empty(0))
    if isinstance(data, DataLoader):
        made: Declared = _Items(data.dataset, data.collate_fn, model)
    elif isinstance(data, Dataset):
        made = _Items(data, default_collate, model)
    elif isinstance(data, Mapping):
        made = _Tensors((), {key: _tensor(x, first) for key, x in data.items()}, model)
    elif isinstance(data, (tuple, list)) and data and all(isinstance(x, (Tensor, np.ndarray)) for x in data):
        made = _Tensors(tuple(_tensor(x, first) for x in data), {}, model)
    else:
        made = _Tensors((_tensor(data, first),), {}, model)
    if made.size == 0:
        raise ArgumentError(
            f"watch(data=…) received a {type(data).__name__} without samples",
            why="a unit is dead or alive on samples; there are none",
            instead="the training inputs, one sample per row",
        )
    return made


def _tensor(x: Any, like: Tensor) -> Tensor:
    """``x`` as a tensor; arrays take the float dtype of the model, as a user would convert them."""
    try:
        found = x.detach() if isinstance(x, Tensor) else torch.as_tensor(np.asarray(x))
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"watch(data=…) received {type(x).__name__}",
            why=f"it is no tensor: {error}",
            instead="a tensor, a tuple or dict of tensors, a Dataset or a DataLoader",
        ) from error
    if not isinstance(x, Tensor) and found.is_floating_point():
        found = found.to(like.dtype)
    _check_finite(found, range(len(found) if found.ndim else 1))
    return found


def _check_finite(x: Any, samples: Sequence[int]) -> None:
    """Refuse NaN and infinity; ``x`` holds these samples."""
    if isinstance(x, Tensor) and x.is_floating_point() and not torch.isfinite(x).all():
        rows = len(samples) if x.ndim and len(x) == len(samples) else 1
        bad = (~torch.isfinite(x)).reshape(rows, -1).any(1).nonzero()[:, 0]
        raise ArgumentError(
            f"watch(data=…) received NaN or infinity in {len(bad)} samples, "
            f"first in sample {samples[int(bad[0])]}",
            why="no activation of such a sample means anything",
            instead="the data without these samples, or with the missing values filled in",
        )


def _length(items: Any) -> int:
    """The number of items of a data set, which must be known."""
    try:
        return len(items)
    except TypeError as error:
        raise ArgumentError(
            f"watch(data=…) received a {type(items).__name__}, which has no length",
            why="a scan reads the same samples every time, by their numbers; a stream gives each but once",
            instead="a tensor of inputs, or a Dataset with __len__ and __getitem__",
        ) from error


def _rows(args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> int:
    """The number of samples that all tensors share."""
    tensors = [*args, *kwargs.values()]
    sizes = {len(x) if x.ndim else 0 for x in tensors}
    if len(sizes) > 1:
        raise ArgumentError(
            f"watch(data=…) received tensors of shapes {', '.join(str(tuple(x.shape)) for x in tensors)}",
            why="each holds one sample per row, and they differ in the number of rows",
            instead="tensors of equal length, the arguments of the model",
        )
    return sizes.pop() if sizes else 0
