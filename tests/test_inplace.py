"""Changes in place: what they do to memory and to histories, and when they are refused.

PyTorch is the oracle for gradients; where it refuses and backstory does not, PyTorch without the change.
"""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch
from support import close

import backstory
from backstory import func
from backstory.autograd import grad
from backstory.errors import BackstoryError, BoundsError, DtypeError, GraphError, ShapeError, VersionError

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
TORCH_CHANGES = {"copy_": lambda x: x.copy_(torch.zeros(2))}
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
def test_a_change_of_a_view_of_a_leaf_that_requires_grad_is_refused_and_nothing_changes(name):
    x = backstory.tensor([[2.0, 4.0]], requires_grad=True)
    for view in (x[0], x.T.reshape(2), x.T[:, 0][:]):
        with pytest.raises(GraphError, match=r"view of a leaf tensor of shape \(2,\) that requires grad"):
            CHANGES[name](view)
    assert x.tolist() == [[2.0, 4.0]]
    assert x._version == 0


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_an_expanded_tensor_is_refused_and_nothing_changes(name):
    x = backstory.tensor([2.0])
    with pytest.raises(GraphError, match=r"read-only.*\n.*one number for many"):
        CHANGES[name](x.expand(2))
    assert x.tolist() == [2.0]


@pytest.mark.parametrize("name", CHANGES)
def test_the_gradient_of_a_changed_result_equals_pytorchs(name):
    data = np.array([2.0, 4.0])
    x, theirs = backstory.tensor(data, requires_grad=True), torch.tensor(data, requires_grad=True)
    y, u = x * x, theirs * theirs
    CHANGES[name](y)
    (TORCH_CHANGES.get(name) or CHANGES[name])(u)
    close(y.detach().numpy(), u.detach().numpy())
    (y * y).sum().backward()
    (u * u).sum().backward()
    close(x.grad.numpy(), theirs.grad.numpy())


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_inside_a_transform_is_the_change_outside(name):
    def total(x):
        y = x * 1.5
        CHANGES[name](y)
        return (y * x).sum()

    x = backstory.tensor([2.0, 4.0], requires_grad=True)
    total(x).backward()
    close(func.grad(total)(x.detach()).numpy(), x.grad.numpy())


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
    with pytest.raises(ShapeError, match=r"shape \(2, 3\) gives one of shape \(2, 2, 3\)"):
        x += backstory.ones(2, 2, 3)
    with pytest.raises(ShapeError, match="copy_"):
        x.copy_(backstory.ones(4))
    assert x._version == 1


@pytest.mark.parametrize("value", [0.5, backstory.tensor([1.5])])
def test_a_float_does_not_go_into_integers(value):
    x = backstory.tensor([1, 2])
    with pytest.raises(DtypeError, match=r"add_ on a tensor of int64 gives float32"):
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


# Histories


def pair(data, function):
    """A recorded tensor and its leaf, here and in PyTorch."""
    leaves = backstory.tensor(data, requires_grad=True), torch.tensor(data, requires_grad=True)
    return leaves, tuple(function(x) for x in leaves)


def doubled(x):
    return x * 2.0


DATA = np.array([[0.5, -1.0, 2.0], [1.5, -0.5, 3.0]])


def weigh(x, library):
    """A scalar in which every entry of ``x`` counts differently, and not linearly."""
    weights = np.arange(1.0, 1.0 + np.prod(x.shape)).reshape(tuple(x.shape))
    return (x * x * (weights if library is backstory else torch.tensor(weights))).sum()


