"""The array namespaces that rules run on, and what the Array API standard lacks."""

from __future__ import annotations

from typing import Any

import numpy as np

from backstory.arrays import eager
from backstory.arrays.extras import add_slices, erf, erfc, fmod, one_hot, pick, scatter, select
from backstory.arrays.random import Generator, default_generator, manual_seed

__all__ = [
    "Generator",
    "add_slices",
    "default_generator",
    "eager",
    "erf",
    "erfc",
    "fmod",
    "manual_seed",
    "namespace",
    "one_hot",
    "pick",
    "scatter",
    "select",
]


def namespace(array: Any) -> Any:
    """The Array API namespace that ``array`` belongs to.

    >>> import numpy as np
    >>> namespace(np.ones(3)) is eager
    True
    """
    if isinstance(array, (np.ndarray, np.generic, int, float)):
        return eager
    return array.__array_namespace__()
