"""Native code: from LLVM's text to an object, and from an object to addresses in this process.

Only llvmlite is needed for it (40 ms to import, where Numba takes five times as long), so kernels that were
compiled before are loaded without a compiler. What is loaded stays loaded until the process ends.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from backstory.errors import MissingExtraError

__all__ = ["assembly", "host", "llvm", "load", "object_code"]

_lock = threading.Lock()


@cache
def llvm() -> Any:
    """llvmlite's binding of LLVM, set up for this machine."""
    try:
        import llvmlite.binding
    except ImportError as error:
        raise MissingExtraError.of("Numba", "compile", "compiling") from error
    llvmlite.binding.initialize_native_target()
    llvmlite.binding.initialize_native_asmprinter()
    return llvmlite.binding


@cache
def host() -> tuple[str, str, str]:
    """The machine that code is made for: its triple, the name of its processor, and what that can do."""
    binding = llvm()
    return (
        binding.get_process_triple(),
        binding.get_host_cpu_name(),
        binding.get_host_cpu_features().flatten(),
    )


@cache
def _machine() -> Any:
    binding = llvm()
    triple, name, features = host()
    return binding.Target.from_triple(triple).create_target_machine(
        cpu=name, features=features, opt=3, reloc="pic", codemodel="small", jit=True
    )


@cache
def _engine() -> Any:
    """What loads objects: it keeps 3 KB of each beside the code, where LLVM's newer one keeps 40 KB."""
    binding = llvm()
    engine = binding.create_mcjit_compiler(binding.parse_assembly(""), _machine())
    # Code must outlive the interpreter's last moments: a parked thread may still return into it.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(engine))
    return engine


def _optimised(text: str) -> Any:
    binding = llvm()
    module = binding.parse_assembly(text, binding.create_context())
    module.triple = host()[0]
    module.data_layout = str(_machine().target_data)
    module.verify()
    options = binding.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = options.slp_vectorization = True
    builder = binding.create_pass_builder(_machine(), options)
    builder.getModulePassManager().run(module, builder)
    return module


def object_code(text: str) -> bytes:
    """The object code of a module written in LLVM's language, optimised for this machine.

    >>> len(object_code("define i64 @two() { ret i64 2 }")) > 100
    True
    """
    return bytes(_machine().emit_object(_optimised(text)))


def assembly(text: str) -> str:
    """The machine's instructions that :func:`object_code` makes of a module, as text."""
    return str(_machine().emit_assembly(_optimised(text)))


def load(code: bytes, names: Sequence[str], imports: Mapping[str, int] | None = None) -> list[int]:
    """Load object code and give the addresses of its functions ``names``.

    What the code calls is looked for among ``imports`` (name to address) and then in the process: the C
    library's mathematics, for one. Imports stay known in the process, so their names are no one else's.

    >>> [two] = load(object_code("define i64 @two() { ret i64 2 }"), ["two"])
    >>> ctypes.CFUNCTYPE(ctypes.c_int64)(two)()
    2
    """
    binding = llvm()
    with _lock:
        for name, address in (imports or {}).items():
            binding.add_symbol(name, address)
        engine = _engine()
        engine.add_object_file(binding.ObjectFileRef.from_data(code))
        engine.finalize_object()
        return [engine.get_function_address(name) for name in names]
