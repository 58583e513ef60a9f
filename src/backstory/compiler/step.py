"""``compile``: a function whose calls run a program instead of Python.

A call looks for the program that fits its arguments and circumstances, and traces the function where there
is none yet. Calls under a transform, or inside another compiled step, run the function itself.
"""

from __future__ import annotations

import functools
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from backstory.compiler.binding import MISS, Bound, Deoptimized
from backstory.compiler.guards import Names, modes
from backstory.compiler.program import build as native
from backstory.compiler.replay import Program
from backstory.compiler.trace import Trace
from backstory.core import Core
from backstory.errors import ArgumentError, TraceError
from backstory.func import tree
from backstory.graph import context, structure
from backstory.tensor import Tensor

__all__ = ["CacheInfo", "Step", "compile"]


class CacheInfo(NamedTuple):
    """How often a call found its program, and how many there are."""

    hits: int
    misses: int
    maxsize: int
    currsize: int


def compile(
    function: Callable[..., Any] | None = None, *, strict: bool = True, maxsize: int = 16, build: Any = None
) -> Any:
    """``function`` as native code: traced once per kind of arguments, then run without Python's operations.

    The function may be a whole training step: modules, ``backward()``, clipping, an optimizer's ``step()``.
    What it reads and changes from outside is found by itself; a schedule that moves the learning rate acts
    without a new trace. Its arguments are tensors, arrays, numbers and nested lists, tuples and dicts of
    them; another shape or dtype makes another program, of which the ``maxsize`` last used are kept.

    What depends on the numbers in tensors (``if loss > 1``, ``.item()``) cannot be traced: a
    :class:`~backstory.errors.TraceError` names the line. With ``strict=False`` such a step runs eagerly, with
    one warning.

    >>> import backstory
    >>> from backstory import nn, optim
    >>> model = nn.Linear(2, 1)
    >>> optimizer = optim.SGD(model.parameters(), lr=0.1)
    >>> @backstory.compile
    ... def step(x, y):
    ...     optimizer.zero_grad()
    ...     loss = nn.functional.mse_loss(model(x), y)
    ...     loss.backward()
    ...     optimizer.step()
    ...     return loss
    >>> x, y = backstory.ones(4, 2), backstory.zeros(4, 1)
    >>> first, second = step(x, y), step(x, y)
    >>> bool(second < first), step.cache_info().misses
    (True, 1)
    """
    if function is None:
        return functools.partial(compile, strict=strict, maxsize=maxsize, build=build)
    if not callable(function):
        raise ArgumentError(
            f"compile({type(function).__name__})", why="it is no function", instead="compile(step)"
        )
    return Step(function, strict, maxsize, native if build is None else build)


