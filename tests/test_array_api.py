"""Tensors in the Array API's dialect, against the strict implementation of the standard."""

from __future__ import annotations

import array_api_strict as strict
import numpy as np
import pytest

from backstory import array_api
from backstory.tensor import Tensor

X = np.array([[1.5, -2.0, 0.5], [3.0, 0.25, -1.0]])
Y = np.array([[2.0, 1.0, -1.5], [0.5, 4.0, 1.0]])

BINARY = (
    "add subtract multiply divide floor_divide equal not_equal less less_equal greater greater_equal vecdot "
    "broadcast_arrays"
)
UNARY = "negative positive square reciprocal mean var std sort nonzero count_nonzero unstack"
LOGICAL = "logical_and logical_or logical_xor"

CALLS = {
    **{name: lambda xp, x, y, name=name: getattr(xp, name)(x, y) for name in BINARY.split()},
    **{name: lambda xp, x, y, name=name: getattr(xp, name)(x) for name in UNARY.split()},
    **{name: lambda xp, x, y, name=name: getattr(xp, name)(x > 0, y > 0) for name in LOGICAL.split()},
    "pow": lambda xp, x, y: xp.pow(x, 2),
    "clip": lambda xp, x, y: xp.clip(x, -1, 1),
    "var over": lambda xp, x, y: xp.var(x, axis=1, correction=1, keepdims=True),
    "std over": lambda xp, x, y: xp.std(x, axis=0, correction=0.5),
    "mean over": lambda xp, x, y: xp.mean(x, axis=(0, 1), keepdims=True),
    "count over": lambda xp, x, y: xp.count_nonzero(x, axis=0),
    "sort down": lambda xp, x, y: xp.sort(x, axis=0, descending=True),
    "stack": lambda xp, x, y: xp.stack([x, y], axis=1),
    "unstack over": lambda xp, x, y: xp.unstack(x, axis=1),
    "squeeze": lambda xp, x, y: xp.squeeze(xp.expand_dims(x, axis=1), axis=1),
    "expand_dims": lambda xp, x, y: xp.expand_dims(x, axis=-1),
    "repeat": lambda xp, x, y: xp.repeat(x, 2, axis=-1),
    "repeat flat": lambda xp, x, y: xp.repeat(x, 2),
    "tile": lambda xp, x, y: xp.tile(x, (2, 1, 2)),
    "moveaxis": lambda xp, x, y: xp.moveaxis(x, 0, 1),
    "tensordot": lambda xp, x, y: xp.tensordot(x, y, axes=((0, 1), (0, 1))),
    "vecdot over": lambda xp, x, y: xp.vecdot(x, y, axis=-2),
    "take_along_axis": lambda xp, x, y: xp.take_along_axis(x, xp.argsort(x, axis=1), axis=1),
    "full": lambda xp, x, y: xp.full((2, 3), 1.5),
    "ones": lambda xp, x, y: xp.ones((2, 3)) * x,
    "linspace": lambda xp, x, y: xp.linspace(0.0, 1.0, 5) * x[0, 0],
    "meshgrid": lambda xp, x, y: tuple(xp.meshgrid(x[0, :], y[1, :], indexing="xy")),
}


def arrays(result):
    many = result if isinstance(result, (tuple, list)) else [result]
    return [np.asarray(x.numpy() if isinstance(x, Tensor) else x) for x in many]


@pytest.mark.parametrize("name", CALLS)
def test_a_name_of_the_standard_does_what_the_standard_says(name):
    xp = array_api
    found = arrays(CALLS[name](xp, xp.asarray(X.copy()), xp.asarray(Y.copy())))
    wanted = arrays(CALLS[name](strict, strict.asarray(X), strict.asarray(Y)))
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_every_name_that_is_listed_exists_and_is_the_standards():
    for name in array_api.__all__:
        assert hasattr(array_api, name)
        assert hasattr(strict, name), name
