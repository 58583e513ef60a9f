"""Sources: what a recording, a rerun or an audit follows, whichever engine trains.

A :class:`Source` is one training under way: a model, its optimizer and the declared data. It tells its
:class:`Listener` before and after every step, measures what happens in between, and answers for the
network as it is now or was at a remembered state. Everything that stores or judges is written on it once.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from backstory.insight.packed import StepStatistics, Stretch
    from backstory.insight.scan import SiteScan
    from backstory.insight.snapshot import Snapshot
    from backstory.insight.updates import Before

__all__ = [
    "Asked",
    "Front",
    "Layer",
    "Listener",
    "Source",
    "entry_of",
    "source_of",
    "torch_adapter",
]


def entry_of(shape: Sequence[int], axis: int, unit: int, row: int) -> tuple[int, ...]:
    """The index of one entry: a unit on its axis, counted from the end, and the row among all other axes.

    >>> entry_of((2, 3, 4), -2, 1, 6)
    (1, 1, 2)
    """
    at = len(shape) + axis
    others = [n for i, n in enumerate(shape) if i != at]
    rest = [int(i) for i in np.unravel_index(row, others)] if others else []
    return (*rest[:at], unit, *rest[at:])


class Asked(NamedTuple):
    """One unit on one declared sample; ``row`` is the place in the sample, where it has several.

    Without ``row`` the place with the largest pre-activation is meant.
    """

    site: str
    unit: int
    sample: int
    row: int | None = None


@dataclass(frozen=True)
class Layer:
    """The linear layer in front of a unit, on one row: u = w·x + b, and whose parameters these are.

    A name is ``None`` where w or b is no parameter but computed from some.
    """

    w: np.ndarray
    x: np.ndarray
    b: float
    weight: str | None
    bias: str | None
    unit: int
    biased: bool = True


@dataclass(frozen=True)
class Front:
    """What makes the pre-activation of one unit on one row: z = scale·(w·x + b) + shift + skip.

    ``scale`` and ``shift`` come from a normalisation in between, ``skip`` from a sum with another
    branch. Where the layer in front is unknown, ``note`` says why.
    """

    z: float
    row: int
    at_zero: float = 0.0
    layer: Layer | None = None
    scale: float = 1.0
    shift: float | None = None
    skip: float | None = None
    note: str = ""


class Listener(ABC):
    """Hears of every step of a source."""

    #: Whether a failure ends the listening with a warning, so that the user's training goes on.
    harmless = False
    #: Whether it need not hear of a compiled step at once, if it does not see it: see :meth:`collect`.
    patient = False

    #: Whether the listener looks at the source before and after this update.
    sees: Callable[[int], bool] = staticmethod(lambda step: True)

    @abstractmethod
    def before_step(self) -> None:
        """The optimizer is about to move the parameters."""

    @abstractmethod
    def after_step(self) -> None:
        """It has; the source's ``step`` is the number of updates so far."""

    def collect(self) -> None:  # noqa: B027
        """Steps that a patient listener was not told of can be fetched: ``measured(rest=True)``."""

    def site_index(self, name: str, op: str, units: int) -> int:
        """The number of the site ``name`` in the run."""
        raise NotImplementedError

    def failed(self, error: Exception) -> None:
        """The recording failed and has ended; only a harmless listener hears of it."""
        raise error


