"""Kernels: from the text of a small Python function to the address of its machine code.

Numba types the function and writes it in LLVM's language; from there on it is ours: the elementary
functions are put in, LLVM optimises it all for this processor, and the object is kept
(:mod:`backstory.compiler.cache`).
A kernel that was compiled before, by this process or another, is loaded without Numba.
"""

from __future__ import annotations

import ast
import linecache
import re
import threading
from typing import Any

from backstory.compiler import native
from backstory.compiler.cache import object_of
from backstory.errors import MissingExtraError

__all__ = ["instructions", "kernel"]

_ENTRY = "backstory.kernel"
_CALLED = re.compile(r"@backstory\.([a-z0-9_]+\.f\d\d)\(")
_DECLARED = re.compile(r"^declare .*?(@[\w.]+)\(", re.MULTILINE)
_addresses: dict[tuple[str, str], int] = {}
_lock = threading.RLock()


def kernel(name: str, source: str) -> int:
    """The address of the kernel that ``source`` defines as the function ``name``.

    ``source`` is the text of one function of one argument, the address of its block, in the words of
    :mod:`backstory.compiler.language`; :mod:`backstory.compiler.table` shows one. The same source is compiled
    once for all processes of this user on this machine.
    """
    with _lock:
        address = _addresses.get((name, source))
        if address is None:
            code = object_of(name, source, lambda: native.object_code(_module(name, source)))
            [address] = native.load(code, [_ENTRY])
            _addresses[name, source] = address
        return address


def instructions(name: str, source: str) -> str:
    """The machine instructions of a kernel, as text: to see whether its loops were vectorised."""
    return native.assembly(_module(name, source))


def _module(name: str, source: str) -> str:
    """The kernel in LLVM's language, with all that it calls, behind ``void backstory.kernel(i64)``."""
    text, function = _lowered(name, source)
    from backstory.compiler.mathematics import definitions

    called = set(_CALLED.findall(text))
    defined = definitions(called)
    declared = [f"@backstory.{full_name}" for full_name in called] + _DECLARED.findall(defined)
    for symbol in declared:  # Numba declares intrinsics too, where it finds |x| ≤ c in two comparisons
        text = re.sub(rf"^declare .*{re.escape(symbol)}\(.*$", "", text, flags=re.MULTILINE)
    text = text.replace(f"define i32 @{function}(", f"define internal i32 @{function}(")
    entry = f"""
define void @{_ENTRY}(i64 %block) {{
  %result = alloca ptr
  %raised = alloca ptr
  %status = call i32 @{function}(ptr %result, ptr %raised, i64 %block) alwaysinline
  ret void
}}
"""
    return "\n".join((text, defined, entry))


def _lowered(name: str, source: str) -> tuple[str, str]:
    """What Numba makes of the source, before optimisation: the module, and its function's name."""
    try:
        from numba.core import compiler, types
        from numba.core.cpu_options import FastMathOptions
        from numba.core.registry import cpu_target
    except ImportError as error:
        raise MissingExtraError.of("Numba", "compile", "compiling") from error
    from backstory.compiler.language import WORDS, slots

    function = _defined(name, source, dict(WORDS))
    flags: Any = compiler.Flags()
    flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    flags.nrt = False
    flags.error_model = "numpy"
    # Nothing is contracted: what an operation gives must not depend on what it was fused with.
    flags.fastmath = FastMathOptions(set())
    token = slots.set(_slots(source))
    try:
        result = compiler.compile_extra(
            cpu_target.typing_context,
            cpu_target.target_context,
            function,
            (types.int64,),
            types.none,
            flags,
            {},
        )
    except Exception as error:
        error.add_note(f"in the kernel\n{source}")
        raise
    finally:
        slots.reset(token)
    return result.library.get_llvm_str(), result.fndesc.llvm_func_name


def _defined(name: str, source: str, words: dict[str, Any]) -> Any:
    """The function that the source defines; Numba's errors can show its lines."""
    file = f"<kernel {name}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    exec(compile(source, file, "exec"), words)
    return words[name]


def _slots(source: str) -> frozenset[int]:
    """The words that name memory: the second arguments of ``array`` and ``array_at``."""
    return frozenset(
        call.args[1].value
        for call in ast.walk(ast.parse(source))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id in ("array", "array_at")
        and isinstance(call.args[1], ast.Constant)
        and isinstance(call.args[1].value, int)
    )
