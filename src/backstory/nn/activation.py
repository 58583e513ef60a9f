"""The activations as modules."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from backstory.errors import ArgumentError
from backstory.nn import functional
from backstory.nn.module import Module
from backstory.nn.parameter import Parameter
from backstory.promotion import get_default_dtype
from backstory.tensor import Tensor, as_tensor

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "GLU",
    "SELU",
    "Hardshrink",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LeakyReLU",
    "LogSigmoid",
    "LogSoftmax",
    "Mish",
    "PReLU",
    "RReLU",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Softshrink",
    "Softsign",
    "Tanh",
    "Threshold",
]


class _Activation(Module):
    """``function`` of the input and of the attributes that ``settings`` names."""

    function: ClassVar[Any]
    settings: ClassVar[tuple[str, ...]] = ()
    inplace: bool | None = None  # of those that have no choice

    def forward(self, x: Tensor) -> Tensor:
        """The activation of every entry."""
        values = [getattr(self, name) for name in self.settings]
        return type(self).function(x, *values, inplace=True) if self.inplace else self._plain(x, values)

    def _plain(self, x: Tensor, values: list[Any]) -> Tensor:
        return type(self).function(x, *values)

    def extra_repr(self) -> str:
        shown = [f"{name}={getattr(self, name)!r}" for name in self.settings]
        return ", ".join([*shown, "inplace=True"] if self.inplace else shown)


class ReLU(Module):
    """max(x, 0). ``at_zero`` is the derivative at exactly 0; see :func:`backstory.relu`."""

    def __init__(self, inplace: bool = False, at_zero: float | None = None) -> None:
        super().__init__()
        self.inplace, self.at_zero = inplace, at_zero

    def forward(self, x: Tensor) -> Tensor:
        """max(x, 0)"""
        return functional.relu(x, self.inplace, self.at_zero)

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


class LeakyReLU(_Activation):
    """x where x > 0, else ``negative_slope`` · x."""

    function = staticmethod(functional.leaky_relu)
    settings = ("negative_slope",)

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__()
        self.negative_slope, self.inplace = negative_slope, inplace


class PReLU(Module):
    """x where x > 0, else ``weight`` · x; the weight is learned, one or one for each channel (axis 1).

    >>> import backstory
    >>> PReLU(2)(backstory.tensor([[-4.0, 4.0]])).detach()
    tensor([[-1.,  4.]])
    """

    weight: Parameter

    def __init__(self, num_parameters: int = 1, init: float = 0.25, dtype: Any = None) -> None:
        super().__init__()
        if num_parameters < 1:
            raise ArgumentError(
                f"PReLU({num_parameters})",
                why="there is one slope, or one for each channel",
                instead="PReLU() or PReLU(channels)",
            )
        self.num_parameters, self.init = num_parameters, init
        dtype = get_default_dtype() if dtype is None else dtype
        self.weight = Parameter(as_tensor(np.full(num_parameters, init, dtype)))

    def forward(self, x: Tensor) -> Tensor:
        """max(x, 0) + weight · min(x, 0)"""
        return functional.prelu(x, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


class RReLU(Module):
    """x where x > 0, else r · x: in training r ~ U[lower, upper), in evaluation their mean."""

    def __init__(self, lower: float = 1 / 8, upper: float = 1 / 3, inplace: bool = False) -> None:
        super().__init__()
        self.lower, self.upper, self.inplace = lower, upper, inplace

    def forward(self, x: Tensor) -> Tensor:
        """max(x, 0) + r · min(x, 0)"""
        return functional.rrelu(x, self.lower, self.upper, self.training, self.inplace)

    def extra_repr(self) -> str:
        return f"lower={self.lower}, upper={self.upper}" + (", inplace=True" if self.inplace else "")


class ELU(_Activation):
    """x where x > 0, else ``alpha`` (eˣ − 1)."""

    function = staticmethod(functional.elu)
    settings = ("alpha",)

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha, self.inplace = alpha, inplace


class CELU(_Activation):
    """x where x > 0, else ``alpha`` (e^(x/alpha) − 1)."""

    function = staticmethod(functional.celu)
    settings = ("alpha",)

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha, self.inplace = alpha, inplace


class SELU(_Activation):
    """The elu that keeps mean 0 and variance 1, with weights from ``init.lecun_normal_``."""

    function = staticmethod(functional.selu)

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace


class GELU(_Activation):
    """x Φ(x); ``approximate="tanh"`` for its approximation."""

    function = staticmethod(functional.gelu)
    settings = ("approximate",)

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = approximate


class SiLU(_Activation):
    """x σ(x)"""

    function = staticmethod(functional.silu)

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace


class Mish(_Activation):
    """x tanh(softplus(x))"""

    function = staticmethod(functional.mish)

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace


class Softplus(_Activation):
    """ln(1 + e^(βx)) / β, and x itself where βx > ``threshold``."""

    function = staticmethod(functional.softplus)
    settings = ("beta", "threshold")

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta, self.threshold = beta, threshold


class Softsign(_Activation):
    """x / (1 + |x|)"""

    function = staticmethod(functional.softsign)


class Hardtanh(_Activation):
    """min(max(x, ``min_val``), ``max_val``)"""

    function = staticmethod(functional.hardtanh)
    settings = ("min_val", "max_val")

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        if not min_val < max_val:
            raise ArgumentError(
                f"Hardtanh({min_val}, {max_val})",
                why="it is straight from the smaller to the larger",
                instead="min_val < max_val, such as -1 and 1",
            )
        self.min_val, self.max_val, self.inplace = min_val, max_val, inplace


class ReLU6(Hardtanh):
    """min(max(x, 0), 6): a hardtanh, as in PyTorch, and a site of that name."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(0.0, 6.0, inplace)

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