class Source(ABC):
    """A model, its optimizer and the declared data, followed through a training."""

    engine: str
    model: Any
    #: The number of declared samples, and every parameter that the optimizer moves: (name, shape).
    samples: int
    shapes: list[tuple[str, tuple[int, ...]]]
    #: Parameters that stay as they are, and why: "frozen" or "in no optimizer".
    unmoved: dict[str, str]
    #: How many processes train together, and whether this is the one that writes the run.
    processes = 1
    writes = True

    def __init__(self) -> None:
        #: How many updates there have been, and whether to look after something before the next one.
        self.clock = np.zeros(2, np.int64)
        self._clock = self.clock.data
        self.every = 0  # measure every so many steps, from the first on; 0: never
        #: Whether compiled steps compute the same whatever is measured, so that a rerun gives the same bits.
        self.exact = False
        self.listener: Listener | None = None
        #: What was noticed on the way and nobody has stored yet: (step, code, text).
        self.notes: list[tuple[int, str, str]] = []

    @property
    def step(self) -> int:
        """The number of updates so far."""
        return self._clock[0]

    @step.setter
    def step(self, step: int) -> None:
        self._clock[0] = step

    @property
    def measuring(self) -> bool:
        """Whether the step under way is measured."""
        return self.every > 0 and self.step % self.every == 0

    def attach(self, listener: Listener) -> None:
        """Tell ``listener`` of every step from now on; the model keeps both alive."""
        self.listener = listener

    def tell(self, happened: str) -> None:
        """Call the listener's method; a failure in a harmless one ends it and not the training."""
        try:
            getattr(self.listener, happened)()
        except Exception as error:
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """Recording failed: stop following, with one warning; a rerun raises it."""
        if self.listener is None or not self.listener.harmless:
            raise error
        self.detach()
        warnings.warn(
            f"backstory stopped recording after step {self.step}: {type(error).__name__}: {error}. "
            "The training itself goes on.",
            RuntimeWarning,
            stacklevel=2,
        )
        self.listener.failed(error)

    def starting(self) -> AbstractContextManager[None]:
        """Around the start of a recording: tells every process of one training whether it went well."""
        return nullcontext()

    def meet(self) -> None:  # noqa: B027
        """Of several processes each calls this at the end, and they combine what they have measured."""

    @property
    @abstractmethod
    def alive(self) -> bool:
        """False in a forked child, which must not write."""

    @property
    @abstractmethod
    def loss(self) -> float | None:
        """The loss of the present step: the sum over its backward passes, if there was one."""

    @property
    @abstractmethod
    def optimizer_name(self) -> str:
        """The optimizer's class."""

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """The libraries that the numbers depend on."""

    @abstractmethod
    def detach(self) -> None:
        """See nothing more; the model and the optimizer are as they were."""

    @abstractmethod
    def measured(self, rest: bool = False) -> Sequence[StepStatistics | Stretch]:
        """The statistics of steps that are over, as far as they are at hand; with ``rest`` all of them."""

    def waiting(self) -> list[Stretch]:
        """Steps that are over and wait to be fetched, by whatever thread."""
        return []

    def hurry(self) -> None:  # noqa: B027
        """Have a patient listener :meth:`~Listener.collect` with the next step."""

    @abstractmethod
    def scan(self, peaks: bool = False) -> dict[str, SiteScan]:
        """Every site on the declared data, in the order in which they run, as the training computes."""

    @abstractmethod
    def snapshot(self) -> Snapshot:
        """A copy of parameters, optimizer state and random streams."""

    @abstractmethod
    def restore(self, snapshot: Snapshot) -> None:
        """Put all of a snapshot back."""

    @abstractmethod
    def values(self) -> Any:
        """A copy of what the network computes with now; for :meth:`fronts`."""

    @abstractmethod
    def before(self) -> dict[str, Before]:
        """Every parameter as the coming update finds it, with what the update is made of."""

    @abstractmethod
    def fronts(self, asked: Sequence[Asked], values: Any = None) -> list[Front]:
        """What stands in front of each unit asked for, now or with ``values``."""


def torch_adapter() -> ModuleType | None:
    """The adapter of PyTorch if the user's own code has imported torch, which backstory never does.

    Looked up by name, since adapters stand above this package: the one way up.
    """
    return importlib.import_module("backstory.adapters.torch") if "torch" in sys.modules else None


def source_of(model: Any, optimizer: Any, data: Any, generator: Any = None) -> Source:
    """The source that follows ``model``: PyTorch's, or backstory's own."""
    adapter = torch_adapter()
    if adapter is not None and adapter.owns(model):
        return adapter.TorchSource(model, optimizer, data, generator)
    from backstory.insight.own import OwnSource

    return OwnSource(model, optimizer, data, generator)
