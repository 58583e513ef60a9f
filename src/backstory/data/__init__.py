"""Data: datasets, loaders whose order follows from a seed, and readers of well-known files.

Nothing is ever downloaded: a reader is given the place of files that exist.
"""

from __future__ import annotations

from backstory.data.dataset import Dataset, Subset, TensorDataset, random_split
from backstory.data.images import ImageDataset, cifar10, digits, mnist
from backstory.data.loader import DataLoader, default_collate
from backstory.data.table import Table, csv

__all__ = [
    "DataLoader",
    "Dataset",
    "ImageDataset",
    "Subset",
    "Table",
    "TensorDataset",
    "cifar10",
    "csv",
    "default_collate",
    "digits",
    "mnist",
    "random_split",
]