class Step:
    """A compiled function; see :func:`compile`."""

    def __init__(
        self, function: Callable[..., Any], strict: bool, maxsize: int, build: Callable[[Any], Program]
    ) -> None:
        functools.update_wrapper(self, function)
        self._function, self._strict, self._maxsize, self._build = function, strict, maxsize, build
        self._bound: OrderedDict[Any, list[Bound]] = OrderedDict()
        self._lock = threading.RLock()
        self._hits = self._misses = 0
        self._refused = False
        self._name = getattr(function, "__name__", "the step")

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        ctx = context()
        leaves, shape = tree.flatten((args, keywords))
        if (
            self._refused
            or ctx.trace is not None
            or len(ctx.levels) > 1
            or any(_of_transform(x) for x in leaves)
        ):
            return self._function(*args, **keywords)
        key = (_described(leaves), repr(shape), modes())
        with self._lock:
            try:
                return self._run(key, leaves, shape)
            except TraceError as error:
                if self._strict:
                    raise
                self._refused = True
                warnings.warn(f"{self._name} runs eagerly: {error}", UserWarning, stacklevel=2)
        return self._function(*args, **keywords)

    def _run(self, key: Any, leaves: list[Any], shape: Any) -> Any:
        """Run the program for a call of this kind; where none holds, trace the function."""
        for bound in self._bound.get(key, ()):
            try:
                result = bound.call(leaves)
            except Deoptimized:
                return self._traced(key, leaves, shape, assumed=False).call(leaves)
            if result is not MISS:
                self._hits += 1
                self._bound.move_to_end(key)
                return result
        bound = self._traced(key, leaves, shape)
        try:
            result = bound.call(leaves)
        except Deoptimized:
            return self._traced(key, leaves, shape, assumed=False).call(leaves)
        assert result is not MISS, "a program does not hold for the call that it was traced for"
        return result

    def _traced(self, key: Any, leaves: list[Any], shape: Any, assumed: bool = True) -> Bound:
        self._misses += 1
        bound = None
        for _ in range(2):  # a module may make its parts when it is first called
            before = structure[0]
            bound = traced(self._function, leaves, shape, self._build, assumed)
            if structure[0] == before:
                break
        else:
            raise TraceError(
                f"{self._name} assigns to a module, or adds a hook, in every call",
                why="the step is traced once, and the assignment would not happen again",
                instead="a buffer that is changed in place (register_buffer), or the assignment outside",
            )
        if not assumed:
            self._bound.pop(key, None)
        self._bound.setdefault(key, []).insert(0, bound)
        self._bound.move_to_end(key)
        while sum(map(len, self._bound.values())) > self._maxsize:
            first = next(iter(self._bound))
            self._bound[first].pop()
            if not self._bound[first]:
                del self._bound[first]
        return bound

    def cache_info(self) -> CacheInfo:
        """How many calls found their program (``hits``) or made it (``misses``), and how many there are."""
        return CacheInfo(self._hits, self._misses, self._maxsize, sum(map(len, self._bound.values())))

    def cache_clear(self) -> None:
        """Forget all programs."""
        with self._lock:
            self._bound.clear()

    def __get__(self, owner: Any, kind: Any = None) -> Any:
        return self if owner is None else functools.partial(self, owner)

    def __reduce__(self) -> Any:
        return _again, (self._function, self._strict, self._maxsize, self._build)


def _again(function: Any, strict: bool, maxsize: int, build: Any) -> Step:
    return Step(function, strict, maxsize, build)


def _of_transform(x: Any) -> bool:
    return isinstance(x, Core) and x.level != 0


def _described(leaves: Sequence[Any]) -> tuple[Any, ...]:
    """What of the arguments a program depends on; equal descriptions share one."""
    places: dict[int, int] = {}
    found: list[Any] = []
    for i, x in enumerate(leaves):
        if isinstance(x, Tensor):
            array = x.array
            found.append(
                (type(x), array.shape, array.dtype, x._requires_grad, places.setdefault(id(array), i))
            )
        elif isinstance(x, np.ndarray):
            found.append((np.ndarray, x.shape, x.dtype, False, places.setdefault(id(x), i)))
        elif x.__class__ is float:
            found.append(float)
        else:
            try:
                hash(x)
            except TypeError:
                x = id(x)
            found.append((type(x), x))
    return tuple(found)


def traced(
    function: Callable[..., Any],
    leaves: list[Any],
    shape: Any,
    build: Callable[[Any], Program],
    assumed: bool,
) -> Bound:
    """The program of one call, with everything put back where it was before."""
    trace = Trace()
    trace.assumed = assumed
    names = Names(function)
    symbols = [_lifted(trace, i, x, leaves) for i, x in enumerate(leaves)]
    args, keywords = tree.build(shape, symbols)
    with trace.running():
        for x in leaves:
            if isinstance(x, Tensor):
                trace.lift(x)
        result = function(*args, **keywords)
        trace.settle()
        outputs, out_shape = tree.flatten(result)
        del result, args, keywords, symbols
    return Bound(trace, names, leaves, outputs, out_shape, build)


def _lifted(trace: Trace, i: int, x: Any, leaves: list[Any]) -> Any:
    """An argument as the traced function receives it."""
    if isinstance(x, Tensor):
        if x._requires_grad and x.grad_fn is not None and context().levels[0].grad_enabled:
            raise TraceError(
                f"argument {i} of a compiled step is the result of {x.grad_fn!r}",
                why="its history was recorded outside, and the step would walk back into it",
                instead="x.detach(), or what computes it inside the step",
            )
        trace.incoming(x.array, "argument", f"argument {i}", ("argument", i, ".array"))
        return x
    if isinstance(x, np.ndarray):
        return trace.incoming(x, "argument", f"argument {i}", ("argument", i, ""))
    if x.__class__ is float:
        return trace.numbers.read("leaves", str(i), x)
    return x
