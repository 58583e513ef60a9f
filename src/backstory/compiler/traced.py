"""One trace of a function for one kind of arguments, with everything put back where it was before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from backstory.compiler.calling import modes
from backstory.compiler.differentiable import Rule, rule
from backstory.compiler.leftovers import refuse_altered
from backstory.compiler.names import Names
from backstory.compiler.replay import Failed
from backstory.compiler.streams import Streams
from backstory.compiler.trace import Trace
from backstory.errors import TraceError
from backstory.func import tree
from backstory.tensor import Tensor

__all__ = ["FailedTrace", "Traced", "traced"]


class FailedTrace(Failed):
    """The function raised while it was traced."""


class Traced(NamedTuple):
    """A trace, the arguments that it was made for, what the function returned, and what it took as given."""

    function: Callable[..., Any]
    trace: Trace
    names: Names
    leaves: list[Any]
    shape: Any
    result: Any
    modes: tuple[Any, ...]
    rule: Rule | None

    @property
    def moving(self) -> list[Any]:
        """The results that have a history which can be walked."""
        if self.rule is None:
            return []
        leaves = tree.flatten(self.result)[0]
        return [leaves[i] for i in self.rule.places]

    def otherwise_known(self) -> set[int]:
        """Tensors that the step may reach in another way than as arguments."""
        found = set(self.trace.origins.labels)
        found |= {id(moved.parameter) for moved in self.trace.updates.moved.values()}
        for look in self.names.looks:
            found.add(id(look.value))
            if look.copy is not None:
                entries = look.copy.values() if isinstance(look.copy, dict) else look.copy
                found |= set(map(id, entries))
        return found


def traced(function: Callable[..., Any], args: Any, keywords: Any, assumed: bool) -> Traced:
    """Run ``function`` once on symbols."""
    leaves, shape = tree.flatten((args, keywords))
    streams = Streams()
    names, circumstances = Names(function, streams), modes()
    for leaf in leaves:
        names.add_object(leaf, function)
    trace = Trace(names)
    trace.assumed = assumed
    symbols = [_lifted(trace, i, x) for i, x in enumerate(leaves)]
    given, named = tree.build(shape, symbols)
    try:
        with trace.running():
            for x in leaves:
                if isinstance(x, Tensor):
                    trace.lift(x)
            result = function(*given, **named)
            del given, named, symbols
            trace.updates.settle()
            own = rule(trace, result)
            trace.fix()
    except Exception as error:
        names.restore()
        streams.restore()
        if isinstance(error, TraceError):
            raise
        raise FailedTrace from error
    names.refuse_changes()
    names.settle(trace.captured)
    try:
        streams.refuse_draws()
    except TraceError:
        streams.restore()
        raise
    refuse_altered(trace)
    return Traced(function, trace, names, leaves, shape, result, circumstances, own)


def _lifted(trace: Trace, i: int, x: Any) -> Any:
    """An argument as the traced function receives it."""
    if isinstance(x, Tensor):
        trace.incoming(x.array, "argument", f"argument {i}", ("argument", i, ".array"))
        return x
    if isinstance(x, np.ndarray):
        return trace.incoming(x, "argument", f"argument {i}", ("argument", i, ""))
    if x.__class__ is float:
        return trace.numbers.argument(i, f"l{i}", x)
    if isinstance(x, np.floating):
        return trace.numbers.argument(i, f"float(l{i})", float(x))
    return x
