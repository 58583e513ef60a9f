"""Changes in place: what they do, and when they are refused."""

from __future__ import annotations

import numpy as np
import pytest

import backstory
from backstory.autograd import new_level
from backstory.errors import BoundsError, DtypeError, GraphError, ShapeError
from backstory.tensor import wrap

CHANGES = {
    "add_": lambda x: x.add_(1.0),
    "sub_": lambda x: x.sub_(1.0),
    "mul_": lambda x: x.mul_(3.0),
    "div_": lambda x: x.div_(2.0),
    "copy_": lambda x: x.copy_(backstory.zeros(2)),
    "fill_": lambda x: x.fill_(4.0),
    "zero_": lambda x: x.zero_(),
    "+=": lambda x: x.__iadd__(1.0),
    "-=": lambda x: x.__isub__(1.0),
    "*=": lambda x: x.__imul__(3.0),
    "/=": lambda x: x.__itruediv__(2.0),
    "x[...] =": lambda x: x.__setitem__(0, 5.0),
}
EXPECTED = {
    "add_": [3.0, 5.0],
    "sub_": [1.0, 3.0],
    "mul_": [6.0, 12.0],
    "div_": [1.0, 2.0],
    "copy_": [0.0, 0.0],
    "fill_": [4.0, 4.0],
    "zero_": [0.0, 0.0],
    "+=": [3.0, 5.0],
    "-=": [1.0, 3.0],
    "*=": [6.0, 12.0],
    "/=": [1.0, 2.0],
    "x[...] =": [5.0, 4.0],
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_writes_the_same_memory_and_counts(name):
    x = backstory.tensor([2.0, 4.0])
    memory = x.numpy()
    CHANGES[name](x)
    assert x.numpy() is memory
    assert x.tolist() == EXPECTED[name]
    assert x._version >= 1


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_a_leaf_that_requires_grad_is_refused_and_nothing_changes(name):
    x = backstory.tensor([2.0, 4.0], requires_grad=True)
    with pytest.raises(GraphError, match=r"leaf tensor of shape \(2,\) that requires grad.*\n.*\n.*no_grad"):
        CHANGES[name](x)
    assert x.tolist() == [2.0, 4.0]
    assert x._version == 0


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_a_recorded_result_is_refused(name):
    x = backstory.tensor([2.0, 4.0], requires_grad=True) * 1.0
    with pytest.raises(GraphError, match="recorded tensor"):
        CHANGES[name](x)
    assert x.tolist() == [2.0, 4.0]


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_inside_a_transform_is_refused(name):
    with new_level() as level:
        x = wrap(backstory.tensor([2.0, 4.0]), level.number)
        with pytest.raises(GraphError, match="inside a transform"):
            CHANGES[name](x)


def test_hand_written_gradient_descent_updates_in_place_under_no_grad():
    w = backstory.tensor([4.0, -2.0], requires_grad=True)
    same, memory = w, w.detach().numpy()
    for _ in range(200):
        loss = ((w - backstory.tensor([1.0, 3.0])) ** 2).sum()
        loss.backward()
        with backstory.no_grad():
            w -= 0.1 * w.grad
        w.grad.zero_()
    assert w is same
    assert w.requires_grad
    assert w.is_leaf
    np.testing.assert_allclose(memory, [1.0, 3.0], rtol=1e-6)


def test_changes_take_values_that_broadcast_and_no_others():
    x = backstory.zeros(2, 3)
    x += backstory.tensor([1.0, 2.0, 3.0])
    assert x.tolist() == [[1.0, 2.0, 3.0]] * 2
    with pytest.raises(ShapeError, match=r"add_ on a tensor of shape \(2, 3\)"):
        x += backstory.ones(2, 2, 3)
    with pytest.raises(ShapeError, match="copy_"):
        x.copy_(backstory.ones(4))
    assert x._version == 1


@pytest.mark.parametrize("value", [0.5, backstory.tensor([1.5])])
def test_a_float_does_not_go_into_integers(value):
    x = backstory.tensor([1, 2])
    with pytest.raises(DtypeError, match=r"add_ on a tensor of shape \(2,\) and int64"):
        x += value
    assert x.tolist() == [1, 2]


def test_a_number_out_of_range_does_not_go_into_a_small_integer():
    x = backstory.tensor([1, 2], dtype="uint8")
    with pytest.raises(DtypeError, match="uint8"):
        x += 300
    assert x.tolist() == [1, 2]


def test_an_index_out_of_range_is_refused_on_writing():
    x = backstory.zeros(2)
    with pytest.raises(BoundsError, match="index 5"):
        x[5] = 1.0


def test_division_by_zero_in_place_gives_infinity_quietly():
    x = backstory.ones(1)
    x /= 0
    assert x.item() == float("inf")


def test_overlapping_memory_is_read_before_it_is_written():
    x = backstory.arange(4)
    x[1:] += x[:-1]
    assert x.tolist() == [0, 1, 3, 5]
