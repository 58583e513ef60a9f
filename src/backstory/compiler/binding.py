"""A program bound to the tensors, optimizers and arguments that a step works on.

A trace says where arrays and numbers come from, as *places*: ``("argument", i, ".array")``,
``("tensor", x)``, ``("gradient", x)``, ``("state", owner, key)``, ``("itself", array)`` for arrays;
``("group", optimizer, i)`` and ``("state", optimizer, parameter)`` for what numbers are read from. From these
the code of a call is written (:mod:`~.calling`), and the memory of inputs and outputs is kept here.
"""

from __future__ import annotations

import inspect
import re
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from backstory.compiler.calling import Code, Groups
from backstory.compiler.differentiable import History
from backstory.compiler.graph import Graph, Output, verify
from backstory.compiler.leftovers import refuse_escaped
from backstory.compiler.log import Field, Log
from backstory.compiler.memory_map import Memory
from backstory.compiler.numbers import HostNumber
from backstory.compiler.primitives import may_fail
from backstory.compiler.replay import Failed, Program
from backstory.compiler.results import Results
from backstory.compiler.surroundings import Gradients, Surroundings
from backstory.compiler.symbols import Symbol
from backstory.compiler.trace import Captured, Gradient
from backstory.compiler.traced import Traced
from backstory.compiler.updates import fits
from backstory.errors import TraceError
from backstory.func import tree
from backstory.graph import structure
from backstory.tensor import Tensor

__all__ = ["Bound"]


