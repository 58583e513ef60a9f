"""A program bound to the tensors, optimizers and arguments that a step works on.

A trace says where arrays and numbers come from, as *places*: ``("argument", i, ".array")``,
``("tensor", x)``, ``("gradient", x)``, ``("state", owner, key)``, ``("itself", array)`` for arrays;
``("group", optimizer, i)`` and ``("state", optimizer, parameter)`` for what numbers are read from. From these
a small Python function is written that a call runs: it asks whether the program still is the right one,
fetches what changed, runs the program, and leaves behind what the step would have left.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from backstory.compiler.graph import Graph, Output, verify
from backstory.compiler.guards import Names, fingerprint
from backstory.compiler.numbers import HostNumber
from backstory.compiler.replay import Program
from backstory.compiler.symbols import Symbol
from backstory.compiler.trace import Captured, Gradient, Trace, fits
from backstory.core import Core
from backstory.errors import TraceError
from backstory.func import tree
from backstory.graph import structure
from backstory.tensor import Tensor, wrap

__all__ = ["MISS", "Bound", "Deoptimized"]

MISS = object()


class Deoptimized(Exception):
    """What the program took for granted does not hold for these arguments, though they are no error."""


class Bound:
    """One program, and ``call(leaves)``, which runs it; it gives ``MISS`` where it is not the right one."""

    def __init__(
        self,
        trace: Trace,
        names: Names,
        leaves: Sequence[Any],
        outputs: Sequence[Any],
        shape: Any,
        build: Callable[[Graph], Program],
    ) -> None:
        self._trace, self._graph = trace, trace.graph
        self._arguments = {id(x.array if isinstance(x, Tensor) else x): i for i, x in enumerate(leaves)}
        self._env: dict[str, Any] = {"MISS": MISS, "structure": structure, "bound": self, "wrap": wrap}
        self._places = {id(x): i for i, x in enumerate(self._graph.inputs)}
        self.arrays: list[Any] = [None] * len(self._graph.inputs)
        self._copies: dict[int, tuple[Any, Any]] = {}
        self._after: list[str] = []
        self.results = [self._result(x) for x in outputs]
        self._shape = shape
        for gradient in trace.gradients.values():
            self._leave_gradient(gradient)
        self._leave_states()
        self._events = self._told()
        trace.refuse_escaped(self._known(outputs))
        self._written = self._write_back()
        self._modules = [(m, fingerprint(m)) for m in trace.modules.values()]
        self._tensors = [(x, _flags(x)) for x, _ in trace.lifted.values()]
        self.names, self.seen = names, structure[0]
        verify(self._graph)
        self.program = build(self._graph)
        self.tensors = [self._new(j) for j in range(len(self._graph.outputs))]
        self.source = "\n".join(self._lines(leaves))
        self.call: Callable[[list[Any]], Any] = self._compiled()
        del self._trace, self._arguments

    # What a call leaves behind

    def _name(self, value: Any) -> str:
        """A name for an object in the code of the call."""
        name = f"o{id(value):x}"
        self._env[name] = value
        return name

    def _output(self, symbol: Symbol, label: str = "") -> int:
        self._graph.outputs.append(Output(symbol.value, None, label))
        return len(self._graph.outputs) - 1

    def _result(self, x: Any) -> str:
        """The code for one leaf of the result."""
        if isinstance(x, Core):
            if id(x) in self._trace.lifted:
                place = self._arguments.get(id(self._trace.lifted[id(x)][1]))
                return self._name(x) if place is None else f"leaves[{place}]"
            if x.level or not isinstance(x.array, Symbol):
                raise TraceError(
                    "a compiled step returns a tensor of a transform",
                    why="it cannot outlive the transform",
                    instead="what the transform returns",
                )
            node = x.grad_fn
            if node is not None and not node.freed:
                raise TraceError(
                    f"a compiled step returns the result of {node!r} with its history",
                    why="the history of a call would have to be recorded after all",
                    instead="backward() inside the step, backstory.no_grad() around the call, or x.detach()",
                )
            return f"bound.result({self._output(x.array, 'result')})"
        if isinstance(x, Symbol):
            return f"bound.result({self._output(x, 'result')}).array"
        if isinstance(x, HostNumber):
            return x.name
        return self._name(x) if not isinstance(x, (bool, int, str, type(None))) else repr(x)

    def _leave_gradient(self, gradient: Gradient) -> None:
        """What the call does about ``tensor.grad``."""
        after, x = gradient.after, gradient.tensor
        if after is gradient.before:
            return
        _, array = self._trace.lifted.get(id(x), (x, x.array))
        place = self._arguments.get(id(array))
        owner = self._name(x) if place is None else f"leaves[{place}]"
        if after is None:
            self._after.append(f"{owner}._grad = None")
        elif isinstance(after.array, Symbol):
            j = self._output(after.array, "gradient")
            self._after.append(f"{owner}._grad = tensors[{j}]")
        else:
            self._after.append(f"{owner}._grad = {self._name(after)}")

    def _leave_states(self) -> None:
        """What the call does about the states of optimizers."""
        for moved in self._trace.moved.values():
            for key, value in moved.new.items():
                before = moved.old.get(key)
                if isinstance(value, Symbol):
                    if not fits(before, value):
                        self._after.append(
                            f"{moved.name}[{key!r}] = tensors[{self._output(value, key)}].array.copy()"
                        )
                elif isinstance(value, HostNumber):
                    self._after.append(f"{moved.name}[{key!r}] = {value.name}")
                elif value is not before:
                    self._after.append(f"{moved.name}[{key!r}] = {value!r}")

    def _told(self) -> dict[int, list[str]]:
        """The code of what each follower is told after a call."""
        found: dict[int, list[str]] = {key: [] for key in self._trace.followers}
        for follower, event in self._trace.events:
            found[id(follower)].append(self._told_part(event))
        return found

    def _told_part(self, part: Any) -> str:
        if isinstance(part, (tuple, list)):
            return f"({''.join(self._told_part(one) + ', ' for one in part)})"
        if isinstance(part, Symbol):
            return f"tensors[{self._output(part, 'statistic')}].array"
        if isinstance(part, HostNumber):
            return part.name
        return self._name(part) if not isinstance(part, (bool, int, str, type(None))) else repr(part)

    def _known(self, outputs: Sequence[Any]) -> list[Symbol]:
        """The symbols that may outlive the trace, since a call makes them anew."""
        gradients = [g.after for g in self._trace.gradients.values()]
        states = [v for moved in self._trace.moved.values() for v in moved.new.values()]
        told = tree.flatten([event for _, event in self._trace.events])[0]
        held = (getattr(x, "array", x) for x in (*outputs, *gradients, *states, *told))
        return [x for x in held if isinstance(x, Symbol)]

    def _write_back(self) -> set[int]:
        """Outputs for all memory that the step changed; the places of the inputs concerned."""
        self._places.update({id(x): i for i, x in enumerate(self._graph.inputs)})
        self.arrays += [None] * (len(self._graph.inputs) - len(self.arrays))
        written = set()
        for captured in self._trace.captured.values():
            now = captured.symbol.value
            if now is not captured.input.value:
                if captured.place[0] == "itself":
                    raise TraceError(
                        "a compiled step changes a NumPy array that it closes over",
                        why="whether the array is made anew in each call cannot be seen",
                        instead="a tensor, or the array as an argument of the step",
                    )
                self._graph.outputs.append(Output(now, captured.input, captured.input.label))
                written.add(self._places[id(captured.input)])
        return written

    # The code of a call

    def _lines(self, leaves: Sequence[Any]) -> list[str]:
        trace, numbers = self._trace, self._trace.numbers
        lines = ["def call(leaves):", "    if structure[0] != bound.seen and not bound.stays(): return MISS"]
        for look, value in self.names.looks:
            test = f"{self._name(look)}()"
            same = (
                f"== {value!r}" if isinstance(value, (bool, int, float, str)) else f"is {self._name(value)}"
            )
            lines.append(f"    if not ({test} {same}): return MISS")
        for gradient in trace.gradients.values():
            if gradient.read:
                wrong = "is not None" if gradient.before is None else "is None"
                lines.append(f"    if {self._name(gradient.tensor)}._grad {wrong}: return MISS")
        for follower, mode in trace.followers.values():
            lines.append(f"    if {self._name(follower)}.mode() != {mode!r}: return MISS")
        for name, place in numbers.owners.items():
            lines.append(f"    {name} = {self._owner(place)}")
        needed = _needed(
            numbers.lines,
            [
                *numbers.guards,
                *(h.name for h in trace.host_numbers),
                *_named_in(self._after),
                *self.results,
                *numbers.equal.values(),
            ],
        )
        lines += [f"    {name} = {code}" for name, code in numbers.lines.items() if name in needed]
        lines += [f"    if {entry} != {name}: return MISS" for entry, name in numbers.equal.items()]
        lines += [f"    if not ({name} == {value!r}): return MISS" for name, value in numbers.guards.items()]
        for captured in trace.captured.values():
            lines += self._fetched(captured)
        for draw in trace.draws:
            place = self._places[id(draw.input)]
            generator = "None" if draw.generator is None else self._name(draw.generator)
            lines.append(f"    program.set_input({place}, draw({generator}, {self._name(draw.draw)}))")
        lines += [f"    numbers[{i}] = {h.name}" for i, h in enumerate(trace.host_numbers)]
        followers = [self._name(follower) for follower, _ in trace.followers.values()]
        lines += [f"    {follower}.prepare()" for follower in followers]
        lines += ["    renew()", "    run()"]
        lines += [f"    {code}" for code in self._after]
        for counter, moved in trace.versions:
            if moved:
                lines.append(f"    {self._name(counter)}[0] += {moved}")
        lines.append("    if copies: bound.copy_back()")
        for name, (follower, _) in zip(followers, trace.followers.values(), strict=True):
            lines.append(f"    {name}.computed([{', '.join(self._events[id(follower)])}])")
        lines.append(f"    return build(shape, [{', '.join(self.results)}])")
        return lines

    def _owner(self, place: tuple[Any, ...]) -> str:
        kind, optimizer, which = place
        if kind == "group":
            return f"{self._name(optimizer)}.param_groups[{which}]"
        return f"{self._name(optimizer)}.state[{self._name(which)}]"

    def _fetched(self, captured: Captured) -> list[str]:
        """The code that binds one array of the call where it is not the one of the last call."""
        place, (kind, *where) = self._places[id(captured.input)], captured.place
        if kind == "itself":
            self.bind(place, where[0])
            return []
        if kind == "argument":
            code = f"leaves[{where[0]}]{where[1]}"
        elif kind == "tensor":
            code = f"{self._name(where[0])}.array"
        elif kind == "gradient":
            code = f"{self._name(where[0])}._grad.array"
        else:
            code = f"{where[0]}[{where[1]!r}]"
        return [
            f"    x = {code}",
            f"    if x is not arrays[{place}] and not bound.bind({place}, x): return MISS",
        ]

    def _compiled(self) -> Any:
        self._env.update(
            program=self.program,
            arrays=self.arrays,
            numbers=self.program.numbers,
            renew=self.renew,
            run=self.program.run,
            tensors=self.tensors,
            copies=self._copies,
            build=tree.build,
            shape=self._shape,
            draw=_draw,
        )
        exec(compile(self.source, "<call of a compiled step>", "exec"), self._env)
        return self._env.pop("call")

    # What a call asks

    def stays(self) -> bool:
        """Whether modules and tensors are what they were, though something somewhere changed."""
        for module, was in self._modules:
            if fingerprint(module) != was:
                return False
        for x, was in self._tensors:
            if _flags(x) != was:
                return False
        self.seen = structure[0]
        return True

    def bind(self, place: int, array: np.ndarray) -> bool:
        """Read input ``place`` from ``array``; false if it does not fit the program."""
        value = self._graph.inputs[place].value
        if array.shape != value.shape or array.dtype != value.dtype:
            return False
        self._copies.pop(place, None)
        self.arrays[place] = array
        if not (array.flags.c_contiguous and array.flags.aligned):
            own = np.ascontiguousarray(array)
            self._copies[place] = (array, own)
            self.arrays[place] = None  # to be copied anew in the next call
            array = own
        self.program.set_input(place, array)
        return True

    def copy_back(self) -> None:
        """What was written to copies of arrays that do not lie in order, into the arrays themselves."""
        for place, (array, own) in self._copies.items():
            if place in self._written:
                np.copyto(array, own)

    def _new(self, j: int) -> Any:
        """A tensor with memory of its own for output ``j``; none for what goes into an input."""
        output = self._graph.outputs[j]
        if output.into is not None:
            return None
        x = wrap(np.empty(output.value.shape, output.value.dtype), 0)
        self.program.set_output(j, x.array)
        return x

    def renew(self) -> None:
        """New memory for every output of the last call that somebody still holds."""
        for j, x in enumerate(self.tensors):
            if x is not None and (sys.getrefcount(x) > 4 or sys.getrefcount(x.array) > 2):
                self.tensors[j] = self._new(j)

    def result(self, j: int) -> Any:
        """Output ``j`` for the caller to keep."""
        x = self.tensors[j]
        self.tensors[j] = self._new(j)
        return x


def _flags(x: Any) -> tuple[Any, ...]:
    """What of a tensor decides what is recorded."""
    hooks = x._hooks
    return x._requires_grad, None if hooks is None else (tuple(hooks.before), tuple(hooks.after))


def _draw(generator: Any, draw: Callable[[Any], Any]) -> np.ndarray:
    from backstory.arrays import eager

    return np.ascontiguousarray(eager.draw(generator, draw))


def _named_in(lines: Sequence[str]) -> list[str]:
    """The names of numbers at the ends of assignments."""
    return [line.rpartition(" = ")[2] for line in lines]


def _needed(lines: dict[str, str], roots: Sequence[str]) -> set[str]:
    """The names that ``roots`` are computed from."""
    found: set[str] = set()
    stack = [name for name in roots if name in lines]
    while stack:
        name = stack.pop()
        if name not in found:
            found.add(name)
            stack += [
                word
                for word in lines[name].replace("(", " ").replace(")", " ").replace("-", " ").split()
                if word in lines
            ]
    return found