class Hardsigmoid(_Activation):
    """min(max(x + 3, 0), 6) / 6"""

    function = staticmethod(functional.hardsigmoid)

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def extra_repr(self) -> str:
        return ""


class Hardswish(Hardsigmoid):
    """x · min(max(x + 3, 0), 6) / 6"""

    function = staticmethod(functional.hardswish)


class Threshold(_Activation):
    """x where x > ``threshold``, else ``value``."""

    function = staticmethod(functional.threshold)
    settings = ("threshold", "value")

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        super().__init__()
        self.threshold, self.value, self.inplace = threshold, value, inplace


class Softshrink(_Activation):
    """x drawn to 0 by ``lambd``, and 0 where |x| ≤ ``lambd``."""

    function = staticmethod(functional.softshrink)
    settings = ("lambd",)

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.lambd = lambd

    def extra_repr(self) -> str:
        return str(self.lambd)


class Hardshrink(Softshrink):
    """x where |x| > ``lambd``, else 0."""

    function = staticmethod(functional.hardshrink)


class Sigmoid(_Activation):
    """1 / (1 + e⁻ˣ)"""

    function = staticmethod(functional.sigmoid)


class LogSigmoid(_Activation):
    """ln σ(x)"""

    function = staticmethod(functional.logsigmoid)


class Tanh(_Activation):
    """tanh x"""

    function = staticmethod(functional.tanh)


class GLU(_Activation):
    """a σ(b) for the halves a and b of x along ``dim``."""

    function = staticmethod(functional.glu)
    settings = ("dim",)

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim


class Softmax(_Activation):
    """eˣ / Σ eˣ over ``dim``, which must be named: no axis is guessed."""

    function = staticmethod(functional.softmax)
    settings = ("dim",)

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim

    def _plain(self, x: Tensor, values: list[Any]) -> Tensor:
        if self.dim is None:
            raise ArgumentError(
                f"{type(self).__name__}() without an axis",
                why="which entries sum to 1 depends on it, and a guess may be wrong",
                instead=f"{type(self).__name__}(dim=-1) for classes on the last axis",
            )
        return super()._plain(x, values)


class LogSoftmax(Softmax):
    """x − ln Σ eˣ over ``dim``, which must be named."""

    function = staticmethod(functional.log_softmax)
