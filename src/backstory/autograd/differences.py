"""``gradcheck`` and ``gradgradcheck``: derivatives of functions against differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from backstory.autograd.backward import grad
from backstory.autograd.diagnosis import Evidence, diagnose
from backstory.autograd.numerical import (
    Disagreement,
    disagreement,
    numerical_jacobian,
    one_sided_slopes,
)
from backstory.core import wrap
from backstory.errors import ArgumentError, DtypeError, GradcheckError
from backstory.tensor import Tensor

__all__ = ["gradcheck", "gradgradcheck"]


def gradcheck(
    function: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
) -> bool:
    """Whether the gradients of ``function`` agree with central differences of step ``eps``.

    ``inputs`` are its arguments; those tensors that require grad are varied, and must be float64, since
    differences of float32 say nothing. Every entry of the Jacobian of every output (a tensor, or a tuple
    of them) must satisfy |analytic − numerical| ≤ atol + rtol·|numerical|; also a second backward walk must
    give the very same gradients. Raises a :class:`~backstory.errors.GradcheckError` that names the
    argument, the entry, both values and the likely mistake, or returns ``False`` without ``raise_exception``.

    >>> import backstory
    >>> x = backstory.tensor([0.5, -1.0], dtype="float64", requires_grad=True)
    >>> gradcheck(lambda x: x.tanh() * x, x)
    True
    """
    args = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    varied = _varied(args)
    try:
        for place in range(len(_outputs(function, args))):
            for i in varied:
                _check_one(function, args, place, i, eps, (rtol, atol))
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def gradgradcheck(
    function: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    grad_outputs: Tensor | Sequence[Tensor] | None = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
) -> bool:
    """Whether the second derivatives of ``function`` agree with differences of its gradients.

    It is :func:`gradcheck` of the function that maps the inputs and the upstream gradients
    (``grad_outputs``, random by default) to the gradients of the inputs.

    >>> import backstory
    >>> x = backstory.tensor([0.5, -1.0], dtype="float64", requires_grad=True)
    >>> gradgradcheck(lambda x: x.tanh() * x, x)
    True
    """
    args = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    varied = _varied(args)
    outputs = _outputs(function, args)
    given = [grad_outputs] if isinstance(grad_outputs, Tensor) else list(grad_outputs or ())
    upstream = given or _random_like(outputs)

    def slopes(*values: Any) -> tuple[Tensor, ...]:
        inner, g = values[: len(args)], values[len(args) :]
        found = grad(
            _outputs(function, inner),
            [inner[i] for i in varied],
            list(g),
            create_graph=True,
            materialize_grads=True,
        )
        return tuple(x for x in found if x is not None)

    upstream = [wrap(np.array(g.detach().numpy()), 0).requires_grad_() for g in upstream]
    return gradcheck(
        slopes, (*args, *upstream), eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception
    )


def _random_like(outputs: list[Tensor]) -> list[Tensor]:
    # A stream of its own: a check changes no one's random numbers.
    stream = np.random.default_rng(0)
    return [wrap(stream.uniform(0.5, 1.5, x.shape).astype(x.dtype), 0) for x in outputs]


def _varied(args: tuple[Any, ...]) -> list[int]:
    varied = [i for i, x in enumerate(args) if isinstance(x, Tensor) and x.requires_grad]
    if not varied:
        raise ArgumentError(
            "gradcheck of arguments of which none requires grad",
            why="there is nothing to vary",
            instead="x.requires_grad_() for at least one",
        )
    for i in varied:
        if args[i].dtype != np.float64:
            raise DtypeError(
                f"gradcheck with argument {i} of shape {args[i].shape} and {args[i].dtype}",
                why="a difference of numbers so coarse is mostly rounding",
                instead="x.double()",
            )
    return varied


def _outputs(function: Callable[..., Any], args: Sequence[Any]) -> list[Tensor]:
    """The outputs that have a derivative."""
    out = function(*args)
    outputs = list(out) if isinstance(out, (tuple, list)) else [out]
    for x in outputs:
        if not isinstance(x, Tensor):
            raise ArgumentError(
                f"gradcheck of a function that returned {type(x).__name__}",
                why="derivatives are those of tensors",
                instead="a tensor, or a tuple of them",
            )
    return [x for x in outputs if x.dtype.kind == "f"]


def _check_one(
    function: Any, args: tuple[Any, ...], place: int, i: int, eps: float, tolerances: tuple[float, float]
) -> None:
    """Compare the Jacobian of one output by one argument."""
    analytic, again = (_analytic(function, args, place, i) for _ in range(2))
    if not np.array_equal(analytic, again, equal_nan=True):
        raise GradcheckError(
            f"gradcheck: output {place} by argument {i} of shape {args[i].shape}",
            why="two backward walks of the same function gave different gradients",
            instead="a function and a backward without randomness or state",
        )

    def value(*arrays: Any) -> np.ndarray:
        moved = [_argument(x, array) for x, array in zip(args, arrays, strict=True)]
        return _outputs(function, moved)[place].detach().numpy()

    arrays = [x.detach().numpy() if isinstance(x, Tensor) else x for x in args]
    numerical = numerical_jacobian(value, arrays, i, eps)
    found = disagreement(analytic, numerical, *tolerances)
    if found is not None:
        mistake = _mistake(value, arrays, i, (analytic, numerical), (eps, *tolerances))
        raise _different(found, place, analytic.ndim - args[i].ndim, i, mistake)


def _mistake(
    value: Callable[..., np.ndarray],
    arrays: list[Any],
    i: int,
    jacobians: tuple[np.ndarray, np.ndarray],
    settings: tuple[float, float, float],
) -> str:
    """What is likely wrong with the gradient of argument ``i``, judged for one upstream gradient."""
    eps, rtol, atol = settings
    out = value(*arrays)
    # Neither all equal nor symmetric, so that a missing factor or a transposition shows.
    dout = np.random.default_rng(0).uniform(0.5, 1.5, out.shape)
    analytic, numerical = (np.tensordot(dout, jacobian, out.ndim) for jacobian in jacobians)
    names = [f"argument{k}" for k in range(len(arrays))]
    floats = {
        name: x
        for name, x in zip(names, arrays, strict=True)
        if isinstance(x, np.ndarray) and x.dtype.kind == "f"
    }
    values = {**floats, "dout": dout, "out": out}

    def at_kink(entry: tuple[int, ...]) -> bool:
        left, right = one_sided_slopes(value, arrays, i, entry, dout, eps)
        return abs(left - right) > 1e-3 * max(abs(left), abs(right), 1e-3)

    return diagnose(Evidence(f"d{names[i]}", analytic, numerical, values, list(floats), rtol, atol), at_kink)


def _argument(x: Any, array: Any) -> Any:
    """The array as the argument that it stands for: a tensor where that was one."""
    if not isinstance(x, Tensor):
        return array
    return wrap(np.asarray(array, x.dtype), 0).requires_grad_(x.requires_grad)


def _analytic(function: Any, args: tuple[Any, ...], place: int, i: int) -> np.ndarray:
    """The Jacobian by one backward walk per entry of the output."""
    out = _outputs(function, args)[place]
    rows = np.zeros((out.numel(), *args[i].shape))
    if out.requires_grad:
        for row in range(out.numel()):
            one = np.zeros(out.numel(), out.dtype)
            one[row] = 1
            (g,) = grad(out, args[i], wrap(one.reshape(out.shape), 0), retain_graph=True, allow_unused=True)
            if g is not None:
                rows[row] = g.detach().numpy()
    return rows.reshape(*out.shape, *args[i].shape)


def _different(found: Disagreement, place: int, rank: int, i: int, mistake: str) -> GradcheckError:
    """The error for the entry of the Jacobian that is furthest off."""
    of, by = found.entry[:rank], found.entry[rank:]
    return GradcheckError(
        f"gradcheck: output {place}, entry {of}, by argument {i}, entry {by}: "
        f"analytic {found.analytic:.9g}, numerical {found.numerical:.9g} "
        f"({found.wrong} of {found.entries} entries differ)",
        why=mistake or "the gradient that backward gives is not the slope that the function has there",
        instead="another backward, or another point if the function has a kink near this one",
    )
