"""The state of a module by name: what is saved, and what is loaded into it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from backstory.autograd.modes import no_grad
from backstory.errors import ArgumentError, BackstoryError, ShapeError
from backstory.tensor import Tensor, as_tensor

if TYPE_CHECKING:
    from backstory.nn.module import Module

__all__ = ["Unmatched", "load", "names_of"]


class Unmatched(NamedTuple):
    """The names of the module that the state lacks, and those of the state that the module lacks."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def names_of(module: Module, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every parameter and persistent buffer with its path; one that is shared, under each of its paths."""
    for name, tensor in (*module._parameters.items(), *module._buffers.items()):
        if tensor is not None and name not in module._transient:
            yield prefix + name, tensor
    for name, child in module._modules.items():
        yield from names_of(child, f"{prefix}{name}.")


def load(module: Module, state: Mapping[str, Any], strict: bool) -> Unmatched:
    """Copy ``state`` into ``module``, or say everything that does not fit and change nothing."""
    own = dict(names_of(module))
    unmatched = Unmatched([n for n in own if n not in state], [n for n in state if n not in own])
    arrays = {name: _array(name, state[name]) for name in own if name in state}
    misfits = [
        f"{name} of shape {array.shape} for {own[name].shape}"
        for name, array in arrays.items()
        if array.shape != own[name].shape
    ]
    faults = {"missing": unmatched.missing_keys, "unexpected": unmatched.unexpected_keys} if strict else {}
    found = [f"{what}: {', '.join(names)}" for what, names in {**faults, "sizes": misfits}.items() if names]
    if found:
        kind: type[BackstoryError] = ShapeError if misfits else ArgumentError
        raise kind(
            f"load_state_dict() into {type(module).__name__}",
            why="; ".join(found),
            instead="a state_dict of the same architecture"
            + (", or strict=False to load what matches" if strict and not misfits else ""),
        )
    with no_grad():
        for name, array in arrays.items():
            own[name].copy_(array)
    return unmatched


def _array(name: str, value: Any) -> np.ndarray:
    try:
        return np.asarray(as_tensor(value).detach().array)
    except BackstoryError as error:
        raise ArgumentError(
            f"load_state_dict(): {name} is a {type(value).__name__}",
            why=error.why,
            instead="a tensor, an array or nested lists of numbers",
        ) from error
