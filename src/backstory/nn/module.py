"""Module: parameters and submodules by name, and a call that observers can follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from backstory.autograd.modes import no_grad
from backstory.core import Core
from backstory.errors import ArgumentError, ShapeError
from backstory.graph import context
from backstory.hooks import Handle
from backstory.nn.hooks import ModuleHooks, call_with_hooks
from backstory.tensor import Tensor, as_tensor, wrap

__all__ = ["Module", "Parameter"]


class Parameter(Tensor):
    """A tensor that a module owns and an optimizer moves.

    >>> import backstory
    >>> Parameter(backstory.tensor([1.0])).requires_grad
    True
    """

    __slots__ = ()

    def __new__(cls, data: Any, requires_grad: bool = True) -> Parameter:
        source = as_tensor(data)
        self = Tensor.__new__(cls)
        plain = wrap(source.array, source.level)
        for slot in Core.__slots__[1:]:  # all but __weakref__
            setattr(self, slot, getattr(plain, slot))
        self.requires_grad_(requires_grad)
        return self

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()


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
        set_(self, "_modules", {})
        set_(self, "_observer", None)

    _parameters: dict[str, Parameter | None]
    _modules: dict[str, Module]
    _observer: Any
    _hooks: ModuleHooks | None = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; a subclass defines it."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward()")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        ctx = context()
        observer = ctx.observer
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
        for register in (self._parameters, self._modules):
            register.pop(name, None)
        if isinstance(value, Parameter):
            self._parameters[name] = value
        elif isinstance(value, Module):
            self._modules[name] = value
        object.__setattr__(self, name, value)

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
        if self._hooks is None:
            object.__setattr__(self, "_hooks", ModuleHooks())
        assert self._hooks is not None
        return self._hooks.add(kind, hook, first)

    def register_parameter(self, name: str, value: Parameter | None) -> None:
        """Own ``value`` under ``name``; ``None`` says that there is none, as for ``bias=False``."""
        setattr(self, name, value)
        self._parameters[name] = value

    def add_module(self, name: str, module: Module) -> None:
        """Own ``module`` under ``name``."""
        setattr(self, name, module)

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

    def train(self, mode: bool = True) -> Module:
        """Switch this module and all below to training (or evaluation) mode; returns it."""
        for module in self.modules():
            object.__setattr__(module, "training", mode)
        return self

    def eval(self) -> Module:
        """Switch this module and all below to evaluation mode; returns it."""
        return self.train(False)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters():
            clear_grad(parameter, set_to_none)

    def to(self, dtype: Any) -> Module:
        """Convert all parameters to ``dtype`` in place; returns the module. Do it before the optimizer."""
        for parameter in self.parameters():
            parameter.array = parameter.detach().to(dtype).array
            parameter.grad = None
        return self

    def double(self) -> Module:
        """``to(float64)``."""
        return self.to(np.float64)

    def state_dict(self) -> dict[str, Tensor]:
        """The parameters by path, sharing their memory."""
        return {name: parameter.detach() for name, parameter in self.named_parameters()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Copy ``state`` into the parameters. All names and shapes must fit; else nothing changes."""
        own = dict(self.named_parameters())
        missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        if missing or unexpected:
            raise ArgumentError(
                f"load_state_dict() into {type(self).__name__}: missing {missing}, unexpected {unexpected}",
                why="the names must be those of this module's parameters",
                instead="a state_dict of the same architecture",
            )
        arrays = {name: np.asarray(as_tensor(state[name]).detach().array) for name in own}
        for name, array in arrays.items():
            if array.shape != own[name].shape:
                raise ShapeError(
                    f"load_state_dict(): {name} has shape {array.shape}",
                    why=f"this module's has shape {own[name].shape}",
                    instead="a state_dict of the same architecture",
                )
        with no_grad():
            for name, array in arrays.items():
                own[name].copy_(array)

    def extra_repr(self) -> str:
        """What stands between the parentheses of the module's line."""
        return ""

    def __repr__(self) -> str:
        lines = [
            f"  ({name}): " + repr(module).replace("\n", "\n  ") for name, module in self._modules.items()
        ]
        body = "\n" + "\n".join(lines) + "\n" if lines else self.extra_repr()
        return f"{type(self).__name__}({body})"


def clear_grad(parameter: Tensor, set_to_none: bool) -> None:
    """Forget a gradient, or set it to zero in its own memory."""
    if set_to_none or parameter.grad is None:
        parameter.grad = None
    else:
        parameter.grad = parameter.grad.detach()
        parameter.grad.zero_()
