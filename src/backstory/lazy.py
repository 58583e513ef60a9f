"""Names of packages that are loaded when they are first used, so that importing a package costs little."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

__all__ = ["named"]


def named(package: str, homes: Mapping[str, str], name: str) -> Any:
    """What ``name`` is in a package whose ``homes`` tell in which of its modules names are; "" is itself one.

    >>> named("backstory.optim", {"lr_scheduler": "", "SGD": "sgd"}, "SGD").__name__
    'SGD'
    """
    if name not in homes:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    module = importlib.import_module(f"{package}.{homes[name] or name}")
    return getattr(module, name) if homes[name] else module
