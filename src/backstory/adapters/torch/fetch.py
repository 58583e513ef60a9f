"""Many small tensors, fetched from their devices at once."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["Parcel"]


class Parcel:
    """Collects tensors of at most one axis; one transfer for each device and dtype brings them all."""

    def __init__(self) -> None:
        self._groups: dict[tuple[torch.device, torch.dtype, int], list[tuple[int, Tensor]]] = {}
        self._count = 0

    def add(self, x: Tensor) -> int:
        """Add a tensor; its place among what :meth:`fetch` returns."""
        place = self._count
        self._count += 1
        self._groups.setdefault((x.device, x.dtype, x.ndim), []).append((place, x))
        return place

    def fetch(self) -> list[np.ndarray]:
        """All tensors as float64 arrays, in the order in which they were added."""
        found: list[np.ndarray] = [np.empty(0)] * self._count
        for (_, _, ndim), members in self._groups.items():
            tensors = [x for _, x in members]
            together = torch.stack(tensors) if ndim == 0 else torch.cat(tensors)
            flat = together.to(torch.float64).cpu().numpy()
            start = 0
            for place, x in members:
                stop = start + x.numel()
                found[place] = flat[start] if ndim == 0 else flat[start:stop]
                start = stop
        return found
