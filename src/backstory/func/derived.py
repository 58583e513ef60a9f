"""What the two modes give together: ``jacobian``, ``hessian``, ``hvp``; and modules as functions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from backstory.errors import ArgumentError
from backstory.func import tree
from backstory.func.forward import jacfwd, jvp
from backstory.func.reverse import Argnums, chosen, grad, jacrev
from backstory.func.transforming import transform
from backstory.tensor import Tensor

__all__ = ["Choice", "functional_call", "hessian", "hvp", "jacobian"]

Function = Callable[..., Any]


@dataclass(frozen=True)
class Choice:
    """Which mode :func:`jacobian` chose: for how many entries of arguments and of results."""

    mode: str
    inputs: int
    outputs: int

    @property
    def reason(self) -> str:
        """Why, in words."""
        if self.mode == "reverse":
            return (
                f"reverse mode: one walk back per entry of the results ({self.outputs}), "
                f"where forward mode needs one run per entry of the arguments ({self.inputs})"
            )
        return (
            f"forward mode: one run per entry of the arguments ({self.inputs}), "
            f"where reverse mode needs one walk back per entry of the results ({self.outputs})"
        )

    def __str__(self) -> str:
        return self.reason


@transform
def jacobian(
    function: Function, argnums: Argnums = 0, mode: str | None = None, explain: bool = False
) -> Function:
    """A function that computes the Jacobian in the cheaper mode: :func:`jacfwd` or :func:`jacrev`.

    Forward mode costs one run per entry of the arguments, reverse mode one walk back per entry of the
    results, and a walk back costs a little more than a tangent; so reverse is chosen where results have
    fewer entries. ``mode="forward"`` or ``"reverse"`` decides it. With ``explain`` the new function
    returns (Jacobian, :class:`Choice`), which says which mode and why. To count the results' entries
    the function runs once more.

    >>> import backstory
    >>> x = backstory.tensor([1.0, 2.0, 3.0])
    >>> value, choice = jacobian(lambda x: (x * x).sum(), explain=True)(x)
    >>> value
    tensor([2., 4., 6.])
    >>> print(choice)  # doctest: +NORMALIZE_WHITESPACE
    reverse mode: one walk back per entry of the results (1),
    where forward mode needs one run per entry of the arguments (3)
    """
    if mode not in (None, "forward", "reverse"):
        raise ArgumentError(
            f"jacobian(mode={mode!r})", why="there are two modes", instead="'forward', 'reverse' or None"
        )

    @functools.wraps(function)
    def computed(*args: Any, **keywords: Any) -> Any:
        leaves, _ = tree.flatten(chosen("jacobian", args, argnums))
        inputs = _entries(leaves)
        outputs = inputs
        if mode is None or explain:
            outputs = _entries(tree.flatten(function(*args, **keywords))[0])
        choice = Choice(mode or ("reverse" if outputs < inputs else "forward"), inputs, outputs)
        transform = jacrev if choice.mode == "reverse" else jacfwd
        result = transform(function, argnums)(*args, **keywords)
        return (result, choice) if explain else result

    return computed


def _entries(leaves: list[Any]) -> int:
    return sum(x.numel() if isinstance(x, Tensor) else 1 for x in leaves)


@transform
def hessian(function: Function, argnums: Argnums = 0) -> Function:
    """A function that computes the second derivatives: forward mode over reverse mode.

    For a result of shape S and an argument of shape T the shape is S + T + T; several arguments give
    blocks, nested as the arguments, twice.

    >>> import backstory
    >>> hessian(lambda x: (x**3).sum())(backstory.tensor([1.0, 2.0]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    return jacfwd(jacrev(function, argnums), argnums)


def hvp(function: Function, primals: Any, tangents: Any) -> Any:
    """H · tangents, without H: how the gradient of ``function`` changes along a direction.

    Forward mode over reverse mode, for about the cost of two gradients. ``primals`` and ``tangents``
    are tuples, nested alike. The result is nested as the primal is, or a tuple where there are several.

    >>> import backstory
    >>> x, t = backstory.tensor([1.0, 2.0]), backstory.tensor([1.0, 10.0])
    >>> hvp(lambda x: (x**3).sum(), (x,), (t,))
    tensor([  6., 120.])
    """
    count = len(primals) if isinstance(primals, tuple) else 1
    slopes = grad(function, tuple(range(count)))
    _, product = jvp(slopes, primals, tangents)
    return product[0] if count == 1 else product


def functional_call(
    module: Any, parameters: Mapping[str, Tensor], args: Any, keywords: Mapping[str, Any] | None = None
) -> Any:
    """``module(*args)`` with ``parameters`` (by path) in the place of its own, which stay as they are.

    So a module becomes a function of its parameters, for the transforms.

    >>> import backstory
    >>> from backstory import nn
    >>> layer = nn.Linear(2, 1)
    >>> parameters = {"weight": backstory.tensor([[2.0, 3.0]]), "bias": backstory.tensor([1.0])}
    >>> functional_call(layer, parameters, backstory.tensor([1.0, 1.0]))
    tensor([6.])
    """
    places = _places(module, parameters)
    args = args if isinstance(args, tuple) else (args,)
    before = [owner.__dict__.get(name) for owner, name in places]
    try:
        for (owner, name), value in zip(places, parameters.values(), strict=True):
            owner.__dict__[name] = value
        return module(*args, **(keywords or {}))
    finally:
        for (owner, name), value in zip(places, before, strict=True):
            owner.__dict__[name] = value


def _places(module: Any, parameters: Mapping[str, Tensor]) -> list[tuple[Any, str]]:
    """The submodule and the attribute of every path."""
    modules = dict(module.named_modules())
    places = []
    for path, value in parameters.items():
        owner, _, name = path.rpartition(".")
        found = modules.get(owner)
        own = None if found is None else found.__dict__.get(name)
        if found is None or not isinstance(own, Tensor):
            raise ArgumentError(
                f"functional_call() with the parameter {path!r}",
                why=f"{type(module).__name__} has none of that name",
                instead="the names of module.named_parameters()",
            )
        if own.shape != value.shape:
            raise ArgumentError(
                f"functional_call() with {path!r} of shape {value.shape}",
                why=f"the module's has shape {own.shape}",
                instead="a tensor of that shape",
            )
        places.append((found, name))
    return places
