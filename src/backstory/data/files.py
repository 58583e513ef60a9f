"""What all readers of files check: that a file is there, whole, and the one that was meant."""

from __future__ import annotations

import hashlib
from pathlib import Path

from backstory.errors import DataError

__all__ = ["check_release", "first_of", "read_bytes"]


def first_of(folder: Path, names: list[str], what: str) -> Path:
    """The first of ``names`` that exists in ``folder``."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DataError(
        f"{what}: {folder} holds no {names[0]}",
        why="it is looked for there" + (f", also as {', '.join(names[1:])}" if names[1:] else ""),
        instead="the folder of the files; backstory downloads nothing by itself",
    )


def read_bytes(file: Path) -> bytes:
    """The whole file."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}", why=f"it cannot be read: {error}", instead="a file that can") from error


def check_release(file: Path, content: bytes, md5: str) -> None:
    """Refuse a file that is not the release's own."""
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        raise DataError(
            f"{file.name}: MD5 {found}",
            why=f"the release's file has {md5}: this one is damaged or another",
            instead="the file anew from its source, or verify=False to read it nevertheless",
        )
