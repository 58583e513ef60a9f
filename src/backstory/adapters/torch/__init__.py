"""PyTorch's models as a source of the same records; loaded only once the user's code has imported torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from backstory.adapters.torch.snapshot import restore
from backstory.adapters.torch.source import TorchSource
from backstory.adapters.torch.why import why

__all__ = ["TorchSource", "conditions", "owns", "restore", "why"]


def owns(x: Any) -> bool:
    """Whether ``x`` is a model or a tensor of PyTorch."""
    return isinstance(x, (torch.nn.Module, torch.Tensor))


@contextmanager
def conditions(seed: int, threads: int) -> Iterator[None]:
    """PyTorch's random stream from ``seed`` on, and as many threads; both are put back."""
    before = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)
