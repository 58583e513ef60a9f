"""One rank of a DistributedDataParallel training, or a training by itself: who measures, meets and writes."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from backstory.adapters.torch.statistics import Measured, Statistics
from backstory.insight.packed import StepStatistics

if TYPE_CHECKING:
    from backstory.adapters.torch.ranks import Ranks

__all__ = ["Together"]

MEET = 16  # steps from one meeting of the ranks to the next


class Together(Statistics):
    """Of several ranks each measures, and they add up what they have; rank 0 hands it on."""

    def __init__(self, model: nn.Module, optimizer: Any) -> None:
        parallel = model if isinstance(model, DistributedDataParallel) else None
        super().__init__(model if parallel is None else parallel.module, optimizer, parallel is not None)
        self._ranks = None if parallel is None else _ranks_of(parallel)
        if self._ranks is not None:
            self.processes, self.writes = self._ranks.size, self._ranks.rank == 0
        self._failure = ""  # not yet told to the other ranks
        self._own: list[Measured] = []
        self._combined: list[Measured] = []

    def starting(self) -> AbstractContextManager[None]:
        return super().starting() if self._ranks is None else self._ranks.starting(self.axes)

    def over(self) -> None:
        if self._ranks is None:
            return
        try:
            if not self._failure:
                self._gather()
        except Exception as error:
            self.fail(error)
        if self.step % MEET == 0 and not self._ranks.uneven:
            self.meet()

    def measured(self, rest: bool = False) -> list[StepStatistics]:
        if self._ranks is None:
            return super().measured(rest)
        if rest and self.detached:  # the other ranks were not met
            self._combined += self._own + self._fetch()
            self._own = []
        ready, self._combined = self._combined, []
        return [self._at_sites(one) for one in ready]

    def meet(self) -> None:
        if self._ranks is None or self.detached:
            return
        try:
            self._fetch_own()
            found = self._ranks.combine(self._own, self._failure)
        except Exception as error:
            super().fail(error)
        else:
            self._combined += found if self.writes else []
            self._own = []

    def _fetch_own(self) -> None:
        try:
            self._own += self._fetch()
        except Exception as error:
            self.fail(error)

    def fail(self, error: Exception) -> None:
        if self._ranks is None or self.detached:
            super().fail(error)
        elif not self._failure:  # the other ranks hear of it where they meet, and it ends for all
            self._failure = f"{type(error).__name__}: {error}"
            self.every, self.error = 0, None


def _ranks_of(model: DistributedDataParallel) -> Ranks | None:
    # A PyTorch without torch.distributed has no such model, and cannot import this.
    from backstory.adapters.torch.ranks import ranks_of

    return ranks_of(model)
