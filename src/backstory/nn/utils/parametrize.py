"""Parameters that are computed from others whenever they are read.

A parametrization is a module whose ``forward`` makes the parameter of its originals and whose
``right_inverse``, if it has one, says which originals make a given value. The originals are parameters of the
layer, under ``parametrizations.NAME.original`` (``original0``, ``original1``, … where there are several).
"""

from __future__ import annotations

from typing import Any, TypeVar

from backstory.autograd.modes import no_grad
from backstory.errors import ArgumentError
from backstory.nn.containers import ModuleDict
from backstory.nn.module import Module
from backstory.nn.parameter import Parameter
from backstory.tensor import Tensor, as_tensor

__all__ = ["ParametrizationList", "is_parametrized", "register_parametrization", "remove_parametrizations"]

M = TypeVar("M", bound=Module)


class ParametrizationList(Module):
    """A parametrization and its originals; calling it computes the parameter."""

    def __init__(self, parametrization: Module, value: Tensor) -> None:
        super().__init__()
        self.add_module("0", parametrization)
        made = _originals(parametrization, value)
        self._several = isinstance(made, tuple)
        for i, one in enumerate(made if isinstance(made, tuple) else (made,)):
            setattr(self, f"original{i}" if self._several else "original", Parameter(one.clone()))

    def forward(self) -> Tensor:
        """The parameter."""
        return self._modules["0"](*(getattr(self, name) for name in self._parameters))

    def assign(self, value: Any) -> None:
        """Give the originals the values that make ``value``."""
        made = _originals(self._modules["0"], as_tensor(value).detach())
        with no_grad():
            for own, new in zip(self.parameters(), made if self._several else (made,), strict=True):
                own.copy_(new)


def _originals(parametrization: Module, value: Tensor) -> Any:
    inverse = getattr(parametrization, "right_inverse", None)
    with no_grad():
        made = value.detach() if inverse is None else inverse(value.detach())
    return tuple(made) if isinstance(made, (tuple, list)) else made


def is_parametrized(module: Module, name: str | None = None) -> bool:
    """Whether the parameter ``name``, or any, is computed from others."""
    held = module._modules.get("parametrizations")
    return held is not None and (name is None or name in held._modules)


def register_parametrization(module: M, name: str, parametrization: Module) -> M:
    """Let ``module.NAME`` be ``parametrization(originals)``, computed whenever it is read.

    Its optimizer is to be made afterwards: the parameters are now the originals.

    >>> import backstory
    >>> from backstory import nn
    >>> class Positive(nn.Module):
    ...     def forward(self, original):
    ...         return original.exp()
    ...     def right_inverse(self, value):
    ...         return value.log()
    >>> layer = nn.Linear(1, 1, bias=False)
    >>> layer = register_parametrization(layer.requires_grad_(), "weight", Positive())
    >>> [key for key, _ in layer.named_parameters()]
    ['parametrizations.weight.original']
    """
    if is_parametrized(module, name) or not isinstance(module._parameters.get(name), Parameter):
        raise ArgumentError(
            f"a parametrization of {type(module).__name__}.{name}",
            why="it is computed from others already"
            if is_parametrized(module, name)
            else "no such parameter",
            instead=f"one of {list(module._parameters)}, once each",
        )
    value = getattr(module, name)
    computed = ParametrizationList(parametrization, value)
    with no_grad():
        shape = computed().shape
    if shape != value.shape:
        raise ArgumentError(
            f"a parametrization of {type(module).__name__}.{name} of shape {value.shape}",
            why=f"{type(parametrization).__name__} makes shape {shape} of its originals",
            instead="a forward whose result has the shape of the parameter",
        )
    delattr(module, name)
    if "parametrizations" not in module._modules:
        module.parametrizations = ModuleDict()
    module._modules["parametrizations"].add_module(name, computed)
    return module


def remove_parametrizations(module: M, name: str) -> M:
    """Let ``module.NAME`` be a parameter of its own again, of its present value."""
    if not is_parametrized(module, name):
        raise ArgumentError(
            f"remove_parametrizations() of {type(module).__name__}.{name}",
            why="it is not computed from others",
            instead="a name that register_parametrization() was called with",
        )
    value = getattr(module, name).detach().clone()
    held = module._modules["parametrizations"]
    delattr(held, name)
    if not held._modules:
        del module.parametrizations
    setattr(module, name, Parameter(value))
    return module
