"""Changes in place inside transforms. Oracles: the same program outside of them, differences, PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import close

import backstory
from backstory import func
from backstory.errors import BoundsError, DtypeError, GraphError, ShapeError

X = np.array([1.0, 2.0, 3.0])
STEP = 1e-5


def a_view_is_changed(y):
    z = y * 1.0
    first = z[0]
    first.mul_(y[1])
    return (z * z).sum() + first


def what_has_a_view_is_changed(y):
    z = y * 1.0
    part = z[:2]
    z.mul_(y)
    return (part * part).sum()


def a_view_of_a_view_is_changed(y):
    z = y[:, None] * y[None, :]
    rows = z[1:]
    rows.T[0].mul_(y[1:])
    z.diagonal().add_(y)
    return (z * z).sum() + rows[0, 0]


def entries_follow_from_entries_before(y):
    z = y * 1.0
    for i in range(1, 3):
        z[i] = z[i - 1] * y[i] + z[i]
    return (z * z).sum()


def a_buffer_is_filled(y):
    buffer = y.new_zeros(3)
    buffer[0] = y[1] * y[1]
    buffer[1:] += y[:2]
    return (buffer * buffer).sum()


def a_shape_that_needs_a_copy_shares_nothing(y):
    z = y[:, None] * y[None, :]
    z.T.reshape(-1).mul_(2.0)
    z.reshape(-1)[1:3].mul_(3.0)
    return (z * z).sum()


def an_activation_works_in_place(y):
    h = (y * y - 2.0).reshape(3, 1)
    h.relu_()
    return (h * y).sum()


def a_needed_result_is_changed(y):
    z = y.exp()
    z.add_(1.0)
    return (z * y).sum()


def all_is_overwritten(y):
    z = y * 2.0
    w = z.clone()
    w.copy_(z * z)
    z.fill_(3.0)
    z.add_(y)
    return (w * y + z).sum()


def a_tensor_is_changed_by_itself(y):
    z = y * 1.0
    z.mul_(z)
    z += z
    z /= y
    z **= 2
    z -= 1.0
    return z.sum()


PROGRAMS = [
    a_view_is_changed,
    what_has_a_view_is_changed,
    a_view_of_a_view_is_changed,
    entries_follow_from_entries_before,
    a_buffer_is_filled,
    a_shape_that_needs_a_copy_shares_nothing,
    an_activation_works_in_place,
    a_needed_result_is_changed,
    all_is_overwritten,
    a_tensor_is_changed_by_itself,
]
# And what is kept for the gradient; here a changed tensor stands for a new value, and the old one is kept.
CHANGES_WHAT_PYTORCH_NEEDS = {
    entries_follow_from_entries_before,
    a_needed_result_is_changed,
    all_is_overwritten,
    a_tensor_is_changed_by_itself,
}
programs = pytest.mark.parametrize("program", PROGRAMS, ids=lambda f: f.__name__)


def t(data):
    return backstory.tensor(np.array(data), dtype="float64")


def slope(program, x):
    """Central differences of the program outside of transforms, where changes are made in memory."""
    return np.array([(value(program, x + e) - value(program, x - e)) / (2 * STEP) for e in np.eye(3) * STEP])


def value(program, x):
    return program(t(x)).item()


@programs
def test_derivatives_are_those_of_the_program_outside(program):
    expected = slope(program, X)
    direction = np.array([1.0, -2.0, 0.5])
    close(func.grad(program)(t(X)).numpy(), expected, rtol=1e-7)
    close(func.jacfwd(program)(t(X)).numpy(), expected, rtol=1e-7)
    for out, moved in (
        func.jvp(program, (t(X),), (t(direction),)),
        (lambda value, push: (value, push(t(direction))))(*func.linearize(program, t(X))),
    ):
        close(out.item(), value(program, X))
        close(moved.item(), expected @ direction, rtol=1e-7)


@programs
def test_samples_are_those_of_a_loop(program):
    rows = np.stack([X, X * 1.5, -X])
    close(func.vmap(program)(t(rows)).numpy(), np.array([value(program, row) for row in rows]))
    each = np.stack([func.grad(program)(t(row)).numpy() for row in rows])
    close(func.vmap(func.grad(program))(t(rows)).numpy(), each, rtol=1e-11)
    close(func.jacrev(func.vmap(program))(t(rows)).numpy().sum(1), each, rtol=1e-11)


@programs
def test_second_derivatives_agree_in_all_modes_with_differences(program):
    found = func.hessian(program)(t(X)).numpy()
    ahead, behind = (
        np.stack([func.grad(program)(t(X + sign * e)).numpy() for e in np.eye(3) * STEP]) for sign in (1, -1)
    )
    close(found, (ahead - behind) / (2 * STEP), rtol=1e-6, atol=1e-8)
    close(func.jacrev(func.jacrev(program))(t(X)).numpy(), found, rtol=1e-11)
    close(func.jacfwd(func.jacfwd(program))(t(X)).numpy(), found, rtol=1e-11)


@programs
def test_gradients_equal_pytorch_where_it_has_them(program):
    if program in CHANGES_WHAT_PYTORCH_NEEDS:
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            torch.func.grad(program)(torch.tensor(X))
        return
    expected = torch.func.grad(program)(torch.tensor(X))
    close(func.grad(program)(t(X)).numpy(), expected.numpy(), rtol=1e-12)


def test_a_change_under_no_grad_keeps_the_history_as_in_pytorch():
    def program(library):
        def f(y):
            z = y * y
            with library.no_grad():
                z.add_(1.0)
            return (z * z).sum()

        return f

    expected = torch.func.grad(program(torch))(torch.tensor(X))
    close(func.grad(program(backstory))(t(X)).numpy(), expected.numpy())
    outside = t(X).requires_grad_()
    with pytest.raises(GraphError, match=r"(?s)add_ under no_grad.*detach"):
        func.vmap(program(backstory))(outside * 1.0)


def test_the_argument_of_vmap_is_memory_of_the_caller_and_changes_as_in_pytorch():
    for library, transforms in ((backstory, func), (torch, torch.func)):
        x = library.tensor(np.stack([X, 2 * X]))
        transforms.vmap(lambda y: y[0].mul_(y[1]), in_dims=1)(x)
        assert x.tolist() == [[2.0, 8.0, 18.0], [2.0, 4.0, 6.0]]
        transforms.vmap(lambda y: y.add_(1.0))(x)
        assert x.tolist() == [[3.0, 9.0, 19.0], [3.0, 5.0, 7.0]]
    x = t(X)
    value, moved = func.jvp(lambda y: y.mul_(y), (x,), (t([1.0, 1.0, 1.0]),))
    close(x.numpy(), X * X)
    close(value.numpy(), X * X)
    close(moved.numpy(), 2 * X)


def test_the_history_of_what_vmap_was_called_with_follows_a_change():
    x = t(X).requires_grad_()
    z = x * 2.0
    func.vmap(lambda y: y.add_(y * 3.0))(z)
    (z * z).sum().backward()
    close(x.grad.numpy(), 2 * 64.0 * X)
    with pytest.raises(GraphError, match="leaf tensor"):
        func.vmap(lambda y: y.add_(1.0))(x)
    close(x.detach().numpy(), X)


def outer_of_inner(y):
    z = y * 1.0
    return func.grad(lambda w: (z.add_(w) * w).sum())(y).sum()


def constant_of_a_transform(y):
    buffer = backstory.zeros(3, dtype="float64")
    buffer[0] = y[0]
    return buffer.sum()


def detached_and_changed(y):
    z = y * 1.0
    kept = z.detach()
    z.add_(1.0)
    return (z * kept).sum()


def seen_under_no_grad(y):
    z = y * 1.0
    with backstory.no_grad():
        part = z[0]
    part.mul_(2.0)
    return z.sum()


@pytest.mark.parametrize(
    ("program", "kind", "words"),
    [
        (lambda y: y.add_(1.0).sum(), GraphError, r"an argument of shape \(3,\).*y \(a new"),
        (lambda y: y[0].add_(1.0), GraphError, "a view of an argument"),
        (lambda y: func.vmap(lambda r: r.add_(1.0))(y * 1.0).sum(), GraphError, "inside another"),
        (outer_of_inner, GraphError, "outer transform"),
        (constant_of_a_transform, GraphError, "new_zeros"),
        (detached_and_changed, GraphError, "detach"),
        (seen_under_no_grad, GraphError, "under no_grad"),
        (lambda y: (y * y).expand(2, 3).add_(1.0).sum(), GraphError, "expanded"),
        (lambda y: (y * y).add_(y[:, None]).sum(), ShapeError, r"add_ on a tensor of shape \(3,\)"),
        (lambda y: (y > 0).add_(y).sum(), DtypeError, "add_ on a tensor of bool"),
        (lambda y: (y * y).__setitem__(3, 1.0), BoundsError, "index 3"),
        (lambda y: (y * y).__setitem__(0, y), ShapeError, r"received a value of shape \(3,\)"),
    ],
)
def test_what_cannot_be_right_is_refused_and_says_why(program, kind, words):
    x = t(X)
    with pytest.raises(kind, match=f"(?s){words}"):
        func.grad(program)(x)
    close(x.numpy(), X)


def test_a_detached_tensor_that_is_gone_hinders_nothing():
    def f(y):
        z = y * 1.0
        assert z.detach().shape == (3,)
        z.add_(1.0)
        return (z * z).sum()

    close(func.grad(f)(t(X)).numpy(), 2 * (X + 1))
