"""Broadcasting is undone in one place, for all operations."""

from __future__ import annotations

import array_api_strict
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from support import close, strict

import backstory
from backstory.arrays import eager
from backstory.ops import unbroadcast

broadcasts = npst.mutually_broadcastable_shapes(num_shapes=3, max_dims=4, max_side=4, min_side=0)


@given(broadcasts)
def test_unbroadcast_is_the_transpose_of_broadcasting(shapes):
    rng = np.random.default_rng(0)
    for shape in shapes.input_shapes:
        g, t = rng.normal(size=shapes.result_shape), rng.normal(size=shape)
        pushed = (g * np.broadcast_to(t, shapes.result_shape)).sum()
        pulled = unbroadcast(eager, g, shape)
        assert pulled.shape == shape
        np.testing.assert_allclose((pulled * t).sum(), pushed, rtol=1e-12, atol=1e-12)


@given(broadcasts)
def test_unbroadcast_is_the_same_in_the_strict_namespace(shapes):
    g = np.random.default_rng(1).normal(size=shapes.result_shape)
    for shape in shapes.input_shapes:
        close(unbroadcast(array_api_strict, strict(g), shape), unbroadcast(eager, g, shape))


@given(broadcasts)
def test_the_gradient_of_a_broadcast_sum_counts_the_copies(shapes):
    leaves = [backstory.tensor(np.ones(shape), requires_grad=True) for shape in shapes.input_shapes]
    out = leaves[0] + leaves[1] + leaves[2]
    assert out.shape == shapes.result_shape
    out.sum().backward()
    for x in leaves:
        copies = out.numel() / x.numel() if x.numel() else 0
        np.testing.assert_array_equal(x.grad.numpy(), np.full(x.shape, copies))


@given(st.integers(0, 3), st.integers(0, 3))
def test_a_scalar_beside_any_shape_receives_the_whole_sum(rows, columns):
    x = backstory.tensor(2.0, requires_grad=True)
    (x * backstory.ones(rows, columns)).sum().backward()
    assert x.grad.shape == ()
    assert x.grad.item() == rows * columns
