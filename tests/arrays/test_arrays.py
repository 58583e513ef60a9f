"""Random streams and the operations that the standard lacks."""

from __future__ import annotations

import json
import threading

import array_api_strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as npst
from support import close, strict

import backstory
from backstory.arrays import default_generator, eager, namespace, scatter, select


def test_a_stream_goes_on_from_a_state_that_json_holds():
    g = backstory.Generator(3)
    g.numpy.random(5)
    state = json.loads(json.dumps(g.get_state()))
    first = g.numpy.random(4)
    g.set_state(state)
    np.testing.assert_array_equal(g.numpy.random(4), first)
    assert g.initial_seed() == 3


def test_each_thread_has_a_default_stream_of_its_own():
    backstory.manual_seed(7)
    seen = []
    thread = threading.Thread(target=lambda: seen.append(default_generator()))
    thread.start()
    thread.join()
    assert seen[0] is not default_generator()
    assert default_generator().initial_seed() == 7


def test_random_tensors_have_their_distributions_and_follow_the_seed():
    backstory.manual_seed(1)
    u, n = backstory.rand(100, 100), backstory.randn(100, 100)
    assert 0 <= u.numpy().min() < u.numpy().max() < 1
    assert u.mean().item() == pytest.approx(0.5, abs=0.02)
    assert n.numpy().std() == pytest.approx(1.0, abs=0.03)
    backstory.manual_seed(1)
    np.testing.assert_array_equal(backstory.rand(100, 100).numpy(), u.numpy())


@given(npst.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4).flatmap(npst.basic_indices))
def test_scatter_is_the_transpose_of_basic_indexing(index):
    x = np.arange(64.0).reshape(4, 4, 4)
    try:
        taken = np.asarray(x[index])
    except IndexError:
        return
    values = np.arange(1.0, 1.0 + taken.size).reshape(taken.shape)
    assert (scatter(eager, values, index, x.shape) * x).sum() == (values * taken).sum()


@given(npst.integer_array_indices((4, 3)))
def test_scatter_sums_what_an_index_names_several_times(index):
    x = np.arange(12.0).reshape(4, 3)
    taken = x[index]
    values = np.arange(1.0, 1.0 + taken.size).reshape(taken.shape)
    mine = scatter(eager, values, index, x.shape)
    assert (mine * x).sum() == (values * taken).sum()
    close(scatter(array_api_strict, strict(values), index, x.shape), mine)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0,)])
def test_select_keeps_the_open_entries_bit_by_bit_and_zeroes_the_closed(dtype, shape):
    values = [0.0, 1.5, 3.0] if dtype == "int64" else [np.inf, np.nan, -np.inf]
    x = np.resize(np.array(values, dtype), shape)
    for gate in (np.ones(shape, bool), np.zeros(shape, bool)):
        expected = np.where(gate, x, np.zeros((), dtype))
        np.testing.assert_array_equal(np.asarray(select(eager, gate, x)), expected)
        assert select(eager, gate, x).dtype == x.dtype


def test_arrays_know_their_namespace():
    assert namespace(np.ones(1)) is eager
    assert namespace(backstory.ones(1)).__name__ == "backstory.array_api"
    assert namespace(array_api_strict.ones(1)).__name__ == "array_api_strict"
