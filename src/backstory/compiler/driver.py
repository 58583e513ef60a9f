"""The driver, loaded: addresses of what ``driver.ll`` defines, and functions of Python made of them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from backstory.compiler.cache import object_of
from backstory.compiler.native import host, load, object_code

__all__ = ["Driver", "address_of", "builtin", "driver", "exported"]

_DEFINED = ("address_of", "call", "note", "run", "stop", "work")
_FROM_PYTHON = (
    "PyErr_SetString",
    "PyEval_RestoreThread",
    "PyEval_SaveThread",
    "PyLong_AsVoidPtr",
    "PyLong_FromVoidPtr",
    "PyObject_CallNoArgs",
    "PyThread_acquire_lock",
    "PyThread_release_lock",
    "PyType_IsSubtype",
    "Py_DecRef",
    "Py_IncRef",
)
_PAUSES = {
    "x86_64": "call void @llvm.x86.sse2.pause()",
    "aarch64": "call void @llvm.aarch64.hint(i32 1)",
    "arm64": "call void @llvm.aarch64.hint(i32 1)",
}


class Driver(NamedTuple):
    """Addresses. ``address_of`` is a function of Python of one array; ``call`` is one without arguments,
    bound to a header; the rest are C's.
    """

    address_of: int
    call: int
    note: int
    run: int
    stop: int
    work: int


@cache
def driver() -> Driver:
    """The driver, compiled for this machine or taken from the cache, and loaded."""
    pause = _PAUSES.get(host()[0].partition("-")[0], "; no such instruction")
    text = Path(__file__).with_name("driver.ll").read_text(encoding="utf-8").replace("; PAUSE", pause)
    head = object.__basicsize__
    text = text.replace("TYPE_AT", str(head - 8)).replace("DATA_AT", str(head))
    code = object_of("driver", text, lambda: object_code(text))
    imports = exported(_FROM_PYTHON) | {
        "backstory.None": id(None),
        "backstory.TypeError": id(TypeError),
        "backstory.ndarray": id(np.ndarray),
        "backstory.yield_processor": _yield_processor(),
    }
    return Driver(*load(code, _DEFINED, imports))


def exported(names: Iterable[str]) -> dict[str, int]:
    """Addresses of functions of Python's own interface for C."""
    return {name: _address(getattr(ctypes.pythonapi, name)) for name in names}


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _yield_processor() -> int:
    """The address of the system's function that lets another thread run."""
    if (windows := getattr(ctypes, "windll", None)) is not None:
        return _address(windows.kernel32.SwitchToThread)
    return _address(ctypes.CDLL(None).sched_yield)


class _Method(ctypes.Structure):
    """CPython's ``PyMethodDef``, which belongs to its stable interface."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


_NO_ARGUMENTS, _ONE_ARGUMENT = 4, 8
_methods: dict[tuple[str, int], _Method] = {}


@cache
def address_of() -> Callable[[np.ndarray], int]:
    """The function that tells where an array's entries begin, a tenth as slow as ``array.ctypes.data``.

    >>> x = np.zeros(3)
    >>> address_of()(x) == x.ctypes.data
    True
    """
    fast = builtin("address_of", driver().address_of, None, _ONE_ARGUMENT)
    x = np.zeros(2)[1:]
    # Should NumPy ever lay arrays out otherwise, its own way is as right as ever.
    return fast if fast(x) == x.ctypes.data else lambda array: array.ctypes.data


def builtin(name: str, function: int, bound: object, takes: int = _NO_ARGUMENTS) -> Callable[..., Any]:
    """A built-in function of Python: the machine code at ``function``, bound to an object as its ``self``.

    Called from Python it costs a sixth of what a ctypes function costs. ``takes`` is CPython's flag that says
    what arguments there are: none, or one.
    """
    method = _methods.setdefault((name, function), _Method(name.encode(), function, takes, b"Compiled code."))
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype = ctypes.py_object
    make.argtypes = (ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)
    return make(ctypes.addressof(method), bound, None)
