"""What hears of the gradients that pass through the call of a module."""

from __future__ import annotations

from typing import Any

from backstory.autograd.function import Function
from backstory.errors import GraphError
from backstory.nn.hooks import ModuleHooks
from backstory.tensor import Tensor

__all__ = ["Gates"]


class Gates:
    """What gradients pass on their way into a module's outputs and out of its inputs, in one call."""

    def __init__(self, module: Any, hooks: ModuleHooks) -> None:
        self.module, self.hooks = module, hooks
        self.count = 0
        self.grad_output: tuple[Any, ...] = ()
        self.inputs_need = False

    def enter(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The inputs behind a gate, where one needs a gradient."""
        self.count = len(args)
        places = [i for i, x in enumerate(args) if isinstance(x, Tensor)]
        passed = _through(self._out_of_inputs, places, [args[i] for i in places])
        self.inputs_need = passed is not None
        if passed is None:
            return args
        changed = list(args)
        for i, x in zip(places, passed, strict=True):
            changed[i] = x
        return tuple(changed)

    def leave(self, out: Any) -> Any:
        """The outputs behind a gate."""
        several = isinstance(out, (tuple, list))
        values = list(out) if several else [out]
        places = [i for i, x in enumerate(values) if isinstance(x, Tensor)]
        passed = _through(self._into_outputs, places, [values[i] for i in places])
        if passed is None:
            return out
        for i, x in zip(places, passed, strict=True):
            values[i] = x
        return type(out)(values) if several else values[0]

    def _into_outputs(self, places: list[int], gradients: tuple[Any, ...]) -> tuple[Any, ...]:
        self.grad_output = gradients
        for hook in tuple(self.hooks.backward_before.values()):
            self.grad_output = _changed(hook(self.module, self.grad_output), self.grad_output)
        if not self.inputs_need:
            for hook in tuple(self.hooks.backward.values()):
                hook(self.module, (None,) * self.count, self.grad_output)
        return self.grad_output

    def _out_of_inputs(self, places: list[int], gradients: tuple[Any, ...]) -> tuple[Any, ...]:
        full: list[Any] = [None] * self.count
        for i, g in zip(places, gradients, strict=True):
            full[i] = g
        found = tuple(full)
        for hook in tuple(self.hooks.backward.values()):
            found = _changed(hook(self.module, found, self.grad_output), found)
        return tuple(found[i] for i in places)


def _changed(result: Any, before: tuple[Any, ...]) -> tuple[Any, ...]:
    """What a backward hook made of the gradients."""
    if result is None:
        return before
    after = result if isinstance(result, tuple) else (result,)
    if len(after) != len(before):
        raise GraphError(
            f"a backward hook of a module returned {len(after)} gradients",
            why=f"it received {len(before)}, and what it returns takes their place",
            instead="None, or as many gradients as it received",
        )
    return after


class Gate(Function):
    """The identity, which tells a function of the gradients that come back."""

    @staticmethod
    def forward(ctx: Any, tell: Any, places: list[int], *tensors: Tensor) -> Any:
        ctx.tell, ctx.places = tell, places
        ctx.set_materialize_grads(False)
        return tuple(x.detach() for x in tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return (None, None, *ctx.tell(ctx.places, gradients))

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return tangents[2:]


def _through(tell: Any, places: list[int], tensors: list[Tensor]) -> tuple[Any, ...] | None:
    """The tensors behind a :class:`Gate`; ``None`` where no gradient will come."""
    if not any(x.requires_grad for x in tensors):
        return None
    passed = Gate.apply(tell, places, *tensors)
    if not any(x.requires_grad for x in passed):
        return None
    return tuple(new if old.requires_grad else old for new, old in zip(passed, tensors, strict=True))
