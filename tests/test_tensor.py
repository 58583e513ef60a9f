"""What a tensor is, shares and prints."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.extra import numpy as npst
from support import close

import backstory
from backstory.errors import BackstoryError
from backstory.tensor import Tensor, apply, as_tensor, tensor, wrap


def test_tensor_copies_and_as_tensor_shares():
    data = np.array([1.0, 2.0])
    copied, shared = tensor(data), as_tensor(data)
    data[0] = 9.0
    assert copied.tolist() == [1.0, 2.0]
    assert shared.tolist() == [9.0, 2.0]
    assert as_tensor(shared) is shared


def test_numpy_shares_memory_in_both_directions():
    x = backstory.zeros(3)
    x.numpy()[0] = 5.0
    assert x.tolist() == [5.0, 0.0, 0.0]
    x.add_(1.0)
    assert x.numpy().tolist() == [6.0, 1.0, 1.0]
    assert np.shares_memory(np.asarray(x), x.numpy())


def test_numpy_copies_only_when_it_is_told_to_or_must():
    x = backstory.zeros(3)
    assert not np.shares_memory(np.array(x), x.numpy())
    assert np.asarray(x, dtype="float64").dtype == np.float64
    assert np.shares_memory(np.asarray(x, dtype="float32"), x.numpy())
    with pytest.raises(ValueError, match="copy"):
        np.asarray(x, dtype="float64", copy=False)


def test_detach_shares_memory_and_has_no_history():
    x = backstory.ones(2, requires_grad=True)
    y = (x * 2.0).detach()
    assert y.is_leaf
    assert not y.requires_grad
    d = x.detach()
    with backstory.no_grad():
        d[0] = 7.0
    assert x.tolist() == [7.0, 1.0]
    assert d._version == x._version == 1


def test_detach_stops_the_gradient():
    x = tensor(2.0, requires_grad=True)
    (x * x.detach()).backward()
    assert x.grad.item() == 2.0


def test_clone_has_its_own_memory_keeps_the_dtype_and_passes_the_gradient():
    x = tensor([1.0, -0.0, float("nan")], requires_grad=True)
    y = x.clone()
    assert not np.shares_memory(y.detach().numpy(), x.detach().numpy())
    np.testing.assert_array_equal(np.signbit(y.detach().numpy()), [False, True, False])
    y.sum().backward()
    assert x.grad.tolist() == [1.0, 1.0, 1.0]
    assert tensor([True]).clone().dtype == backstory.bool


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x.reshape(3, 2),
        lambda x: x.T,
        lambda x: x[0],
        lambda x: x[0, 1],
        lambda x: x[:, 1:],
        lambda x: x[None],
        lambda x: x[...],
    ],
)
def test_views_share_memory_and_version(make):
    x = backstory.zeros(2, 3)
    view = make(x)
    view.fill_(1.0)
    assert x.sum().item() == view.numel()
    assert x._version == view._version == 1


def test_advanced_indices_copy():
    x = backstory.zeros(2, 3)
    x[[0, 1]].fill_(1.0)
    x[x == 0].fill_(1.0)
    assert x.sum().item() == 0.0
    assert x._version == 0


@pytest.mark.parametrize(
    "index",
    [
        0,
        -1,
        (1, 2),
        (slice(None), 1),
        (slice(None, None, 2), slice(1, None)),
        (Ellipsis, 0),
        (None, 1),
        [0, 0, 1],
        ([0, 1], [1, 1]),
        (slice(None), [2, 2, 0]),
        np.array([[True, False, True], [False, False, True]]),
    ],
    ids=str,
)
def test_indexing_and_its_gradient_equal_pytorch(index):
    data = np.arange(6.0).reshape(2, 3)
    x, y = tensor(data, requires_grad=True), torch.tensor(data, requires_grad=True)
    mine, theirs = x[index], y[torch.tensor(index) if isinstance(index, np.ndarray) else index]
    close(mine.detach().numpy(), theirs.detach().numpy())
    upstream = np.arange(1.0, 1.0 + mine.numel()).reshape(mine.shape)
    mine.backward(upstream)
    theirs.backward(torch.tensor(upstream))
    close(x.grad.numpy(), y.grad.numpy())


def test_tensors_index_tensors():
    x = tensor([10.0, 20.0, 30.0])
    assert x[tensor([2, 0])].tolist() == [30.0, 10.0]
    assert x[tensor([True, False, True])].tolist() == [10.0, 30.0]
    assert x[tensor(1)].item() == 20.0
    assert [10, 20, 30][tensor(1)] == 20


def test_iteration_and_length():
    x = tensor([[1.0, 2.0], [3.0, 4.0]])
    assert len(x) == 2
    assert [row.tolist() for row in x] == [[1.0, 2.0], [3.0, 4.0]]
    with pytest.raises(TypeError, match="0-d"):
        len(tensor(1.0))


def test_item_and_numbers():
    assert tensor([[2.5]]).item() == 2.5
    assert isinstance(tensor(1).item(), int)
    assert float(tensor(1.5)) == 1.5
    assert int(tensor(3)) == 3
    assert bool(tensor([0.0])) is False
    assert f"{tensor(0.12345):.3f}" == "0.123"
    assert f"{tensor([1.0])}" == "tensor([1.])"


def test_tensors_are_keys_by_identity():
    x, y = tensor(1.0), tensor(1.0)
    assert len({x, y, x.clone()}) == 3
    assert {x: 1}.get(x) == 1
    assert x != 5
    assert (x == None) is False  # noqa: E711
    assert (x == "1") is False


@pytest.mark.parametrize("data", [3, 2.5, True, [1, 2], [[1.0], [2.0]], [], np.float32(1), np.arange(3)])
def test_dtypes_of_new_tensors_equal_pytorch(data):
    mine, theirs = tensor(data), torch.tensor(data)
    assert f"torch.{mine.dtype}" == str(theirs.dtype)
    assert mine.shape == tuple(theirs.shape)


def test_printing_names_dtype_history_and_gradient():
    x = tensor([0.5], requires_grad=True)
    assert repr(x) == "tensor([0.5], requires_grad=True)"
    assert repr(x * 2) == "tensor([1.], grad_fn=<MulBackward0>)"
    assert repr(tensor([1])) == "tensor([1])"
    assert repr(x.double().detach()) == "tensor([0.5], dtype=float64)"


def test_numpys_operators_hand_over_to_tensors():
    x = tensor([1.0, 2.0], dtype="float64", requires_grad=True)
    for y in (
        np.array([3.0, 4.0]) * x,
        np.float64(2.0) + x,
        np.array([[1.0], [2.0]]) - x,
        np.eye(2) @ x,
    ):
        assert isinstance(y, Tensor)
        assert y.requires_grad


@pytest.mark.parametrize(
    ("first", "second"),
    [((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((4, 2, 3), (3,)), ((3,), (4, 3, 2)), ((2, 3), (3, 2))],
)
def test_matmul_of_vectors_matrices_and_stacks_equals_pytorch(first, second, rng):
    a, b = rng.normal(size=first), rng.normal(size=second)
    x, y = tensor(a, requires_grad=True), tensor(b, requires_grad=True)
    u, v = torch.tensor(a, requires_grad=True), torch.tensor(b, requires_grad=True)
    mine, theirs = x @ y, u @ v
    close(mine.detach().numpy(), theirs.detach().numpy())
    upstream = rng.normal(size=mine.shape)
    mine.backward(upstream)
    theirs.backward(torch.tensor(upstream))
    close(x.grad.numpy(), u.grad.numpy())
    close(y.grad.numpy(), v.grad.numpy())


@given(npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
def test_shapes_of_shape_methods_equal_pytorch(shape):
    x, y = backstory.zeros(shape), torch.zeros(shape)
    assert (x.ndim, x.numel(), x.dim()) == (y.ndim, y.numel(), y.dim())
    assert x.flatten().shape == tuple(y.flatten().shape)
    assert x.reshape(*shape).shape == tuple(y.shape)
    assert x.expand(2, *shape).shape == tuple(y.expand(2, *shape).shape)
    if x.ndim > 1:
        assert x.flatten(1).shape == tuple(y.flatten(1).shape)
        assert x.mT.shape == tuple(y.mT.shape)
        assert x.expand(*[-1] * x.ndim).shape == shape


def test_creation_functions_have_pytorchs_dtypes_and_shapes():
    for mine, theirs in (
        (backstory.zeros(2, 3), torch.zeros(2, 3)),
        (backstory.zeros((2, 3)), torch.zeros((2, 3))),
        (backstory.ones(()), torch.ones(())),
        (backstory.full((2,), 1), torch.full((2,), 1)),
        (backstory.full((2,), 1.5), torch.full((2,), 1.5)),
        (backstory.full((2,), True), torch.full((2,), True)),
        (backstory.arange(4), torch.arange(4)),
        (backstory.arange(1, 7, 2), torch.arange(1, 7, 2)),
        (backstory.arange(0.0, 1.0, 0.25), torch.arange(0.0, 1.0, 0.25)),
    ):
        close(mine.numpy(), theirs.numpy())
    assert sorted(backstory.randperm(5).tolist()) == [0, 1, 2, 3, 4]
    assert backstory.zeros_like(tensor([1, 2])).dtype == backstory.int64


def test_a_failed_operation_leaves_no_trace_on_its_inputs():
    x, y = backstory.ones(2, 3, requires_grad=True), backstory.ones(4, requires_grad=True)
    with pytest.raises(BackstoryError):
        x + y
    assert (x.grad, x.grad_fn, x._version, y._version) == (None, None, 0, 0)


def test_data_is_written_without_telling_the_graph():
    x = tensor([1.0], requires_grad=True)
    y = (x * x).sum()
    x.data.fill_(2.0)
    y.backward()
    assert x.item() == 2.0


def test_wrap_and_apply_are_there_for_the_layers_above():
    assert wrap(np.ones(2), 0).shape == (2,)
    assert apply(backstory.ops.TABLE["exp"], tensor(0.0)).item() == 1.0
