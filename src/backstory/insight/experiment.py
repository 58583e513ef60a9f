"""Experiments: trainings that can be run again, bit for bit.

``train(config, watch)`` is an importable function. The run stores where it is, a hash of its source,
the config, the seed, the thread count and the versions; a replay calls it again and compares every
loss with the recorded one.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from backstory.arrays import default_generator
from backstory.autograd.modes import relu_derivative_at_zero
from backstory.errors import ArgumentError, ReplayError, RunError, SourceChangedError
from backstory.graph import context
from backstory.insight.record import Recorder, never
from backstory.insight.run import Recording, Run, start_recording
from backstory.insight.source import Listener, Source, source_of, torch_adapter
from backstory.insight.watched import Watched
from backstory.promotion import get_default_dtype, set_default_dtype

__all__ = ["Expected", "Rerun", "conditions", "expected_of", "experiment", "load_train"]

Train = Callable[[dict[str, Any], Any], Any]


def experiment(
    train: Train,
    config: Mapping[str, Any],
    path: str | Path,
    *,
    threads: int = 1,
    scan_at: Any = never,
    every: int = 8,
) -> Run:
    """Run ``train(config, watch)`` and record it so that it can be rerun.

    ``train`` builds model and optimizer, calls ``run = watch(model, optimizer, data=inputs)`` once and
    trains. It must be a function at the top of an importable module, and draw its random numbers from
    backstory's streams: ``backstory.manual_seed(config["seed"])`` has been called before. ``config`` is
    anything that JSON can hold. BLAS runs with ``threads`` threads, here and in every rerun.

    Since the training can be replayed, only every ``every``-th step is measured while it runs (its
    loss is always kept); ``run.audit()`` measures them all.
    """
    recipe = _describe(train, config, threads)
    started: list[Recording] = []

    def watch(model: Any, optimizer: Any, *, data: Any, generator: Any = None) -> Recording:
        if started:
            raise RunError(
                "watch() called twice in one experiment",
                why="an experiment records one training",
                instead="one experiment() for each training",
            )
        source = source_of(model, optimizer, data, generator)
        if source.processes > 1:
            raise RunError(
                f"watch() in an experiment received a model that {source.processes} processes train",
                why="an experiment is rerun by one process, which could not be all of them",
                instead="backstory.watch(model, optimizer, path, data=inputs) on every rank",
            )
        source.exact = True
        recorder = Recorder(source, scan_at, every, certify=False)  # the audit does, for every step
        started.append(start_recording(recorder, Path(path), recipe))
        return started[0]

    with conditions(recipe):
        try:
            train(json.loads(json.dumps(recipe["config"])), watch)
        except BaseException as error:
            for recording in started:
                recording.close(f"ended by {type(error).__name__}: {error}")
            raise
        if not started:
            raise RunError(
                f"experiment({recipe['train']})",
                why="the function returned without calling watch()",
                instead="run = watch(model, optimizer, data=inputs) before the training loop",
            )
        started[0].close()
    return Run(Path(path), known_good=True)


def _describe(train: Train, config: Mapping[str, Any], threads: int) -> dict[str, Any]:
    """What a rerun needs, or an error that says what it could not find again."""
    module, name = getattr(train, "__module__", None), getattr(train, "__qualname__", "")
    importable = module not in (None, "__main__") and name.isidentifier()
    if not importable or getattr(importlib.import_module(str(module)), name, None) is not train:
        raise ReplayError(
            f"experiment() received {name or train!r} of {module}",
            why="a rerun must import the function in another process, and cannot import this one",
            instead="def train(config, watch) at the top of a file of its own, such as training.py, "
            "and `from training import train`",
        )
    try:
        plain = json.loads(json.dumps(dict(config)))
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            "experiment() received a config that JSON cannot hold",
            why=str(error),
            instead="numbers, strings, booleans, None, and lists and dicts of them",
        ) from error
    return {
        "train": f"{module}:{name}",
        "source": _source_hash(train),
        "config": plain,
        "seed": _seed(plain),
        "threads": threads,
        "modes": {"dtype": str(get_default_dtype()), "relu_at_zero": context().relu_at_zero},
        "blas": _blas(),
    }


def _seed(config: Mapping[str, Any]) -> int:
    """The config's ``seed``, 0 without one."""
    seed = config.get("seed", 0)
    if not isinstance(seed, int) or seed < 0:
        raise ArgumentError(
            f"experiment() received a config with seed {seed!r}",
            why="it starts backstory's random stream, which takes a whole number of at least 0",
            instead="{'seed': 0, …}",
        )
    return seed


