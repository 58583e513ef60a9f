"""The words in which kernels are written, for Numba: arguments out of a block, memory, elementary functions.

A kernel is a Python function of one argument, the address of its block (:mod:`backstory.compiler.table`). It
may use Python's arithmetic and comparisons, ``for i in range(...)``, ``if`` and ``while``, and these words:

- ``integer(block, k)``, ``number(block, k)``: word ``k`` as an int64, as a float64; ``integer32(block, k)``
  as an int32, since loops that convert an int64 run with vectors of half as many entries.
- ``array(block, k, float32)``: the array whose address is word ``k``, of entries of that dtype: ``x[i]``
  reads or writes entry ``i``, counted from that address, without any check.
- ``array_at(address, k, float32)``: the same where the address is computed; it counts as word ``k``'s.
- ``float32(v)`` and the other :data:`DTYPES`: conversions.
- ``where(condition, a, b)``: both are computed, one is chosen. ``isnan``, ``isinf``, ``isfinite``.
- ``exp``, ``tanh``, ``maximum`` and whatever else :mod:`backstory.compiler.mathematics` has, of float32 or
  float64; other numbers become float64. ``maximum``, ``minimum``,
  ``floor_divide``, ``remainder`` and ``fmod`` also of integers.
- ``INFINITY``, a float64.
- ``accumulate(total, x)``: total + x in a sum whose order is free; any other sum keeps its order.

The ``k`` of an array is written out as a number. **Memory that is written through one word of a block is not
read or written through another word of it**: the compiler relies on that to vectorise without checks. In
place is one word, read and written. A kernel does not write to its block.

This module needs Numba and is imported only where kernels are compiled.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.datamodel import models
from numba.core.datamodel.registry import register_default
from numba.core.typing import templates
from numba.core.typing.templates import AbstractTemplate, signature
from numba.extending import intrinsic, lower_builtin

from backstory.compiler.mathematics import ARITIES

__all__ = ["DTYPES", "WORDS", "Memory", "slots"]

DTYPES: dict[str, Any] = {
    name: getattr(types, name) for name in ("float32", "float64", "int64", "int32", "int16", "int8", "uint8")
} | {"bool8": types.boolean}
"""The dtypes of arrays, by their names in kernels; ``bool8`` is NumPy's bool."""

_infer_global: Any = templates.infer_global
slots: ContextVar[frozenset[int]] = ContextVar("slots")
"""The words that name memory in the kernel that is being compiled."""


class Memory(types.Type):
    """The type of an array in a kernel: the dtype of its entries, and the word that names its memory."""

    def __init__(self, dtype: types.Type, slot: int) -> None:
        self.dtype, self.slot = dtype, slot
        super().__init__(f"Memory({dtype}, {slot})")


@register_default(Memory)
class _MemoryModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Memory) -> None:
        super().__init__(manager, kind, ir.PointerType(manager.lookup(kind.dtype).get_data_type()))


