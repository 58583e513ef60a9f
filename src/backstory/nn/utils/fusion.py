"""Batch norm folded into the layer in front of it: in evaluation mode it is but a scale and a shift."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable
from typing import TypeVar

import numpy as np

from backstory.errors import ArgumentError
from backstory.nn.containers import Sequential
from backstory.nn.conv import Conv1d, Conv2d
from backstory.nn.linear import Identity, Linear
from backstory.nn.module import Module
from backstory.nn.normalization import BatchNorm1d, BatchNorm2d
from backstory.nn.parameter import Parameter
from backstory.nn.utils.parametrize import is_parametrized, remove_parametrizations
from backstory.tensor import Tensor, as_tensor

__all__ = ["fuse", "fuse_conv_bn_eval", "fuse_linear_bn_eval"]

M = TypeVar("M", bound=Module)
L = TypeVar("L", Linear, Conv2d)
Pair = tuple[str, str]

_FOLLOWED: tuple[tuple[type[Module], type[Module]], ...] = (
    (Linear, BatchNorm1d),
    (Conv1d, BatchNorm1d),
    (Conv2d, BatchNorm2d),
)


def fuse(model: M, pairs: Iterable[Pair] | None = None) -> M:
    """A copy of the model that computes the same in evaluation mode, without its batch norms.

    W′ = s W and b′ = s (b − mean) + β with s = γ / √(variance + ε), per unit. Fused are linear layers and
    convolutions that a batch norm follows in a ``Sequential``; or the ``pairs`` of paths that you name, such
    as ``[("conv1", "bn1")]``, when it is your ``forward`` that runs the second on what the first gives, and
    on nothing else. An ``Identity`` takes the batch norm's place, so other paths stay as they are.

    Behind a linear layer the batch norm is taken to see rows (N, features).

    >>> import backstory
    >>> from backstory import nn
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
    >>> [type(layer).__name__ for layer in fuse(net)]
    ['Conv2d', 'Identity', 'ReLU']
    """
    chosen = _found(model) if pairs is None else [(str(a), str(b)) for a, b in pairs]
    if not chosen:
        raise ArgumentError(
            f"fuse({type(model).__name__}) found nothing to fuse",
            why="no Linear, Conv1d or Conv2d has a batch norm right behind it in a Sequential",
            instead="fuse(model, pairs=[('conv1', 'bn1')]) with the paths of what forward() runs in a row",
        )
    paths = [path for pair in chosen for path in pair]
    found = [model.get_submodule(path) for path in paths]
    if len({id(module) for module in found}) < len(found) or any(_uses(model, m) > 1 for m in found):
        raise ArgumentError(
            f"fuse() of {chosen}",
            why="one of these modules stands in several places, and each would need weights of its own",
            instead="a copy.deepcopy() of the shared module in each place",
        )
    fused = [_fused(model, pair) for pair in chosen]
    result = copy.deepcopy(model)
    for (layer, norm), made in zip(chosen, fused, strict=True):
        _replace(result, layer, made)
        _replace(result, norm, Identity())
    return result


def fuse_linear_bn_eval(linear: Linear, bn: BatchNorm1d) -> Linear:
    """One linear layer for a linear layer and the batch norm behind it, both in evaluation mode."""
    return _folded(linear, bn, "fuse_linear_bn_eval")


def fuse_conv_bn_eval(conv: Conv2d, bn: BatchNorm1d | BatchNorm2d) -> Conv2d:
    """One convolution for a convolution (1d or 2d) and the batch norm behind it, both in evaluation mode."""
    return _folded(conv, bn, "fuse_conv_bn_eval")


def _found(model: Module) -> list[Pair]:
    """Where in a Sequential a batch norm follows a layer that it can be folded into."""
    found = []
    for path, module in model.named_modules():
        if isinstance(module, Sequential):
            names = [(f"{path}.{name}" if path else name, one) for name, one in module.named_children()]
            found += [(a, b) for (a, x), (b, y) in itertools.pairwise(names) if _fits(x, y)]
    return found


def _fits(layer: Module, norm: Module) -> bool:
    return any(type(layer) is first and isinstance(norm, second) for first, second in _FOLLOWED)


def _uses(model: Module, module: Module) -> int:
    """At how many places of the model the module stands."""
    return sum(child is module for parent in model.modules() for child in parent.children())


def _fused(model: Module, pair: Pair) -> Module:
    layer, norm = (model.get_submodule(path) for path in pair)
    if not _fits(layer, norm):
        raise ArgumentError(
            f"fuse() of {pair[0]} ({type(layer).__name__}) and {pair[1]} ({type(norm).__name__})",
            why="a batch norm is folded into the linear layer or convolution in front of it",
            instead="Linear or Conv1d with BatchNorm1d, or Conv2d with BatchNorm2d",
        )
    return _folded(layer, norm, f"fuse() of {pair[0]} and {pair[1]}")  # type: ignore[type-var]


def _folded(layer: L, norm: BatchNorm1d | BatchNorm2d, what: str) -> L:
    if layer.training or norm.training or norm.running_mean is None or norm.running_var is None:
        tracked = norm.running_mean is not None
        raise ArgumentError(
            f"{what} in training mode" if tracked else f"{what} without running statistics",
            why="then the batch norm takes the mean and variance of each batch, which no weight can hold",
            instead="model.eval() first" if tracked else "a batch norm with track_running_stats=True",
        )
    weight = layer.weight.detach().numpy()
    if len(weight) != norm.num_features:
        raise ArgumentError(
            f"{what}: {len(weight)} units and a batch norm of {norm.num_features}",
            why="each unit has a mean and a variance",
            instead="the batch norm that forward() runs on the layer's output",
        )
    mean, variance = _values(norm.running_mean, 0.0), _values(norm.running_var, 0.0)
    scale = _values(norm.weight, 1.0) / np.sqrt(variance + norm.eps)
    shift = (_values(layer.bias, 0.0) - mean) * scale + _values(norm.bias, 0.0)
    result = copy.deepcopy(layer)
    if is_parametrized(result, "weight"):
        remove_parametrizations(result, "weight")
    along = scale.reshape(-1, *(1,) * (weight.ndim - 1))
    result.weight = Parameter(as_tensor((weight * along).astype(weight.dtype)))
    result.register_parameter("bias", Parameter(as_tensor(shift.astype(weight.dtype))))
    return result


def _values(x: Tensor | None, otherwise: float) -> np.ndarray:
    """In float64, so that folding rounds once."""
    return np.asarray(otherwise if x is None else x.detach().numpy(), np.float64)


def _replace(model: Module, path: str, module: Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)