# Each is run on a recorded tensor of shape (2, 3), its leaf, and the library; what it returns counts too.
PROGRAMS = {
    "add_ to a row": lambda x, leaf, lib: x[0].add_(1.0),
    "mul_ of a column by a leaf": lambda x, leaf, lib: x[:, 1].mul_(leaf[:, 0]),
    "relu_": lambda x, leaf, lib: x.relu_(),
    "relu_ on a transposed view": lambda x, leaf, lib: x.T.relu_(),
    "exp_ on a strided view": lambda x, leaf, lib: x[:, ::2].exp_(),
    "tanh_ after reading": lambda x, leaf, lib: [x + 1.0, x.tanh_()],
    "an entry set to a number": lambda x, leaf, lib: x.__setitem__((0, 1), 5.0),
    "a row set to another": lambda x, leaf, lib: x.__setitem__(0, x[1] * 3.0),
    "a row set to a leaf's row": lambda x, leaf, lib: x.__setitem__(1, leaf[0]),
    "rows set by broadcasting": lambda x, leaf, lib: x.__setitem__(slice(None), leaf[:1]),
    "leading ones are ignored": lambda x, leaf, lib: x.__setitem__(0, leaf[None, :1]),
    "a list index set": lambda x, leaf, lib: x.__setitem__([1, 0], leaf),
    "a mask set": lambda x, leaf, lib: x.__setitem__(x.detach() > 0, 0.5),
    "copy_ of a leaf": lambda x, leaf, lib: x.copy_(leaf),
    "copy_ into a view": lambda x, leaf, lib: x.reshape(6)[1:4].copy_(leaf.reshape(6)[:3]),
    "zero_ of a view": lambda x, leaf, lib: x[1].zero_(),
    "a view read before and after": lambda x, leaf, lib: _view_before_and_after(x),
    "a view of a view of a view": lambda x, leaf, lib: x.T[1:].reshape(2, 2)[0].mul_(3.0),
    "two views that overlap": lambda x, leaf, lib: [x[0].mul_(2.0), x[:, 0].mul_(leaf[:, 1])],
    "a change of the base seen by a view": lambda x, leaf, lib: _base_changed(x, leaf),
    "a change of a view seen by its sibling": lambda x, leaf, lib: _sibling(x, leaf),
    "a chain of changes": lambda x, leaf, lib: x.add_(1.0).mul_(leaf).sub_(leaf * 2.0).div_(3.0),
    "a product with a copy of itself": lambda x, leaf, lib: x.mul_(x.clone()),
    "pow_": lambda x, leaf, lib: x.pow_(3),
    "a constant takes a history": lambda x, leaf, lib: _filled(leaf, lib),
    "a view of a constant takes a history": lambda x, leaf, lib: _filled_through_views(leaf, lib),
    "float32 memory": lambda x, leaf, lib: _into_float32(leaf, lib),
    "detach is changed": lambda x, leaf, lib: x.detach().add_(1.0),
    "no_grad": lambda x, leaf, lib: _under_no_grad(x, lib),
    "a view made in no_grad is changed there": lambda x, leaf, lib: _view_under_no_grad(x, lib),
    "clone is changed": lambda x, leaf, lib: x.clone().add_(leaf),
    "an augmented item": lambda x, leaf, lib: _augmented(x),
    "a loop that fills rows": lambda x, leaf, lib: _loop(leaf, lib),
}


def _view_before_and_after(x):
    row = x[0]
    before = row * 2.0
    row.add_(1.0)
    return [before, row * row, x[0]]


def _base_changed(x, leaf):
    row, column = x[0], x.T[1]
    x.mul_(leaf)
    return [row * 3.0, column]


def _sibling(x, leaf):
    first, second = x[0], x[:, 1]
    first.mul_(leaf[1])
    second.add_(1.0)
    return [first, second]


def _filled(leaf, lib):
    out = lib.zeros(2, 3, dtype=lib.float64)
    out[0] = leaf[1]
    out[1, 1:] = leaf[0, :2] * 2.0
    return out


def _filled_through_views(leaf, lib):
    out = lib.zeros(3, 2, dtype=lib.float64)
    view = out.T
    view[0].add_(leaf[0])
    return [out, view, out[1]]


