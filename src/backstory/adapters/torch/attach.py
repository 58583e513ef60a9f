"""Hooks on a PyTorch training: around the model's forward, behind each gradient, around each step."""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from backstory.adapters.torch.hearing import Hearing
from backstory.errors import RunError
from backstory.insight.source import Listener, Source

__all__ = ["Attachment"]

_watched: weakref.WeakSet[nn.Module] = weakref.WeakSet()


class _Hook:
    """A method of a source as a hook, which never breaks the training.

    It holds the source weakly, except the one that ``keeps`` it alive with the model. A copied or
    pickled model, optimizer or parameter is not watched.
    """

    def __init__(self, source: Attachment, method: Callable[..., Any], keeps: bool = False) -> None:
        self._source = weakref.ref(source)
        self._method = method
        self._kept = source if keeps else None

    def __call__(self, *args: Any) -> Any:
        if torch.compiler.is_compiling():
            return None
        source = self._source()
        if source is not None and source.alive:
            try:
                return self._method(source, *args)
            except Exception as error:
                source.fail(error)
        return None

    def __deepcopy__(self, memo: Any) -> Callable[..., None]:
        return _nothing

    def __reduce__(self) -> Any:
        return _unwatched, ()


def _nothing(*args: Any) -> None:
    """What the hook of a copied model is."""


def _unwatched() -> Callable[..., None]:
    return _nothing


def _remove(handles: list[Any]) -> None:
    for handle in handles:
        handle.remove()
    handles.clear()


