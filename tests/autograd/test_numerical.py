"""Derivatives by differences against known ones, and how disagreement is reported."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from backstory.autograd.numerical import (
    disagreement,
    numerical_jacobian,
    numerical_vjp,
    one_sided_slopes,
)
from backstory.errors import ArgumentError, ShapeError


def test_the_jacobian_agrees_with_pytorchs(rng):
    x, w = rng.normal(size=(3, 2)), rng.normal(size=(2, 4))
    expected = torch.autograd.functional.jacobian(
        lambda a, b: torch.tanh(a @ b), (torch.tensor(x), torch.tensor(w))
    )
    for i in (0, 1):
        found = numerical_jacobian(lambda a, b: np.tanh(a @ b), [x, w], i)
        np.testing.assert_allclose(found, expected[i].numpy(), atol=1e-8)


def test_the_vjp_is_the_upstream_times_the_jacobian(rng):
    x, upstream = rng.normal(size=(3,)), rng.normal(size=(3, 3))
    f = lambda a: np.outer(a, a)
    jacobian = numerical_jacobian(f, [x], 0)
    np.testing.assert_allclose(
        numerical_vjp(f, [x], 0, upstream), np.tensordot(upstream, jacobian, 2), atol=1e-8
    )


@pytest.mark.parametrize("shape", [(), (0, 3), (2, 0)])
def test_scalars_and_empty_arrays(shape):
    x = np.ones(shape)
    assert numerical_jacobian(lambda a: 2 * a, [x], 0).shape == shape + shape
    assert numerical_vjp(lambda a: 2 * a, [x], 0).shape == shape


def test_the_arguments_are_left_as_they_are_also_by_a_function_that_changes_them():
    x = np.array([1.0, 2.0])

    def careless(a):
        a *= 2
        return a

    np.testing.assert_allclose(numerical_jacobian(careless, [x], 0), 2 * np.eye(2), atol=1e-8)
    assert x.tolist() == [1.0, 2.0]


def test_slopes_differ_at_a_kink_and_agree_elsewhere():
    left, right = one_sided_slopes(np.abs, [np.array([0.0, 1.0])], 0, (0,))
    assert (round(left, 6), round(right, 6)) == (-1.0, 1.0)
    left, right = one_sided_slopes(np.abs, [np.array([0.0, 1.0])], 0, (1,))
    assert left == pytest.approx(right, abs=1e-8)


@pytest.mark.parametrize(
    ("analytic", "numerical", "entry"),
    [
        ([1.0, 2.0], [1.0, 2.0], None),
        ([np.nan], [np.nan], None),
        ([np.inf], [np.inf], None),
        ([np.inf], [1.0], (0,)),
        ([1.0, np.nan], [1.0, 2.0], (1,)),
        ([[1.0, 2.0], [3.0, 9.0]], [[1.0, 2.1], [3.0, 4.0]], (1, 1)),
        ([1e-7], [0.0], None),
    ],
)
def test_disagreement_names_the_worst_entry(analytic, numerical, entry):
    found = disagreement(analytic, numerical)
    assert (found and found.entry) == entry


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ShapeError, match=r"gradient of shape \(2,\) for an argument of shape \(3,\)"):
        disagreement([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(ArgumentError, match="step of 0"):
        numerical_vjp(np.sin, [np.ones(2)], 0, step=0.0)
