"""Elementwise records at ties, zeros, NaN, infinity and odd shapes. Oracle: PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from support import close, leaf, torch_leaf, torch_result

import backstory
from backstory.ops import TABLE, Case, Elementwise, activation, arithmetic, comparison, smooth, transcendental
from backstory.tensor import apply

SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, -3.0, 1e-300, 1e300, -1e300, np.inf, -np.inf, np.nan]
OPS = (*arithmetic.OPS, *transcendental.OPS, *activation.OPS, *smooth.OPS, *comparison.OPS)
UNARY = [op.name for op in OPS if op.arguments == 1 and op.differentiable]
BINARY = [op.name for op in OPS if op.arguments == 2 and op.differentiable]
TERNARY = ["clamp", "lerp", "where"]
QUESTIONS = [op.name for op in OPS if op.arguments == 1 and not op.differentiable]
COMPARISONS = [op.name for op in OPS if op.arguments == 2 and not op.differentiable]


def compare(name: str, arrays: list[np.ndarray], rtol: float = 1e-12, **params) -> None:
    """Value and gradients equal PyTorch's, where NaN equals NaN."""
    op = TABLE[name]
    mine, theirs = [leaf(x) for x in arrays], [torch_leaf(x) for x in arrays]
    out = apply(op, *mine, **params)
    expected = torch_result(op, Case((), params), theirs)
    close(out.detach().numpy(), expected.detach().numpy(), rtol=rtol, atol=0)
    if op.differentiable:
        out.backward(np.ones(out.shape, out.dtype))
        expected.backward(torch.ones_like(expected))
        for x, y in zip(mine, theirs, strict=True):
            close(x.grad.numpy(), y.grad.numpy(), rtol=rtol, atol=1e-300)


def test_every_elementwise_record_is_compared_at_special_values():
    assert {*UNARY, *BINARY, *TERNARY, *QUESTIONS, *COMPARISONS} == {op.name for op in OPS}


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.parametrize("value", SPECIAL)
def test_unary_at_special_values(name, value):
    if name == "softsign" and np.isinf(value):
        value = np.nan  # PyTorch has NaN for the gradient of NaN alone; here it is 0, the limit
    compare(name, [np.array([value])])


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("value", SPECIAL)
def test_binary_at_special_values(name, value):
    others = np.array(SPECIAL)
    if name in {"fmod", "remainder"} and abs(value) == 1e300:
        others = others[others != 1e-300]  # PyTorch loses the remainder where the quotient overflows
    compare(name, [np.full(len(others), value), others])


@pytest.mark.parametrize("name", COMPARISONS)
@pytest.mark.parametrize("value", SPECIAL)
def test_comparisons_at_special_values(name, value):
    compare(name, [np.full(len(SPECIAL), value), np.array(SPECIAL)])


@pytest.mark.parametrize("name", QUESTIONS)
def test_questions_at_special_values(name):
    compare(name, [np.array(SPECIAL)])


@pytest.mark.parametrize("value", SPECIAL)
def test_where_never_mixes_the_branch_that_was_not_taken(value):
    x, y = leaf(np.array([1.0, value])), leaf(np.array([value, 2.0]))
    out = backstory.where([True, False], x, y)
    out.backward(np.array([3.0, 5.0]))
    assert out.tolist() == [1.0, 2.0]
    assert x.grad.tolist() == [3.0, 0.0]
    assert y.grad.tolist() == [0.0, 5.0]


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_an_infinite_upstream_gradient_does_not_pass_a_closed_gate(value):
    x = leaf(np.array([-1.0, 0.0, 1.0]))
    backstory.relu(x).backward(np.full(3, value))
    np.testing.assert_array_equal(x.grad.numpy(), [0.0, 0.0, value])


@pytest.mark.parametrize("at_zero", [0.0, 0.25, 0.5, 1.0])
def test_relu_at_zero_has_the_chosen_derivative_and_no_other(at_zero):
    x = leaf(np.array([-1.0, -0.0, 0.0, 1.0]))
    backstory.relu(x, at_zero=at_zero).sum().backward()
    assert x.grad.tolist() == [0.0, at_zero, at_zero, 1.0]


@pytest.mark.parametrize("at_zero", [0.0, 0.5, 1.0])
def test_relu_passes_nan_in_value_and_gradient_for_every_choice_at_zero(at_zero):
    x = leaf(np.array([np.nan]))
    out = backstory.relu(x, at_zero=at_zero)
    out.sum().backward()
    assert np.isnan(out.detach().numpy()).all()
    assert x.grad.tolist() == [1.0]


