"""A model run to be looked at: nothing of it, nor of the random streams, is different afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from backstory.arrays import Generator, default_generator
from backstory.autograd.modes import no_grad
from backstory.nn.module import Module

__all__ = ["evaluation", "undisturbed"]


@contextmanager
def undisturbed(
    model: Module, training: bool | None = False, generators: Sequence[Generator] = ()
) -> Iterator[None]:
    """The model in evaluation (or training) mode; training flags, buffers and streams are put back.

    ``training=None`` leaves every part in the mode that it is in.
    """
    flags = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer._version, buffer.array.copy()) for buffer in model.buffers()]
    streams = [(generator, generator.get_state()) for generator in (default_generator(), *generators)]
    with np.errstate(all="ignore"):
        try:
            for module, before in flags:
                if training is not None and before is not training:
                    object.__setattr__(module, "training", training)
            yield
        finally:
            for module, before in flags:
                object.__setattr__(module, "training", before)
            with no_grad():
                for buffer, version, value in buffers:
                    if buffer._version != version:
                        buffer.copy_(value)
            for generator, state in streams:
                generator.set_state(state)


@contextmanager
def evaluation(model: Module, generators: Sequence[Generator] = ()) -> Iterator[None]:
    """The model in evaluation mode, recording no graph."""
    with undisturbed(model, False, generators), no_grad():
        yield
