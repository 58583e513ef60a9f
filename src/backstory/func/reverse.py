"""Reverse mode: ``grad``, ``value_and_grad``, ``vjp``, ``jacrev``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from backstory.autograd.levels import GradLevel, lift, unlift
from backstory.autograd.walk import walk
from backstory.errors import ArgumentError, DtypeError, ShapeError
from backstory.func import tree
from backstory.func.mapping import vmap
from backstory.func.transforming import transform
from backstory.graph import Level, context
from backstory.tensor import Tensor, as_tensor, wrap

__all__ = ["Pullback", "chosen", "grad", "grad_and_value", "jacrev", "replaced", "value_and_grad", "vjp"]

Function = Callable[..., Any]
Argnums = int | tuple[int, ...]


@transform
def grad(function: Function, argnums: Argnums = 0, has_aux: bool = False) -> Function:
    """A function that computes the gradient of ``function``, whose result is one number.

    ``argnums`` says with respect to which arguments: an int gives one gradient, nested as that argument
    is; a tuple of ints gives a tuple. With ``has_aux`` the function returns (number, anything), and the
    new one (gradient, anything).

    >>> import backstory
    >>> grad(lambda x: (x**3).sum())(backstory.tensor([1.0, 2.0]))
    tensor([ 3., 12.])
    >>> grad(grad(lambda x: x**3))(backstory.tensor(2.0))
    tensor(12.)
    """
    both = value_and_grad(function, argnums, has_aux)

    @functools.wraps(function)
    def gradient(*args: Any, **keywords: Any) -> Any:
        value, slope = both(*args, **keywords)
        return (slope, value[1]) if has_aux else slope

    return gradient


@transform
def value_and_grad(function: Function, argnums: Argnums = 0, has_aux: bool = False) -> Function:
    """A function that returns (value, gradient); with ``has_aux`` ((value, anything), gradient).

    >>> import backstory
    >>> value_and_grad(lambda x: x * x)(backstory.tensor(3.0))
    (tensor(9.), tensor(6.))
    """

    @functools.wraps(function)
    def both(*args: Any, **keywords: Any) -> Any:
        picked = chosen("grad", args, argnums)
        with context().inside(GradLevel()) as level:
            inner, leaves, shape = _lifted(picked, level, "grad")
            out = function(*replaced(args, argnums, inner), **keywords)
            out, aux = _split(out, "grad") if has_aux else (out, None)
            root = _number(out)
            slopes = _pulled([root], [_one(root)], leaves, level, retain=False)
            value = unlift(root, level)
            aux = tree.map_tensors(lambda x: unlift(x, level), aux)
        slope = tree.build(shape, slopes)
        return ((value, aux) if has_aux else value), slope

    return both


@transform
def grad_and_value(function: Function, argnums: Argnums = 0, has_aux: bool = False) -> Function:
    """PyTorch's order: a function that returns (gradient, value)."""
    both = value_and_grad(function, argnums, has_aux)

    @functools.wraps(function)
    def swapped(*args: Any, **keywords: Any) -> Any:
        value, slope = both(*args, **keywords)
        return slope, value

    return swapped


class Pullback:
    """Uᵀ ↦ Uᵀ·J at one point: cotangents of the results become cotangents of the arguments.

    It may be called as often as wanted; what it needs is freed with it.
    """

    def __init__(self, roots: list[Tensor], out_shape: Any, leaves: list[Tensor], shape: Any, level: Level):
        self._roots, self._out_shape, self._leaves, self._shape = roots, out_shape, leaves, shape
        self._level = level

    def __call__(self, cotangents: Any) -> Any:
        given = tree.flatten_as(cotangents, self._out_shape, "cotangents")
        upstream = [_cotangent(g, root) for g, root in zip(given, self._roots, strict=True)]
        slopes = _pulled(self._roots, upstream, self._leaves, self._level, retain=True)
        return tree.build(self._shape, slopes)


