"""Reductions and losses at ties, infinities and empty axes. Oracle: PyTorch."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from support import close, leaf, torch_leaf

import backstory
from backstory.errors import ShapeError
from backstory.nn import functional

INF, NAN = np.inf, np.nan


def compare(function, torch_function, *arrays: np.ndarray, rtol: float = 1e-12) -> None:
    """Value and gradients of a random weighted sum equal PyTorch's."""
    mine, theirs = [leaf(x) for x in arrays], [torch_leaf(x) for x in arrays]
    out, expected = function(*mine), torch_function(*theirs)
    close(out.detach().numpy(), expected.detach().numpy(), rtol=rtol)
    upstream = np.random.default_rng(0).normal(size=out.shape)
    out.backward(upstream)
    expected.backward(torch.tensor(upstream))
    for x, y in zip(mine, theirs, strict=True):
        if x.requires_grad:
            close(x.grad.numpy(), y.grad.numpy(), rtol=rtol)


TIES = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0], [0.0, -1.0, 5.0]])


def test_max_of_all_shares_the_gradient_between_ties_as_in_pytorch():
    compare(lambda x: x.max(), lambda x: x.max(), np.array([[1.0, 3.0], [3.0, 3.0]]))


def test_max_along_an_axis_gives_the_gradient_to_the_first_of_ties_and_its_index():
    x = leaf(TIES)
    values, indices = x.max(1)
    values.sum().backward()
    assert indices.tolist() == [1, 0, 2]
    assert x.grad.tolist() == [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_max_along_an_axis_equals_pytorch(dim, keepdim):
    data = np.random.default_rng(1).normal(size=(3, 4))
    compare(lambda x: x.max(dim, keepdim).values, lambda x: x.max(dim, keepdim).values, data)
    mine = backstory.tensor(data).max(dim, keepdim).indices
    close(mine.numpy(), torch.tensor(data).max(dim, keepdim).indices.numpy())


def test_max_passes_nan_on_as_in_pytorch():
    compare(lambda x: x.max(), lambda x: x.max(), np.array([1.0, NAN, 2.0]))
    compare(lambda x: x.max(0).values, lambda x: x.max(0).values, np.array([1.0, NAN, 2.0]))
    for name in ("amax", "amin"):
        compare(
            lambda x, f=name: getattr(x, f)(), lambda x, f=name: getattr(x, f)(), np.array([1.0, NAN, 2.0])
        )
        compare(
            lambda x, f=name: getattr(x, f)(0), lambda x, f=name: getattr(x, f)(0), np.array([[1.0, NAN]])
        )
    assert backstory.tensor([1.0, NAN, NAN]).argmax().item() == 1


@pytest.mark.parametrize("order", [-1.5, -INF, INF])
@pytest.mark.parametrize("shape", [(0,), (0, 3)])
def test_norms_that_nothing_has_are_refused(order, shape):
    with pytest.raises(ShapeError):
        backstory.vector_norm(backstory.tensor(np.zeros(shape)), order, 0)


@pytest.mark.parametrize("name", ["sum", "mean", "logsumexp", "log_softmax"])
def test_reductions_of_a_0d_tensor_along_its_imagined_axis_equal_pytorch(name):
    compare(lambda x: getattr(x, name)(0), lambda x: getattr(x, name)(0), np.array(2.5))


def test_max_of_a_0d_tensor_along_its_imagined_axis_equals_pytorch():
    compare(lambda x: x.max(0).values, lambda x: x.max(0).values, np.array(2.5))


@pytest.mark.parametrize("name", ["sum", "mean"])
@pytest.mark.parametrize("dim", [0, 1, (0, 1)])
def test_sums_and_means_of_nothing_equal_pytorch(name, dim):
    data = np.zeros((0, 3))
    compare(lambda x: getattr(x, name)(dim), lambda x: getattr(x, name)(dim), data)


@pytest.mark.parametrize(
    "row",
    [
        [-INF, 1.0, 2.0],
        [-INF, -INF, 0.0],
        [1000.0, 1000.0, -1000.0],
        [-1e308, 1e308, 0.0],
        [NAN, 1.0, 2.0],
        [-INF, -INF, -INF],
    ],
    ids=str,
)
def test_logsumexp_at_the_edges_equals_pytorch(row):
    compare(lambda x: x.logsumexp(0), lambda x: x.logsumexp(0), np.array(row))


MIXED = (0.0, INF, -INF, NAN, 1.5)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_products_of_all_mixes_of_zeros_infinities_and_nan_equal_pytorch(count):
    for mix in itertools.product(MIXED, repeat=count):
        compare(lambda x: x.prod(), lambda x: x.prod(), np.array(mix))
        compare(lambda x: x.prod(0), lambda x: x.prod(0), np.array(mix))
        compare(lambda x: x.cumprod(0), lambda x: x.cumprod(0), np.array(mix))


@pytest.mark.parametrize("dim", [0, 1])
def test_products_along_an_axis_of_all_mixes_equal_pytorch_also_where_only_one_row_has_a_zero(dim):
    for mix in itertools.product(MIXED, repeat=4):
        data = np.array(mix).reshape(2, 2)
        compare(lambda x: x.prod(dim), lambda x: x.prod(dim), data)
        compare(lambda x: x.prod(dim, keepdim=True), lambda x: x.prod(dim, keepdim=True), data)
        compare(lambda x: x.cumprod(dim), lambda x: x.cumprod(dim), data)


@pytest.mark.parametrize("order", [3.0, 2.0, 1.5, 1.0, 0.5, -1.0, -1.5, INF, -INF])
def test_norms_of_all_mixes_of_zeros_infinities_and_nan_equal_pytorch(order):
    for mix in itertools.product(MIXED, repeat=3):
        compare(
            lambda x: backstory.vector_norm(x, order, 0),
            lambda x: torch.linalg.vector_norm(x, order, 0),
            np.array(mix),
        )


def test_logsumexp_of_infinity_is_infinity():
    assert backstory.tensor([INF, 1.0]).logsumexp(0).item() == INF
    assert backstory.tensor([[INF, INF], [-INF, -INF]]).logsumexp(1).tolist() == [INF, -INF]


@pytest.mark.parametrize(
    "row", [[-INF, 1.0, 2.0], [1e4, -1e4, 0.0], [INF, 1.0, 2.0], [NAN, 0.0, 0.0]], ids=str
)
def test_log_softmax_at_the_edges_equals_pytorch(row):
    compare(lambda x: x.log_softmax(0), lambda x: x.log_softmax(0), np.array(row))


EXTREME = np.array(
    [[1e4, -1e4, 0.0], [-1e4, 1e4, 3.0], [0.0, 0.0, 0.0], [-INF, 0.0, 1.0], [745.0, 0.0, -745.0]]
)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("labels", [[0, 1, 2, 2, 0], [1, 0, 0, 1, 2], [2, 2, 1, 0, 1]], ids=str)
def test_cross_entropy_of_extreme_logits_equals_pytorch(reduction, labels):
    compare(
        lambda x: functional.cross_entropy(x, labels, reduction=reduction),
        lambda x: torch.nn.functional.cross_entropy(x, torch.tensor(labels), reduction=reduction),
        EXTREME,
    )


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("samples", [0, 1, 7])
def test_cross_entropy_of_any_number_of_samples_equals_pytorch(reduction, samples, rng):
    labels = rng.integers(0, 4, samples)
    compare(
        lambda x: functional.cross_entropy(x, labels, reduction=reduction),
        lambda x: torch.nn.functional.cross_entropy(x, torch.tensor(labels), reduction=reduction),
        rng.normal(size=(samples, 4)) * 5,
    )


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32", "int64"])
def test_labels_may_be_of_any_integer_dtype_and_layout(dtype, rng):
    labels = rng.integers(0, 4, 12).astype(dtype)[::2]
    x = rng.normal(size=(6, 4))
    expected = functional.cross_entropy(backstory.tensor(x), labels.astype("int64").copy())
    assert functional.cross_entropy(backstory.tensor(x), labels).item() == expected.item()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", [(), (5,), (3, 4), (0,)])
def test_mse_equals_pytorch(reduction, shape, rng):
    compare(
        lambda x, y: functional.mse_loss(x, y, reduction),
        lambda x, y: torch.nn.functional.mse_loss(x, y, reduction=reduction),
        rng.normal(size=shape),
        rng.normal(size=shape),
    )
