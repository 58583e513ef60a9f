"""The operations that the Array API standard lacks, one implementation per namespace.

A namespace may bring its own as an attribute ``backstory_extras`` (the tensors' namespace does);
every other is served by the functions here.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from backstory.arrays import eager, error_function

__all__ = ["add_slices", "erf", "erfc", "fmod", "one_hot", "pick", "scatter", "select"]


def scatter(xp: Any, values: Any, index: Any, shape: tuple[int, ...]) -> Any:
    """Zeros of ``shape`` with ``values`` added at ``index``: the transpose of ``x[index]``.

    An entry that ``index`` names several times receives the sum.

    >>> import numpy as np
    >>> scatter(eager, np.array([1.0, 2.0, 3.0]), np.array([0, 0, 2]), (4,))
    array([3., 0., 3., 0.])
    """
    own = getattr(xp, "backstory_extras", None)
    if own is not None:
        return own.scatter(values, index, shape)
    if xp is eager:
        return _scatter_numpy(values, index, shape)
    return _scatter_standard(xp, values, index, shape)


def add_slices(xp: Any, values: Any, index: Any, length: int, axis: int) -> Any:
    """Zeros with ``length`` entries on ``axis``, and the k-th slice of ``values`` added at ``index[k]``.

    It is the transpose of ``xp.take(x, index, axis=axis)``.

    >>> import numpy as np
    >>> add_slices(eager, np.array([[1.0, 2.0, 3.0]]), np.array([0, 0, 1]), 2, axis=1)
    array([[3., 3.]])
    """
    own = getattr(xp, "backstory_extras", None)
    if own is not None:
        return own.add_slices(values, index, length, axis)
    axis %= len(values.shape)
    shape = (*values.shape[:axis], length, *values.shape[axis + 1 :])
    place = (slice(None),) * axis
    if xp is eager:
        return _scatter_numpy(values, (*place, index), shape)
    result = xp.zeros(shape, dtype=values.dtype)
    for k in range(index.shape[0]):
        result[(*place, int(index[k]), ...)] += values[(*place, k, ...)]
    return result


def select(xp: Any, gate: Any, x: Any) -> Any:
    """``x`` where the gate is open, 0 where it is closed, also for an infinite or NaN ``x``.

    >>> import numpy as np
    >>> select(eager, np.array([True, False]), np.array([2.0, np.inf]))
    array([2., 0.])
    """
    if x.dtype == xp.bool:
        return gate & x
    bits = _BITS.get(x.dtype) if xp is eager else None
    if bits is None:
        return xp.where(gate, x, 0)
    # The bits of x times 0 or 1: exact for every value, and thrice as fast as np.where.
    return (x.view(bits) * gate).view(x.dtype)


def pick(xp: Any, x: Any, labels: Any) -> Any:
    """The entry of each row of ``x`` (N, C) at its label: (N,).

    >>> import numpy as np
    >>> pick(eager, np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1, 0]))
    array([2., 3.])
    """
    if xp is eager:
        return x[np.arange(len(labels)), labels]
    return xp.sum(xp.where(_at_label(xp, labels, x), x, 0), axis=-1)


def one_hot(xp: Any, labels: Any, like: Any) -> Any:
    """1 in each row at its label and 0 elsewhere, in the shape (N, C) and dtype of ``like``.

    >>> import numpy as np
    >>> one_hot(eager, np.array([1, 0]), np.zeros((2, 2)))
    array([[0., 1.],
           [1., 0.]])
    """
    if xp is eager:
        hot = np.zeros(like.shape, like.dtype)
        hot[np.arange(len(labels)), labels] = 1
        return hot
    return xp.astype(_at_label(xp, labels, like), like.dtype)


def fmod(xp: Any, x: Any, y: Any) -> Any:
    """The remainder of x / y with the sign of x.

    >>> import numpy as np
    >>> fmod(eager, np.array([-5.0, 5.0]), 3.0)
    array([-2.,  2.])
    """
    own = getattr(xp, "backstory_extras", None)
    if own is not None:
        return own.fmod(x, y)
    if xp is eager:
        return np.fmod(x, y)
    return xp.asarray(np.fmod(_as_numpy(x), _as_numpy(y)))


def erf(xp: Any, x: Any) -> Any:
    """2/√π ∫₀ˣ exp(−t²) dt, entry by entry.

    >>> import numpy as np
    >>> erf(eager, np.array([0.0, np.inf]))
    array([0., 1.])
    """
    return _on_numpy(xp, "erf", error_function.erf, x)


def erfc(xp: Any, x: Any) -> Any:
    """1 − erf(x), without loss of digits for large x.

    >>> import numpy as np
    >>> erfc(eager, np.array([0.0, 10.0]))
    array([1.00000000e+00, 2.08848758e-45])
    """
    return _on_numpy(xp, "erfc", error_function.erfc, x)


def _on_numpy(xp: Any, name: str, function: Any, x: Any) -> Any:
    """A function of NumPy arrays; ``name`` is that of the namespace's own."""
    own = getattr(xp, "backstory_extras", None)
    if own is not None:
        return getattr(own, name)(x)
    return function(x) if xp is eager else xp.asarray(function(_as_numpy(x)))


def _at_label(xp: Any, labels: Any, x: Any) -> Any:
    return xp.arange(x.shape[-1]) == xp.reshape(labels, (-1, 1))


_BITS = {np.dtype(f"f{n}"): np.dtype(f"i{n}") for n in (2, 4, 8)}


def _scatter_numpy(values: np.ndarray, index: Any, shape: tuple[int, ...]) -> np.ndarray:
    result = np.zeros(shape, values.dtype)
    parts = index if isinstance(index, tuple) else (index,)
    if any(isinstance(part, (list, np.ndarray)) and np.asarray(part).dtype != bool for part in parts):
        # Added at places in a vector: many times as fast as np.add.at with several indices.
        places = np.arange(result.size).reshape(shape)[index]
        np.add.at(result.reshape(-1), places.reshape(-1), np.broadcast_to(values, places.shape).reshape(-1))
    else:
        result[index] = values
    return result


def _scatter_standard(xp: Any, values: Any, index: Any, shape: tuple[int, ...]) -> Any:
    """Entry by entry, with nothing but what the standard promises (slow: for tests)."""
    size = int(np.prod(shape))
    places = np.arange(size).reshape(shape)[_as_numpy(index)]
    flat = xp.zeros(size, dtype=values.dtype)
    for position in itertools.product(*(range(n) for n in places.shape)):
        flat[int(places[position])] += values[position]
    return xp.reshape(flat, shape)


def _as_numpy(index: Any) -> Any:
    if isinstance(index, tuple):
        return tuple(_as_numpy(part) for part in index)
    return np.asarray(index) if hasattr(index, "__array_namespace__") else index