@_infer_global(operator.getitem)
class _Read(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        memory, index = args
        if isinstance(memory, Memory) and isinstance(index, types.Integer):
            return signature(memory.dtype, memory, types.intp)
        return None


@_infer_global(operator.setitem)
class _Write(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        memory, index, _ = args
        if isinstance(memory, Memory) and isinstance(index, types.Integer):
            return signature(types.none, memory, types.intp, memory.dtype)
        return None


@lower_builtin(operator.getitem, Memory, types.intp)
def _read(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    memory, _ = sig.args
    read = _marked(builder, builder.load(builder.gep(args[0], [args[1]])), memory)
    return context.data_model_manager[memory.dtype].from_data(builder, read)


@lower_builtin(operator.setitem, Memory, types.intp, types.Any)
def _write(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    memory = sig.args[0]
    data = context.data_model_manager[memory.dtype].as_data(builder, args[2])
    _marked(builder, builder.store(data, builder.gep(args[0], [args[1]])), memory)
    return context.get_dummy_value()


def _marked(builder: Any, access: Any, memory: Memory) -> Any:
    """Tell LLVM that this access meets no access through another word."""
    module = builder.module
    domain = module.add_metadata([ir.MetaDataString(module, "backstory")])
    scopes = {
        slot: module.add_metadata([ir.MetaDataString(module, f"word {slot}"), domain]) for slot in slots.get()
    }
    own = scopes.pop(memory.slot)
    access.set_metadata("alias.scope", module.add_metadata([own]))
    if scopes:
        access.set_metadata("noalias", module.add_metadata([scopes[slot] for slot in sorted(scopes)]))
    return access


def _word(kind: types.Type) -> Any:
    """An intrinsic that reads a word of the block as ``kind``."""

    def typed(typing: Any, block: Any, place: Any) -> Any:
        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            words = builder.inttoptr(args[0], ir.PointerType(ir.IntType(64)))
            word = builder.gep(words, [args[1]])
            read = builder.load(builder.bitcast(word, ir.PointerType(context.get_value_type(kind))))
            read.set_metadata("invariant.load", builder.module.add_metadata([]))
            return read

        return kind(types.int64, types.int64), code

    return intrinsic(typed)


integer, number, integer32 = _word(types.int64), _word(types.float64), _word(types.int32)


@intrinsic(prefer_literal=True)
def array_at(typing: Any, address: Any, slot: Any, dtype: Any) -> Any:
    """Memory at an address, as part of what the word ``slot`` names."""
    if not isinstance(slot, types.IntegerLiteral) or not isinstance(dtype, types.NumberClass):
        return None
    memory = Memory(dtype.dtype, slot.literal_value)

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(memory))

    return memory(types.int64, slot, dtype), code


@intrinsic(prefer_literal=True)
def array(typing: Any, block: Any, slot: Any, dtype: Any) -> Any:
    """The memory whose address is word ``slot`` of the block."""
    if not isinstance(slot, types.IntegerLiteral) or not isinstance(dtype, types.NumberClass):
        return None
    memory = Memory(dtype.dtype, slot.literal_value)

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = context.get_value_type(memory)
        words = builder.inttoptr(args[0], ir.PointerType(pointer))
        read = builder.load(builder.gep(words, [ir.Constant(ir.IntType(64), memory.slot)]))
        read.set_metadata("invariant.load", builder.module.add_metadata([]))
        return read

    return memory(types.int64, slot, dtype), code


@intrinsic
def where(typing: Any, condition: Any, yes: Any, no: Any) -> Any:
    """``yes`` where the condition holds, else ``no``, without a branch."""
    kind = typing.unify_types(yes, no)
    if kind is None:
        return None

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(*args)

    return kind(types.boolean, kind, kind), code


def _function(name: str) -> Any:
    """An intrinsic that calls the function of that name in :mod:`backstory.compiler.mathematics`."""

    def typed(typing: Any, *given: Any) -> Any:
        whole = all(isinstance(x, (types.Integer, types.Boolean)) for x in given)
        if whole and name in _WHOLE:
            kind = typing.unify_types(*given)
            return kind(*[kind] * len(given)), _WHOLE[name]
        single = all(x == types.float32 for x in given)
        kind = types.float32 if single else types.float64

        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            value = context.get_value_type(kind)
            full_name = f"backstory.{name}.{'f32' if single else 'f64'}"
            function = builder.module.globals.get(full_name)
            if function is None:
                function = ir.Function(builder.module, ir.FunctionType(value, [value] * len(args)), full_name)
            return builder.call(function, args)

        return kind(*[kind] * len(given)), code

    return intrinsic(_of_arity(ARITIES[name], typed))


def _of_arity(count: int, typed: Callable[..., Any]) -> Callable[..., Any]:
    """``typed`` with its arguments counted out, as Numba wants to see them."""
    if count == 1:
        return lambda typing, x: typed(typing, x)
    return lambda typing, x, y: typed(typing, x, y)


def _extreme(relation: str) -> Callable[..., Any]:
    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        a, b = args
        signed = getattr(sig.return_type, "signed", False)
        compare = builder.icmp_signed if signed else builder.icmp_unsigned
        return builder.select(compare(relation, a, b), a, b)

    return code


def _divided(part: str) -> Callable[..., Any]:
    """Integer division as NumPy has it: by 0 it gives 0, and the smallest number by −1 wraps around."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        a, b = args
        signed = getattr(sig.return_type, "signed", False)
        zero, one = ir.Constant(a.type, 0), ir.Constant(a.type, 1)
        by_zero = builder.icmp_signed("==", b, zero)
        if not signed:
            divisor = builder.select(by_zero, one, b)
            value = builder.udiv(a, divisor) if part == "floor_divide" else builder.urem(a, divisor)
            return builder.select(by_zero, zero, value)
        by_minus_one = builder.icmp_signed("==", b, ir.Constant(a.type, -1))
        divisor = builder.select(builder.or_(by_zero, by_minus_one), one, b)
        quotient, rest = builder.sdiv(a, divisor), builder.srem(a, divisor)
        if part == "fmod":
            return rest  # 0 by 0 and by −1 as well
        opposite = builder.icmp_signed("<", builder.xor(rest, divisor), zero)
        crossed = builder.and_(builder.icmp_signed("!=", rest, zero), opposite)
        if part == "remainder":
            return builder.select(crossed, builder.add(rest, divisor), rest)
        value = builder.select(crossed, builder.sub(quotient, one), quotient)
        value = builder.select(by_minus_one, builder.sub(zero, a), value)
        return builder.select(by_zero, zero, value)

    return code


_WHOLE = {
    "maximum": _extreme(">="),
    "minimum": _extreme("<="),
    **{name: _divided(name) for name in ("floor_divide", "remainder", "fmod")},
}


def _test(compare: Callable[[Any, Any], Any]) -> Any:
    """An intrinsic that tells something of a float."""

    def typed(typing: Any, x: Any) -> Any:
        kind = x if x in (types.float32, types.float64) else types.float64

        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return compare(builder, args[0])

        return types.boolean(kind), code

    return intrinsic(typed)


def _magnitude(builder: Any, x: Any) -> Any:
    zero = ir.Constant(x.type, 0.0)
    return builder.select(builder.fcmp_ordered("<", x, zero), builder.fneg(x), x)


WORDS: dict[str, Any] = {
    **DTYPES,
    "array": array,
    "array_at": array_at,
    "INFINITY": float("inf"),
    "integer": integer,
    "integer32": integer32,
    "number": number,
    "where": where,
    "isnan": _test(lambda builder, x: builder.fcmp_unordered("uno", x, x)),
    "isinf": _test(
        lambda builder, x: builder.fcmp_ordered(
            "==", _magnitude(builder, x), ir.Constant(x.type, float("inf"))
        )
    ),
    "isfinite": _test(
        lambda builder, x: builder.fcmp_ordered(
            "<", _magnitude(builder, x), ir.Constant(x.type, float("inf"))
        )
    ),
    **{name: _function(name) for name in ARITIES},
}
"""Everything a kernel may name, beside Python's own words."""
