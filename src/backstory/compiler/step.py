"""``compile``: a function whose calls run a program instead of Python.

A call asks the programs that there are, the one used last first, whether they fit, and traces the function
where none does. Calls under a transform, or inside another compiled step, run the function itself; what
``func.grad``, ``vmap`` and the other transforms of functions make of a compiled function is compiled.
"""

from __future__ import annotations

import functools
import inspect
import os
import threading
import warnings
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from backstory.compiler.binding import Bound
from backstory.compiler.calling import MISS
from backstory.compiler.guards import fingerprint, flags
from backstory.compiler.program import build as native
from backstory.compiler.replay import Deoptimized, Failed, Program
from backstory.compiler.traced import FailedTrace, traced
from backstory.core import Core
from backstory.errors import ArgumentError, TraceError
from backstory.func import tree
from backstory.graph import context, structure

if TYPE_CHECKING:
    from backstory.compiler.explanation import Explanation

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
    A module is a function too: the compiled one has its attributes (``parameters()``, ``train()``, ...).

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
    if inspect.isgeneratorfunction(function) or inspect.iscoroutinefunction(function):
        raise ArgumentError(
            f"compile of {function.__name__}, which yields or awaits",
            why="its body does not run when it is called, and a step is traced by a call",
            instead="the step between two yields as a function of its own",
        )
    return Step(function, strict, maxsize, native if build is None else build)


class Step:
    """A compiled function; see :func:`compile`."""

    def __init__(
        self, function: Callable[..., Any], strict: bool, maxsize: int, build: Callable[[Any], Program]
    ) -> None:
        functools.update_wrapper(self, function, updated=())
        self._function, self._strict, self._maxsize, self._build = function, strict, maxsize, build
        self._bound: list[Bound] = []  # the one used last is first
        self._transforms: dict[Any, Step] = {}
        self._lock = threading.RLock()
        self._hits = self._misses = 0
        self._refused = False
        self._name = getattr(function, "__name__", type(function).__name__)
        _steps.add(self)

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        failed, lock = None, self._lock
        lock.acquire()  # a with statement would cost twice as much
        try:
            try:
                for bound in self._bound:
                    result = bound.call(args, keywords)
                    if result is not MISS:
                        self._hits += 1
                        if bound is not self._bound[0]:
                            self._bound.remove(bound)
                            self._bound.insert(0, bound)
                        return result
            except Deoptimized:
                return self._first(args, keywords, assumed=False)
            if not self._refused and _compilable(args, keywords):
                return self._first(args, keywords)
        except Failed as error:
            failed = error
        except TraceError as error:
            if self._strict:
                raise
            self._refuse(f"{error}")
        finally:
            lock.release()
        result = self._function(*args, **keywords)
        if isinstance(failed, FailedTrace):  # what is wrong is not the step's
            self._refuse(f"tracing it failed with {failed.__cause__!r}")
        return result

    def _refuse(self, why: str) -> None:
        self._refused = True
        warnings.warn(f"{self._name} runs eagerly: {why}", UserWarning, stacklevel=3)

    def _first(self, args: Any, keywords: Any, assumed: bool = True) -> Any:
        """Make the program for a call of this kind, and run it."""
        self._misses += 1
        bound = Bound(self._traced(args, keywords, assumed), self._build)
        try:
            result = bound.call(args, keywords)
        except Deoptimized:
            return self._first(args, keywords, assumed=False)
        except Failed:
            self._keep(bound)
            raise
        if result is MISS:
            raise TraceError(
                f"{self._name} changes in each call what it was traced for",
                why="two tensors share memory that it changes, or a name that it reads changes by itself",
                instead="x.clone() for one of two tensors that share memory",
            )
        self._keep(bound)
        return result

    def _keep(self, bound: Bound) -> None:
        self._bound.insert(0, bound)
        del self._bound[self._maxsize :]

    def _traced(self, args: Any, keywords: Any, assumed: bool) -> Any:
        before, seen = structure[0], None
        for _ in range(2):  # a module may make its parts when it is first called
            found = traced(self._function, args, keywords, assumed)
            stamps = [fingerprint(m) for m in found.trace.origins.modules.values()]
            stamps += [flags(one.tensor) for one in found.trace.lifted.values()]
            if structure[0] == before or stamps == seen:
                return found
            before, seen = structure[0], stamps
        raise TraceError(
            f"{self._name} assigns to a module, or adds a hook, in every call",
            why="the step is traced once, and the assignment would not happen again",
            instead="a buffer that is changed in place (register_buffer), or the assignment outside",
        )

    @property
    def source(self) -> str:
        """The code of the program used last: what a call does in Python, and the kernels that it runs."""
        return self._account().source

    def explain(self) -> str:
        """What was traced, under which conditions it holds, what it reads and changes, and what was fused."""
        return str(self._account())

    def _account(self) -> Explanation:
        if not self._bound:
            raise ArgumentError(
                f"{self._name} was not compiled yet",
                why="a step is traced when it is first called",
                instead="the account after a call",
            )
        from backstory.compiler.explanation import Explanation

        return Explanation(self._name, self._bound[0], self.cache_info())

    def cache_info(self) -> CacheInfo:
        """How many calls found their program (``hits``) or made it (``misses``), and how many there are."""
        return CacheInfo(self._hits, self._misses, self._maxsize, len(self._bound))

    def cache_clear(self) -> None:
        """Forget all programs."""
        with self._lock:
            self._bound.clear()
            self._transforms.clear()

    def __transformed__(self, key: Any, make: Callable[[Any], Any]) -> Step:
        """What a transform makes of the function, compiled; the same as before for an equal ``key``."""
        try:
            found = self._transforms.get(key)
        except TypeError:  # a dict among the options: nothing is remembered
            return Step(make(self._function), self._strict, self._maxsize, self._build)
        if found is None:
            found = Step(make(self._function), self._strict, self._maxsize, self._build)
            found = self._transforms.setdefault(key, found)
        return found

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._function, name)

    def __repr__(self) -> str:
        return f"<compiled {self._name}: {len(self._bound)} of at most {self._maxsize} programs>"

    def __get__(self, owner: Any, kind: Any = None) -> Any:
        return self if owner is None else functools.partial(self, owner)

    def __reduce__(self) -> Any:
        return _again, (self._function, self._strict, self._maxsize, self._build)


def _again(function: Any, strict: bool, maxsize: int, build: Any) -> Step:
    return Step(function, strict, maxsize, build)


_steps: weakref.WeakSet[Step] = weakref.WeakSet()


def _after_fork() -> None:
    """A lock that another thread held when the process was forked would never be released."""
    for step in _steps:
        step._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _compilable(args: Any, keywords: Any) -> bool:
    """Whether a call is one of level 0, outside of traces and observers."""
    ctx = context()
    if ctx.trace is not None or len(ctx.levels) > 1 or ctx.observer is not None or ctx.anomaly is not None:
        return False
    return not any(isinstance(x, Core) and x.level for x in tree.flatten((args, keywords))[0])