def vjp(function: Function, *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """(function(*primals), pullback): the pullback turns cotangents of the results into those of the primals.

    The pullback takes cotangents nested as the results are, and returns a tuple with one cotangent per
    primal, nested as that is. With ``has_aux`` the function returns (results, anything), and ``vjp``
    (results, pullback, anything).

    >>> import backstory
    >>> value, pullback = vjp(lambda x: x * x, backstory.tensor([1.0, 2.0]))
    >>> pullback(backstory.tensor([1.0, 10.0]))
    (tensor([ 2., 40.]),)
    """
    if not primals:
        raise ArgumentError("vjp() without primals", why="there is nothing to differentiate by", instead="x")
    with context().inside(GradLevel()) as level:
        inner, leaves, shape = _lifted(primals, level, "vjp")
        out = function(*inner)
        out, aux = _split(out, "vjp") if has_aux else (out, None)
        roots, out_shape = tree.tensors(out, "vjp: what the function returned")
        values = tree.build(out_shape, [unlift(x, level) for x in roots])
        aux = tree.map_tensors(lambda x: unlift(x, level), aux)
    pullback = Pullback(roots, out_shape, leaves, shape, level)
    return (values, pullback, aux) if has_aux else (values, pullback)


@transform
def jacrev(
    function: Function, argnums: Argnums = 0, has_aux: bool = False, chunk_size: int | None = None
) -> Function:
    """A function that computes the Jacobian, a row of it per entry of the results, all rows in one walk.

    The Jacobian of a result of shape S by an argument of shape T has the shape S + T; results and
    arguments may be nested: the Jacobian is nested as the results, and in them as the arguments.
    ``chunk_size`` limits how many rows are computed at once. Cheap where results have few entries.

    >>> import backstory
    >>> jacrev(lambda x: x * x)(backstory.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """

    @functools.wraps(function)
    def jacobian(*args: Any, **keywords: Any) -> Any:
        picked = chosen("jacrev", args, argnums)
        _, shape = tree.flatten(picked)

        def of_chosen(*inner: Any) -> Any:
            return function(*replaced(args, argnums, _one_or_all(inner, argnums)), **keywords)

        primals = picked if isinstance(argnums, tuple) else (picked,)
        out, pullback, *aux = vjp(of_chosen, *primals, has_aux=has_aux)
        results, out_shape = tree.flatten(out)
        rows = [_rows(pullback, results, out_shape, place, chunk_size) for place in range(len(results))]
        built = tree.build(out_shape, [tree.build(shape, row) for row in rows])
        return (built, *aux) if has_aux else built

    return jacobian


def _rows(
    pullback: Pullback, results: list[Tensor], shape: Any, place: int, chunk_size: int | None
) -> list[Tensor]:
    """The Jacobian of one result, as the leaves of the arguments."""
    out = results[place]
    zeros = [wrap(np.zeros(x.shape, x.dtype), 0) for x in results]

    def pulled(row: Tensor) -> Any:
        upstream = [row if i == place else zero for i, zero in enumerate(zeros)]
        return tree.flatten(pullback(tree.build(shape, upstream)))[0]

    count = out.numel()
    basis = wrap(np.eye(count, dtype=out.dtype).reshape(count, *out.shape), 0)
    if count == 1:
        # One row needs no batch.
        rows = [part.reshape(1, *part.shape) for part in pulled(basis[0])]
    elif count == 0:
        rows = [part.reshape(1, *part.shape)[:0] for part in pulled(wrap(np.zeros(out.shape, out.dtype), 0))]
    else:
        rows = vmap(pulled, chunk_size=chunk_size)(basis)
    return [part.reshape(*out.shape, *part.shape[1:]) for part in rows]


# What the transforms share


def chosen(what: str, args: tuple[Any, ...], argnums: Argnums) -> Any:
    """The arguments to differentiate by: one, or a tuple of them."""
    numbers = argnums if isinstance(argnums, tuple) else (argnums,)
    for number in numbers:
        if not isinstance(number, int) or not -len(args) <= number < len(args):
            raise ArgumentError(
                f"{what}(argnums={argnums}) of a function called with {len(args)} positional arguments",
                why="argnums counts them from 0",
                instead="the place of an argument that is given by position",
            )
    if len({number % len(args) for number in numbers}) < len(numbers) or not numbers:
        raise ArgumentError(
            f"{what}(argnums={argnums})", why="every argument is named once", instead="argnums=(0, 1)"
        )
    return tuple(args[number] for number in numbers) if isinstance(argnums, tuple) else args[numbers[0]]


def replaced(args: tuple[Any, ...], argnums: Argnums, new: Any) -> list[Any]:
    """``args`` with the chosen ones replaced."""
    changed = list(args)
    numbers = argnums if isinstance(argnums, tuple) else (argnums,)
    for number, value in zip(numbers, new if isinstance(argnums, tuple) else (new,), strict=True):
        changed[number] = value
    return changed


def _one_or_all(inner: tuple[Any, ...], argnums: Argnums) -> Any:
    return inner if isinstance(argnums, tuple) else inner[0]


def float_tensor(x: Any, what: str) -> Tensor:
    """``x`` as a tensor of floats, which alone can be differentiated by."""
    if not isinstance(x, Tensor):
        if not isinstance(x, (float, np.ndarray, np.floating)):
            raise ArgumentError(
                f"{what} with respect to a value of type {type(x).__name__}",
                why="only tensors of floats, nested in lists, tuples and dicts, have derivatives",
                instead="a tensor, or argnums without that argument",
            )
        x = as_tensor(x)
    if x.dtype.kind != "f":
        raise DtypeError(
            f"{what} with respect to a tensor of shape {x.shape} and {x.dtype}",
            why="only a float can move by a small step",
            instead="x.to(backstory.float32)",
        )
    return x


def _lifted(picked: Any, level: Level, what: str) -> tuple[Any, list[Tensor], Any]:
    """The arguments as leaves of ``level``: nested as they were, flat, and how they were nested."""
    values, shape = tree.flatten(picked)
    leaves = [lift(float_tensor(x, what), level).requires_grad_() for x in values]
    return tree.build(shape, leaves), leaves, shape


def _split(out: Any, what: str) -> tuple[Any, Any]:
    if not (isinstance(out, tuple) and len(out) == 2):
        raise ArgumentError(
            f"{what}(has_aux=True) of a function that returned {type(out).__name__}",
            why="with has_aux the function returns two things: results, and anything else",
            instead="return results, others",
        )
    return out


def _number(out: Any) -> Tensor:
    if not isinstance(out, Tensor):
        raise ArgumentError(
            f"grad of a function that returned {type(out).__name__}",
            why="a gradient is that of one number, in a tensor",
            instead="a tensor of one number; has_aux=True to return more; vjp or jacrev for several",
        )
    if out.shape:
        raise ShapeError(
            f"grad of a function that returned a tensor of shape {out.shape}",
            why="a gradient is that of one number",
            instead="its .sum(), or jacrev for the derivatives of all entries",
        )
    if out.dtype.kind != "f":
        raise DtypeError(
            f"grad of a function that returned {out.dtype}", why="only floats vary", instead="a float result"
        )
    return out


def _one(root: Tensor) -> Tensor:
    return wrap(np.ones(root.shape, root.dtype), 0)


def _cotangent(g: Any, root: Tensor) -> Tensor:
    g = as_tensor(g)
    if g.shape != root.shape:
        raise ShapeError(
            f"a cotangent of shape {g.shape} for a result of shape {root.shape}",
            why="it has one entry for each entry of the result",
            instead=f"a cotangent of shape {root.shape}",
        )
    return g.to(root.dtype)


def _pulled(
    roots: Sequence[Tensor], upstream: Sequence[Tensor], leaves: list[Tensor], level: Level, retain: bool
) -> list[Tensor]:
    """The cotangents of ``leaves``, as tensors below ``level``; zeros where nothing leads to one."""
    pairs = [
        (root, g)
        for root, g in zip(roots, upstream, strict=True)
        if root.level == level.number and root.requires_grad
    ]
    found: dict[Tensor, tuple[Any, bool]] = {}
    if pairs:
        found = walk([root for root, _ in pairs], [g for _, g in pairs], retain, False, level=level)
    return [found[leaf][0] if leaf in found else _zeros(leaf) for leaf in leaves]


def _zeros(leaf: Tensor) -> Tensor:
    return wrap(np.zeros(leaf.shape, leaf.dtype), 0)
