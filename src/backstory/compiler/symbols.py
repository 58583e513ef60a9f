"""Symbols: what tensors hold in a trace in place of arrays.

A symbol has the shape and dtype of an array and stands for the value that its memory has at this point of
the program. Changing it in place gives that memory a new value. A view reads the memory that it is a view
of, and writes there. What needs the numbers themselves raises, and says what to write instead.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from backstory.compiler.graph import Value
from backstory.core import Core
from backstory.errors import TraceError
from backstory.graph import context
from backstory.history import place_of, user_line

__all__ = ["Symbol", "as_value", "no_numbers", "symbolic"]


class _Flags:
    """What code asks of ``array.flags``."""

    __slots__ = ("c_contiguous", "writeable")

    def __init__(self, writeable: bool) -> None:
        self.writeable, self.c_contiguous = writeable, True


class Symbol:
    """Memory in a trace; ``value`` is what it holds now.

    A view has the symbol that it is a view of, and the primitive that shows it.
    """

    __slots__ = (
        "__weakref__",
        "_of",
        "_params",
        "_primitive",
        "_seen",
        "_value",
        "dtype",
        "line",
        "shape",
        "version",
    )

    def __init__(
        self, value: Value, of: Symbol | None = None, primitive: str = "", params: Mapping[str, Any] = {}
    ):
        self._value, self.shape, self.dtype = value, value.shape, value.dtype
        self._of, self._primitive, self._params = of, primitive, params
        self.version = 0
        self._seen = 0 if of is None else of.version
        self.line: tuple[str, int] | None = None

    # Memory

    @property
    def value(self) -> Value:
        """What the memory holds at this point of the program."""
        of = self._of
        if of is not None:
            now = of.value
            if of.version != self._seen:
                self._value = _trace().emit(self._primitive, (now,), self._params)
                self._seen = of.version
                self.version += 1
        return self._value

    @property
    def root(self) -> Symbol:
        """The symbol whose memory this is."""
        return self.views[-1]

    @property
    def views(self) -> list[Symbol]:
        """This symbol, what it is a view of, and so on up to the memory itself."""
        found: list[Symbol] = [self]
        while (x := found[-1]._of) is not None:
            found.append(x)
        return found

    def write(self, new: Any) -> None:
        """The memory ← ``new``, broadcast to its shape and converted to its dtype."""
        trace = _trace()
        value = trace.fitted(new, self.shape, self.dtype)
        x = self
        while x._of is not None:
            of = x._of
            old = of.value
            value = _through(trace, x._primitive, x._params, old, value)
            x = of
        x._value = value
        x.version += 1

    @property
    def flags(self) -> _Flags:
        x = self
        while x._of is not None:
            if x._primitive == "broadcast_to":
                return _Flags(False)
            x = x._of
        return _Flags(True)

    # What arrays have

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return self._value.size

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def T(self) -> Any:
        return symbolic().permute_dims(self, tuple(reversed(range(self.ndim))))

    @property
    def mT(self) -> Any:
        return symbolic().matrix_transpose(self)

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return symbolic()

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a number")
        return self.shape[0]

    def astype(self, dtype: Any, copy: bool = True) -> Any:
        if not copy and self.dtype == dtype:
            return self
        return symbolic().astype(self, dtype)

    def copy(self) -> Any:
        return symbolic().asarray(self, copy=True)

    def reshape(self, *shape: Any) -> Any:
        return symbolic().reshape(
            self, shape[0] if len(shape) == 1 and isinstance(shape[0], tuple) else shape
        )

    def transpose(self, *axes: Any) -> Any:
        if not axes:
            return self.T
        return symbolic().permute_dims(self, axes[0] if isinstance(axes[0], (tuple, list)) else axes)

    def dot(self, other: Any) -> Any:
        return symbolic().matmul(self, other)

    def sum(self, axis: Any = None, keepdims: bool = False) -> Any:
        return symbolic().sum(self, axis=axis, keepdims=keepdims)

    def max(self, axis: Any = None, keepdims: bool = False) -> Any:
        return symbolic().max(self, axis=axis, keepdims=keepdims)

    def min(self, axis: Any = None, keepdims: bool = False) -> Any:
        return symbolic().min(self, axis=axis, keepdims=keepdims)

    def any(self, axis: Any = None, keepdims: bool = False) -> Any:
        return symbolic().any(self, axis=axis, keepdims=keepdims)

    def all(self, axis: Any = None, keepdims: bool = False) -> Any:
        return symbolic().all(self, axis=axis, keepdims=keepdims)

    def __getitem__(self, index: Any) -> Any:
        return symbolic().getitem(self, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        symbolic().setitem(self, index, value)

    # NumPy's own protocols: its functions hand over to the namespace where that has the same

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **keywords: Any) -> Any:
        name = str(_UFUNCS.get(ufunc.__name__, ufunc.__name__))
        function = getattr(symbolic(), name, None) or getattr(operator, name, None)
        if method != "__call__" or keywords or function is None:
            raise no_numbers(f"numpy.{ufunc.__name__}")
        result = function(*inputs)
        if out is not None:
            (target,) = out
            if not isinstance(target, Symbol):
                raise no_numbers(f"numpy.{ufunc.__name__} into an array from outside of the step")
            target.write(result)
            return target
        return result

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        own = _FUNCTIONS.get(function.__name__)
        if own is None:
            raise no_numbers(f"numpy.{function.__name__}")
        return own(*args, **kwargs)

    # What needs the numbers

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        raise no_numbers("a NumPy array of it")

    def item(self) -> Any:
        raise no_numbers(".item()")

    def tolist(self) -> Any:
        raise no_numbers(".tolist()")

    def __bool__(self) -> bool:
        raise no_numbers("its truth (if, while, and, or, not)")

    def __float__(self) -> float:
        raise no_numbers("float()")

    def __int__(self) -> int:
        raise no_numbers("int()")

    def __index__(self) -> int:
        raise no_numbers("its use as an index")

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"<array of shape {self.shape} and {self.dtype} in a trace>"

    __hash__ = object.__hash__


def _through(trace: Any, primitive: str, params: Mapping[str, Any], old: Value, new: Value) -> Value:
    """What memory holds after ``new`` was written to the view of it that ``primitive`` shows."""
    if primitive == "reshape":
        return trace.emit("reshape", (new,), {"shape": old.shape})
    if primitive == "permute_dims":
        back = tuple(int(i) for i in np.argsort(params["axes"]))
        return trace.emit("permute_dims", (new,), {"axes": back})
    assert primitive == "getitem", f"{primitive} is not written through"
    return trace.emit("setitem", (old, new), {"index": params["index"]})


def _operators() -> None:
    binary = {
        "add": "add",
        "sub": "subtract",
        "mul": "multiply",
        "truediv": "divide",
        "floordiv": "floor_divide",
        "mod": "remainder",
        "pow": "pow",
        "and": "bitwise_and",
        "or": "bitwise_or",
        "xor": "bitwise_xor",
    }
    for name, primitive in binary.items():
        setattr(Symbol, f"__{name}__", _binary(primitive))
        setattr(Symbol, f"__r{name}__", _binary(primitive, swapped=True))
        setattr(Symbol, f"__i{name}__", _in_place(primitive))
    compared = {"lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal"}
    for name, primitive in {**compared, "eq": "equal", "ne": "not_equal"}.items():
        setattr(Symbol, f"__{name}__", _binary(primitive))
    for name, primitive in {"neg": "negative", "invert": "bitwise_invert", "abs": "abs"}.items():
        setattr(Symbol, f"__{name}__", _unary(primitive))
    setattr(Symbol, "__pos__", lambda self: self)  # noqa: B010
    setattr(Symbol, "__matmul__", _product)  # noqa: B010
    setattr(Symbol, "__rmatmul__", lambda self, other: symbolic().matmul(other, self))  # noqa: B010


def _product(self: Symbol, other: Any) -> Any:
    return NotImplemented if isinstance(other, Core) else symbolic().matmul(self, other)


def _binary(primitive: str, swapped: bool = False) -> Callable[[Any, Any], Any]:
    def run(self: Any, other: Any) -> Any:
        if other is None or isinstance(other, (str, Core)):
            return NotImplemented
        pair = (other, self) if swapped else (self, other)
        return _trace().run(primitive, pair)

    return run


def _in_place(primitive: str) -> Callable[[Any, Any], Any]:
    def run(self: Any, other: Any) -> Any:
        self.write(_trace().run(primitive, (self, other)))
        return self

    return run


def _unary(primitive: str) -> Callable[[Any], Any]:
    return lambda self: _trace().run(primitive, (self,))


_operators()


def _trace() -> Any:
    trace = context().trace
    if trace is None:
        raise TraceError(
            "a tensor of a compiled step was used after its trace",
            why="in the trace it stood for numbers that each call computes",
            instead="the values that the step returns",
        )
    return trace


def symbolic() -> Any:
    """The namespace of the present trace."""
    return _trace().namespace


def as_value(x: Any) -> Any:
    """The value of a symbol; anything else itself."""
    return x.value if isinstance(x, Symbol) else x


def no_numbers(what: str) -> TraceError:
    """The error where a step asks for the numbers themselves."""
    return TraceError(
        f"{what} of a tensor inside a compiled step, at {place_of(user_line())}",
        why="the step is traced once, before there are numbers, and what it decided would hold for ever",
        instead="backstory.where(condition, x, y) for a choice, the step split in two at that point, "
        "or compile(step, strict=False) to run it eagerly",
    )


_UFUNCS = {
    "absolute": "abs",
    "arccos": "acos",
    "arcsin": "asin",
    "arctan": "atan",
    "arctan2": "atan2",
    "true_divide": "divide",
    "power": "pow",
    "divide": "truediv",
    "multiply": "mul",
    "subtract": "sub",
    "negative": "neg",
    "rint": "round",
}


def _copyto(target: Any, source: Any) -> None:
    if not isinstance(target, Symbol):
        raise no_numbers("a write into an array from outside of the step")
    target.write(source)


def _shares(x: Any, y: Any, max_work: Any = None) -> bool:
    return isinstance(x, Symbol) and isinstance(y, Symbol) and x.root is y.root


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "copyto": _copyto,
    "may_share_memory": _shares,
    "shares_memory": _shares,
    "shape": lambda x: x.shape,
    "ndim": lambda x: x.ndim,
    "size": lambda x: x.size,
    "broadcast_to": lambda x, shape, subok=False: symbolic().broadcast_to(x, shape),
    "zeros_like": lambda x, dtype=None, **_: symbolic().zeros_like(x),
    "ones_like": lambda x, dtype=None, **_: symbolic().ones_like(x),
    "reshape": lambda x, shape: symbolic().reshape(x, shape),
    "sum": lambda x, axis=None, keepdims=False: symbolic().sum(x, axis=axis, keepdims=keepdims),
    "where": lambda c, x, y: symbolic().where(c, x, y),
    "concatenate": lambda parts, axis=0: symbolic().concat(parts, axis=axis),
}