def _into_float32(leaf, lib):
    out = lib.zeros(3, dtype=lib.float32)
    out.copy_(leaf[0])
    out.add_(leaf[1])
    return out.to(lib.float64)


def _under_no_grad(x, lib):
    row = x[0]
    with lib.no_grad():
        x.mul_(2.0)
    return row


def _view_under_no_grad(x, lib):
    with lib.no_grad():
        x[0].fill_(3.0)


def _augmented(x):
    x[0, 1] *= 3.0
    x[:, 0] += x[:, 2]
    return x


def _loop(leaf, lib):
    out = lib.zeros(4, 3, dtype=lib.float64)
    row = leaf[0]
    for i in range(4):
        row = row * leaf[1]
        out[i] = row
    return out


def _total(function, x, leaf, library):
    out = function(x, leaf, library)
    found = out if isinstance(out, list) else [out] if hasattr(out, "shape") else []
    return sum((weigh(y, library) for y in [*found, x]), 0.0)


@pytest.mark.parametrize("name", PROGRAMS)
def test_gradients_through_changes_in_place_equal_pytorchs(name):
    (mine, theirs), (x, u) = pair(DATA, doubled)
    loss = _total(PROGRAMS[name], x, mine, backstory)
    expected = _total(PROGRAMS[name], u, theirs, torch)
    close(loss.item(), expected.item())
    loss.backward()
    expected.backward()
    close(mine.grad.numpy(), theirs.grad.numpy())


@pytest.mark.parametrize("name", PROGRAMS)
def test_second_derivatives_through_changes_in_place_equal_pytorchs(name):
    (mine, theirs), (x, u) = pair(DATA, doubled)
    (first,) = grad(_total(PROGRAMS[name], x, mine, backstory), mine, create_graph=True)
    (expected,) = torch.autograd.grad(_total(PROGRAMS[name], u, theirs, torch), theirs, create_graph=True)
    close(first.detach().numpy(), expected.detach().numpy())
    (second,) = grad(weigh(first, backstory), mine)
    (expected,) = torch.autograd.grad(weigh(expected, torch), theirs)
    close(second.numpy(), expected.numpy(), rtol=1e-11)


def test_names_of_nodes_after_changes():
    _, (x, _) = pair(DATA, doubled)
    x[0].add_(1.0)
    assert repr(x.grad_fn) == "<OverwriteBackward0>"
    assert [str(edge) for edge, _ in x.grad_fn.next_functions] == ["<MulBackward0>", "<AddBackward0>"]
    row = x[0]
    x.exp_()
    assert repr(x.grad_fn) == "<ExpBackward0>"
    assert repr(row.grad_fn) == "<GetitemBackward0>"
    assert row.grad_fn.next_functions[0][0] is x.grad_fn


def test_a_view_of_a_constant_that_takes_a_history_requires_grad_as_in_pytorch():
    base, w = backstory.zeros(3), backstory.ones(3, requires_grad=True)
    view = base[0]
    assert not view.requires_grad
    base.add_(w)
    assert base.requires_grad
    assert view.requires_grad
    assert not view.is_leaf


def test_what_pytorch_refuses_and_is_right_here():
    # PyTorch refuses to change what unbind returned, and to multiply by what is being changed.
    (leaf, _), (x, _) = pair(DATA, doubled)
    first, second = list(x)
    first.mul_(second)
    x.mul_(x[1])
    x.mul_(x)
    weigh(x, backstory).backward()

    theirs = torch.tensor(DATA, requires_grad=True)
    u = theirs * 2.0
    weigh(torch.stack([u[0] * u[1] * u[1], u[1] * u[1]]) ** 2, torch).backward()
    close(leaf.grad.numpy(), theirs.grad.numpy())


