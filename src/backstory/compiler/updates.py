"""Steps of optimizers in a trace: their rules run on symbols, their numbers are read anew in each call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from backstory.compiler.graph import Origin
from backstory.compiler.numbers import Reading
from backstory.compiler.symbols import Symbol
from backstory.history import count_change, user_line

__all__ = ["Moved", "Updates", "fits"]


@dataclass(eq=False)
class Moved:
    """What a step of an optimizer leaves as the state of a parameter, and what it was before.

    The new arrays are symbols and the new numbers :class:`HostNumber`; ``name`` is that of the state.
    """

    optimizer: Any
    parameter: Any
    name: str
    old: Mapping[str, Any]
    new: Mapping[str, Any]


class Updates:
    """What the optimizers of one trace do."""

    def __init__(self, trace: Any) -> None:
        self._trace = trace
        self.moved: dict[tuple[int, int], Moved] = {}
        self.optimizers: dict[int, Any] = {}

    def move(self, optimizer: Any, group: Mapping[str, Any]) -> None:
        """An optimizer's rule on the parameters of one group."""
        trace = self._trace
        self.optimizers[id(optimizer)] = optimizer
        before = trace.origins.now
        trace.origins.now = Origin(type(optimizer).__name__, "", "update", user_line())
        settings = self.settings(optimizer, group)
        try:
            for p in group["params"]:
                gradient = p.grad
                if gradient is not None:
                    trace.lift(p)
                    trace.lift(gradient)
                    self._move_one(optimizer, p, gradient, settings)
        finally:
            trace.origins.now = before

    def settings(self, optimizer: Any, group: Mapping[str, Any]) -> Mapping[str, Any]:
        """A group of an optimizer, whose numbers are read anew in every call."""
        index = next(i for i, own in enumerate(optimizer.param_groups) if own is group)
        name = self._trace.numbers.owner("group", optimizer, index)
        return Reading(self._trace.numbers, name, group, lambda key, value: value, None)

    def _move_one(self, optimizer: Any, p: Any, gradient: Any, settings: Any) -> None:
        trace, place = self._trace, (id(optimizer), id(p))
        moved = self.moved.get(place)
        if moved is None:
            name = trace.numbers.owner("state", optimizer, p)
            moved = self.moved[place] = Moved(optimizer, p, name, optimizer.state[p], optimizer.state[p])
        name = moved.name

        def state_array(key: str, value: Any) -> Any:
            if not isinstance(value, np.ndarray):
                return value
            return trace.incoming(value, "state", trace.label_of(p, key), ("state", name, key))

        state = Reading(trace.numbers, name, moved.new, state_array, id(optimizer))
        change, moved.new = optimizer.update(trace.namespace, p.array, gradient.array, state, settings)
        p.array.write(p.array + change)
        count_change(p._counter, None)
        if optimizer.changes is not None:
            optimizer.changes[p] = change

    def settle(self) -> None:
        """The new states of optimizers go to the memory of the old."""
        for moved in self.moved.values():
            for key, value in moved.new.items():
                before = moved.old.get(key)
                if isinstance(value, Symbol) and fits(before, value):
                    label = self._trace.label_of(moved.parameter, key)
                    memory = self._trace.incoming(before, "state", label, ("state", moved.name, key))
                    if memory is not value:
                        memory.write(value)


def fits(array: Any, symbol: Symbol) -> bool:
    """Whether the memory of ``array`` can take what ``symbol`` holds."""
    return isinstance(array, np.ndarray) and array.shape == symbol.shape and array.dtype == symbol.dtype
