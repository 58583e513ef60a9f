"""The layers: Linear, Sequential."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from backstory.arrays import Generator
from backstory.errors import ArgumentError, ShapeError
from backstory.nn import init
from backstory.nn.module import Module, Parameter
from backstory.ops import TABLE
from backstory.promotion import get_default_dtype
from backstory.tensor import Tensor, apply, as_tensor

__all__ = ["Linear", "Sequential"]

_LINEAR = TABLE["linear"]


class Linear(Module):
    """y = x Wᵀ + b, for x of shape (…, in_features); W is (out_features, in_features).

    W and b start uniform in ±1/√in_features, as in PyTorch, drawn from ``generator``.

    >>> import backstory
    >>> Linear(3, 2)(backstory.ones(5, 3)).shape
    (5, 2)
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        dtype: Any = None,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        if in_features < 0 or out_features < 0:
            raise ArgumentError(
                f"Linear({in_features}, {out_features})",
                why="a number of features is not negative",
                instead="Linear(in_features, out_features) with both at least 0",
            )
        self.in_features, self.out_features = in_features, out_features
        dtype = get_default_dtype() if dtype is None else dtype
        self.weight = Parameter(as_tensor(np.empty((out_features, in_features), dtype)))
        self.register_parameter("bias", Parameter(as_tensor(np.empty(out_features, dtype))) if bias else None)
        self.reset_parameters(generator)

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draw W and b anew."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5), generator=generator)
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features) if self.in_features else 0.0
            init.uniform_(self.bias, -bound, bound, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """x Wᵀ + b"""
        shape = x.shape
        if not shape or shape[-1] != self.in_features:
            raise ShapeError(
                f"Linear({self.in_features}, {self.out_features}) received x of shape {shape}",
                why=f"its last axis must hold {self.in_features} features",
                instead=f"x of shape (…, {self.in_features}), or Linear({shape[-1] if shape else 1}, "
                f"{self.out_features})",
            )
        if self.bias is None:
            return apply(_LINEAR, x, self.weight)
        return apply(_LINEAR, x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
        )


class Sequential(Module):
    """Modules one after the other, named 0, 1, 2, …

    >>> import backstory
    >>> from backstory.nn import ReLU
    >>> net = Sequential(Linear(2, 3), ReLU(), Linear(3, 1))
    >>> net(backstory.ones(4, 2)).shape
    (4, 1)
    """

    def __init__(self, *modules: Module) -> None:
        super().__init__()
        for i, module in enumerate(modules):
            self.add_module(str(i), module)

    def forward(self, x: Any) -> Any:
        """The last module's output."""
        for module in self._modules.values():
            x = module(x)
        return x

    def __len__(self) -> int:
        return len(self._modules)

    def __getitem__(self, i: int) -> Module:
        return list(self._modules.values())[i]
