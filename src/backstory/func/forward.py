"""Forward mode: ``jvp``, ``linearize``, ``jacfwd``. Tangents go along with values, by each record's jvp."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from backstory import array_api
from backstory.autograd.function import record_of, run
from backstory.autograd.levels import promoted, unlift
from backstory.core import apply, as_operand
from backstory.errors import ArgumentError, ShapeError, VersionError
from backstory.func import tree
from backstory.func.mapping import vmap
from backstory.func.reverse import Argnums, _split, chosen, float_tensor, replaced
from backstory.func.transforming import transform
from backstory.graph import Held, Level, context
from backstory.history import Shared
from backstory.ops import Op
from backstory.tensor import Tensor, as_tensor, wrap

__all__ = ["JvpLevel", "jacfwd", "jvp", "linearize"]

Function = Callable[..., Any]


class Moving(Held):
    """A value of a forward level: where it is, ``array``, and how fast it moves, ``tangent``."""

    __slots__ = ("tangent",)

    def __init__(self, array: Tensor, tangent: Any) -> None:
        self.array, self.tangent = array, tangent
        self.shape, self.dtype = array.shape, array.dtype

    def detach(self) -> Tensor:
        """Where it is, without tangent or history."""
        return self.array.detach()

    def item(self) -> Any:
        """Where it is, as a Python number."""
        return self.array.item()

    def tolist(self) -> Any:
        """Where it is, as nested lists of Python numbers."""
        return self.array.tolist()


class JvpLevel(Level):
    """Runs each operation one level down, and its record's jvp on the tangents beside it."""

    __slots__ = ()

    records = False

    def lift(self, x: Tensor, tangent: Any) -> Tensor:
        """``x`` as a tensor of this level that moves."""
        lifted = wrap(Moving(x, tangent), self.number)
        lifted._counter = x._counter
        return lifted

    def argument(self, x: Tensor, tangent: Any) -> Tensor:
        """As :meth:`lift`, for what the transform was called with."""
        lifted = self.lift(x, tangent)
        lifted._view = Shared(origin=x)
        return lifted

    def below(self, x: Tensor) -> Tensor:
        return x.array.array

    def run(self, op: Op, args: Sequence[Any], params: Mapping[str, Any]) -> Tensor:
        values = [_value(a, self.number) for a in args]
        tangents = [v.tangent if isinstance(v, Moving) else None for v in values]
        arrays = [v.array if isinstance(v, Moving) else v for v in values]
        arrays = promoted(op, array_api, arrays)
        ans = apply(op, *arrays, **params)
        if not op.differentiable or ans.dtype.kind != "f" or all(t is None for t in tangents):
            return ans
        return self.lift(ans, self.push(op, tangents, ans, arrays, params))

    def custom(self, function: Any, args: Sequence[Any], wanted: tuple[bool, ...]) -> Any:
        values = [_value(a, self.number) if isinstance(a, Tensor) else a for a in args]
        tangents = [v.tangent if isinstance(v, Moving) else None for v in values]
        below = [v.array if isinstance(v, Moving) else v for v in values]
        needs = tuple(w or t is not None for w, t in zip(wanted, tangents, strict=True))
        outputs, single, fctx = run(function, below, needs)
        op = record_of(function)
        lifted = tuple(
            self.lift(x, self.push(op, tangents, x, below, {"context": fctx, "place": place}))
            if isinstance(x, Tensor) and x.dtype.kind == "f" and fctx.moves(x) and any(needs)
            else x
            for place, x in enumerate(outputs)
        )
        pairs = [*zip(below, args, strict=True), *zip(outputs, lifted, strict=True)]
        return lifted, single, fctx.lifted(pairs, needs)

    def push(
        self, op: Op, tangents: list[Any], ans: Tensor, inputs: list[Any], params: Mapping[str, Any]
    ) -> Any:
        """The tangent of ``ans``."""
        return pushed(op, tangents, ans, inputs, params)


def pushed(op: Op, tangents: list[Any], ans: Tensor, inputs: list[Any], params: Mapping[str, Any]) -> Tensor:
    """The record's jvp on tensors, in the shape and dtype of the output."""
    tangents = [
        t if t is None or t.dtype == x.dtype else t.to(x.dtype) for t, x in zip(tangents, inputs, strict=True)
    ]
    tangent = as_tensor(op.jvp(array_api, tangents, ans, inputs, params))
    if tangent.dtype != ans.dtype:
        tangent = tangent.to(ans.dtype)
    return tangent if tangent.shape == ans.shape else tangent.broadcast_to(ans.shape)


def _value(x: Any, number: int) -> Any:
    x = as_operand(x)
    return x.array if isinstance(x, Tensor) and x.level == number else x


