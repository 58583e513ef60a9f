"""What a transform does with a function that is compiled: what it makes of it is compiled too."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["transform"]

Maker = TypeVar("Maker", bound=Callable[..., Any])


def transform(make: Maker) -> Maker:
    """A transform ``make(function, ...)``, which asks functions whether they have a way of their own.

    A class of such functions defines ``__transformed__(key, make)``: it applies ``make`` to the plain
    function, and may give the same again for an equal ``key``.

    >>> import backstory
    >>> from backstory import func
    >>> cube = backstory.compile(lambda x: (x**3).sum())
    >>> func.grad(cube) is func.grad(cube)
    True
    """

    @functools.wraps(make)
    def made(function: Any, *args: Any, **keywords: Any) -> Any:
        own = getattr(type(function), "__transformed__", None)
        if own is None:
            return make(function, *args, **keywords)
        key = (make, args, tuple(sorted(keywords.items())))
        return own(function, key, lambda plain: make(plain, *args, **keywords))

    return made  # type: ignore[return-value]
