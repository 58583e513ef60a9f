"""Random streams of NumPy and Python, which a trace would freeze if it drew from them."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from backstory.arrays import Generator, default_generator
from backstory.errors import TraceError

__all__ = ["Streams"]


class Streams:
    """NumPy's own random streams that a step could draw from, which a trace would freeze."""

    def __init__(self) -> None:
        self._states: list[tuple[Any, Any]] = []
        self._seeded: list[tuple[Generator, tuple[Any, int]]] = []
        self._global = _global_state()
        self.watch(default_generator())

    def watch(self, x: Any) -> None:
        """Keep the state of a stream, if it is one, to see whether the trace draws from it."""
        if isinstance(x, Generator):
            self._seeded.append((x, (x.numpy, x.initial_seed())))
            x = x.numpy
        if isinstance(x, np.random.Generator):
            self._states.append((x.bit_generator, x.bit_generator.state))

    def refuse_draws(self) -> None:
        """Refuse a step that drew random numbers of its own, or started a stream anew."""
        if any(x.numpy is not stream for x, (stream, _) in self._seeded):
            raise TraceError(
                "the step starts a random stream anew: manual_seed() inside a compiled step",
                why="the step is traced once, and Python's call would not happen again",
                instead="manual_seed() between the calls",
            )
        moved = any(repr(bits.state) != repr(at) for bits, at in self._states)
        if moved or _digest(_global_state()) != _digest(self._global):
            raise TraceError(
                "the step draws random numbers from NumPy or Python",
                why="the step is traced once, and the same numbers would come in every call",
                instead="backstory.rand, randn, ... (drawn anew in each call), or the numbers as an argument",
            )

    def restore(self) -> None:
        """Let all streams be where they were before."""
        for x, (stream, seed) in self._seeded:
            if x.numpy is not stream:
                x.manual_seed(seed)
                x.numpy = stream
        for bits, at in self._states:
            bits.state = at
        numpy_state, python_state = self._global
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)


def _global_state() -> tuple[Any, Any]:
    return np.random.get_state(legacy=False), random.getstate()  # noqa: NPY002


def _digest(state: tuple[Any, Any]) -> Any:
    numpy_state, python_state = state
    return numpy_state["state"]["key"].tobytes(), numpy_state["state"]["pos"], python_state
