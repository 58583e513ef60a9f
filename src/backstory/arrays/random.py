"""Random streams: seeded, with a state that can be stored as plain JSON."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

__all__ = ["Generator", "default_generator", "manual_seed"]


class Generator:
    """A stream of random numbers (NumPy's PCG64), with PyTorch's method names.

    The state is a dict of integers and strings, so that a snapshot can hold it without pickle.

    >>> g = Generator().manual_seed(7)
    >>> state = g.get_state()
    >>> a = g.numpy.random(2)
    >>> g.set_state(state)
    >>> bool((g.numpy.random(2) == a).all())
    True
    """

    def __init__(self, seed: int = 0) -> None:
        self.manual_seed(seed)

    def manual_seed(self, seed: int) -> Generator:
        """Start the stream anew from ``seed``; returns the generator."""
        self._seed = int(seed)
        self.numpy = np.random.Generator(np.random.PCG64(self._seed))
        return self

    def initial_seed(self) -> int:
        """The seed that the stream was last started from."""
        return self._seed

    def get_state(self) -> dict[str, Any]:
        """The present state: a dict that ``json.dumps`` takes."""
        return dict(self.numpy.bit_generator.state)

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from a state that :meth:`get_state` returned."""
        self.numpy.bit_generator.state = state


class _PerThread(threading.local):
    generator: Generator | None = None


_default = _PerThread()


def default_generator() -> Generator:
    """This thread's generator, used wherever ``generator=None``."""
    # Made when first asked for: numpy.random takes a tenth of the time that importing NumPy takes.
    if _default.generator is None:
        _default.generator = Generator(0)
    return _default.generator


def manual_seed(seed: int) -> Generator:
    """Start this thread's default stream from ``seed`` and return it.

    >>> manual_seed(3).initial_seed()
    3
    """
    return default_generator().manual_seed(seed)
