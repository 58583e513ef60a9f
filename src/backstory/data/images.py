"""Images from well-known files: scikit-learn's digits, MNIST's IDX files, both releases of CIFAR-10.

Sizes and contents are always checked. With ``verify`` the files must also be the release's own, by size and
MD5; without, any file of the same format is read (Fashion-MNIST, a part of CIFAR-10).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from backstory.data.cifar import read_cifar10
from backstory.data.dataset import Dataset, TensorDataset
from backstory.data.idx import read_idx
from backstory.errors import DataError, MissingExtraError
from backstory.promotion import checked_dtype, get_default_dtype
from backstory.tensor import Tensor, as_tensor

__all__ = ["ImageDataset", "cifar10", "digits", "mnist"]


class ImageDataset(Dataset):
    """Images (samples, channels, height, width) kept as bytes, and their labels.

    A sample is (image from 0 to 1 of ``dtype``, label); they become floats when they are asked for, since all
    of CIFAR-10 as floats would take 600 MB.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, classes: list[str], dtype: Any = None) -> None:
        self.images, self.labels, self.classes = images, labels.astype(np.int64), classes
        self.dtype = get_default_dtype() if dtype is None else checked_dtype(dtype)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, label = self.batch(np.array([index]))
        return image[0], label[0]

    def batch(self, indices: Any) -> tuple[Tensor, Tensor]:
        """The samples of these numbers, joined."""
        pixels = self.images[indices].astype(self.dtype)
        pixels /= 255
        return as_tensor(pixels), as_tensor(self.labels[indices])

    @property
    def tensors(self) -> tuple[Tensor, Tensor]:
        """All images and all labels."""
        return self.batch(slice(None))


def digits(dtype: Any = None) -> TensorDataset:
    """scikit-learn's 1,797 handwritten digits: 64 pixels (8 × 8) from 0 to 1, and labels from 0 to 9.

    They come with scikit-learn (``backstory[data]``). The pixels are of ``dtype``, or the default dtype.

    >>> dataset = digits()
    >>> len(dataset), dataset[0][0].shape, dataset[0][1]
    (1797, (64,), tensor(0))
    """
    images, labels = _digits()
    return TensorDataset(images.astype(get_default_dtype() if dtype is None else dtype), labels.copy())


@cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingExtraError.of("scikit-learn", "data", "data.digits()") from error
    found: Any = load_digits()
    return found.data / 16.0, found.target.astype(np.int64)


def mnist(path: str | Path, train: bool = True, verify: bool = True, dtype: Any = None) -> ImageDataset:
    """MNIST from the folder ``path`` of its IDX files, gzipped or not: 60,000 or 10,000 of (1, 28, 28).

    The files are ``train-images-idx3-ubyte`` and ``train-labels-idx1-ubyte``, or ``t10k-…`` for
    ``train=False``, with ``.gz`` or without. LeCun, Cortes & Burges 1998.
    """
    part = "train" if train else "t10k"
    images = read_idx(Path(path), f"{part}-images-idx3-ubyte", axes=3, verify=verify)
    labels = read_idx(Path(path), f"{part}-labels-idx1-ubyte", axes=1, verify=verify)
    if len(images) != len(labels):
        raise DataError(
            f"mnist({str(path)!r}): {len(images)} images and {len(labels)} labels",
            why="each image has one label",
            instead="images and labels of one release",
        )
    return ImageDataset(images[:, None], labels, [str(i) for i in range(10)], dtype)


def cifar10(path: str | Path, train: bool = True, verify: bool = True, dtype: Any = None) -> ImageDataset:
    """CIFAR-10 from ``path``: 50,000 or 10,000 colour images (3, 32, 32) of ten classes.

    ``path`` is the folder of the python release (``data_batch_1`` … ``test_batch``) or of the binary one
    (``data_batch_1.bin`` …), or a folder that holds it as ``cifar-10-batches-py`` or ``-bin``. Of the python
    files' pickles nothing is run: they may hold arrays, numbers and words alone. Krizhevsky 2009.
    """
    images, labels, classes = read_cifar10(Path(path), train, verify)
    return ImageDataset(images, labels, classes, dtype)
