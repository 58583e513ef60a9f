"""Under which circumstances a program is the right one: what modules, optimizers and tensors were."""

from __future__ import annotations

from typing import Any

from backstory.optim import Optimizer

__all__ = ["PLAIN", "fingerprint", "flags", "in_fingerprint", "settings"]

PLAIN = (bool, int, float, str, bytes, type(None))


def fingerprint(module: Any) -> tuple[Any, ...]:
    """What a module is: its mode, its parts by identity, its hooks and its plain attributes."""
    hooks = module._hooks
    return (
        module.training,
        tuple(
            (name, id(x))
            for register in (module._parameters, module._buffers, module._modules)
            for name, x in register.items()
        ),
        None if hooks is None else tuple(tuple(getattr(hooks, kind)) for kind in type(hooks).__slots__),
        tuple((name, x) for name, x in module.__dict__.items() if isinstance(x, PLAIN)),
        id(module._observer),
    )


def in_fingerprint(module: Any, name: str) -> bool:
    """Whether :func:`fingerprint` has what a module calls ``name``."""
    registers = (module._parameters, module._buffers, module._modules)
    return isinstance(module.__dict__[name], PLAIN) or any(name in register for register in registers)


def settings(optimizer: Optimizer) -> tuple[Any, ...]:
    """What an optimizer is, numbers apart: its parameters by identity, and its hooks."""
    groups = tuple(tuple(map(id, group["params"])) for group in optimizer.param_groups)
    return groups, tuple(map(id, optimizer._before)), tuple(map(id, optimizer._after))


def flags(x: Any) -> tuple[Any, ...]:
    """What of a tensor decides what is recorded."""
    hooks = x._hooks
    return x._requires_grad, None if hooks is None else (tuple(hooks.before), tuple(hooks.after))
