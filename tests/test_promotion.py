"""How dtypes meet, against PyTorch."""

from __future__ import annotations

import itertools
import operator

import numpy as np
import pytest
import torch

import backstory
from backstory.errors import DtypeError
from backstory.promotion import SUPPORTED, checked_dtype

NAMES = [str(d) for d in SUPPORTED]
PAIRS = list(itertools.product(NAMES, NAMES))
ARITHMETIC = {"add": operator.add, "mul": operator.mul, "div": operator.truediv}


def both(name: str, shape: tuple[int, ...]):
    x = np.ones(shape, name)
    return backstory.tensor(x), torch.tensor(x)


def same_dtype(mine: backstory.Tensor, theirs: torch.Tensor) -> None:
    assert f"torch.{mine.dtype}" == str(theirs.dtype)


@pytest.mark.parametrize("operation", ARITHMETIC.values(), ids=ARITHMETIC)
@pytest.mark.parametrize(("first", "second"), PAIRS)
@pytest.mark.parametrize("shapes", [((2,), (2,)), ((2,), ()), ((), (2,)), ((), ())], ids=str)
def test_dtypes_of_two_tensors_meet_as_in_pytorch(first, second, shapes, operation):
    (x, torch_x), (y, torch_y) = both(first, shapes[0]), both(second, shapes[1])
    mine, theirs = operation(x, y), operation(torch_x, torch_y)
    same_dtype(mine, theirs)
    np.testing.assert_array_equal(mine.numpy(), theirs.numpy())


@pytest.mark.parametrize("operation", ARITHMETIC.values(), ids=ARITHMETIC)
@pytest.mark.parametrize("scalar", [True, 3, 0.5])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(2,), ()], ids=str)
def test_python_scalars_are_weak_as_in_pytorch(name, shape, scalar, operation):
    x, torch_x = both(name, shape)
    for mine, theirs in (
        (operation(x, scalar), operation(torch_x, scalar)),
        (operation(scalar, x), operation(scalar, torch_x)),
    ):
        same_dtype(mine, theirs)
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_where_meets_its_branches_as_in_pytorch(first, second):
    (x, torch_x), (y, torch_y) = both(first, (2,)), both(second, (2,))
    condition = np.array([True, False])
    same_dtype(
        backstory.where(backstory.tensor(condition), x, y),
        torch.where(torch.tensor(condition), torch_x, torch_y),
    )


@pytest.mark.parametrize("scalar", [True, 3, 0.5])
@pytest.mark.parametrize("name", NAMES)
def test_where_takes_weak_scalars_as_in_pytorch(name, scalar):
    x, torch_x = both(name, (2,))
    condition = np.array([True, False])
    same_dtype(backstory.where(condition, x, scalar), torch.where(torch.tensor(condition), torch_x, scalar))


def test_where_of_an_integer_and_a_float_scalar_is_of_the_default_dtype():
    assert backstory.where([True, False], 1, 2.0).dtype == backstory.float32


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("function", ["exp", "log", "sqrt", "tanh", "sigmoid"])
def test_functions_of_integers_are_floats_as_in_pytorch(function, name):
    x, torch_x = both(name, (2,))
    mine, theirs = getattr(x, function)(), getattr(torch_x, function)()
    same_dtype(mine, theirs)
    np.testing.assert_allclose(mine.numpy(), theirs.numpy(), rtol=1e-6 if name != "float16" else 1e-2)


@pytest.mark.parametrize("name", NAMES)
def test_sums_of_integers_are_int64_as_in_pytorch(name):
    x, torch_x = both(name, (2,))
    same_dtype(x.sum(), torch_x.sum())


@pytest.mark.parametrize("name", NAMES)
def test_comparisons_are_bools(name):
    x, _ = both(name, (2,))
    for compared in (x > 0, x >= 0, x < 0, x <= 0, x == 0, x != 0):
        assert compared.dtype == backstory.bool


def test_powers_of_integers_stay_integers_and_meet_floats():
    x = backstory.tensor([2, 3])
    assert (x**2).tolist() == [4, 9]
    assert (x**2).dtype == backstory.int64
    assert (x**0.5).dtype == backstory.float32
    assert (2 ** backstory.tensor([0.5, 1.0], dtype="float64")).dtype == backstory.float64


@pytest.mark.parametrize("name", ["float16", "float32", "float64"])
@pytest.mark.parametrize("other", ["float16", "float32", "float64", "int64"])
def test_gradients_come_back_in_the_dtype_of_their_leaf(name, other):
    x = backstory.tensor(np.ones(2), dtype=name, requires_grad=True)
    (x * backstory.tensor(np.ones(2), dtype=other)).sum().backward()
    assert x.grad.dtype == np.dtype(name)


def test_default_dtype_is_what_floats_become_that_name_none():
    backstory.set_default_dtype(backstory.float64)
    try:
        assert backstory.tensor(1.0).dtype == backstory.float64
        assert backstory.zeros(2).dtype == backstory.float64
        assert (backstory.tensor([1]) / 2).dtype == backstory.float64
    finally:
        backstory.set_default_dtype(backstory.float32)
    assert backstory.tensor(1.0).dtype == backstory.float32


@pytest.mark.parametrize("dtype", ["int64", "float16", "bool"])
def test_default_dtype_is_a_float_that_trains(dtype):
    with pytest.raises(DtypeError, match=f"received {dtype}.*\n.*only float32 and float64"):
        backstory.set_default_dtype(dtype)
    assert backstory.get_default_dtype() == backstory.float32


@pytest.mark.parametrize("dtype", ["complex64", "object", "U3", "nonsense", 7])
def test_a_dtype_that_tensors_cannot_hold_is_refused(dtype):
    with pytest.raises(DtypeError, match=r"instead: backstory\.float32"):
        checked_dtype(dtype)
