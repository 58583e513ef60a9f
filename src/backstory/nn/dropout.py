"""Dropout as modules: at work in training, and x itself in evaluation."""

from __future__ import annotations

from typing import Any, ClassVar

from backstory.nn import functional
from backstory.nn.functional.dropout import checked_probability
from backstory.nn.module import Module
from backstory.tensor import Tensor

__all__ = ["AlphaDropout", "Dropout", "Dropout1d", "Dropout2d"]


class Dropout(Module):
    """Each entry 0 with probability ``p``, else divided by 1 − p; Srivastava et al. 2014.

    >>> import backstory
    >>> Dropout(0.5).eval()(backstory.ones(3))
    tensor([1., 1., 1.])
    """

    function: ClassVar[Any] = staticmethod(functional.dropout)

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        self.p, self.inplace = checked_probability(type(self).__name__, p), inplace

    def forward(self, x: Tensor) -> Tensor:
        """What is kept of x."""
        return type(self).function(x, self.p, self.training, self.inplace)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout1d(Dropout):
    """Whole channels of (N, C, L)."""

    function = staticmethod(functional.dropout1d)


class Dropout2d(Dropout):
    """Whole channels of (N, C, H, W), since neighbours of an image know of each other."""

    function = staticmethod(functional.dropout2d)


class AlphaDropout(Dropout):
    """The dropout that keeps mean 0 and variance 1 behind SELU."""

    function = staticmethod(functional.alpha_dropout)
