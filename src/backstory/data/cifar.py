"""CIFAR-10's two releases: pickled batches of Python 2, and records of bytes."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from backstory.data.files import check_release, first_of, read_bytes
from backstory.errors import DataError

__all__ = ["CLASSES", "read_cifar10"]

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
PIXELS = 3 * 32 * 32
SAMPLES = 10000  # in each of a release's files
# Of the python release's files; of the binary release's no such list is published.
RELEASE = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}


def read_cifar10(path: Path, train: bool, verify: bool) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Images (samples, 3, 32, 32) and labels, as bytes, and the names of the classes.

    With ``verify`` all files of the part must be there and be the release's; without, those that are there.
    """
    folder = next(
        (f for f in (path / "cifar-10-batches-py", path / "cifar-10-batches-bin") if f.is_dir()), path
    )
    names = [f"data_batch_{i}" for i in range(1, 6)] if train else ["test_batch"]
    if not verify:
        there = [name for name in names if any((folder / f"{name}{end}").is_file() for end in ("", ".bin"))]
        names = there or names
    parts = [_read(first_of(folder, [name, f"{name}.bin"], "cifar10()"), name, verify) for name in names]
    images = np.concatenate([images for images, _ in parts])
    return images.reshape(-1, 3, 32, 32), np.concatenate([labels for _, labels in parts]), list(CLASSES)


def _read(file: Path, name: str, verify: bool) -> tuple[np.ndarray, np.ndarray]:
    content = read_bytes(file)
    binary = file.suffix == ".bin"
    if verify and not binary:
        check_release(file, content, RELEASE[name])
    images, labels = _records(file, content) if binary else _unpickled(file, content)
    if verify and len(labels) != SAMPLES:
        raise DataError(
            f"{file.name}: {len(labels)} images",
            why=f"the release's file has {SAMPLES}: this one is cut off or another",
            instead="the release's file, or verify=False to read it nevertheless",
        )
    if len(labels) and labels.max() > 9:
        raise DataError(
            f"{file.name}: a label of {int(labels.max())}",
            why="CIFAR-10's labels go from 0 to 9: this is another file, or it is damaged",
            instead="the file anew from its source",
        )
    return images, labels


def _records(file: Path, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """One byte of label and 3,072 of pixels for each image."""
    if not content or len(content) % (PIXELS + 1):
        raise DataError(
            f"{file.name}: {len(content)} bytes",
            why=f"it holds records of {PIXELS + 1} bytes: it is cut off or no batch of CIFAR-10",
            instead="the file anew from its source",
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, PIXELS + 1)
    return records[:, 1:], records[:, 0]


class _Unpickler(pickle.Unpickler):
    """Builds arrays, and refuses to call anything else."""

    ALLOWED = frozenset({("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")})

    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return super().find_class("numpy._core.multiarray", name)
        if (module, name) in self.ALLOWED:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it wants to call {module}.{name}, which no batch of CIFAR-10 does")


def _unpickled(file: Path, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """A dict with ``data`` (samples, 3072) and ``labels``, pickled by Python 2."""
    try:
        batch = _Unpickler(io.BytesIO(content), encoding="bytes").load()
        batch = {key.decode() if isinstance(key, bytes) else key: value for key, value in batch.items()}
        images, labels = np.asarray(batch["data"]), np.asarray(batch["labels"])
    except Exception as error:  # a damaged pickle can raise anything
        raise DataError(
            f"{file.name}",
            why=f"it is cut off or no batch of CIFAR-10: {type(error).__name__}: {error}",
            instead="the file anew from its source",
        ) from error
    if images.dtype != np.uint8 or images.shape != (len(labels), PIXELS) or labels.dtype.kind not in "iu":
        raise DataError(
            f"{file.name}: data of shape {images.shape} and {images.dtype}, {len(labels)} labels",
            why=f"a batch holds bytes of shape (samples, {PIXELS}) and a label for each",
            instead="a file of the python release of CIFAR-10",
        )
    return images, labels
