"""Transforms inside transforms, on functions smooth and kinked, against torch.func 2.13."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.func
from support import close

import backstory
from backstory import func

# PyTorch compiles its forward-mode rules with a tool that it has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")

MATRIX = np.random.default_rng(0).normal(size=(4, 4))

# Functions R⁴ → R⁴ of a library and a vector. The kinked ones meet their kinks: see POINT.
FUNCTIONS = {
    "network": lambda lib, x: lib.tanh(lib.tensor(MATRIX) @ lib.relu(lib.tensor(MATRIX.T) @ x)),
    "polynomial": lambda lib, x: x**3 * x.sum() + lib.exp(-x * x[0]),
    "kinks": lambda lib, x: lib.relu(x) ** 2 + lib.maximum(x, lib.tensor(0.5 * MATRIX[0])) * x,
    "normalised": lambda lib, x: lib.log_softmax(x * x, 0) * lib.logsumexp(x, 0),
    "shapes": lambda lib, x: ((x.reshape(2, 2) @ x.reshape(2, 2).T)[1:] * x[:2]).sum() * x,
    "branches": lambda lib, x: lib.where(x > 0.3, x * x, lib.sigmoid(x)) / (1 + x.mean() ** 2),
}
POINT = np.array([0.7, 0.0, -0.4, 1.1])
DIRECTION = np.array([0.5, -1.0, 2.0, 0.25])


def library(lib):
    return torch.func if lib is torch else func


def gradient(lib, f):
    return library(lib).grad(lambda x: (f(x) * f(x)).sum())


def pulled(lib, f):
    return lambda x: library(lib).vjp(f, x)[1](lib.tensor(DIRECTION))[0]


def pushed(lib, f):
    return lambda x: library(lib).jvp(f, (x,), (lib.tensor(DIRECTION),))[1]


def linearized(lib, f):
    return lambda x: library(lib).linearize(f, x)[1](lib.tensor(DIRECTION))


def rows(lib, f):
    return lambda x: library(lib).jacrev(f)(x).sum(0)


def columns(lib, f):
    return lambda x: (library(lib).jacfwd(f)(x) ** 2).sum(1)


def mapped(lib, f):
    """Each sample is x scaled by another number; the results are added up."""
    scales = lib.tensor(np.array([1.0, -0.5, 2.0]))
    return lambda x: library(lib).vmap(lambda s: f(x * s))(scales).sum(0)


def mapped_columns(lib, f):
    """The samples are the columns of a matrix made of x, and those of the result."""
    scale = lib.tensor(MATRIX[:3])
    return lambda x: library(lib).vmap(f, 1, 1)((x * scale).T).sum(1)


TRANSFORMS = {
    "grad": gradient,
    "vjp": pulled,
    "jvp": pushed,
    "jacrev": rows,
    "jacfwd": columns,
    "vmap": mapped,
    "vmap of columns": mapped_columns,
}


def transformed(lib, name: str, chain: tuple[str, ...]):
    f = lambda x: FUNCTIONS[name](lib, x)
    for transform in reversed(chain):
        f = TRANSFORMS[transform](lib, f)
    return f


def agree(mine, theirs, rtol: float = 1e-10) -> None:
    close(mine.detach().numpy(), theirs.detach().numpy(), rtol=rtol, atol=1e-11)


@pytest.mark.parametrize("chain", list(itertools.product(TRANSFORMS, repeat=2)), ids=" of ".join)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_two_transforms_in_any_order_equal_pytorch(name, chain):
    agree(
        transformed(backstory, name, chain)(backstory.tensor(POINT)),
        transformed(torch, name, chain)(torch.tensor(POINT)),
    )


@pytest.mark.parametrize("chain", list(itertools.product(("grad", "jvp", "vmap"), repeat=3)), ids=" of ".join)
@pytest.mark.parametrize("name", ["network", "polynomial"])
def test_three_transforms_in_any_order_equal_pytorch(name, chain):
    agree(
        transformed(backstory, name, chain)(backstory.tensor(POINT)),
        transformed(torch, name, chain)(torch.tensor(POINT)),
        rtol=1e-9,
    )


@pytest.mark.parametrize("outer", TRANSFORMS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_linearize_inside_a_transform_is_jvp_inside_it(name, outer):
    f = lambda x: FUNCTIONS[name](backstory, x)
    x = backstory.tensor(POINT)
    mine = TRANSFORMS[outer](backstory, linearized(backstory, f))(x)
    close(mine.numpy(), TRANSFORMS[outer](backstory, pushed(backstory, f))(x).numpy(), rtol=1e-11)


@pytest.mark.parametrize("inner", TRANSFORMS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_linearize_of_a_transform_equals_pytorchs_jvp_of_it(name, inner):
    f = TRANSFORMS[inner](backstory, lambda x: FUNCTIONS[name](backstory, x))
    theirs = transformed(torch, name, ("jvp", inner))(torch.tensor(POINT))
    agree(linearized(backstory, f)(backstory.tensor(POINT)), theirs)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_hessian_and_hvp_equal_pytorch(name):
    mine = lambda x: FUNCTIONS[name](backstory, x).sum()
    theirs = lambda x: FUNCTIONS[name](torch, x).sum()
    x = torch.tensor(POINT)
    expected = torch.func.hessian(theirs)(x)
    agree(func.hessian(mine)(backstory.tensor(POINT)), expected)
    primals, tangents = (backstory.tensor(POINT),), (backstory.tensor(DIRECTION),)
    agree(func.hvp(mine, primals, tangents), expected @ torch.tensor(DIRECTION))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_hessians_of_all_samples_equal_pytorch(name):
    points = np.random.default_rng(1).normal(size=(3, 4))
    mine = func.vmap(func.hessian(lambda x: FUNCTIONS[name](backstory, x)))(backstory.tensor(points))
    theirs = torch.func.vmap(torch.func.hessian(lambda x: FUNCTIONS[name](torch, x)))(torch.tensor(points))
    agree(mine, theirs)


@pytest.mark.parametrize("chain", list(itertools.product(TRANSFORMS, repeat=2))[::3], ids=" of ".join)
def test_the_result_of_a_transform_has_a_history_at_level_0(chain):
    mine = backstory.tensor(POINT, requires_grad=True)
    theirs = torch.tensor(POINT, requires_grad=True)
    transformed(backstory, "network", chain)(mine).sum().backward()
    transformed(torch, "network", chain)(theirs).sum().backward()
    agree(mine.grad, theirs.grad, rtol=1e-9)


@pytest.mark.parametrize("chain", list(itertools.product(TRANSFORMS, repeat=2))[::3], ids=" of ".join)
def test_parameters_outside_of_a_transform_receive_gradients_through_it(chain):
    def total(lib, weight):
        f = lambda x: lib.tanh(weight @ x) * x.sum()
        for transform in reversed(chain):
            f = TRANSFORMS[transform](lib, f)
        return f(lib.tensor(POINT)).sum()

    mine = backstory.tensor(MATRIX, requires_grad=True)
    theirs = torch.tensor(MATRIX, requires_grad=True)
    total(backstory, mine).backward()
    total(torch, theirs).backward()
    agree(mine.grad, theirs.grad, rtol=1e-9)
