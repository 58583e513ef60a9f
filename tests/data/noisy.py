"""Datasets that the loader's worker processes import, and so without the tests' libraries."""

from __future__ import annotations

import backstory
from backstory.data import Dataset


class Noisy(Dataset):
    """Samples that draw from the thread's stream when they are fetched, as an augmentation does."""

    def __len__(self):
        return 23

    def __getitem__(self, index):
        return {"x": backstory.rand(3) + index, "index": index}


class Failing(Noisy):
    def __getitem__(self, index):
        if index == 7:
            raise ValueError("sample 7 is broken")
        return super().__getitem__(index)
