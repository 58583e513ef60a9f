"""DataLoader: batches in an order that follows from a seed, whoever fetches them.

The order is drawn when an epoch begins. Samples that are fetched one by one may be random too (crops, noise):
each batch has a stream of its own, from the epoch's seed and the batch's number, which stands in for the
thread's default stream meanwhile. So the same seed gives the same batches with any number of workers.
"""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import numpy as np

from backstory.arrays import Generator, default_generator
from backstory.errors import ArgumentError, ShapeError
from backstory.tensor import Tensor, as_tensor

__all__ = ["DataLoader", "default_collate"]

AHEAD = 2  # batches that each worker may be ahead


class DataLoader:
    """Batches of ``dataset``, in its order or with ``shuffle`` in a new random one every epoch.

    ``collate_fn`` joins a list of samples (:func:`default_collate`); ``drop_last`` leaves out a last batch
    that is too small. With ``num_workers`` batches are fetched ahead by so many threads, or with
    ``workers="processes"`` by processes, which start anew every epoch and need a dataset that can be
    pickled. All randomness comes from ``generator``, or this thread's stream.

    >>> import backstory
    >>> from backstory.data import TensorDataset
    >>> loader = DataLoader(TensorDataset(backstory.arange(5)), batch_size=2)
    >>> [batch.tolist() for batch, in loader]
    [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        shuffle: bool = False,
        *,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        drop_last: bool = False,
        generator: Generator | None = None,
        workers: str = "threads",
    ) -> None:
        if not isinstance(batch_size, int) or batch_size < 1 or num_workers < 0:
            raise ArgumentError(
                f"DataLoader(batch_size={batch_size}, num_workers={num_workers})",
                why="a batch has at least one sample, and workers are counted from 0",
                instead="DataLoader(dataset, batch_size=64)",
            )
        if workers not in ("threads", "processes"):
            raise ArgumentError(
                f"DataLoader(workers={workers!r})",
                why="there are two kinds of workers",
                instead='workers="threads" or workers="processes"',
            )
        self.dataset, self.batch_size, self.shuffle = dataset, batch_size, shuffle
        self.num_workers, self.workers = num_workers, workers
        self.collate_fn, self.drop_last, self.generator = collate_fn, drop_last, generator

    def __len__(self) -> int:
        samples = len(self.dataset)
        return samples // self.batch_size if self.drop_last else -(-samples // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        return self.batches()

    def batches(self, start: int = 0) -> Iterator[Any]:
        """The batches of a new epoch, from number ``start`` on; those before are not fetched."""
        stream = (self.generator or default_generator()).numpy
        samples = len(self.dataset)
        order = stream.permutation(samples) if self.shuffle else np.arange(samples)
        seed = int(stream.integers(2**63))
        tasks = [
            (number, order[number * self.batch_size : (number + 1) * self.batch_size])
            for number in range(start, len(self))
        ]
        if self.num_workers == 0:
            return (_fetch(self.dataset, self.collate_fn, seed, *task) for task in tasks)
        return self._ahead(seed, tasks)

    def _ahead(self, seed: int, tasks: list[Any]) -> Iterator[Any]:
        """Fetched by workers, in order, a few ahead; those not wanted any more are dropped."""
        pool = self._pool()
        fetch = _fetch_there if self.workers == "processes" else self._fetch_here
        try:
            waiting = deque(pool.submit(fetch, seed, *task) for task in tasks[: AHEAD * self.num_workers])
            for task in tasks[len(waiting) :] + [None] * len(waiting):
                batch = waiting.popleft().result()
                if task is not None:
                    waiting.append(pool.submit(fetch, seed, *task))
                yield batch
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _fetch_here(self, seed: int, number: int, indices: np.ndarray) -> Any:
        return _fetch(self.dataset, self.collate_fn, seed, number, indices)

    def _pool(self) -> Executor:
        if self.workers == "threads":
            return ThreadPoolExecutor(self.num_workers)
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor

        # Not forked: a fork copies locks that other threads (a recording's writer, BLAS) may hold.
        return ProcessPoolExecutor(
            self.num_workers,
            multiprocessing.get_context("spawn"),
            _settle,
            (self.dataset, self.collate_fn),
        )


_here: list[Any] = []  # in a worker process: the dataset and how to join its samples


def _settle(*parts: Any) -> None:
    # Ctrl-C is for the training, which ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _here[:] = parts


def _fetch_there(seed: int, number: int, indices: np.ndarray) -> Any:
    return _fetch(_here[0], _here[1], seed, number, indices)


def _fetch(
    dataset: Any, collate: Callable[[list[Any]], Any] | None, seed: int, number: int, indices: Any
) -> Any:
    """One batch; while its samples are fetched, this thread draws from the batch's own stream."""
    if collate is None and hasattr(dataset, "batch"):
        return dataset.batch(indices)
    generator = default_generator()
    state = generator.get_state()
    try:
        generator.numpy.bit_generator.state = np.random.PCG64((seed, number)).state
        samples = [dataset[int(i)] for i in indices]
        return (collate or default_collate)(samples)
    finally:
        generator.set_state(state)


def default_collate(samples: list[Any]) -> Any:
    """Join samples along a new first axis: tensors, arrays and numbers, within tuples, lists and dicts.

    Python's floats become float64, as in PyTorch; anything else (words) stays a list.

    >>> default_collate([(np.zeros(2), 3), (np.ones(2), 4)])
    (tensor([[0., 0.],
            [1., 1.]], dtype=float64), tensor([3, 4]))
    """
    first = samples[0]
    if isinstance(first, (Tensor, np.ndarray, np.generic, bool, int, float)):
        arrays = [np.asarray(x.array if isinstance(x, Tensor) else x) for x in samples]
        shapes = {array.shape for array in arrays}
        if len(shapes) > 1:
            raise ShapeError(
                f"default_collate() of samples of shapes {', '.join(map(str, sorted(shapes)))}",
                why="only samples of one shape can be joined",
                instead="DataLoader(…, collate_fn=…) that pads them, or batch_size=1",
            )
        return as_tensor(np.stack(arrays))
    if isinstance(first, dict):
        return {key: default_collate([x[key] for x in samples]) for key in first}
    if isinstance(first, (tuple, list)):
        parts = [default_collate(list(part)) for part in zip(*samples, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else type(first)(parts)
    return samples
