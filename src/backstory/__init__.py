"""backstory: an autograd engine and neural-network library that can say why a network does what it does.

>>> import backstory
>>> x = backstory.tensor(2.0); w = backstory.tensor(3.0, requires_grad=True)
>>> ((w * x + 1.0 - 5.0) ** 2).backward()
>>> w.grad
tensor(8.)
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as _np

from backstory.arrays import Generator, manual_seed
from backstory.autograd.modes import (
    enable_grad,
    is_grad_enabled,
    no_grad,
    relu_derivative_at_zero,
    set_grad_enabled,
)
from backstory.functions import activation, comparison, creation, elementwise, linalg, reduction, shape
from backstory.functions.activation import leaky_relu, log_softmax, relu, sigmoid, tanh
from backstory.functions.comparison import where
from backstory.functions.creation import arange, full, ones, rand, randn, randperm, zeros, zeros_like
from backstory.functions.elementwise import exp, log, maximum, sqrt
from backstory.functions.linalg import matmul
from backstory.functions.reduction import argmax, logsumexp, max, mean, sum
from backstory.functions.shape import broadcast_to, flatten, permute, reshape, transpose
from backstory.promotion import get_default_dtype, set_default_dtype
from backstory.tensor import Tensor, as_tensor, tensor

__version__ = "0.1.0"

float32, float64 = _np.dtype("float32"), _np.dtype("float64")
int64, bool = _np.dtype("int64"), _np.dtype("bool")

# Loaded when first named, so that `import backstory` costs little more than `import numpy`.
_LAZY = {
    "array_api": "backstory.array_api",
    "autograd": "backstory.autograd",
    "insight": "backstory.insight",
    "layers": "backstory.layers",
    "nn": "backstory.nn",
    "optim": "backstory.optim",
    "plots": "backstory.plots",
    "report": "backstory.report",
    "scalar": "backstory.scalar",
}
_LAZY_NAMES = {
    "check": "backstory.autograd.check",
    "Change": "backstory.insight",
    "experiment": "backstory.insight",
    "explain": "backstory.insight",
    "open_run": "backstory.insight",
    "watch": "backstory.insight",
    "why": "backstory.insight",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return importlib.import_module(_LAZY[name])
    if name in _LAZY_NAMES:
        return getattr(importlib.import_module(_LAZY_NAMES[name]), name)
    raise AttributeError(f"module 'backstory' has no attribute {name!r}")


__all__ = [
    "Generator",
    "Tensor",
    "as_tensor",
    "enable_grad",
    "float32",
    "float64",
    "get_default_dtype",
    "int64",
    "is_grad_enabled",
    "manual_seed",
    "no_grad",
    "relu_derivative_at_zero",
    "set_default_dtype",
    "set_grad_enabled",
    "tensor",
]
__all__ += activation.__all__
__all__ += comparison.__all__
__all__ += creation.__all__
__all__ += elementwise.__all__
__all__ += linalg.__all__
__all__ += reduction.__all__
__all__ += shape.__all__
