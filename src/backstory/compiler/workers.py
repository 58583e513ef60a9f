"""Worker threads of the engine's own, which take parts of large entries and park when there are none.

The pool is memory that the driver (``driver.ll``) and its workers share; its layout is described there. The
workers are daemon threads that never need the GIL: they start with the first table that wants them, look for
parts for a short while after each, and then sleep on a lock until the driver releases it. A caller never
waits for a worker to wake: it takes parts itself, and only what a worker has begun is waited for. So a table
ends also where there are fewer free cores than threads.

How many threads there are, the caller's own among them, is ``BACKSTORY_NUM_THREADS``, else
``OMP_NUM_THREADS``, and never more than the cores that this process may use. After a fork the child starts
its own when it first needs them.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import threading
import weakref

import numpy as np

from backstory.compiler.driver import driver

__all__ = ["Pool", "pool", "threads"]

PATIENCE = 4000
"""How often a worker looks for parts before it parks: some 50 to 200 microseconds."""
_WORKERS, _STOP, _PATIENCE, _STARTER, _FIRST, _STRIDE = 32, 33, 34, 35, 64, 8


def threads() -> int:
    """How many threads run parts side by side, the caller's own among them: at least 1.

    >>> threads() >= 1
    True
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for variable in ("BACKSTORY_NUM_THREADS", "OMP_NUM_THREADS"):
        wanted = os.environ.get(variable, "").partition(",")[0].strip()
        if wanted.isdigit() and int(wanted) > 0:
            return min(int(wanted), usable)
    return usable


class Pool:
    """Memory and threads of ``count`` workers. A process has one, :func:`pool`; tests make their own."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._memory = np.zeros(_FIRST + _STRIDE * count + 8, np.int64)
        skip = -self._memory.ctypes.data % 64 // 8
        self._words = self._memory[skip:]
        self.address: int = self._words.ctypes.data
        self._starter = self.start
        self._threads: list[threading.Thread] = []
        self._locks: list[int] = []
        self._starting = threading.Lock()
        self.patience = PATIENCE
        self._await_need()
        _pools.add(self)

    def _await_need(self) -> None:
        """Have the driver call :meth:`start` when it first has parts for workers."""
        self._words[_STARTER] = id(self._starter) if self.count else 0

    @property
    def running(self) -> int:
        """How many workers there are now."""
        return int(self._words[_WORKERS])

    def start(self) -> None:
        """Start the workers, if they are not running."""
        with self._starting:
            if self.running or not self.count:
                return
            new_lock = ctypes.pythonapi.PyThread_allocate_lock
            new_lock.restype = ctypes.c_void_p
            self._words[_STOP], self._words[_PATIENCE] = 0, self.patience
            for i in range(self.count):
                lock = new_lock()
                ctypes.pythonapi.PyThread_acquire_lock(ctypes.c_void_p(lock), 1)
                self._locks.append(lock)
                at = _FIRST + _STRIDE * i
                self._words[at : at + 2] = (0, lock)
                thread = threading.Thread(
                    target=self._work, args=(i,), name=f"backstory worker {i}", daemon=True
                )
                thread.start()
                self._threads.append(thread)
            self._words[_STARTER] = 0
            self._words[_WORKERS] = self.count

    def _work(self, i: int) -> None:
        ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(driver().work)(self.address, i)

    def stop(self) -> None:
        """End the workers and wait until they have; they start again when they are needed."""
        with self._starting:
            if self.running:
                ctypes.CFUNCTYPE(None, ctypes.c_void_p)(driver().stop)(self.address)
                for thread in self._threads:
                    thread.join()
                self._forget()

    def _forget(self) -> None:
        self._words[_WORKERS] = 0
        self._threads.clear()
        free = ctypes.pythonapi.PyThread_free_lock
        for lock in self._locks:
            ctypes.pythonapi.PyThread_release_lock(ctypes.c_void_p(lock))
            free(ctypes.c_void_p(lock))
        self._locks.clear()
        self._await_need()

    def forked(self) -> None:
        """In the child of a fork there are no workers, and no thread that has a job out."""
        self._words[:_PATIENCE] = 0
        self._starting = threading.Lock()
        self._threads.clear()
        self._locks.clear()
        self._await_need()


_pools: weakref.WeakSet[Pool] = weakref.WeakSet()
_pool: Pool | None = None
_making = threading.Lock()


def pool() -> Pool:
    """The pool of this process."""
    global _pool
    with _making:
        if _pool is None:
            _pool = Pool(threads() - 1)
        return _pool


def _after_fork() -> None:
    global _making
    _making = threading.Lock()
    for each in _pools:
        each.forked()


@atexit.register
def _at_exit() -> None:
    for each in list(_pools):
        each.stop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