def test_relu_of_the_five_numbers():
    x = backstory.tensor([-2.0, -1.0, 0.0, 1.0, 2.0], requires_grad=True)
    out = backstory.relu(x)
    out.sum().backward()
    assert out.tolist() == [0.0, 0.0, 0.0, 1.0, 2.0]
    assert x.grad.tolist() == [0.0, 0.0, 0.0, 1.0, 1.0]


def test_leaky_relu_at_zero_takes_the_slope_as_in_pytorch():
    compare("leaky_relu", [np.array([-1.0, -0.0, 0.0, 1.0])], negative_slope=0.2)


def test_equal_arguments_of_maximum_share_the_gradient():
    x, y = leaf(np.array([1.0, 2.0, 3.0])), leaf(np.array([1.0, 3.0, 2.0]))
    backstory.maximum(x, y).sum().backward()
    assert x.grad.tolist() == [0.5, 0.0, 1.0]
    assert y.grad.tolist() == [0.5, 1.0, 0.0]


def test_maximum_of_a_tensor_with_itself_is_the_identity():
    x = leaf(np.array([1.0, -2.0]))
    backstory.maximum(x, x).sum().backward()
    assert x.grad.tolist() == [1.0, 1.0]


# (-0)^(-1/2) is +inf in IEEE 754; PyTorch takes 1/sqrt there, so -0.0 meets no exponent of 0.5.
POWERS = [(base, e) for base in (0.0, -0.0, 2.0, -2.0, np.inf) for e in (0, 1, 2, 3, -1, 2.0)]


@pytest.mark.parametrize(("base", "exponent"), [*POWERS, (0.0, 0.5), (2.0, 0.5), (-2.0, 0.5)])
def test_power_with_a_python_exponent(base, exponent):
    x, y = leaf(np.array(base)), torch_leaf(np.array(base))
    out, expected = x**exponent, y**exponent
    close(out.detach().numpy(), expected.detach().numpy())
    out.backward()
    expected.backward()
    close(x.grad.numpy(), y.grad.numpy())


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0, -1.0])
@pytest.mark.parametrize("base", [0, 1, 2, 0.5, -2.0])
def test_power_of_a_python_base(base, exponent):
    x, y = leaf(np.array(exponent)), torch_leaf(np.array(exponent))
    out, expected = base**x, base**y
    close(out.detach().numpy(), expected.detach().numpy())
    out.backward()
    expected.backward()
    close(x.grad.numpy(), y.grad.numpy())


@pytest.mark.parametrize("divisor", [0, 0.0, -0.0, 2, 0.25])
def test_division_by_a_python_scalar_also_by_zero(divisor):
    x, y = leaf(np.array([1.0, -2.0, 0.0])), torch_leaf(np.array([1.0, -2.0, 0.0]))
    (x / divisor).sum().backward()
    (y / divisor).sum().backward()
    close(x.grad.numpy(), y.grad.numpy())


def test_second_derivative_of_a_power_at_zero():
    x = leaf(np.array(0.0))
    (first,) = backstory.autograd.grad(x**2, x, create_graph=True)
    (second,) = backstory.autograd.grad(first, x)
    assert (first.item(), second.item()) == (0.0, 2.0)


shapes = npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
# Exact in every dtype, apart from each other, and with everything that is not a number.
entries = st.sampled_from([0.0, 1.0, -1.0, 0.5, -2.5, 3.0, np.inf, -np.inf, np.nan])
dtypes = st.sampled_from(["float32", "float64"])


@given(st.data(), st.sampled_from(UNARY), shapes, dtypes)
def test_any_array_gives_pytorchs_value_and_gradient(data, name, shape, dtype):
    x = data.draw(npst.arrays(dtype, shape, elements=entries))
    compare(name, [x], rtol=1e-5 if dtype == "float32" else 1e-12)


@given(st.data(), st.sampled_from(BINARY), dtypes, dtypes)
def test_any_two_arrays_that_broadcast_give_pytorchs_value_and_gradient(data, name, first, second):
    both = data.draw(npst.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3, min_side=0))
    x, y = (
        data.draw(npst.arrays(dtype, shape, elements=entries))
        for dtype, shape in zip((first, second), both.input_shapes, strict=True)
    )
    if name == "pow":
        assume(not (np.isnan(x).any() or np.isnan(y).any()))
    compare(name, [x, y], rtol=1e-5 if "float32" in (first, second) else 1e-12)


@given(st.sampled_from([op for op in OPS if isinstance(op, Elementwise) and op.arguments == 1]), shapes)
def test_shape_is_kept_whatever_it_is(op, shape):
    assert apply(op, backstory.tensor(np.ones(shape))).shape == shape
