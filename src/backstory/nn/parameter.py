"""Parameters: the tensors that modules own and optimizers move."""

from __future__ import annotations

from typing import Any

from backstory.core import Core, entries
from backstory.tensor import Tensor, as_tensor, wrap

__all__ = ["Parameter", "clear_grad"]


class Parameter(Tensor):
    """A tensor that a module owns and an optimizer moves.

    >>> import backstory
    >>> Parameter(backstory.tensor([1.0])).requires_grad
    True
    """

    __slots__ = ()

    def __new__(cls, data: Any, requires_grad: bool = True) -> Parameter:
        source = as_tensor(data)
        self = Tensor.__new__(cls)
        plain = wrap(source.array if source.level else entries(source), source.level)
        for slot in Core.__slots__[1:]:  # all but __weakref__
            setattr(self, slot, getattr(plain, slot))
        self.requires_grad_(requires_grad)
        return self

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()


def clear_grad(parameter: Tensor, set_to_none: bool) -> None:
    """Forget a gradient, or set it to zero in its own memory."""
    if set_to_none or parameter.grad is None:
        parameter.grad = None
    else:
        parameter.grad = parameter.grad.detach()
        parameter.grad.zero_()
