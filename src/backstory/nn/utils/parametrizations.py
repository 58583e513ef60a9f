"""Parametrizations of layers' weights."""

from __future__ import annotations

from typing import TypeVar

from backstory.errors import BoundsError
from backstory.functions.reduction import vector_norm
from backstory.nn.module import Module
from backstory.nn.utils.parametrize import register_parametrization
from backstory.tensor import Tensor

__all__ = ["weight_norm"]

M = TypeVar("M", bound=Module)


class _WeightNorm(Module):
    """g · v / ‖v‖, the norm over all axes but ``dim``."""

    def __init__(self, dim: int | None) -> None:
        super().__init__()
        self.dim = dim

    def _size(self, v: Tensor) -> Tensor:
        if self.dim is None:
            return vector_norm(v)
        axes = tuple(axis for axis in range(v.ndim) if axis != self.dim % v.ndim)
        return vector_norm(v, 2, axes, keepdim=True) if axes else v.abs()

    def forward(self, g: Tensor, v: Tensor) -> Tensor:
        """The weight of length g and direction v."""
        return v * (g / self._size(v))

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The length and the direction of ``weight``."""
        return self._size(weight), weight


def weight_norm(module: M, name: str = "weight", dim: int | None = 0) -> M:
    """w = g · v / ‖v‖: the length and the direction of each unit's weights are learned apart.

    Salimans & Kingma 2016 (arXiv:1602.07868). ``dim`` is the axis of the units, along which g has its
    entries; ``None`` takes one length for all. The originals g and v are the parameters
    ``parametrizations.NAME.original0`` and ``original1``, as in PyTorch. Returns the module; make its
    optimizer afterwards.

    >>> from backstory import nn
    >>> layer = weight_norm(nn.Linear(3, 2))
    >>> {key: value.shape for key, value in layer.state_dict().items()}
    {'bias': (2,), 'parametrizations.weight.original0': (2, 1), 'parametrizations.weight.original1': (2, 3)}
    """
    weight = module._parameters.get(name)
    if dim is not None and weight is not None and not -weight.ndim <= dim < weight.ndim:
        raise BoundsError(
            f"weight_norm({type(module).__name__}, {name!r}, dim={dim})",
            why=f"{name} has {weight.ndim} axes",
            instead="dim=0, the axis of the units, or None for one length for all",
        )
    return register_parametrization(module, name, _WeightNorm(dim))
