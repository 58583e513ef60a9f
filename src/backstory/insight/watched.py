"""What a training talks to while it is watched: the recording itself, or something that writes nothing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from backstory.errors import RunError
from backstory.insight.source import Listener, Source

__all__ = ["Following", "Watched", "all_at_the_end", "unwatched"]


class Watched:
    """What ``watch(…)`` gives a train function. This one, :func:`unwatched`, does nothing.

    ``step`` is the number of updates behind it: 0, or the snapshot's when a rerun starts from one.
    """

    step = 0

    def order(self, samples: Any) -> Any:
        """Note that ``samples`` (indices) come next, in this order; returns them."""
        return samples

    def log(self, **metrics: float) -> None:
        """Note numbers such as ``accuracy=0.9`` at the present step."""

    def take_snapshot(self) -> None:
        """Store parameters, optimizer state and random streams as they are now."""

    def scan(self) -> None:
        """Decide every unit's state on the declared data, now."""

    def close(self) -> None:
        """The training is over."""

    def __enter__(self):
        return self

    def __exit__(self, kind: Any, *rest: Any) -> None:
        self.close()


def unwatched(model: Any, optimizer: Any, *, data: Any, generator: Any = None) -> Watched:
    """A ``watch`` that records nothing: ``train(config, unwatched)`` is the bare training."""
    return Watched()


def all_at_the_end(status: str) -> bool:
    """Whether ``close(status)`` ends a training as planned, on every rank that takes part in it.

    While an exception is on its way the other ranks are elsewhere, and must not be waited for.
    """
    return status == "finished" and sys.exc_info()[0] is None


class Following(Listener, Watched):
    """What ``watch(…)`` returns where another process writes the run: on every rank but 0.

    It takes part in adding up what all ranks have measured. Questions about the run are for rank 0.
    """

    harmless = True

    def __init__(self, source: Source, path: Path, every: int) -> None:
        source.every = every
        self.source, self.path = source, path
        self._open = True
        with source.starting():
            pass
        source.attach(self)

    @property
    def step(self) -> int:  # type: ignore[override]
        """The number of updates so far."""
        return self.source.step

    sees = staticmethod(lambda step: False)

    def before_step(self) -> None:
        pass

    def after_step(self) -> None:
        pass

    def failed(self, error: Exception) -> None:
        pass

    def flush(self) -> None:
        """Nothing is written here."""

    def close(self, status: str = "finished") -> None:
        """Add up the last steps with the other ranks, and stop following; a second call does nothing."""
        if self._open:
            self._open = False
            if self.source.alive:
                if all_at_the_end(status):
                    self.source.meet()
                self.source.detach()

    def __exit__(self, kind: Any, *rest: Any) -> None:
        self.close("finished" if kind is None else f"ended by {kind.__name__}")

    def __getattr__(self, name: str) -> Any:
        from backstory.insight.run import Run

        if name.startswith("_") or not hasattr(Run, name):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        raise RunError(
            f"{name} of the run at {self.path}, on a rank that does not write it",
            why="rank 0 alone writes the run and can be asked; this rank hands it what it has measured",
            instead=f"if torch.distributed.get_rank() == 0: run.{name}",
        )

    def __repr__(self) -> str:
        return f"<following the training of the run at {self.path}, which rank 0 writes>"
