"""What an operation is: one record, of one of four kinds.

A rule is a function of an array namespace ``xp`` and arrays. Names are fixed: ``ans`` the output,
``g`` the cotangent (upstream gradient), ``t`` the tangent. Rules need not undo broadcasting and
need not cast: whoever applies them does, in one place.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from backstory.arrays import select
from backstory.errors import ArgumentError, BackstoryError, BoundsError, DtypeError, ShapeError

__all__ = ["Bilinear", "Case", "Elementwise", "General", "Linear", "Op", "elementwise_cases", "unbroadcast"]

Rule = Callable[..., Any]


class Case(NamedTuple):
    """One way to sample an operation in tests: shapes of the arguments, parameters, an interval.

    An argument given as a string is made by the tests: ``"mask"`` or ``"labels"``; and
    ``("index", shape, n)`` stands for integers from 0 to n - 1.
    """

    shapes: tuple[Any, ...]
    params: Mapping[str, Any] = MappingProxyType({})
    low: float = -2.0
    high: float = 2.0


def elementwise_cases(arguments: int, low: float = -2.0, high: float = 2.0) -> tuple[Case, ...]:
    """Matrices, scalars, empty arrays and, for two arguments, broadcasting in both directions."""
    shapes = [((3, 4),) * arguments, ((),) * arguments, ((0, 3),) * arguments]
    if arguments == 2:
        shapes += [((3, 4), (4,)), ((4,), (3, 1)), ((2, 1, 3), (4, 1)), ((), (3,))]
    return tuple(Case(shape, low=low, high=high) for shape in shapes)


@dataclass(frozen=True, eq=False, kw_only=True)
class Op(ABC):
    """One operation of the table.

    ``keeps[i]`` lists the inputs that the vjp for argument ``i`` reads; ``keeps_ans`` says whether
    it reads the output. Nothing else stays alive between forward and backward. ``dtypes`` says how
    dtypes meet: ``promote`` (PyTorch's rules), ``float`` (the same, and integers become floats),
    ``same`` (an error if they differ), ``choice`` (the first is a condition, the others promote),
    ``sum`` (integers and bools become int64), ``floats`` (an error for anything else) or ``free``.
    ``fits`` says which shapes do, for errors.
    ``letters`` are the arguments' letters in ``formula`` where they are not x, y, z; in ``derivative``
    G is the upstream gradient, where the rule is no product entry by entry.

    ``gates`` says that it is an activation that lets its first argument through more or less: where it
    runs is a site. ``gating`` says so of one call, by its arguments, where only some calls are.
    ``corners`` gives, by the parameters, the places between which a continuous function is straight.
    """

    name: str
    forward: Rule
    formula: str
    derivative: tuple[str, ...]
    torch: str
    cases: tuple[Case, ...]
    arguments: int
    keeps: tuple[tuple[int, ...], ...] | Callable[[Mapping[str, Any]], tuple[tuple[int, ...], ...]]
    keeps_ans: bool = False
    dtypes: str = "free"
    differentiable: bool = True
    gates: bool = False
    gating: Callable[[Sequence[Any]], bool] | None = None
    corners: Callable[[Mapping[str, Any]], tuple[float, ...]] | None = None
    view: bool = False
    fresh: bool = True
    residuals: bool = False
    letters: tuple[str, ...] = ()
    fits: str = "shapes that broadcast: equal, or 1, axis by axis from the right"

    @abstractmethod
    def vjp(
        self,
        xp: Any,
        i: int,
        g: Any,
        ans: Any,
        inputs: Sequence[Any],
        shape: tuple[int, ...],
        params: Mapping[str, Any],
        residuals: Any = None,
    ) -> Any:
        """The cotangent of argument ``i``, whose shape is ``shape``, before broadcasting is undone."""

    @abstractmethod
    def jvp(
        self, xp: Any, tangents: Sequence[Any], ans: Any, inputs: Sequence[Any], params: Mapping[str, Any]
    ) -> Any:
        """The tangent of the output; a ``None`` among ``tangents`` is a zero."""

    def misfit(self, args: Sequence[Any], params: Mapping[str, Any], error: Exception) -> BackstoryError:
        """The error for arguments that the forward rule refused with ``error``."""
        extra = "".join(f", {key}={value!r}" for key, value in params.items())
        if isinstance(error, (TypeError, OverflowError)):
            received = ", ".join(str(a.dtype) if hasattr(a, "dtype") else repr(a) for a in args)
            return DtypeError(
                f"{self.name} received {received}{extra}",
                why=str(error),
                instead="x.to(dtype) with a dtype that the operation has and the result fits",
            )
        kind = BoundsError if isinstance(error, IndexError) else ShapeError
        if type(error).__name__ == "LinAlgError":  # the values are at fault: a singular matrix
            kind = ArgumentError
        received = ", ".join(str(a.shape) if hasattr(a, "shape") else repr(a) for a in args)
        return kind(f"{self.name} received shapes {received}{extra}", why=str(error), instead=self.fits)

    @property
    def backward_name(self) -> str:
        """The name of the node in the graph, as PyTorch writes it: ``add`` gives ``AddBackward0``."""
        return "".join(part.capitalize() for part in self.name.split("_")) + "Backward0"

    def __repr__(self) -> str:
        return f"<{type(self).__name__.lower()} op {self.name}>"


def _zeros(xp: Any, x: Any) -> Any:
    """Zeros like ``x``; for a Python scalar one that is as weak."""
    return 0 if isinstance(x, (int, float)) else xp.zeros_like(x)


def _total(parts: list[Any]) -> Any:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def multiply(xp: Any, upstream: Any, partial: Any) -> Any:
    """``upstream × partial``; a boolean partial is a gate that selects, so that 0 × inf stays 0."""
    if not isinstance(partial, (int, float)) and partial.dtype == xp.bool:
        return select(xp, partial, upstream)
    return upstream * partial


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Elementwise(Op):
    """Given by its local derivatives: ``partials[i](xp, ans, *inputs, **params)``."""

    partials: tuple[Rule, ...]

    def vjp(self, xp, i, g, ans, inputs, shape, params, residuals=None):
        return multiply(xp, g, self.partials[i](xp, ans, *inputs, **params))

    def jvp(self, xp, tangents, ans, inputs, params):
        return _total(
            [
                multiply(xp, t + xp.zeros_like(ans), self.partials[i](xp, ans, *inputs, **params))
                for i, t in enumerate(tangents)
                if t is not None
            ]
        )


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Linear(Op):
    """Linear in all its arguments together: ``transposes[i](xp, g, shape, **params)``.

    Where there may be any number of arguments one rule serves them all: ``transposes(xp, i, g, …)``.
    """

    transposes: tuple[Rule, ...] | Rule
    fresh: bool = False

    def vjp(self, xp, i, g, ans, inputs, shape, params, residuals=None):
        if callable(self.transposes):
            return self.transposes(xp, i, g, shape, **params)
        return self.transposes[i](xp, g, shape, **params)

    def jvp(self, xp, tangents, ans, inputs, params):
        full = [_zeros(xp, x) if t is None else t for t, x in zip(tangents, inputs, strict=True)]
        return self.forward(xp, *full, **params)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Bilinear(Op):
    """Linear in each of two arguments: ``transposes[i](xp, g, the other argument, **params)``."""

    transposes: tuple[Rule, Rule]

    def vjp(self, xp, i, g, ans, inputs, shape, params, residuals=None):
        return self.transposes[i](xp, g, inputs[1 - i], **params)

    def jvp(self, xp, tangents, ans, inputs, params):
        a, b = inputs
        ta, tb = tangents
        parts = [] if ta is None else [self.forward(xp, ta, b, **params)]
        return _total(parts if tb is None else [*parts, self.forward(xp, a, tb, **params)])


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class General(Op):
    """Given by ``vjps[i](xp, g, ans, *inputs, **params)`` and ``tangent``.

    The latter is called as ``tangent(xp, tangents, ans, *inputs, **params)``. With ``residuals`` the
    forward returns ``(ans, residuals)``, and each vjp takes ``residuals=``: what the forward
    computed, or ``None``, when it must be computed again from the inputs.
    """

    vjps: tuple[Rule | None, ...]
    tangent: Rule

    def vjp(self, xp, i, g, ans, inputs, shape, params, residuals=None):
        rule = self.vjps[i]
        assert rule is not None
        if self.residuals:
            return rule(xp, g, ans, *inputs, residuals=residuals, **params)
        return rule(xp, g, ans, *inputs, **params)

    def jvp(self, xp, tangents, ans, inputs, params):
        return self.tangent(xp, tangents, ans, *inputs, **params)


def unbroadcast(xp: Any, g: Any, shape: tuple[int, ...]) -> Any:
    """Sum ``g`` over the axes that broadcasting added or stretched: what it copied, the gradient sums.

    >>> import numpy as np
    >>> from backstory.arrays import eager
    >>> unbroadcast(eager, np.ones((2, 3)), (1, 3))
    array([[2., 2., 2.]])
    """
    extra = len(g.shape) - len(shape)
    axes = tuple(range(extra)) + tuple(
        i + extra for i, n in enumerate(shape) if n == 1 and g.shape[i + extra] != 1
    )
    if axes:
        g = xp.sum(g, axis=axes, keepdims=True)
    return xp.reshape(g, shape)
