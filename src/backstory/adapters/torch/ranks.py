"""The ranks of one DistributedDataParallel training: what all have measured, added up.

Every rank meets the others at the same moments: when the recording starts, after every few steps and at
``close()``. How many collectives a meeting has follows from what all exchange in its first one, so that the
ranks never part, whatever each has seen. A rank that fails to record goes on meeting, and tells the others
in that first exchange; then the recording ends everywhere, and the training does not. The collectives run on
a gloo group of their own, on the CPU: they cannot be mistaken for one of the training.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from backstory.adapters.torch.sites import Key
from backstory.adapters.torch.statistics import Measured
from backstory.errors import RunError

__all__ = ["Ranks", "ranks_of"]

#: What the numbers of a rank stand for: (step, ((site, units), …)) for each of its steps.
Layout = list[tuple[int, tuple[tuple[Key, int], ...]]]


def ranks_of(model: DistributedDataParallel) -> Ranks | None:
    """The ranks that train ``model``; ``None`` where this process is the only one."""
    return Ranks(model) if dist.get_world_size(model.process_group) > 1 else None


class Ranks:
    """The process group of ``model``, as this rank sees it."""

    def __init__(self, model: DistributedDataParallel) -> None:
        if not dist.is_gloo_available():
            raise RunError(
                "watch() received a DistributedDataParallel model, and this PyTorch has no gloo",
                why="the ranks add up what they have measured on a gloo group of their own",
                instead="watch(model.module, …) on rank 0 alone, which records what that rank sees",
            )
        self._model = model
        members = dist.get_process_group_ranks(model.process_group)
        self._group: Any = dist.new_group(members, backend="gloo", use_local_synchronization=True)
        self.rank, self.size = dist.get_rank(self._group), len(members)

    @property
    def uneven(self) -> bool:
        """Whether ranks may run out of data one by one: then they only meet at ``close()``."""
        return bool(getattr(getattr(self._model, "_join_config", None), "enable", False))

    @contextmanager
    def starting(self, axes: dict[Key, int]) -> Iterator[None]:
        """Around the start of the recording: what fails on rank 0 is an error on every rank.

        On which axis each site has its units is known where the network was scanned.
        """
        if self.rank:
            yield
            problem, known = self._exchange(("", {}))[0]
            axes.update(known)
            if problem:
                raise RunError(
                    f"watch() on rank {self.rank}",
                    why=f"it failed on rank 0, which writes the run: {problem}",
                    instead="a watch() that succeeds there; every rank calls it",
                )
            return
        try:
            yield
        except Exception as error:
            self._exchange((f"{type(error).__name__}: {error}", {}))
            raise
        self._exchange(("", axes))

    def combine(self, own: list[Measured], failure: str) -> list[Measured]:
        """The steps of ``own`` with the gates of all ranks added up and their losses averaged.

        Raises on every rank where one has failed.
        """
        layout = [(entry.step, _sizes(opened)) for entry, opened in own]
        digest = int.from_bytes(hashlib.sha256(repr(layout).encode()).digest()[:7])
        head = torch.tensor([digest, -digest, int(failure != "")])
        dist.all_reduce(head, dist.ReduceOp.MAX, self._group)
        largest, least, failed = head.tolist()
        if failed:
            said = self._exchange(failure)
            rank, why = next((rank, why) for rank, why in enumerate(said) if why)
            raise RunError(
                f"the recording of {self.size} ranks",
                why=f"on rank {rank} it failed: {why}",
                instead="the cause removed on that rank; up to here all is stored",
            )
        if largest != -least:
            layout = _together(self._exchange(layout))
        return _split(self._summed(_flat(own, layout)), own, layout)

    def _summed(self, flat: np.ndarray) -> np.ndarray:
        numbers = torch.from_numpy(flat)
        dist.all_reduce(numbers, dist.ReduceOp.SUM, self._group)
        return numbers.numpy()

    def _exchange(self, own: Any) -> list[Any]:
        """What every rank says, in order of ranks."""
        said: list[Any] = [None] * self.size
        dist.all_gather_object(said, own, self._group)
        return said


def _sizes(opened: dict[Key, tuple[float, np.ndarray]]) -> tuple[tuple[Key, int], ...]:
    return tuple((key, len(counts)) for key, (_, counts) in opened.items())


def _together(layouts: Iterable[Layout]) -> Layout:
    """The steps of the first rank, each with every site that ran on any."""
    first, *others = layouts
    found = {step: dict(sizes) for step, sizes in first}
    for layout in others:
        for step, sizes in layout:
            for key, units in sizes:
                known = found.get(step, {}).setdefault(key, units)
                if known != units:
                    raise RunError(
                        f"the site {key[0]}/{key[1]}#{key[2]} at step {step}",
                        why=f"it has {known} units on one rank and {units} on another",
                        instead="the same network on every rank",
                    )
    return [(step, tuple(sizes.items())) for step, sizes in found.items()]


def _flat(own: list[Measured], layout: Layout) -> np.ndarray:
    """Per step the loss and whether there is one, and per site the entries and the open counts."""
    known = {entry.step: (entry, opened) for entry, opened in own}
    parts: list[Any] = []
    for step, sizes in layout:
        entry, opened = known.get(step, (None, {}))
        loss = None if entry is None else entry.loss
        parts.append([0.0 if loss is None else loss, loss is not None])
        for key, units in sizes:
            rows, counts = opened.get(key, (0, np.zeros(units)))
            parts += [[rows], counts]
    return np.concatenate(parts, dtype=np.float64) if parts else np.zeros(0)


def _split(flat: np.ndarray, own: list[Measured], layout: Layout) -> list[Measured]:
    """The inverse of :func:`_flat`; everything but gates and loss is this rank's."""
    known = {entry.step: entry for entry, _ in own}
    found: list[Measured] = []
    start = 0
    for step, sizes in layout:
        total, heard = flat[start : start + 2]
        start += 2
        opened = {}
        for key, units in sizes:
            opened[key] = (int(flat[start]), flat[start + 1 : start + 1 + units])
            start += 1 + units
        if step in known:
            loss = float(total / heard) if heard else None
            found.append((known[step]._replace(loss=loss), opened))
    return found
