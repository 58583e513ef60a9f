"""The activations with PyTorch's ``inplace``: the functions of :mod:`backstory` otherwise."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from backstory.functions import activation
from backstory.inplace import in_place
from backstory.tensor import Tensor

__all__ = [
    "celu",
    "celu_",
    "elu",
    "elu_",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "hardtanh_",
    "leaky_relu",
    "leaky_relu_",
    "mish",
    "relu",
    "relu6",
    "relu_",
    "rrelu",
    "rrelu_",
    "selu",
    "selu_",
    "silu",
    "threshold",
    "threshold_",
]

relu_ = in_place(activation.relu)
celu_ = in_place(activation.celu)
elu_ = in_place(activation.elu)
hardtanh_ = in_place(activation.hardtanh)
leaky_relu_ = in_place(activation.leaky_relu)
rrelu_ = in_place(activation.rrelu)
selu_ = in_place(activation.selu)
threshold_ = in_place(activation.threshold)


def relu(x: Any, inplace: bool = False, at_zero: float | None = None) -> Tensor:
    """max(x, 0); see :func:`backstory.relu`. With ``inplace`` in the memory of ``x``."""
    return relu_(x, at_zero) if inplace else activation.relu(x, at_zero)


def _in_either_place(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``function`` with one more parameter, ``inplace``, after its own."""
    own = inspect.signature(function)
    count = len(own.parameters)
    changing = in_place(function)

    @functools.wraps(function)
    def either(*args: Any, inplace: bool = False, **keywords: Any) -> Tensor:
        if len(args) > count:
            args, inplace = args[:count], args[count]
        return (changing if inplace else function)(*args, **keywords)

    extra = inspect.Parameter("inplace", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=False)
    either.__signature__ = own.replace(parameters=[*own.parameters.values(), extra])  # type: ignore[attr-defined]
    either.__doc__ = f"With ``inplace`` in the memory of ``x``; else: {function.__doc__}"
    return either


celu = _in_either_place(activation.celu)
elu = _in_either_place(activation.elu)
hardsigmoid = _in_either_place(activation.hardsigmoid)
hardswish = _in_either_place(activation.hardswish)
hardtanh = _in_either_place(activation.hardtanh)
leaky_relu = _in_either_place(activation.leaky_relu)
mish = _in_either_place(activation.mish)
relu6 = _in_either_place(activation.relu6)
rrelu = _in_either_place(activation.rrelu)
selu = _in_either_place(activation.selu)
silu = _in_either_place(activation.silu)
threshold = _in_either_place(activation.threshold)
