"""Which functions of PyTorch gate, and the local derivative of each as PyTorch's own backward has it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["GATES", "Gate", "gates", "local_derivative", "open_counts", "units_last"]


@dataclass(frozen=True)
class Gate:
    """A gating activation: the name that its sites carry, and how its open entries are found.

    ``from_output`` says that an entry is open where the output is not 0; ``open_if`` looks at the call
    and says that the derivative is nowhere 0.
    """

    name: str
    from_output: bool = False
    open_if: Callable[[tuple[Any, ...], Mapping[str, Any]], bool] | None = None


def _slope(args: tuple[Any, ...], kwargs: Mapping[str, Any], name: str, default: float) -> Any:
    return kwargs.get(name, args[1] if len(args) > 1 else default)


def _upper(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    return kwargs.get("upper", args[2] if len(args) > 2 else 1 / 3)


RELU = Gate("relu", from_output=True)
LEAKY = Gate("leaky_relu", open_if=lambda args, kwargs: _slope(args, kwargs, "negative_slope", 0.01) != 0)
RRELU = Gate(
    "rrelu",
    # Its slopes are drawn: one that is 0 has probability 0, unless none else can be.
    from_output=True,
    open_if=lambda args, kwargs: _slope(args, kwargs, "lower", 0.125) != 0 or _upper(args, kwargs) != 0,
)
CLAMP = Gate("clamp")

NAMES = (
    "relu6", "prelu", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus", "hardtanh", "hardsigmoid",
    "hardswish", "threshold", "softshrink", "hardshrink",
)  # fmt: skip


def _spellings(name: str) -> set[Any]:
    """The functions and methods of that name, in place ones too."""
    places = [(place, name + end) for place in (F, torch, Tensor) for end in ("", "_")]
    return {getattr(place, spelled) for place, spelled in places if hasattr(place, spelled)}


#: Every function and method that gates, as it reaches ``__torch_function__``.
GATES: dict[Any, Gate] = {
    F.relu: RELU,
    torch.relu: RELU,
    torch.relu_: RELU,
    Tensor.relu: RELU,
    Tensor.relu_: RELU,
    F.leaky_relu: LEAKY,
    F.leaky_relu_: LEAKY,
    F.rrelu: RRELU,
    F.rrelu_: RRELU,
    torch.rrelu: RRELU,
    torch.clamp: CLAMP,
    torch.clamp_: CLAMP,
    torch.clip: CLAMP,
    torch.clip_: CLAMP,
    torch.clamp_min: CLAMP,
    torch.clamp_min_: CLAMP,
    Tensor.clamp: CLAMP,
    Tensor.clamp_: CLAMP,
    Tensor.clip: CLAMP,
    Tensor.clip_: CLAMP,
    Tensor.clamp_min: CLAMP,
    Tensor.clamp_min_: CLAMP,
    **{function: Gate(name) for name in NAMES for function in _spellings(name)},
}


def gates(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Gate | None:
    """The gate that this call is, if it is one; a clamp is one where it stops at 0 below.

    Whole numbers (indices, masks, lengths) have no derivative, and pass no gate.
    """
    gate = GATES.get(function)
    if gate is None or not _is_gated(args[0] if args else kwargs.get("input")):
        return None
    if gate is CLAMP:
        floor = kwargs.get("min", args[1] if len(args) > 1 else None)
        return gate if isinstance(floor, (int, float)) and floor == 0 else None
    return gate


def _is_gated(x: Any) -> bool:
    return isinstance(x, Tensor) and x.is_floating_point()


def local_derivative(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """dy/dz at every entry of ``args[0]``: PyTorch's backward of the call for an upstream of 1."""
    kwargs = {key: value for key, value in kwargs.items() if key != "out"}
    # With hooks of its own nothing is offloaded, and checkpointing does not count what is saved here.
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(_as_it_is, _as_it_is):
        z = args[0].detach().requires_grad_()
        # A copy, since the call may work in place.
        y = function(z.clone(), *args[1:], **kwargs)
        (derivative,) = torch.autograd.grad(y, z, torch.ones_like(y))
    return derivative


def _as_it_is(x: Tensor) -> Tensor:
    return x


def units_last(x: Tensor, axis: int) -> Tensor:
    """``x`` as (rows, units), the units on ``axis`` counted from the end."""
    if axis != -1:
        x = x.movedim(axis, -1)
    return x if x.ndim == 2 else x.reshape(-1, x.shape[-1] if x.ndim else 1)


def open_counts(x: Tensor, axis: int) -> Tensor:
    """For how many entries each unit of ``x``, an output or a derivative of at least 0, is not 0.

    Signs are added up, which is several times faster than comparing and counting. A NaN makes the
    count NaN.
    """
    signs = x.detach().sign()
    wide = torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else None
    if x.ndim == 2 and axis == -1:
        return signs.sum(0, dtype=wide)
    if axis == 1 - x.ndim and x.ndim > 2:  # channels: first over the positions, which lie together
        return signs.flatten(2).sum(-1, dtype=wide).sum(0)
    return units_last(signs, axis).sum(0, dtype=wide)
