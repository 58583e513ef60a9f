"""The driver, loaded: addresses of what ``driver.ll`` defines, and functions of Python made of them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from backstory.compiler.cache import object_of
from backstory.compiler.native import host, load, object_code

__all__ = ["Driver", "builtin", "driver"]

_DEFINED = ("call", "run", "stop", "work")
_FROM_PYTHON = (
    "PyEval_RestoreThread",
    "PyEval_SaveThread",
    "PyLong_AsVoidPtr",
    "PyObject_CallNoArgs",
    "PyThread_acquire_lock",
    "PyThread_release_lock",
    "Py_DecRef",
    "Py_IncRef",
)
_PAUSES = {
    "x86_64": "call void @llvm.x86.sse2.pause()",
    "aarch64": "call void @llvm.aarch64.hint(i32 1)",
    "arm64": "call void @llvm.aarch64.hint(i32 1)",
}


@dataclass(frozen=True)
class Driver:
    """Addresses. ``call`` is a function of Python without arguments, bound to a header; the rest are C's."""

    call: int
    run: int
    stop: int
    work: int


@cache
def driver() -> Driver:
    """The driver, compiled for this machine or taken from the cache, and loaded."""
    pause = _PAUSES.get(host()[0].partition("-")[0], "; no such instruction")
    text = Path(__file__).with_name("driver.ll").read_text(encoding="utf-8").replace("; PAUSE", pause)
    code = object_of("driver", text, lambda: object_code(text))
    imports = {name: _address(getattr(ctypes.pythonapi, name)) for name in _FROM_PYTHON}
    imports |= {"None": id(None), "yield_processor": _yield_processor()}
    return Driver(*load(code, _DEFINED, imports))


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


_NO_ARGUMENTS = 4
_methods: dict[tuple[str, int], _Method] = {}


def builtin(name: str, function: int, bound: object) -> Callable[[], None]:
    """A built-in function of Python that calls the machine code at ``function`` with ``bound``.

    Called from Python it costs a sixth of what a ctypes function costs.
    """
    method = _methods.setdefault(
        (name, function), _Method(name.encode(), function, _NO_ARGUMENTS, b"Run compiled code.")
    )
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype = ctypes.py_object
    make.argtypes = (ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)
    return make(ctypes.addressof(method), bound, None)