def jvp(function: Function, primals: Any, tangents: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """(function(*primals), J · tangents): the results, and how fast they move as the primals do.

    ``primals`` and ``tangents`` are tuples, nested alike; every tangent has its primal's shape. What the
    results are nested as, so are their tangents; a result that does not move has the tangent 0. With
    ``has_aux`` the function returns (results, anything), and ``jvp`` a third value, that anything.

    >>> import backstory
    >>> x = backstory.tensor([1.0, 2.0])
    >>> jvp(lambda x: x * x, (x,), (backstory.tensor([1.0, 10.0]),))
    (tensor([1., 4.]), tensor([ 2., 40.]))
    """
    leaves, directions, shape = _paired("jvp", primals, tangents)
    with context().inside(JvpLevel()) as level:
        inner = tree.build(shape, [level.argument(x, t) for x, t in zip(leaves, directions, strict=True)])
        out = function(*inner)
        out, aux = _split(out, "jvp") if has_aux else (out, None)
        results, out_shape = tree.tensors(out, "jvp: what the function returned")
        values = [_where(x, level) for x in results]
        moves = [_tangent(x, level) for x in results]
        aux = tree.map_tensors(lambda x: _where(x, level), aux)
    built = tree.build(out_shape, values), tree.build(out_shape, moves)
    return (*built, aux) if has_aux else built


def _where(x: Tensor, level: Level) -> Tensor:
    held = unlift(x, level)
    return held.array if isinstance(held, Moving) and x.level == level.number else held


def _tangent(x: Tensor, level: Level) -> Tensor:
    if x.level == level.number and isinstance(x.array, Moving):
        return x.array.tangent
    return wrap(np.zeros(x.shape, x.dtype), 0)


def _paired(what: str, primals: Any, tangents: Any) -> tuple[list[Tensor], list[Tensor], Any]:
    """The checked primals and tangents, flat, and how they are nested."""
    if not isinstance(primals, tuple) or not isinstance(tangents, tuple) or not primals:
        raise ArgumentError(
            f"{what} received primals of type {type(primals).__name__} and tangents of "
            f"{type(tangents).__name__}",
            why="both are tuples, with one entry for each argument of the function",
            instead=f"{what}(function, (x,), (t,))",
        )
    leaves, shape = tree.flatten(primals)
    leaves = [float_tensor(x, what) for x in leaves]
    directions = []
    for x, t in zip(leaves, tree.flatten_as(tangents, shape, f"{what}: tangents"), strict=True):
        t = as_tensor(t)
        if t.shape != x.shape:
            raise ShapeError(
                f"{what} received a tangent of shape {t.shape} for a primal of shape {x.shape}",
                why="a tangent says how fast each entry moves",
                instead=f"a tangent of shape {x.shape}",
            )
        directions.append(t.to(x.dtype))
    return leaves, directions, shape


# Linearize: the tangents' part of the work alone, written down to be done again


class _Entry:
    """One operation on the tape: what its jvp reads, which tangents come in, and which goes out."""

    __slots__ = ("ans", "inputs", "op", "out", "params", "places", "versions")

    def __init__(
        self, op: Op, places: list[Any], ans: Tensor, inputs: list[Any], params: Mapping[str, Any], out: int
    ) -> None:
        self.op, self.places, self.ans, self.inputs, self.params = op, places, ans, inputs, params
        self.out = out
        kept = [x for x in (ans, *inputs) if isinstance(x, Tensor)]
        self.versions = [(x, x._version) for x in kept]

    def run(self, moves: list[Any]) -> None:
        """Turn the tangents that come in into the one that goes out."""
        for x, version in self.versions:
            if x._version != version:
                raise VersionError(
                    f"the linear function of linearize() at {self.op.name} of shape {self.ans.shape}",
                    why="a value that it needs was changed in place after linearize()",
                    instead="linearize() again, or x = x + y (a new tensor) for the change",
                )
        tangents = [None if place is None else moves[place] for place in self.places]
        moves[self.out] = pushed(self.op, tangents, self.ans, self.inputs, self.params)


class TapeLevel(JvpLevel):
    """A forward level whose tangents are places on a tape, filled when the linear function is called."""

    __slots__ = ("count", "tape")

    def __init__(self) -> None:
        super().__init__()
        self.tape: list[_Entry] = []
        self.count = 0

    def place(self) -> int:
        """A new place for a tangent."""
        self.count += 1
        return self.count - 1

    def push(self, op, tangents, ans, inputs, params):
        out = self.place()
        self.tape.append(_Entry(op, tangents, ans, inputs, params, out))
        return out


def linearize(function: Function, *primals: Any) -> tuple[Any, Function]:
    """(function(*primals), pushforward): the pushforward computes J · tangents, without the function.

    The function runs once. The pushforward takes one tangent per primal, nested as that is, and may be
    called as often as wanted; what it needs is freed with it.

    >>> import backstory
    >>> value, pushforward = linearize(lambda x: x * x, backstory.tensor([1.0, 2.0]))
    >>> pushforward(backstory.tensor([1.0, 10.0]))
    tensor([ 2., 40.])
    """
    leaves, shape = tree.flatten(primals)
    leaves = [float_tensor(x, "linearize") for x in leaves]
    with context().inside(TapeLevel()) as level:
        starts = [level.place() for _ in leaves]
        inner = tree.build(shape, [level.argument(x, at) for x, at in zip(leaves, starts, strict=True)])
        results, out_shape = tree.tensors(function(*inner), "linearize: what the function returned")
        values = [_where(x, level) for x in results]
        moving = [x.level == level.number and isinstance(x.array, Moving) for x in results]
        ends = [x.array.tangent if moves else None for x, moves in zip(results, moving, strict=True)]
    tape = _needed(level.tape, ends)
    count = level.count
    last = _last_uses(tape, ends)

    def pushforward(*tangents: Any) -> Any:
        _, directions, _ = _paired("the linear function of linearize()", primals, tangents)
        moves: list[Any] = [*directions, *(None,) * (count - len(directions))]
        for number, entry in enumerate(tape):
            entry.run(moves)
            for place in last[number]:
                moves[place] = None
        zeros = (wrap(np.zeros(x.shape, x.dtype), 0) for x in values)
        return tree.build(
            out_shape,
            [zero if end is None else moves[end] for end, zero in zip(ends, zeros, strict=True)],
        )

    return tree.build(out_shape, values), pushforward


def _needed(tape: list[_Entry], ends: list[Any]) -> list[_Entry]:
    """The part of the tape that the results depend on."""
    wanted = {end for end in ends if end is not None}
    kept = []
    for entry in reversed(tape):
        if entry.out in wanted:
            kept.append(entry)
            wanted.update(place for place in entry.places if place is not None)
    return kept[::-1]


def _last_uses(tape: list[_Entry], ends: list[Any]) -> list[list[int]]:
    """For each entry the tangents that nothing reads after it."""
    seen = {end for end in ends if end is not None}
    last: list[list[int]] = []
    for entry in reversed(tape):
        done = {place for place in entry.places if place is not None} - seen
        seen |= done
        last.append(sorted(done))
    return last[::-1]


@transform
def jacfwd(
    function: Function,
    argnums: Argnums = 0,
    has_aux: bool = False,
    chunk_size: int | None = None,
    randomness: str = "error",
) -> Function:
    """A function that computes the Jacobian, a column of it per entry of the arguments, all in one run.

    Its shapes and nesting are those of :func:`jacrev`. Cheap where arguments have few entries.

    >>> import backstory
    >>> jacfwd(lambda x: x * x)(backstory.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """

    @functools.wraps(function)
    def jacobian(*args: Any, **keywords: Any) -> Any:
        picked = chosen("jacfwd", args, argnums)
        leaves, shape = tree.flatten(picked)
        leaves = [float_tensor(x, "jacfwd") for x in leaves]

        def of_leaves(*inner: Any) -> Any:
            return function(*replaced(args, argnums, tree.build(shape, inner)), **keywords)

        columns = []
        aux: Any = None
        out_shape: Any = None
        for place, x in enumerate(leaves):
            found, out_shape, aux = _columns(
                of_leaves, leaves, place, has_aux, chunk_size=chunk_size, randomness=randomness
            )
            columns.append([part.reshape(*part.shape[:-1], *x.shape) for part in found])
        built = tree.build(out_shape, [tree.build(shape, row) for row in zip(*columns, strict=True)])
        return (built, aux) if has_aux else built

    return jacobian


def _columns(
    function: Function, leaves: list[Tensor], place: int, has_aux: bool, **options: Any
) -> tuple[list[Tensor], Any, Any]:
    """The derivatives by one argument, its entries along the last axis; the results' nesting; anything."""
    x = leaves[place]
    told: dict[str, Any] = {}

    def moved(direction: Tensor) -> Any:
        tangents = [direction if i == place else None for i in range(len(leaves))]
        with context().inside(JvpLevel()) as level:
            inner = [y if t is None else level.argument(y, t) for y, t in zip(leaves, tangents, strict=True)]
            out = function(*inner)
            out, aux = _split(out, "jacfwd") if has_aux else (out, None)
            results, told["shape"] = tree.tensors(out, "jacfwd: what the function returned")
            found = [_tangent(y, level) for y in results]
            told["aux"] = tree.map_tensors(lambda y: _where(y, level), aux)
        return found, told["aux"] if has_aux else None

    count = x.numel()
    if count == 0:
        found, aux = moved(wrap(np.zeros(x.shape, x.dtype), 0))
        return [part.reshape(*part.shape, 1)[..., :0] for part in found], told["shape"], aux
    basis = wrap(np.eye(count, dtype=x.dtype).reshape(count, *x.shape), 0)
    found, aux = vmap(moved, out_dims=(-1, None), **options)(basis)
    return found, told["shape"], aux