def test_an_index_that_names_an_entry_twice_gives_the_gradient_to_the_one_that_is_seen():
    w = backstory.tensor([1.0, 2.0, 3.0], requires_grad=True)
    out = backstory.zeros(4)
    out[[0, 2, 0]] = w
    assert out.tolist() == [3.0, 0.0, 2.0, 0.0]
    (out * backstory.tensor([1.0, 10.0, 100.0, 1000.0])).sum().backward()
    assert w.grad.tolist() == [0.0, 100.0, 1.0]


def test_a_value_that_an_earlier_operation_kept_and_that_is_changed_is_refused_by_name_and_line():
    (leaf, _), (x, _) = pair(DATA, doubled)
    out = (x.exp().log() + (y := x * 1.0).tanh()).sum() + (y * y).sum()
    y.add_(1.0)  # changed here
    with pytest.raises(VersionError) as caught:
        out.backward()
    text = str(caught.value)
    assert "MulBackward0" in text
    assert "(2, 3)" in text
    assert "version 0 and is at 1" in text
    assert "test_inplace.py:" in text
    assert "`y.add_(1.0)  # changed here`" in text
    assert leaf.grad is None


def test_the_line_of_an_optimizer_step_is_named():
    w = backstory.nn.Parameter(backstory.ones(2))
    optimizer = backstory.optim.SGD([w], lr=0.1)
    (w * w).sum().backward()
    stale = (w * w).sum()
    optimizer.step()  # the step
    with pytest.raises(VersionError, match=r"`optimizer\.step\(\)  # the step`"):
        stale.backward()


def test_relu_in_place_keeps_one_array_for_value_and_backward():
    _, (x, _) = pair(DATA, doubled)
    memory = x.detach().numpy()
    x.relu_()
    assert x.grad_fn.ans is memory
    x.add_(1.0)
    with pytest.raises(VersionError, match="ReluBackward0"):
        x.sum().backward()


def test_a_gradient_that_is_retained_is_that_of_the_changed_tensor():
    (_, _), (x, u) = pair(DATA, doubled)
    for y, library in ((x, backstory), (u, torch)):
        y.retain_grad()
        y[0].mul_(3.0)
        y.exp_()
        weigh(y, library).backward()
    close(x.grad.numpy(), u.grad.numpy())


def test_a_view_made_under_no_grad_is_not_changed_where_a_graph_is_recorded():
    _, (x, u) = pair(DATA, doubled)
    with backstory.no_grad():
        row = x[0]
    with torch.no_grad():
        torch_row = u[0]
    with pytest.raises(RuntimeError):
        torch_row.add_(1.0)
    with pytest.raises(GraphError, match="made under no_grad"):
        row.add_(1.0)
    assert x._version == 0


def test_a_refused_change_leaves_values_versions_and_histories():
    _, (x, _) = pair(DATA, doubled)
    node, before = x.grad_fn, x.tolist()
    for wrong in (
        lambda: x.add_(backstory.ones(4)),
        lambda: x.add_(backstory.ones(2, 2, 3)),
        lambda: x.__setitem__(5, 0.0),
        lambda: x.__setitem__(0, backstory.ones(2)),
        lambda: x.T.copy_(backstory.ones(2, 2)),
        lambda: x.mul_("a"),
    ):
        with pytest.raises((BackstoryError, TypeError)):
            wrong()
    assert x.grad_fn is node
    assert x.tolist() == before
    assert x._version == 0


def test_a_change_of_an_integer_tensor_has_no_history():
    x, w = backstory.tensor([1, 2]), backstory.tensor([1.7, 2.2], requires_grad=True)
    x.copy_(w)
    assert x.tolist() == [1, 2]
    assert not x.requires_grad


def test_tensors_that_were_changed_die_by_reference_counting():
    gc.collect()
    gc.disable()
    try:
        (leaf, _), (x, _) = pair(DATA, doubled)
        row = x[0]
        row.add_(leaf[0])
        x.relu_()
        nodes = [weakref.ref(y.grad_fn) for y in (x, row)]
        del x, row
        assert all(node() is None for node in nodes)
    finally:
        gc.enable()
