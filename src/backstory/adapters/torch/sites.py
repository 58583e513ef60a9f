"""Sites of PyTorch models: where gating functions run, seen as they run.

A ``TorchFunctionMode`` is active while the watched model's forward runs, so that modules, functional
calls, methods and in-place calls are one case. Which module calls is read from the Python stack: the
frame of ``Module.__call__`` nearest to the function names it, with no hook on any submodule.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import CheckpointFunction

from backstory.adapters.torch.activations import GATES, Gate, gates

__all__ = ["Key", "SiteMode", "is_calling", "is_repeated", "module_paths"]

#: (module path, operation, the call's index within one forward pass of the model)
Key = tuple[str, str, int]

CALL = nn.Module._call_impl.__code__
REENTRANT = CheckpointFunction.backward.__code__


def module_paths(model: nn.Module) -> dict[int, str]:
    """Every module's path by its id; of a module with two paths the first."""
    return {id(module): path for path, module in model.named_modules()}


def is_calling(model: nn.Module, skip: int = 0) -> bool:
    """Whether a call of ``model`` is under way in this thread, apart from the ``skip`` innermost ones."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        if frame.f_code is CALL and frame.f_locals["self"] is model:
            if skip == 0:
                return True
            skip -= 1
        frame = frame.f_back
    return False


def is_repeated() -> bool:
    """Whether a backward pass computes the present forward pass again, and the first time was seen.

    Reentrant checkpointing runs it without gradients first, which is not seen.
    """
    if torch._C._current_graph_task_id() < 0:
        return False
    frame: Any = sys._getframe(1)
    while frame is not None:
        if frame.f_code is REENTRANT:
            return False
        frame = frame.f_back
    return True


class SiteMode(TorchFunctionMode):
    """Names the sites that run; a subclass looks at them in :meth:`gate`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._paths = module_paths(model)
        self._calls: dict[tuple[str, str], int] = {}

    def restart(self) -> None:
        """A new forward pass of the whole model begins."""
        self._calls.clear()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.compiler.is_compiling():  # a part of the model is compiled while the mode is active
            return func(*args, **kwargs)
        gate = gates(func, args, kwargs) if func in GATES else None
        if gate is None:
            return self.other(func, args, kwargs)
        if not args:  # called with names alone
            kwargs = dict(kwargs)
            args = (kwargs.pop("input"),)
        path = self._path()
        if path is None:
            return self.other(func, args, kwargs)
        call = self._calls.get((path, gate.name), 0)
        self._calls[path, gate.name] = call + 1
        return self.gate((path, gate.name, call), gate, func, args, kwargs)

    def _path(self) -> str | None:
        """The path of the module whose forward is running; ``None`` if no forward of the model is."""
        frame: Any = sys._getframe(2)
        while frame is not None:
            if frame.f_code is CALL:
                path = self._paths.get(id(frame.f_locals["self"]))
                if path is not None:
                    return path
            frame = frame.f_back
        return None

    def gate(self, key: Key, gate: Gate, func: Any, args: Any, kwargs: Any) -> Any:
        """Run a gating function at the site ``key``, and return its result."""
        raise NotImplementedError

    def other(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run any other function."""
        return func(*args, **kwargs)


def default_axis(x: Tensor) -> int:
    """Where the units are when nothing is known: channels of images, else the last axis."""
    return 1 - x.ndim if x.ndim >= 4 else -1


def channel_axis(func: Any, args: Any, result: Tensor) -> int | None:
    """Where the units of what ``func`` made are, if the function decides it."""
    name = getattr(func, "__name__", "")
    if name in ("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"):
        return -int(name[-2]) - 1
    if name in ("batch_norm", "instance_norm", "group_norm"):
        return 1 - result.ndim
    return -1 if name in ("linear", "embedding", "matmul", "bmm") else None


#: Functions that move axes, and those that change how many units there are but not where.
MOVING = frozenset(("transpose", "permute", "movedim", "moveaxis", "swapaxes", "swapdims", "t"))
KEEPING = frozenset(("cat", "concat", "concatenate", "split", "chunk", "narrow", "__getitem__"))


def inherited_axis(func: Any, args: Any, kwargs: Any, result: Tensor, known: Any) -> int | None:
    """Where the units are, from an argument of as many axes that has as many units there."""
    name = getattr(func, "__name__", "")
    given = [a for one in args for a in (one if isinstance(one, (list, tuple)) else (one,))]
    for a in given:
        if isinstance(a, Tensor) and a in known and a.ndim == result.ndim:
            axis = known[a]
            if name in MOVING:
                return _moved(func, args, kwargs, axis)
            if a.shape[axis] == result.shape[axis] or name in KEEPING:
                return axis
    return -1 if name in ("layer_norm", "rms_norm") else None


def _moved(func: Any, args: Any, kwargs: Any, axis: int) -> int:
    """Where a function that moves axes puts ``axis``: found on a tensor that has a stride there alone."""
    strides = [0] * args[0].ndim
    strides[axis] = 1
    marked = func(torch.empty_strided(args[0].shape, strides, dtype=torch.bool), *args[1:], **kwargs)
    return marked.stride().index(1) - marked.ndim


def tensors_of(result: Any) -> list[Tensor]:
    """The tensors that a function returned."""
    if isinstance(result, Tensor):
        return [result]
    return [one for one in result if isinstance(one, torch.Tensor)] if isinstance(result, tuple) else []


def on_top(mode: TorchFunctionMode) -> bool:
    """Whether ``mode`` was the last one entered in this thread."""
    stack = torch.overrides._get_current_function_mode_stack()
    return bool(stack) and stack[-1] is mode
