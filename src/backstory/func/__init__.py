"""Function transforms: derivatives and batches of functions, which nest in any order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backstory.lazy import named

if TYPE_CHECKING:
    from backstory.func.derived import functional_call, hessian, hvp, jacobian
    from backstory.func.forward import jacfwd, jvp, linearize
    from backstory.func.mapping import vmap
    from backstory.func.reverse import grad, grad_and_value, jacrev, value_and_grad, vjp

_LAZY = {
    **dict.fromkeys(("functional_call", "hessian", "hvp", "jacobian"), "derived"),
    **dict.fromkeys(("jacfwd", "jvp", "linearize"), "forward"),
    **dict.fromkeys(("grad", "grad_and_value", "jacrev", "value_and_grad", "vjp"), "reverse"),
    "vmap": "mapping",
}


def __getattr__(name: str) -> Any:
    return named(__name__, _LAZY, name)


__all__ = [
    "functional_call",
    "grad",
    "grad_and_value",
    "hessian",
    "hvp",
    "jacfwd",
    "jacobian",
    "jacrev",
    "jvp",
    "linearize",
    "value_and_grad",
    "vjp",
    "vmap",
]
