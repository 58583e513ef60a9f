"""Object code on disk, so that no process compiles what another has compiled before.

An object is kept under a digest of everything that decides it: what it is made from, the code here that makes
it, the versions of the compilers and the processor. It is written beside its place and then renamed, so any
number of processes may share the folder; what was used longest ago goes first when it is full. A file that
is damaged, cut off or not this user's counts as absent. Where nothing can be written, everything is compiled
anew.

The folder is ``BACKSTORY_CACHE`` or, without that variable, the user's cache folder. ``backstory cache``
shows it and ``backstory cache --clear`` empties it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

import backstory
from backstory.compiler.native import host

__all__ = ["LIMIT", "Contents", "clear", "contents", "folder", "object_of"]

LIMIT = 64 * 2**20
"""How many bytes the folder holds, give or take what is written between two looks."""
_LOOKS = 64  # at it, while as much is written as it holds
_MAKERS = ("native.py", "scalar_code.py", "mathematics.py", "language.py", "kernels.py")
_SUFFIX = ".object"
_MAGIC = b"backstory object 1\n"


def folder() -> Path:
    """Where objects are kept.

    >>> folder().name
    'compiled'
    """
    if chosen := os.environ.get("BACKSTORY_CACHE"):
        return Path(chosen) / "compiled"
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library/Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "backstory" / "compiled"


@cache
def _surroundings() -> bytes:
    """What decides an object beside its source: the code here that makes it, the compilers, the processor."""
    found = hashlib.sha256()
    for maker in _MAKERS:
        found.update(Path(__file__).with_name(maker).read_bytes())
    for library in ("numba", "llvmlite"):
        # Importing Numba, or asking for its version as a package, takes as long as all the rest.
        spec = importlib.util.find_spec(library)
        if spec is not None and spec.origin is not None:
            with suppress(OSError):
                found.update(Path(spec.origin).with_name("_version.py").read_bytes())
    found.update("\n".join((backstory.__version__, *host())).encode())
    return found.digest()


def object_of(name: str, source: str, make: Callable[[], bytes]) -> bytes:
    """The object made from ``source``: from the folder, or else made now by ``make`` and put there.

    ``name`` is for people: it begins the file's name.
    """
    digest = hashlib.sha256(_surroundings() + source.encode()).hexdigest()[:32]
    place = folder() / f"{re.sub(r'[^A-Za-z0-9_]+', '_', name)[:60]}-{digest}{_SUFFIX}"
    found = _read(place)
    if found is None:
        found = make()
        _write(place, found)
    return found


def _read(place: Path) -> bytes | None:
    try:
        with place.open("rb") as file:
            if hasattr(os, "getuid") and os.fstat(file.fileno()).st_uid != os.getuid():
                return None
            content = file.read()
    except OSError:
        return None
    head = len(_MAGIC) + 32
    whole = (
        content.startswith(_MAGIC) and hashlib.sha256(content[head:]).digest() == content[head - 32 : head]
    )
    if not whole:
        return None
    with suppress(OSError):
        os.utime(place)
    return content[head:]


def _write(place: Path, code: bytes) -> None:
    import tempfile  # as costly as all else here, and needed only where something is compiled

    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(prefix=".", suffix=".part", dir=place.parent)
    except OSError:
        return
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(_MAGIC + hashlib.sha256(code).digest() + code)
        os.replace(part, place)
    except OSError:
        with suppress(OSError):
            os.unlink(part)
        return
    # A folder of ten thousand objects takes longer to look through than one takes to make. So it is done
    # about once in so many bytes, by whichever process: whether it is this one's turn the name decides.
    if int(place.stem[-8:], 16) % max(LIMIT // _LOOKS, 1) < len(code):
        _shrink(place)


def _shrink(newest: Path) -> None:
    """Delete what was used longest ago until the rest fits, and what a killed process left half written."""
    files: list[tuple[float, int, str]] = []
    for file in os.scandir(newest.parent):
        with suppress(OSError):
            facts = file.stat()
            if file.name.endswith(".part") and facts.st_mtime < time.time() - 3600:
                os.unlink(file)
            elif file.name.endswith(_SUFFIX):
                files.append((facts.st_mtime, facts.st_size, file.path))
    excess = sum(size for _, size, _ in files) - LIMIT
    for _, size, file in sorted(files):
        if excess <= 0:
            return
        if file != str(newest):
            with suppress(OSError):
                os.unlink(file)
                excess -= size


class Contents(NamedTuple):
    """What the folder holds: the number of objects, and their size in bytes."""

    folder: Path
    objects: int
    size: int

    def __str__(self) -> str:
        return (
            f"{self.folder}: {self.objects} compiled kernels, {self.size / 2**20:.1f} MiB of at most "
            f"{LIMIT / 2**20:.0f}"
        )


def contents() -> Contents:
    """What is in the folder now."""
    place, sizes = folder(), []
    for file in place.glob(f"*{_SUFFIX}"):
        with suppress(OSError):
            sizes.append(file.stat().st_size)
    return Contents(place, len(sizes), sum(sizes))


def clear() -> Contents:
    """Delete all objects; returns what there was. Code that a process has loaded goes on running."""
    before = contents()
    for file in before.folder.glob(f"*{_SUFFIX}"):
        with suppress(OSError):
            file.unlink()
    return before
