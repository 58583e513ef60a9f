"""Module: parameters, buffers and submodules by name, and a call that observers can follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from backstory.errors import ArgumentError
from backstory.graph import context, structure
from backstory.hooks import Handle
from backstory.nn.hooks import ModuleHooks, call_with_hooks
from backstory.nn.parameter import Parameter, clear_grad
from backstory.nn.state import Unmatched, load, names_of
from backstory.promotion import checked_dtype
from backstory.tensor import Tensor

__all__ = ["Module"]

M = TypeVar("M", bound="Module")


class Module:
    """The base of every layer and network: assign parameters and submodules as attributes.

    >>> import backstory
    >>> from backstory import nn
    >>> class Twice(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.layer = nn.Linear(2, 2)
    ...     def forward(self, x):
    ...         return self.layer(self.layer(x).relu())
    >>> [name for name, _ in Twice().named_parameters()]
    ['layer.weight', 'layer.bias']
    """

    training: bool

    def __init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "training", True)
        set_(self, "_parameters", {})
        set_(self, "_buffers", {})
        set_(self, "_transient", set())
        set_(self, "_modules", {})
        set_(self, "_observer", None)

    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _transient: set[str]
    _modules: dict[str, Module]
    _observer: Any
    _hooks: ModuleHooks | None = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; a subclass defines it."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward()")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        ctx = context()
        observer = ctx.observer
        if ctx.trace is not None and not ctx.trace.origins.entered(self):
            return ctx.trace.origins.run(self, args, kwargs)
        if observer is None:
            if self._observer is None:
                if self._hooks is None:
                    return self.forward(*args, **kwargs)
                return call_with_hooks(self, self._hooks, args, kwargs)
            return self._observed(ctx, args, kwargs)
        observer.enter(self)
        try:
            return self._run(args, kwargs)
        finally:
            observer.leave(self)

    def _run(self, args: Any, kwargs: Any) -> Any:
        if self._hooks is None:
            return self.forward(*args, **kwargs)
        return call_with_hooks(self, self._hooks, args, kwargs)

    def _observed(self, ctx: Any, args: Any, kwargs: Any) -> Any:
        """The call of the module that is being watched: its observer sees what runs inside."""
        observer = self._observer
        if not observer.begin(self):
            return self._run(args, kwargs)
        ctx.observer = observer
        try:
            return self._run(args, kwargs)
        except BaseException:
            observer.abandon()
            raise
        finally:
            ctx.observer = None

    def __setattr__(self, name: str, value: Any) -> None:
        if "_modules" not in self.__dict__:
            raise ArgumentError(
                f"{type(self).__name__}.{name} was assigned before Module.__init__() ran",
                why="the module has nowhere to register it yet",
                instead="super().__init__() as the first line of __init__",
            )
        structure[0] += 1
        computed: Any = self._modules.get("parametrizations")
        if computed is not None and name in computed._modules and isinstance(value, Tensor):
            computed._modules[name].assign(value)
            return
        if name in self._buffers and (value is None or isinstance(value, Tensor)):
            self._buffers[name] = value
            object.__setattr__(self, name, value)
            return
        register: Any = None
        if isinstance(value, Parameter):
            register = self._parameters
        elif isinstance(value, Module):
            register = self._modules
        self._forget(name, register)
        if register is not None:
            register[name] = value
        object.__setattr__(self, name, value)

    if not TYPE_CHECKING:  # for the checker attributes are those that classes declare

        def __getattr__(self, name: str) -> Any:
            """A parameter that is computed from others (:mod:`backstory.nn.utils.parametrize`)."""
            computed = self.__dict__.get("_modules", {}).get("parametrizations")
            if computed is not None and name in computed._modules:
                return computed._modules[name]()
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _forget(self, name: str, besides: Any = None) -> None:
        """Own nothing under ``name``, ``besides`` in one register: there it keeps its place."""
        for register in (self._parameters, self._buffers, self._modules):
            if register is not besides:
                register.pop(name, None)
        self._transient.discard(name)

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        self._forget(name)
        structure[0] += 1

    def register_parameter(self, name: str, value: Parameter | None) -> None:
        """Own ``value`` under ``name``; ``None`` says that there is none, as for ``bias=False``."""
        setattr(self, name, value)
        self._parameters[name] = value

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> Handle:
        """Call ``hook(module, args)`` before each call; what it returns takes the arguments' place.

        With ``with_kwargs`` it is ``hook(module, args, kwargs)``, and returns (args, kwargs).
        """
        return self._add_hook("before", (hook, with_kwargs), prepend)

    def register_forward_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> Handle:
        """Call ``hook(module, args, output)`` after each call; what it returns takes the output's place.

        With ``with_kwargs`` it is ``hook(module, args, kwargs, output)``.

        >>> import backstory
        >>> from backstory import nn
        >>> layer = nn.Linear(2, 3)
        >>> with layer.register_forward_hook(lambda module, args, output: print(output.shape)):
        ...     _ = layer(backstory.ones(4, 2))
        (4, 3)
        """
        return self._add_hook("after", (hook, with_kwargs), prepend)

    def register_full_backward_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> Handle:
        """Call ``hook(module, grad_output)`` when the gradients of the outputs have come."""
        return self._add_hook("backward_before", hook, prepend)

    def register_full_backward_hook(self, hook: Callable[..., Any], prepend: bool = False) -> Handle:
        """Call ``hook(module, grad_input, grad_output)`` when the gradients of the inputs have come.

        Both are tuples, with ``None`` for what has no gradient. What it returns takes the place of
        ``grad_input``. Where no input needs a gradient, it is called with those of the outputs.
        """
        return self._add_hook("backward", hook, prepend)

    def _add_hook(self, kind: str, hook: Any, first: bool) -> Handle:
        structure[0] += 1
        if self._hooks is None:
            object.__setattr__(self, "_hooks", ModuleHooks())
        assert self._hooks is not None
        return self._hooks.add(kind, hook, first)

    def register_buffer(self, name: str, value: Tensor | None, persistent: bool = True) -> None:
        """Own a tensor that no optimizer moves, such as a running mean; part of the state if ``persistent``.

        >>> import backstory
        >>> net = Module()
        >>> net.register_buffer("steps", backstory.tensor(3))
        >>> net.state_dict()
        {'steps': tensor(3)}
        """
        if not (value is None or isinstance(value, Tensor)) or isinstance(value, Parameter):
            raise ArgumentError(
                f"register_buffer({name!r}, {type(value).__name__})",
                why="a buffer is a tensor that no optimizer moves",
                instead="a tensor or None; parameters are assigned as attributes",
            )
        self._check_free(name)
        structure[0] += 1
        object.__setattr__(self, name, value)
        self._buffers[name] = value
        if not persistent:
            self._transient.add(name)

    def _check_free(self, name: str) -> None:
        """``name`` names nothing yet, and can stand in a path."""
        taken = hasattr(self, name) and name not in {**self._parameters, **self._buffers, **self._modules}
        if not name or "." in name or taken:
            raise ArgumentError(
                f"the name {name!r} in {type(self).__name__}",
                why="an attribute has that name already" if taken else "names form paths, joined by points",
                instead="another name, without a point in it",
            )

    def add_module(self, name: str, module: Module | None) -> None:
        """Own ``module`` under ``name``; ``None`` says that there is none."""
        if not (module is None or isinstance(module, Module)):
            raise ArgumentError(
                f"add_module({name!r}, {type(module).__name__})",
                why="only modules have a forward, parameters and submodules",
                instead="an instance of a subclass of nn.Module",
            )
        self._check_free(name)
        structure[0] += 1
        object.__setattr__(self, name, module)
        if module is not None:
            self._modules[name] = module

    register_module = add_module

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """Every module below and this one, each once, with its path."""
        seen: set[int] = set()
        stack: list[tuple[str, Module]] = [(prefix, self)]
        while stack:
            path, module = stack.pop()
            if id(module) in seen:
                continue
            seen.add(id(module))
            yield path, module
            children = [(f"{path}.{n}" if path else n, m) for n, m in module._modules.items()]
            stack.extend(reversed(children))

    def modules(self) -> Iterator[Module]:
        """Every module below and this one, each once."""
        return (module for _, module in self.named_modules())

    def children(self) -> Iterator[Module]:
        """The direct submodules."""
        return iter(self._modules.values())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The direct submodules with their names."""
        return iter(self._modules.items())

    def get_submodule(self, path: str) -> Module:
        """The submodule at ``path``; ``""`` is the module itself."""
        found: Module = self
        for name in path.split(".") if path else ():
            if name not in found._modules:
                raise ArgumentError(
                    f"get_submodule({path!r}) of {type(self).__name__}",
                    why=f"{type(found).__name__} has no submodule {name!r}",
                    instead=f"one of {list(found._modules)}",
                )
            found = found._modules[name]
        return found

    def apply(self: M, function: Callable[[Module], Any]) -> M:
        """Call ``function`` with every submodule, inner ones first, and with this one; returns it."""
        for module in self.children():
            module.apply(function)
        function(self)
        return self

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Every parameter, each once, with its path."""
        seen: set[int] = set()
        for path, module in self.named_modules():
            for name, parameter in module._parameters.items():
                if parameter is not None and id(parameter) not in seen:
                    seen.add(id(parameter))
                    yield (f"{path}.{name}" if path else name), parameter

    def parameters(self) -> Iterator[Parameter]:
        """Every parameter, each once."""
        return (parameter for _, parameter in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """Every buffer, each once, with its path."""
        seen: set[int] = set()
        for path, module in self.named_modules():
            for name, buffer in module._buffers.items():
                if buffer is not None and id(buffer) not in seen:
                    seen.add(id(buffer))
                    yield (f"{path}.{name}" if path else name), buffer

    def buffers(self) -> Iterator[Tensor]:
        """Every buffer, each once."""
        return (buffer for _, buffer in self.named_buffers())

    def train(self: M, mode: bool = True) -> M:
        """Switch this module and all below to training (or evaluation) mode; returns it."""
        trace = context().trace
        for module in self.modules():
            if trace is not None:
                trace.switches(module, mode)
            elif module.training is not mode:
                structure[0] += 1
                object.__setattr__(module, "training", mode)
        return self

    def eval(self: M) -> M:
        """Switch this module and all below to evaluation mode; returns it."""
        return self.train(False)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters():
            clear_grad(parameter, set_to_none)

    def requires_grad_(self: M, requires_grad: bool = True) -> M:
        """Let all parameters take part in gradients, or none; returns the module."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def to(self: M, dtype: Any) -> M:
        """Convert all parameters and buffers of floats to ``dtype``, a float; returns the module.

        Do it before the optimizer is made: gradients are forgotten.
        """
        chosen = checked_dtype(dtype)
        if chosen.kind != "f":
            raise ArgumentError(
                f"{type(self).__name__}.to({chosen})",
                why="only floats can move by small steps",
                instead="backstory.float32 or backstory.float64",
            )
        for tensor in (*self.parameters(), *self.buffers()):
            if tensor.dtype.kind == "f":
                tensor.array = tensor.detach().to(chosen).array
                tensor.grad = None
        return self

    def double(self: M) -> M:
        """``to(float64)``."""
        return self.to(np.float64)

    def float(self: M) -> M:
        """``to(float32)``."""
        return self.to(np.float32)

    def half(self: M) -> M:
        """``to(float16)``."""
        return self.to(np.float16)

    def state_dict(self, prefix: str = "") -> dict[str, Tensor]:
        """The parameters and persistent buffers by path, sharing their memory."""
        return {name: tensor.detach() for name, tensor in names_of(self, prefix)}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> Unmatched:
        """Copy ``state`` into the parameters and buffers; returns the names that had no match.

        All shapes must fit, and with ``strict`` all names; else nothing changes, and the error lists
        everything that does not fit.

        >>> from backstory import nn
        >>> nn.Linear(2, 2, bias=False).load_state_dict({"wieght": [[1.0, 0.0], [0.0, 1.0]]})
        Traceback (most recent call last):
        backstory.errors.ArgumentError: load_state_dict() into Linear
          why: missing: weight; unexpected: wieght
          instead: a state_dict of the same architecture, or strict=False to load what matches
        """
        return load(self, state, strict)

    def extra_repr(self) -> str:
        """What stands between the parentheses of the module's line."""
        return ""

    def __repr__(self) -> str:
        lines = [
            f"  ({name}): " + repr(module).replace("\n", "\n  ") for name, module in self._modules.items()
        ]
        extra = self.extra_repr()
        if lines and extra:
            lines = ["  " + extra.replace("\n", "\n  "), *lines]
        body = "\n" + "\n".join(lines) + "\n" if lines else extra
        return f"{type(self).__name__}({body})"
