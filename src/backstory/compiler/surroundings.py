"""What a program depends on that does not come with a call: names, modules, optimizers, tensors.

Between two calls little of it changes. So a call asks ``holds()``, in native code, whether the same objects
are where they were (:mod:`~.sentinel`), and only if not ``fits()``, which asks one by one and binds what is
new.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from backstory.compiler.guards import fingerprint, flags, settings
from backstory.compiler.memory_map import Memory
from backstory.compiler.names import Look, unchanged
from backstory.compiler.sentinel import Sentinel
from backstory.graph import structure

__all__ = ["Gradients", "Surroundings"]


class Surroundings:
    """What there is of a trace is added piece by piece, and then sealed.

    ``names`` are those of the code of a call: groups and states of optimizers are put there.
    """

    def __init__(self, trace: Any, known: set[int], names: dict[str, Any]) -> None:
        self._names, self._sentinel = names, Sentinel()
        self._modules = [(m, fingerprint(m)) for m in trace.origins.modules.values()]
        self._optimizers = [(x, settings(x)) for x in trace.updates.optimizers.values()]
        others = [one.tensor for one in trace.lifted.values() if id(one.tensor) not in known]
        self._tensors = [(x, flags(x)) for x in others]
        self._looks: list[Look] = []
        self._entries: dict[tuple[int, Any], tuple[dict[Any, Any], Any]] = {}
        self._lists: dict[int, tuple[list[Any], list[Any]]] = {}
        self._states: list[tuple[str, Any, Any]] = []
        self._rows: dict[str, list[int]] = {}  # of entries of a state
        self._arrays: list[tuple[int, Any]] = []
        self._state_arrays: list[tuple[int, str, str]] = []
        self._seen = structure[0]
        self._sentinel.item(structure, 0)

    # What is added

    def look(self, look: Look) -> None:
        """A name that must stand for the same object."""
        self._looks.append(look)
        if look.kind == "cell":
            self._sentinel.cell(look.holder)
        else:
            self._sentinel.entry(look.holder, look.key)

    def group(self, name: str, optimizer: Any, i: int) -> None:
        """A group of an optimizer, with the parameters that it has."""
        group = self._names[name] = optimizer.param_groups[i]
        self._entry(vars(optimizer), "param_groups")
        self._list(optimizer.param_groups)
        self._entry(group, "params")
        self._list(group["params"])

    def state(self, name: str, optimizer: Any, parameter: Any) -> None:
        """The state of a parameter: a dict, in whose place steps that are not compiled put another."""
        self._entry(vars(optimizer), "state")
        self._sentinel.entry(optimizer.state, parameter)
        self._states.append((name, optimizer.state, parameter))
        self._names[name], self._rows[name] = optimizer.state[parameter], []

    def _entry(self, mapping: dict[Any, Any], key: Any) -> None:
        """An entry that must be the same object."""
        if (id(mapping), key) not in self._entries:
            self._entries[id(mapping), key] = (mapping, mapping[key])
            self._sentinel.entry(mapping, key)

    def _list(self, items: list[Any]) -> None:
        """A list that must hold the same objects."""
        if id(items) not in self._lists:
            self._lists[id(items)] = (items, items.copy())
            for i in range(len(items) + 1):  # none behind the last
                self._sentinel.item(items, i)

    def array(self, place: int, x: Any) -> None:
        """Input ``place`` is the array of a tensor."""
        self._sentinel.slot(x, "array")
        self._arrays.append((place, x))

    def array_of_state(self, place: int, name: str, key: str) -> None:
        """Input ``place`` is an array in a state."""
        self._state_arrays.append((place, name, key))
        self._rows[name].append(self._sentinel.movable(key))

    def seal(self, memory: Memory) -> None:
        """All is there."""
        self._memory = memory
        self._sentinel.seal()
        self.holds = self._sentinel.holds
        for name in self._rows:
            self._move(name)

    # What a call asks

    def fits(self) -> bool:
        """Whether all is what it was, or what the program can be bound to."""
        sentinel, memory, names = self._sentinel, self._memory, self._names
        sentinel.doubt()
        for name, states, parameter in self._states:
            if names[name] is not states[parameter]:
                names[name] = states[parameter]
                self._move(name)
        sentinel.note()  # and only now asked, so that a change meanwhile is found in the next call
        if not self._is_same():
            return False
        found = [(place, x.array) for place, x in self._arrays]
        found += [(place, names[name].get(key)) for place, name, key in self._state_arrays]
        for place, array in found:
            if array is not memory.arrays[place] and not memory.bind(place, array):
                return False
        if all(memory.arrays[place] is not None for place, _ in found):  # else to be copied in each call
            sentinel.confirm()
        return True

    def _move(self, name: str) -> None:
        for row in self._rows[name]:
            self._sentinel.move(row, id(self._names[name]))

    def _is_same(self) -> bool:
        """Whether modules, optimizers, tensors and names are what they were."""
        if structure[0] != self._seen:
            if any(fingerprint(module) != was for module, was in self._modules):
                return False
            if any(settings(optimizer) != was for optimizer, was in self._optimizers):
                return False
            if any(flags(x) != was for x, was in self._tensors):
                return False
            self._seen = structure[0]
        return (
            all(look.holds() for look in self._looks)
            and all(mapping.get(key) is was for (_, key), (mapping, was) in self._entries.items())
            and all(unchanged(items, were) for items, were in self._lists.values())
        )


class Gradients:
    """What a call leaves as gradients: in the same memory each time, unless somebody else holds it."""

    def __init__(self, owners: Sequence[tuple[int, Any]], memory: Memory) -> None:
        self._memory = memory
        self._sentinel = sentinel = Sentinel()
        self._outputs: list[tuple[int, Any, int]] = []
        for j, owner in owners:
            sentinel.slot(owner, "_grad")
            self._outputs.append((j, owner, sentinel.held()))
        sentinel.seal()
        for j, _, row in self._outputs:
            sentinel.hold(row, memory.tensors[j])
        self.hold = sentinel.holds

    def renew(self) -> None:
        """New memory for those that somebody else holds."""
        sentinel, memory = self._sentinel, self._memory
        sentinel.doubt()
        sentinel.note()
        spare = True
        for j, owner, row in self._outputs:
            if not memory.spare(j, owner):
                sentinel.hold(row, memory.tensors[j])
                spare = False
        if spare:
            sentinel.confirm()