def _source_hash(train: Train) -> str:
    """A hash of the file that the function stands in: what it calls there counts too."""
    file = inspect.getsourcefile(train)
    if file is None:
        raise ReplayError(
            f"experiment() received {train!r}",
            why="its source is in no file, so a rerun could not tell whether it has changed",
            instead="a function in a .py file",
        )
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


@cache
def _pools() -> Any:
    """The thread pools of this process; looking for them takes a millisecond."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


@cache
def _blas() -> list[str]:
    keys = ("internal_api", "version", "architecture")
    return [" ".join(str(pool.get(key)) for key in keys) for pool in _pools().info()]


def load_train(recipe: Mapping[str, Any]) -> Train:
    """The recorded function, if it is still what it was."""
    module, name = recipe["train"].split(":")
    try:
        train = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ReplayError(
            f"importing {recipe['train']}",
            why=str(error),
            instead=f"the folder of {module.split('.')[0]} as the working directory, or on PYTHONPATH",
        ) from error
    if _source_hash(train) != recipe["source"]:
        raise SourceChangedError(
            f"rerunning {recipe['train']}",
            why="its file has changed since the recording, so a rerun would be another training",
            instead="the file as it was, or experiment() again to record the new one",
        )
    return train


@contextmanager
def conditions(recipe: Mapping[str, Any]) -> Iterator[None]:
    """The recorded number of BLAS threads, modes and seed; all are put back."""
    stream, dtype = default_generator(), get_default_dtype()
    before = stream.get_state()
    modes = recipe.get("modes", {})
    adapter = torch_adapter()
    with (
        _pools().limit(limits=recipe["threads"]),
        nullcontext() if adapter is None else adapter.conditions(recipe["seed"], recipe["threads"]),
        relu_derivative_at_zero(modes.get("relu_at_zero", context().relu_at_zero)),
    ):
        try:
            set_default_dtype(modes.get("dtype", dtype))
            stream.manual_seed(recipe["seed"])
            yield
        finally:
            stream.set_state(before)
            set_default_dtype(dtype)


class Expected:
    """What a replay must reproduce: losses, data order and last snapshot of a run."""

    def __init__(
        self, losses: dict[int, float | None], orders: list[tuple[int, bytes]], last: int, complete: bool
    ) -> None:
        self.losses, self.orders, self.last, self.complete = losses, orders, last, complete

    def loss(self, step: int, loss: float | None) -> None:
        """Refuse at the first loss that differs in a single bit."""
        recorded = self.losses.get(step)
        same = loss == recorded or (loss is not None and np.isnan(loss) and recorded is None)
        if not same:
            raise self.parted(step, f"the loss was {recorded!r} and is {loss!r}")

    def order(self, number: int, step: int, samples: bytes) -> None:
        """Refuse another order of the data."""
        if number < len(self.orders) and self.orders[number] != (step, samples):
            raise self.parted(step, "the data came in another order")

    @staticmethod
    def parted(step: int, what: str) -> ReplayError:
        """The error of a replay that is not a replay."""
        return ReplayError(
            f"the rerun parted from the recording at step {step}: {what}",
            why="something that the training depends on is not in config, seed or source: "
            "another random stream, the time, another file, another machine or library version",
            instead="backstory's own random streams only (backstory.randperm, nn.init, Generator), "
            "and the machine and versions of the recording",
        )


def expected_of(run: Run, start: int = 0) -> Expected:
    """What a rerun of ``run`` from step ``start`` on must reproduce."""
    known = zip(run.steps.tolist(), run.losses.tolist(), strict=True)
    losses = {step: None if math.isnan(loss) else loss for step, loss in known if step > start}
    orders = run._rows("SELECT step, samples FROM orders WHERE step >= ? ORDER BY rowid", start)
    return Expected(losses, orders, max(losses, default=start), run.meta.get("status") == "finished")


class Stop(BaseException):
    """Ends a rerun where the recording ends: no error, so that ``except Exception`` lets it pass."""


class Rerun(Listener, Watched):
    """The watch of a rerun: follows ``source`` and compares it with the recording; it stores nothing."""

    def __init__(self, source: Source, expected: Expected | None) -> None:
        self.source, self.expected = source, expected
        self.metrics: dict[str, float] = {}
        self.last_loss: float | None = None
        self.parted: ReplayError | None = None
        self._orders = 0

    @property
    def step(self) -> int:  # type: ignore[override]
        """The number of updates so far."""
        return self.source.step

    def log(self, **metrics: float) -> None:
        self.metrics.update({name: float(value) for name, value in metrics.items()})

    def order(self, samples: Any) -> Any:
        if self.expected is not None:
            with self._comparing():
                self.expected.order(self._orders, self.step, np.asarray(samples).astype(np.int64).tobytes())
            self._orders += 1
        return samples

    def close(self) -> None:
        """The recording ended here."""
        raise Stop

    def __exit__(self, kind: Any, *rest: Any) -> None:
        if kind is None:
            self.close()

    @contextmanager
    def _comparing(self) -> Iterator[None]:
        """Remember where the rerun parted, also when the training catches the error."""
        try:
            yield
        except ReplayError as error:
            self.parted = self.parted or error
            raise

    sees = staticmethod(lambda step: False)

    def site_index(self, name: str, op: str, units: int) -> int:
        return 0  # compiled steps count gates, as in the recording; nobody reads them

    def before_step(self) -> None:
        pass

    def after_step(self) -> None:
        self.last_loss = self.source.loss
        if self.expected is not None:
            with self._comparing():
                self.expected.loss(self.step, self.last_loss)
            self.stepped()
            if self.at_end_of_unfinished:
                raise Stop
        else:
            self.stepped()

    @property
    def at_end_of_unfinished(self) -> bool:
        """Whether the recorded training ended here too, by an error perhaps."""
        expected = self.expected
        return expected is not None and not expected.complete and self.step == expected.last

    def stepped(self) -> None:
        """One update is done and, where there is a recording, equal to it."""


def rerun(
    recipe: Mapping[str, Any], config: Mapping[str, Any], seed: int, make: Callable[[Source], Rerun]
) -> Rerun:
    """Run the recorded function with ``config`` and ``seed``; ``make`` builds what watches it."""
    train = load_train(recipe)
    made: list[Rerun] = []

    def watch(model: Any, optimizer: Any, *, data: Any, generator: Any = None) -> Rerun:
        if made:
            raise RunError(
                "watch() called twice in one rerun",
                why="an experiment follows one training",
                instead="one call of watch() for every config",
            )
        source = source_of(model, optimizer, data, generator)
        source.exact = True
        made.append(make(source))
        made[0].source.attach(made[0])
        return made[0]

    try:
        with conditions({**recipe, "seed": seed}):
            train(json.loads(json.dumps(config)), watch)
    except Stop:
        pass
    except Exception:
        if not (made and made[0].at_end_of_unfinished):
            raise
    finally:
        for follower in made:
            follower.source.detach()
    if not made:
        raise ReplayError(
            f"rerunning {recipe['train']}",
            why="the function returned without calling watch()",
            instead="run = watch(model, optimizer, data=inputs) for every config",
        )
    if made[0].parted is not None:
        raise made[0].parted
    expected = made[0].expected
    if expected is not None and made[0].step != expected.last:
        raise expected.parted(made[0].step, f"it ended there, and the recording at step {expected.last}")
    return made[0]
