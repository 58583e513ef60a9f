"""A custom :class:`~backstory.autograd.Function` under ``vmap``: of all samples, made of that of each."""

from __future__ import annotations

from typing import Any

from backstory.autograd.function import Function, FunctionContext
from backstory.autograd.levels import unlift
from backstory.autograd.modes import no_grad
from backstory.func.batched import Batched
from backstory.graph import Level, context
from backstory.ops import TABLE
from backstory.tensor import Tensor, apply, wrap

__all__ = ["for_samples", "one_of_samples"]


def one_of_samples(fctx: Any, known: list[tuple[Any, Any]], level: Level) -> FunctionContext:
    """The context that :func:`for_samples` left, as one sample sees it at ``level``."""
    one = fctx.inner.lifted([], fctx.needs_input_grad)
    own = (
        (x, wrap(Batched(x), level.number) if m else x) for x, m in zip(fctx._saved, fctx.flags, strict=True)
    )
    one._saved = tuple(next((new for old, new in known if old is x), other) for x, other in own)
    one._constant = tuple(new for old, new in known if any(old is x for x in fctx._constant))
    return one


def for_samples(function: type[Function], level: Any, mapped: tuple[bool, ...]) -> type[Function]:
    """The function of all samples: forward, backward and jvp of ``function``, each mapped over them.

    ``mapped`` says which arguments hold the samples along axis 0. All outputs hold them so.
    """

    def held(x: Any, inside: Level) -> Any:
        """A result on the level below, the samples in front."""
        if not isinstance(x, Tensor):
            return x
        value = unlift(x, inside)
        if isinstance(value, Batched):
            return value.array
        return apply(TABLE["broadcast_to"], value, shape=(level.size, *value.shape))

    def lifted(x: Any, inside: Level, is_mapped: bool = True) -> Any:
        return wrap(Batched(x), inside.number) if isinstance(x, Tensor) and is_mapped else x

    def fresh() -> Any:
        return type(level)(level.size, level.randomness)

    class Samples(Function):
        @staticmethod
        def forward(ctx: Any, *args: Any) -> Any:
            ctx.inner = inner = FunctionContext(ctx.needs_input_grad)
            with context().inside(fresh()) as inside, no_grad():
                given = [lifted(x, inside, m) for x, m in zip(args, mapped, strict=True)]
                if function.setup_context is Function.setup_context:
                    out = function.forward(inner, *given)
                else:
                    out = function.forward(*given)
                    function.setup_context(inner, tuple(given), out)
                several = isinstance(out, (tuple, list))
                outputs = tuple(out) if several else (out,)
                results = tuple(held(x, inside) for x in outputs)
                # An argument or an output that was saved stays itself, for its history.
                known = [*zip(given, args, mapped, strict=True)]
                known += [(x, result, True) for x, result in zip(outputs, results, strict=True)]
                saved, flags = [], []
                for x in inner._saved:
                    found = next(((new, m) for old, new, m in known if old is x), None)
                    saved.append(found[0] if found else held(x, inside))
                    flags.append(found[1] if found else True)
                constant = [new for old, new, _ in known if any(old is x for x in inner._constant)]
            inner._saved = ()
            ctx.flags = tuple(flags)
            ctx.save_for_backward(*saved)
            ctx.mark_non_differentiable(*constant)
            ctx.set_materialize_grads(inner._materialize)
            return results if several else results[0]

        @staticmethod
        def backward(ctx: Any, *cotangents: Any) -> Any:
            with context().inside(fresh()) as inside:
                one = _for_one(ctx, inside)
                found = function.backward(one, *(lifted(g, inside) for g in cotangents))
                parts = found if isinstance(found, (tuple, list)) else (found,)
                return tuple(
                    None if g is None else _gathered(held(g, inside), m)
                    for g, m in zip(parts[: len(mapped)], mapped, strict=True)
                )

        @staticmethod
        def jvp(ctx: Any, *tangents: Any) -> Any:
            with context().inside(fresh()) as inside:
                one = _for_one(ctx, inside)
                moves = function.jvp(
                    one, *(lifted(t, inside, m) for t, m in zip(tangents, mapped, strict=True))
                )
                if isinstance(moves, (tuple, list)):
                    return tuple(None if t is None else held(t, inside) for t in moves)
                return held(moves, inside)

    def _for_one(ctx: Any, inside: Level) -> FunctionContext:
        """The context as one sample sees it."""
        saved = [lifted(x, inside, m) for x, m in zip(ctx.saved_tensors, ctx.flags, strict=True)]
        one = ctx.inner.lifted([], ctx.needs_input_grad)
        one._saved = tuple(saved)
        return one

    def _gathered(g: Tensor, is_mapped: bool) -> Tensor:
        """The gradient of an argument; of one that all samples share, the sum."""
        return g if is_mapped else apply(TABLE["sum"], g, axis=0, keepdims=False)

    Samples.__name__ = Samples.__qualname__ = function.__name__
    if function.jvp is Function.jvp:
        Samples.jvp = Function.jvp
    return Samples