class Attachment(Source):
    """Follows one training; subclasses say what is measured on the way."""

    model: nn.Module

    def __init__(self, model: nn.Module, optimizer: Any, parallel: bool = False) -> None:
        check_parts(model, optimizer)
        super().__init__()
        self.model, self.optimizer = model, optimizer
        moved = {id(p) for group in optimizer.param_groups for p in group["params"]}
        self.named = dict(model.named_parameters())
        self.parameters = [(name, p) for name, p in self.named.items() if id(p) in moved and p.requires_grad]
        self.shapes = [(name, tuple(p.shape)) for name, p in self.parameters]
        self.unmoved = {
            name: "in no optimizer" if p.requires_grad else "frozen"
            for name, p in self.named.items()
            if id(p) not in moved or not p.requires_grad
        }
        self.hearing = Hearing(parallel)
        self._pid = os.getpid()
        self._handles: list[Any] = []
        self._warned: set[str] = set()
        self._failed = False
        self.compiled = any(_is_compiled(module) for module in model.modules())
        if self.compiled:
            self.warn(
                "the model is compiled, and compiled code hides its gates: scans, deaths, losses and norms "
                "are recorded, how many samples open each unit is not. To have that too, train the model "
                "uncompiled"
            )

    @property
    def alive(self) -> bool:
        return os.getpid() == self._pid

    @property
    def optimizer_name(self) -> str:
        return type(self.optimizer).__name__

    @property
    def loss(self) -> float | None:
        heard = self.hearing
        if not heard.losses:
            return None
        return sum(loss.item() for loss in heard.losses) / (
            1.0 if heard.scale is None else heard.scale.item()
        )

    def attach(self, listener: Listener) -> None:
        super().attach(listener)
        model, optimizer = self.model, self.optimizer
        self._handles += [
            model.register_forward_pre_hook(_Hook(self, Attachment._called, keeps=True)),
            model.register_forward_hook(_Hook(self, Attachment._returned), always_call=True),
            optimizer.register_step_pre_hook(_Hook(self, Attachment._step_begins)),
            optimizer.register_step_post_hook(_Hook(self, Attachment._step_ends)),
        ]
        accumulated = _Hook(self, Attachment._accumulated)
        self._handles += [p.register_post_accumulate_grad_hook(accumulated) for p in self._telling()]
        weakref.finalize(self, _remove, self._handles).atexit = False
        _watched.add(model)

    def _telling(self) -> list[Any]:
        """The parameters whose gradients tell of a backward pass: weights, or all where no weight moves."""
        moved = [p for _, p in self.parameters]
        return [p for p in moved if p.ndim > 1] or moved

    def fail(self, error: Exception) -> None:
        self._failed = True
        super().fail(error)

    def detach(self) -> None:
        if not self._failed:
            self.standing()
        _remove(self._handles)
        _watched.discard(self.model)

    @property
    def detached(self) -> bool:
        """Whether nothing is seen any more."""
        return not self._handles

    def begin(self, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """A forward pass of the whole model begins; what it is called with instead, if anything."""

    def end(self) -> None:
        """It has ended, perhaps by an exception."""

    def before_step(self) -> None:
        """The optimizer is about to move the parameters: measure."""

    def over(self) -> None:
        """A step is over."""

    def _called(self, model: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        return self.begin(args)

    def _returned(self, *call: Any) -> None:
        self.end()

    def _accumulated(self, p: torch.Tensor) -> None:
        self.hearing.accumulated(p)

    def _step_begins(self, optimizer: Any, args: Any, kwargs: Any) -> Any:
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        self.hearing.step_begins(closure is not None)
        if closure is None:
            self._about_to_move()
            return None
        # The gradients come to be in the closure: in steps of LBFGS, and in every step of Lightning.
        told = _Hook(self, Attachment._about_to_move)
        calls: list[None] = []

        def followed() -> Any:
            loss = closure()
            if not calls:  # LBFGS calls it again while it moves
                calls.append(None)
                told()
            return loss

        if "closure" in kwargs:
            return args, {**kwargs, "closure": followed}
        return (*args[:1], followed, *args[2:]), kwargs

    def _about_to_move(self) -> None:
        self.before_step()
        self.tell("before_step")

    def _step_ends(self, *call: Any) -> None:
        self.hearing.moved()
        if self.hearing.skipped:
            times = f"{self.hearing.skipped} times" if self.hearing.skipped > 1 else "once"
            what = f"gradients were cleared {times} without a step, as a GradScaler does that skips one"
            self.notes.append((self.step, "skipped", what))
            self.hearing.skipped = 0
        self.step += 1
        self.over()
        self.tell("after_step")
        self.hearing.step_ends()

    def standing(self) -> None:
        """Warn, once each, of what has been changed behind the recording's back."""
        hooked = [handle.id in (handle.hooks_dict_ref() or ()) for handle in self._handles]
        if not all(hooked):
            self.warn(
                "some of the recording's hooks were removed: from here on it misses what they would see"
            )
        now = dict(self.model.named_parameters())
        replaced = [name for name, p in now.items() if self.named.get(name) is not p]
        if replaced:
            self.warn(
                f"{len(replaced)} parameters were replaced since watch(), first {replaced[0]}; the new are "
                "not recorded: run.close(), and watch() again with an optimizer that holds them"
            )
            return
        recorded = {name for name, _ in self.parameters}
        moved = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        added = [
            name for name, p in now.items() if name not in recorded and p.requires_grad and id(p) in moved
        ]
        if added:
            self.warn(
                f"the optimizer moves {len(added)} parameters that it did not at watch(), first {added[0]}; "
                "their norms are not recorded: run.close(), and watch() again"
            )

    def warn(self, what: str) -> None:
        """Warn of ``what`` once, and go on."""
        if what not in self._warned:
            self._warned.add(what)
            self.notes.append((self.step, "disturbed", what))
            warnings.warn(f"after step {self.step}: {what}", RuntimeWarning, stacklevel=2)


def _is_compiled(module: nn.Module) -> bool:
    """Whether ``torch.compile`` or ``module.compile()`` has made it faster."""
    return hasattr(module, "_orig_mod") or module._compiled_call_impl is not None


def check_parts(model: nn.Module, optimizer: Any) -> None:
    """Refuse what cannot be followed, before anything is set."""
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise RunError(
            f"watch() received an optimizer of type {type(optimizer).__name__} for a model of PyTorch",
            why="it sees the updates through the hooks of torch.optim.Optimizer",
            instead="torch.optim.SGD(model.parameters(), lr=…), or the optimizer inside the wrapper",
        )
    if isinstance(model, nn.DataParallel):
        raise RunError(
            "watch() received a DataParallel model",
            why="its replicas run in threads on copies of the modules, which no hook of the model sees",
            instead="DistributedDataParallel, which PyTorch recommends as well",
        )
    sharded = [name for name, p in model.named_parameters() if type(p).__name__ == "DTensor"]
    if sharded or any(type(part).__name__ == "FullyShardedDataParallel" for part in model.modules()):
        raise RunError(
            f"watch() received a {type(model).__name__} whose parameters are sharded",
            why="a scan runs on one rank, and no rank holds the whole model",
            instead="DistributedDataParallel, or a smaller model on one device",
        )
    parts = set(model.modules())
    if any(root in parts or model in set(root.modules()) for root in _watched):
        raise RunError(
            "watch() of a model that is already watched, or a part of which is",
            why="two recordings would see each other's scans",
            instead="run.close() on the first recording",
        )
    lazy = [name for name, p in model.named_parameters() if is_lazy(p)]
    if lazy:
        raise RunError(
            f"watch() received a model whose {lazy[0]} has no shape yet",
            why="a lazy module makes its parameters in its first forward pass",
            instead="one forward pass before the optimizer is built and watch() is called",
        )
    moved = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if not any(id(p) in moved and p.requires_grad for p in model.parameters()):
        raise RunError(
            "watch() received an optimizer that moves no parameter of the model",
            why="it was built from other tensors, or all are frozen, so nothing of the model would change",
            instead="the optimizer built from model.parameters()",
        )
