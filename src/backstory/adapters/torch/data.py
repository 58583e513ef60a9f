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

    def __init__(self, size: int, device: torch.device) -> None:
        self.size, self.device = size, device

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
        return x.to(self.device, non_blocking=True) if isinstance(x, Tensor) else x


class _Tensors(Declared):
    """Tensors with one sample per row; the arguments of the model."""

    def __init__(self, args: tuple[Tensor, ...], kwargs: dict[str, Tensor], device: torch.device) -> None:
        super().__init__(_rows(args, kwargs), device)
        self.args, self.kwargs = args, kwargs

    def take(self, samples: Sequence[int]) -> Call:
        at: Any = slice(samples.start, samples.stop) if isinstance(samples, range) else list(samples)
        return (
            tuple(self._moved(x[at]) for x in self.args),
            {name: self._moved(x[at]) for name, x in self.kwargs.items()},
        )


class _Items(Declared):
    """A data set, whose items are collated as its loader does; of (inputs, targets) the inputs."""

    def __init__(
        self, items: Any, collate: Callable[..., Any], model: nn.Module, device: torch.device
    ) -> None:
        super().__init__(len(items), device)
        self.items, self.collate = items, collate
        parameters = inspect.signature(model.forward).parameters.values()
        self.names = {p.name for p in parameters}
        self.any_name = any(p.kind is p.VAR_KEYWORD for p in parameters)

    def take(self, samples: Sequence[int]) -> Call:
        batch = self.collate([self.items[i] for i in samples])
        if isinstance(batch, (tuple, list)):
            batch = batch[0]
        if not isinstance(batch, Mapping):
            return (self._moved(batch),), {}
        named = {key: x for key, x in batch.items() if self.any_name or key in self.names}
        return (), {key: self._moved(x) for key, x in named.items()}


def declared(data: Any, model: nn.Module) -> Declared:
    """The declared data, or an error that says what is wrong with it."""
    first = next(model.parameters(), torch.empty(0))
    device = first.device
    if isinstance(data, DataLoader):
        made: Declared = _Items(data.dataset, data.collate_fn, model, device)
    elif isinstance(data, Dataset):
        made = _Items(data, default_collate, model, device)
    elif isinstance(data, Mapping):
        made = _Tensors((), {key: _tensor(x, first) for key, x in data.items()}, device)
    elif isinstance(data, (tuple, list)) and data and all(isinstance(x, (Tensor, np.ndarray)) for x in data):
        made = _Tensors(tuple(_tensor(x, first) for x in data), {}, device)
    else:
        made = _Tensors((_tensor(data, first),), {}, device)
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
    if found.is_floating_point() and not torch.isfinite(found).all():
        bad = (~torch.isfinite(found)).reshape(len(found), -1).any(1).nonzero()[:, 0] if found.ndim else [0]
        raise ArgumentError(
            f"watch(data=…) received NaN or infinity in {len(bad)} samples, first in sample {int(bad[0])}",
            why="no activation of such a sample means anything",
            instead="the data without these samples, or with the missing values filled in",
        )
    return found


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
