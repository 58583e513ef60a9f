"""Watching a Lightning training: a callback, for ``lightning`` and for ``pytorch_lightning``.

Neither is imported before :func:`Watch` is called.
"""

from __future__ import annotations

import importlib
import sys
from functools import cache
from pathlib import Path
from typing import Any

from backstory.errors import ArgumentError, MissingExtraError, RunError

__all__ = ["Watch"]

HOMES = ("lightning.pytorch", "pytorch_lightning")


def Watch(
    path: str | Path,
    *,
    data: Any = None,
    model: str | None = None,
    optimizer: int | None = None,
    **options: Any,
) -> Any:
    """A callback that records ``trainer.fit`` into ``path``; its ``run`` is the recording.

    >>> watch = Watch("runs/a")                                           # doctest: +SKIP
    >>> Trainer(callbacks=[watch]).fit(module, loader)                    # doctest: +SKIP
    >>> print(watch.run.story())                                          # doctest: +SKIP

    ``data`` are the inputs on which a unit counts as dead or alive; without it the data set of the training
    loader. ``model`` names the part to watch, such as ``"net"``, where ``training_step`` calls
    that and not ``self(…)``. Of several optimizers ``optimizer`` is the number of the one to follow.
    ``options`` are those of :func:`backstory.watch`. Metrics that the module logs are stored at the
    end of each epoch.
    """
    unknown = set(options) - {"generator", "scan_at", "every"}
    if unknown:
        raise ArgumentError(
            f"Watch() received {', '.join(sorted(unknown))}",
            why="watch() has no such option",
            instead="data, model, optimizer, generator, scan_at or every",
        )
    return _callback(tuple(_bases()))(Path(path), data, model, optimizer, options)


def _bases() -> list[type]:
    """``Callback`` of the Lightning that the user's code has imported, or of the one that is installed."""
    loaded = [sys.modules[home] for home in HOMES if home in sys.modules]
    for home in () if loaded else HOMES:
        try:
            loaded = [importlib.import_module(home)]
            break
        except ImportError:
            continue
    if not loaded:
        raise MissingExtraError(
            "Watch() needs Lightning, which is not installed",
            why="it is a callback of lightning.pytorch.Trainer",
            instead="pip install lightning, or backstory.watch(…) around a loop of your own",
        )
    # With both loaded, for a Trainer of either.
    return [home.Callback for home in loaded]


def _made(path: Path, *rest: Any) -> Any:
    """A callback from its parts, in another process."""
    data, model, optimizer, options = rest
    return Watch(path, data=data, model=model, optimizer=optimizer, **options)


class _Watching:
    """What the callback does, whichever Lightning it is a callback of."""

    def __init__(
        self, path: Path, data: Any, model: str | None, optimizer: int | None, options: dict[str, Any]
    ) -> None:
        super().__init__()
        self.path, self.data, self.model, self.optimizer, self.options = path, data, model, optimizer, options
        #: The recording, from the start of the training on.
        self.run: Any = None

    def __reduce__(self) -> Any:
        return _made, (self.path, self.data, self.model, self.optimizer, self.options)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """After a checkpoint was restored and before the first batch."""
        from backstory.insight.run import watch

        model = _wrapped(trainer, pl_module, _part(pl_module, self.model))
        data = _inputs(trainer) if self.data is None else self.data
        optimizer = _chosen(trainer.optimizers, self.optimizer)
        self.run = watch(model, optimizer, self.path, data=data, **self.options)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if self.run is not None:
            self.run.log(**{name: float(value) for name, value in trainer.callback_metrics.items()})

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        if self.run is not None:
            self.run.close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        if self.run is not None:
            self.run.close(f"ended by {type(exception).__name__}")


@cache
def _callback(bases: tuple[type, ...]) -> type:
    return type("Watch", (_Watching, *bases), {"__module__": __name__})


def _part(module: Any, name: str | None) -> Any:
    """The module that ``training_step`` calls: the named one, the whole, or its only part with weights."""
    if name is not None:
        try:
            return module.get_submodule(name)
        except AttributeError as error:
            parts = [path for path, _ in module.named_children()]
            raise ArgumentError(
                f"Watch(model={name!r})",
                why=f"{error}; the parts of {type(module).__name__} are {', '.join(parts)}",
                instead="the name of one of them, or of a part of one",
            ) from error
    if type(module).forward.__module__.split(".")[0] not in ("lightning", "pytorch_lightning"):
        return module
    parts = {path: part for path, part in module.named_children() if any(True for _ in part.parameters())}
    if len(parts) != 1:
        raise RunError(
            f"Watch() of {type(module).__name__}",
            why=f"it has no forward() to scan, and {len(parts)} parts with parameters: {', '.join(parts)}",
            instead="Watch(…, model=name) of the part that training_step calls, or a forward() that it calls",
        )
    return next(iter(parts.values()))


def _wrapped(trainer: Any, module: Any, part: Any) -> Any:
    """``part``, or what the strategy made of it to train it in several processes."""
    from torch.nn.parallel import DistributedDataParallel

    outer = trainer.strategy.model
    if not isinstance(outer, DistributedDataParallel):
        return part
    if part is not module:
        raise RunError(
            f"Watch() of a part of {type(module).__name__}, which {trainer.world_size} processes train",
            why="DistributedDataParallel holds the whole module, and its ranks are combined for the whole",
            instead="a forward(x) of the module that runs that part, and Watch() without model",
        )
    return outer


def _inputs(trainer: Any) -> Any:
    """The training loader, of whose data set the inputs are taken."""
    from torch.utils.data import DataLoader, IterableDataset

    loader = trainer.train_dataloader
    if isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset):
        return loader
    raise RunError(
        "Watch() without data",
        why=f"of a {type(loader).__name__} it does not know which inputs to declare: "
        "it takes those of a DataLoader's data set, which must have a length",
        instead="Watch(…, data=inputs)",
    )


def _chosen(optimizers: list[Any], number: int | None) -> Any:
    """The optimizer to follow."""
    if number is None and len(optimizers) == 1:
        return optimizers[0]
    if number is None or not 0 <= number < len(optimizers):
        kinds = ", ".join(f"{i}: {type(one).__name__}" for i, one in enumerate(optimizers))
        raise RunError(
            "Watch() of a training with several optimizers"
            if number is None and optimizers
            else f"Watch(optimizer={number})",
            why=f"one recording follows one optimizer; the module has {len(optimizers)}"
            + (f" ({kinds})" if optimizers else ""),
            instead="Watch(…, optimizer=0, model=…) with the number of one, and the part that it moves"
            if optimizers
            else "a configure_optimizers() that returns one",
        )
    return optimizers[number]
