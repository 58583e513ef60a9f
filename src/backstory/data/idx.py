"""IDX files (MNIST's): two zeros, a type, the number of axes, their lengths, and the bytes."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from backstory.data.files import check_release, first_of, read_bytes
from backstory.errors import DataError

__all__ = ["read_idx"]

UNSIGNED_BYTE = 0x08
# Of the gzipped files as they were published.
RELEASE = {
    "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
}


def read_idx(folder: Path, name: str, axes: int, verify: bool) -> np.ndarray:
    """The array of bytes in ``name`` or ``name.gz``.

    With ``verify`` a gzipped file must have the release's MD5, and another the release's lengths.
    """
    # Some unpackers write the last hyphen as a dot.
    file = first_of(folder, [name, f"{name}.gz", name.replace("-idx", ".idx")], "mnist()")
    content = read_bytes(file)
    if file.suffix == ".gz":
        if verify:
            check_release(file, content, RELEASE[name])
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(
                f"{file.name}", why=f"it cannot be unpacked: {error}", instead="the file anew from its source"
            ) from error
    shape = _shape(file, content, axes)
    expected = (60000 if name.startswith("train") else 10000, *((28, 28) if axes == 3 else ()))
    if verify and shape != expected:
        raise DataError(
            f"{file.name}: shape {shape}",
            why=f"MNIST's has {expected}",
            instead="the release's file, or verify=False to read it nevertheless",
        )
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def _shape(file: Path, content: bytes, axes: int) -> tuple[int, ...]:
    """The shape that the file's head gives, if the rest is as long as that."""
    head = 4 + 4 * axes
    if content[:4] != bytes([0, 0, UNSIGNED_BYTE, axes]) or len(content) < head:
        raise DataError(
            f"{file.name} begins with {content[:4].hex(' ') or 'nothing'}",
            why=f"an IDX file of bytes with {axes} axes begins with 00 00 08 {axes:02x} and the lengths",
            instead="the IDX file itself, gzipped (.gz) or not",
        )
    shape = tuple(int(n) for n in np.frombuffer(content, ">u4", axes, offset=4))
    if len(content) - head != math.prod(shape):
        raise DataError(
            f"{file.name}: {len(content) - head} bytes of data",
            why=f"its head says {shape}, which is {math.prod(shape)} bytes: it is "
            + ("cut off" if len(content) - head < math.prod(shape) else "too long"),
            instead="the file anew from its source",
        )
    return shape