class Bound:
    """One program, and ``call(args, keywords)``, which runs it or gives ``MISS`` where it does not fit."""

    def __init__(self, traced: Traced, build: Callable[[Graph], Program]) -> None:
        trace = traced.trace
        self.graph, self.modes, self.looks = trace.graph, traced.modes, traced.names.looks
        self.modules = list(trace.origins.modules.values())
        self._traced, self._trace = traced, trace
        self._leaves = {id(x): i for i, x in enumerate(traced.leaves) if isinstance(x, Tensor)}
        self._grads = {id(g.before): g for g in trace.gradients.values() if g.before is not None}
        self._code = Code()
        self._before: dict[str, str] = {}  # tensors that are needed after the run, by their names
        self._after: list[str] = []
        self._kept: list[tuple[int, Any]] = []  # outputs whose memory stays, and who holds them
        self._logged: dict[Log, list[tuple[int, Field]]] = {}
        self._said: list[tuple[Log, Field, str]] = []  # numbers that are told
        for gradient in trace.gradients.values():
            self._leave_gradient(gradient)
        leaves, shape = tree.flatten(traced.result)
        self.history = History.of(traced)
        given = Results(trace, self._code, self._held, self._output, traced.moving)
        results = [given.of(x) for x in leaves]
        self._sources = "" if self.history is None else self.history.sources(given.of)
        self._leave_states()
        self._logs = {key: self._log(follower) for key, (follower, _) in trace.followers.items()}
        refuse_escaped(trace, self._known([*leaves, *given.made]))
        written = self._write_back()
        self._around = Surroundings(trace, {*self._leaves, *self._grads}, self._code.env)
        verify(self.graph)
        self._may_fail = any(map(may_fail, self.graph.values))
        self.program = build(self.graph)
        self.memory = Memory(self.program, self.graph, written)
        for key, (follower, _) in trace.followers.items():
            self._lay_out(self._logs[key], follower)
        if self.history is not None:
            self.history.bind(build, self.memory, traced)
        self._write(given, self._code.rebuilt(shape, results))
        self.call, code = self._code.compiled("call(args, keywords)")
        self.source = "\n".join([*self._legend(code), "", code])
        self.asked = [(trace.numbers.label(name), value) for name, value in trace.numbers.guards.items()]
        # Much memory, and arrays and tensors that may be replaced: none of it is needed any more.
        for found in (trace.captured, trace.lifted, trace.gradients, trace.updates.moved):
            found.clear()
        del self._traced, self._trace, self._leaves, self._grads, self._code, self._logged, self._said
        del self._before, self._after, self._kept, self._sources, self._logs, self._around

    # What a call leaves behind

    def _tensor(self, x: Any) -> str:
        """The code for a tensor from outside."""
        if id(x) in self._leaves:
            return f"l{self._leaves[id(x)]}"
        gradient = self._grads.get(id(x))
        return self._code.name(x) if gradient is None else f"{self._tensor(gradient.tensor)}._grad"

    def _is_outside(self, x: Any) -> bool:
        """Whether a tensor is the same in every call: no argument, and no gradient of an earlier call."""
        return id(x) not in self._leaves and id(x) not in self._grads

    def _held(self, x: Any) -> str:
        """The code for a tensor from outside after the run, when another may be the gradient that it was."""
        gradient = None if id(x) in self._leaves else self._grads.get(id(x))
        if gradient is None or gradient.after is gradient.before:
            return self._tensor(x)
        name = f"g{list(self._grads).index(id(x))}"
        self._before[name] = self._tensor(x)
        return name

    def _output(self, symbol: Symbol, label: str = "") -> int:
        self.graph.outputs.append(Output(symbol.value, None, label))
        return len(self.graph.outputs) - 1

    def _leave_gradient(self, gradient: Gradient) -> None:
        """What the call does about ``tensor.grad``."""
        after, owner = gradient.after, self._tensor(gradient.tensor)
        if after is gradient.before:
            return
        if after is None:
            self._after.append(f"{owner}._grad = None")
        elif isinstance(after.array, Symbol):
            if after._requires_grad:
                raise TraceError(
                    "a compiled step leaves a gradient with a history (create_graph=True) in .grad",
                    why="what each call computes has no history afterwards",
                    instead="backstory.autograd.grad(..., create_graph=True), or p.grad = p.grad.detach()",
                )
            j = self._output(after.array, self._trace.label_of(gradient.tensor, "grad"))
            self._kept.append((j, gradient.tensor))
            self._after.append(f"{owner}._grad = tensors[{j}]")
        else:
            self._after.append(f"{owner}._grad = {self._held(after)}")

    def _leave_states(self) -> None:
        """What the call does about the states of optimizers."""
        for moved in self._trace.updates.moved.values():
            for key, value in moved.new.items():
                before = moved.old.get(key)
                if isinstance(value, Symbol):
                    if not fits(before, value):
                        j = self._output(value, key)
                        self._after.append(f"{moved.name}[{key!r}] = tensors[{j}].array.copy()")
                elif isinstance(value, HostNumber):
                    self._after.append(f"{moved.name}[{key!r}] = {value.name}")
                elif value is not before:
                    self._after.append(f"{moved.name}[{key!r}] = {self._code.literal(value)}")

    def _log(self, follower: Any) -> Log:
        """What a follower is told of a call, with outputs for the arrays in it."""
        log = Log()
        self._logged[log] = []
        log.events += [self._noted(e, log) for one, e in self._trace.events if one is follower]
        return log

    def _noted(self, part: Any, log: Log) -> Any:
        if isinstance(part, (tuple, list)):
            return tuple(self._noted(one, log) for one in part)
        if isinstance(part, HostNumber):
            self._said.append((log, log.add(np.dtype(np.float64)), part.name))
            return self._said[-1][1]
        if not isinstance(part, Symbol):
            return part
        self._logged[log].append((self._output(part, "statistic"), log.add(part.dtype, part.shape)))
        return self._logged[log][-1][1]

    def _lay_out(self, log: Log, follower: Any) -> None:
        """Have the program write what a follower is told into its log."""
        waits = follower.may_wait(log.events)
        log.lay_out(waits)
        for j, field in self._logged[log]:
            self.memory.lend(j, log.memory(field))
        if waits:
            self.program.keep(log, follower.clock)
            follower.keep(log)
            weakref.finalize(self, follower.drop, log).atexit = False

    def _known(self, leaves: Sequence[Any]) -> list[Any]:
        """The tensors that may outlive the trace, since a call makes them anew."""
        gradients = [g.after for g in self._trace.gradients.values()]
        states = [v for moved in self._trace.updates.moved.values() for v in moved.new.values()]
        told = tree.flatten([event for _, event in self._trace.events])[0]
        return [*leaves, *gradients, *states, *told]

    def _write_back(self) -> set[int]:
        """Outputs for all memory that the step changed; the places of the inputs concerned."""
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
                self.graph.outputs.append(Output(now, captured.input, captured.input.label))
                written.add(self.graph.inputs.index(captured.input))
        return written

    # The code of a call

    def _write(self, given: Results, result: str) -> None:
        trace, code, traced = self._trace, self._code, self._traced
        for key, (follower, mode) in trace.followers.items():
            asked = f"{code.name(follower)}.coming() is not {code.name(mode)}"
            often = follower.doubt(mode, code.name) if self._logs[key].capacity else ""
            code.forbid(f"({often}) and {asked}" if often else asked)
        program, memory = self.program, self.memory
        code.env.update(bound=self, memory=memory, arrays=memory.arrays, tensors=memory.tensors)
        code.env.update(check=check, set_numbers=program.set_numbers)
        code.env["run"] = program.steps[0] if len(program.steps) == 1 else program.run
        code.circumstances(traced.modes)
        with code.inside("try:"):
            self._ask(result)
        with code.inside("except (KeyError, AttributeError, ValueError):"):
            code.add("return MISS")
        self._run()
        for line in given.lines:
            code.add(line)
        if self.history is not None:
            code.env["history"] = self.history
            code.add(f"history.attach([{given.moving}], [{self._sources}], before, args, keywords)")
        for line in given.last:
            code.add(line)
        code.add(f"return {result}")
        self._around.seal(memory)
        code.env.update(holds=self._around.holds, fits=self._around.fits)

    def _ask(self, result: str) -> None:
        """Whether the program fits: arguments, names, numbers, arrays."""
        trace, code, traced, around = self._trace, self._code, self._traced, self._around
        if _names_all(traced.function):
            code.reorder(traced.shape[1])
        code.unpack(traced.shape[0], "args", traced.leaves)
        code.unpack(traced.shape[1], "keywords", traced.leaves)
        groups: Groups = {}
        for name, (kind, optimizer, which) in trace.numbers.owners.items():
            if kind == "group":
                around.group(name, optimizer, which)
                groups[name] = (code.name({}), code.name(optimizer))
            elif self._is_outside(which):
                around.state(name, optimizer, which)
            else:
                code.add(f"{name} = {code.name(optimizer)}.state[{self._tensor(which)}]")
        for captured in trace.captured.values():
            self._fetch(captured)
        looks = traced.names.looks
        for look in (x for x in looks if x.watchable):
            around.look(look)
        code.forbid("not holds() and not fits()")
        for look in (x for x in looks if not x.watchable):
            code.look(look)
        self._one_by_one()
        for gradient in trace.gradients.values():
            if gradient.read:
                wrong = "is not None" if gradient.before is None else "is None"
                code.forbid(f"{self._tensor(gradient.tensor)}._grad {wrong}")
        for owner, key in trace.numbers.absent:
            code.forbid(f"{key!r} in {owner}")
        hosts = [h.name for h in trace.host_numbers]
        for log, field, name in self._said:
            memory = code.name(log.memory(field).reshape(1).data)
            code.following.setdefault(name, []).append(f"{memory}[0] = {name}")
        code.numbers(trace.numbers, hosts, [*code.following, *self._after, result], groups)

    def _run(self) -> None:
        """From the draws to what the step leaves behind."""
        trace, code = self._trace, self._code
        for name, before in self._before.items():
            code.add(f"{name} = {before}")
        drawn = list(dict.fromkeys(draw.generator for draw in trace.draws if self._may_fail))
        if drawn:  # as if they had never been drawn, where the step fails
            code.add(f"streams = memory.streams({code.name(drawn)})")
        for draw in trace.draws:
            place = self.graph.inputs.index(draw.input)
            generator = "None" if draw.generator is None else code.name(draw.generator)
            code.add(f"memory.draw({place}, {generator}, {code.name(draw.draw)})")
        followers = [(code.name(one), self._logs[key]) for key, (one, _) in trace.followers.items()]
        for name, log in followers:
            if not log.capacity:
                code.add(f"{name}.prepare()")
        fixed = []
        for j, owner in self._kept:
            if j in self.program.early:
                code.add(f"memory.renew({j})")
            elif self._is_outside(owner):
                fixed.append((j, owner))
            else:
                code.add(f"memory.spare({j}, {self._tensor(owner)})")
        if fixed:
            gradients = Gradients(fixed, self.memory)
            code.env.update(gradients_hold=gradients.hold, renew_gradients=gradients.renew)
            code.add("if not gradients_hold(): renew_gradients()")
        if self.history is not None:
            code.add("before = history.before()")
        code.add("x = None")
        if drawn:
            with code.inside("try:"):
                code.add("run()")
            with code.inside("except UNDONE:"):
                code.add("for generator, at in streams: generator.set_state(at)")
                code.add("raise")
        else:
            code.add("run()")
        for x, moved in trace.versions:
            if moved:
                code.add(f"{self._tensor(x)}._counter[0] += {moved}")
        for line in self._after:
            code.add(line)
        for module, mode in trace.modes:
            code.add(f"bound.switch({code.name(module)}, {mode})")
        code.add("if memory.copies: memory.copy_back()")
        for name, log in followers:
            if not log.capacity:
                code.add(f"{name}.computed({code.name(log)}.told())")
        code.env["logs"] = list(self._logs.values())  # the program writes to their memory

    def _legend(self, code: str) -> list[str]:
        """What names in the code stand for, as comments."""
        known = {}
        for name, (kind, optimizer, which) in self._trace.numbers.owners.items():
            part = (
                f"group {which}"
                if kind == "group"
                else f"state of {self._trace.label_of(which) or 'a tensor'}"
            )
            known[name] = f"{type(optimizer).__name__}, {part}"
        for name, x in self._code.env.items():
            if name[1:].isdigit():
                known.setdefault(name, self._what(x))
        used = dict.fromkeys(re.findall(r"\b[do]\d+\b", code))
        return [
            f"# {name}: {known[name]}" for name in sorted(used, key=lambda name: (name[0], int(name[1:])))
        ]

    def _what(self, x: Any) -> str:
        """What an object is, for people."""
        if isinstance(x, Tensor):
            return self._trace.label_of(x) or "a tensor"
        if isinstance(x, dict):
            return "a copy, from the last call" if not x else "a dict"
        return getattr(x, "__name__", None) or (str(x) if isinstance(x, np.dtype) else type(x).__name__)

    def _place(self, captured: Captured) -> str:
        """The code that finds an array of the call."""
        kind, *where = captured.place
        if kind == "argument":
            return f"l{where[0]}{where[1]}"
        if kind == "tensor":
            return f"{self._tensor(where[0])}.array"
        if kind == "gradient":
            return f"{self._tensor(where[0])}._grad.array"
        return f"{where[0]}[{where[1]!r}]"

    def _fetch(self, captured: Captured) -> None:
        """Bind one array of the call where it is not the one of the last call."""
        place = self.graph.inputs.index(captured.input)
        if captured.place[0] == "itself":
            self.memory.bind(place, captured.array)
            return
        kind, *where = captured.place
        if kind == "tensor" and self._is_outside(where[0]):
            self._around.array(place, where[0])
            return
        if kind == "state" and self._is_outside(self._trace.numbers.owners[where[0]][2]):
            self._around.array_of_state(place, *where)
            return
        self._code.add(f"x = {self._place(captured)}")
        self._code.forbid(f"x is not arrays[{place}] and not memory.bind({place}, x)")

    def _one_by_one(self) -> None:
        """What was one array, or one tensor, in the trace must be one in each call."""
        known = self._traced.otherwise_known()
        for i, leaf in enumerate(self._traced.leaves):
            if id(leaf) in known:
                self._code.forbid(f"l{i} is not {self._code.name(leaf)}")
            array = leaf.array if isinstance(leaf, Tensor) else leaf
            captured = self._trace.captured.get(id(array))
            own = f"l{i}.array" if isinstance(leaf, Tensor) else f"l{i}"
            if captured is not None and (place := self._place(captured)) != own:
                self._code.forbid(f"{own} is not {place}")
        for one in self._trace.lifted.values():
            own, captured = f"{self._tensor(one.tensor)}.array", self._trace.captured.get(id(one.array))
            if captured is None or captured.place[0] in ("state", "itself"):
                continue
            if (place := self._place(captured)) != own:
                self._code.forbid(f"{own} is not {place}")

    def switch(self, module: Any, mode: bool) -> None:
        """Switch a module to training or evaluation, as the step does."""
        if module.training is not mode:
            object.__setattr__(module, "training", mode)
            structure[0] += 1


def check(optimizer: Any, group: dict[str, Any]) -> None:
    """Whether an optimizer takes the settings of a group."""
    try:
        optimizer.check(group)
    except Exception as error:
        raise Failed from error


def _names_all(function: Any) -> bool:
    """Whether a function names all its keywords, so that it cannot see their order."""
    try:
        parameters = inspect.signature(function, follow_wrapped=False).parameters
    except (TypeError, ValueError):  # some built-in functions
        return False
    return all(x.kind is not x.VAR_KEYWORD for x in parameters.values())
