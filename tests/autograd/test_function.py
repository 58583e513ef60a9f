"""Operations with a derivative of one's own, against PyTorch's and against plain operations."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch
from support import close

import backstory
from backstory import errors, func
from backstory.autograd import Function, grad, gradcheck, gradgradcheck

X = np.array([0.5, -1.2, 2.0])
Y = np.array([1.5, 0.3, -0.7])


def product(base, lib):
    """x·y² of a library, with a backward by hand."""

    class Product(base):
        @staticmethod
        def forward(ctx, x, y, power):
            ctx.save_for_backward(x, y)
            ctx.power = power
            return x * y**power

        @staticmethod
        def backward(ctx, g):
            x, y = ctx.saved_tensors
            assert ctx.needs_input_grad[2] is False
            gx = g * y**ctx.power if ctx.needs_input_grad[0] else None
            gy = g * x * ctx.power * y ** (ctx.power - 1) if ctx.needs_input_grad[1] else None
            return gx, gy, None

        @staticmethod
        def jvp(ctx, tx, ty, _):
            x, y = ctx.saved_tensors
            total = 0.0 * x
            if tx is not None:
                total = total + tx * y**ctx.power
            if ty is not None:
                total = total + ty * x * ctx.power * y ** (ctx.power - 1)
            return total

    return Product


Product, TorchProduct = product(Function, backstory), product(torch.autograd.Function, torch)


class Straight(Function):
    """The sign, with the derivative of the identity."""

    @staticmethod
    def forward(x):
        return backstory.where(x > 0, 1.0, -1.0).to(x.dtype)

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, g):
        return g


class Parts(Function):
    """(2x, x², which are positive); the last has no derivative."""

    @staticmethod
    def forward(ctx, x):
        double, square, positive = 2 * x, x * x, x > 0
        ctx.mark_non_differentiable(positive)
        ctx.save_for_backward(x, double)
        return double, square, positive

    @staticmethod
    def backward(ctx, g_double, g_square, g_positive):
        _, double = ctx.saved_tensors
        return 2 * g_double + g_square * double

    @staticmethod
    def jvp(ctx, t):
        _, double = ctx.saved_tensors
        return 2 * t, double * t, None


class Exp(Function):
    @staticmethod
    def forward(ctx, x):
        result = x.exp()
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0]


def leaves():
    return backstory.tensor(X, requires_grad=True), backstory.tensor(Y, requires_grad=True)


def test_gradients_and_second_derivatives_equal_pytorch():
    x, y = leaves()
    tx, ty = torch.tensor(X, requires_grad=True), torch.tensor(Y, requires_grad=True)
    first = grad(Product.apply(x, y, 3).sum(), [x, y], create_graph=True)
    theirs = torch.autograd.grad(TorchProduct.apply(tx, ty, 3).sum(), [tx, ty], create_graph=True)
    for a, b in zip(first, theirs, strict=True):
        close(a.detach().numpy(), b.detach().numpy())
    second = grad((first[1] * first[0]).sum(), [x, y])
    theirs = torch.autograd.grad((theirs[1] * theirs[0]).sum(), [tx, ty])
    for a, b in zip(second, theirs, strict=True):
        close(a.numpy(), b.numpy())


def test_needs_input_grad_says_who_wants_a_gradient():
    x, y = leaves()
    Product.apply(x, y.detach(), 2).sum().backward()
    close(x.grad.numpy(), Y**2)
    assert y.grad is None


def test_it_passes_gradcheck_and_gradgradcheck():
    x, y = leaves()
    assert gradcheck(lambda a, b: Product.apply(a, b, 3), (x, y))
    assert gradgradcheck(lambda a, b: Product.apply(a, b, 3), (x, y))
    assert gradgradcheck(Exp.apply, x)
    assert gradgradcheck(lambda a: Parts.apply(a)[:2], x)


def test_several_outputs_give_one_walk_of_backward_with_all_their_gradients():
    x = leaves()[0]
    double, square, positive = Parts.apply(x)
    assert not positive.requires_grad
    assert double.grad_fn.name() == "PartsBackward"
    (double.sum() + (square * square).sum()).backward()
    close(x.grad.numpy(), 2 + 4 * X**3)


def test_an_unused_output_has_a_gradient_of_zeros():
    x = leaves()[0]
    Parts.apply(x)[1].sum().backward()
    close(x.grad.numpy(), 2 * X)


def test_it_is_one_node_and_frees_what_it_saved():
    x, y = leaves()
    out = Product.apply(x, y, 2)
    assert repr(out.grad_fn) == "<ProductBackward>"
    assert [edge.variable for edge, _ in out.grad_fn.next_functions[:2]] == [x, y]
    out.sum().backward()
    with pytest.raises(errors.GraphError, match="second backward"):
        out.sum().backward()


def test_a_saved_output_makes_no_cycle():
    gc.disable()
    try:
        out = Exp.apply(leaves()[0])
        gone = weakref.ref(out)
        del out
        assert gone() is None
    finally:
        gc.enable()


def test_a_saved_value_that_was_changed_is_refused():
    x, y = leaves()
    out = Product.apply(x * 1, z := y * 1, 2)
    z.add_(1.0)
    with pytest.raises(errors.VersionError, match="changed in place"):
        out.sum().backward()


def test_forward_records_nothing_of_its_own():
    x = leaves()[0]
    out = Exp.apply(x)
    assert out.grad_fn.next_functions[0][0].variable is x


@pytest.mark.parametrize(
    "transform",
    [
        lambda f, x: func.grad(lambda x: f(x).sum())(x),
        lambda f, x: func.jvp(f, (x,), (x,))[1],
        lambda f, x: func.linearize(f, x)[1](x),
        lambda f, x: func.jacrev(f)(x),
        lambda f, x: func.jacfwd(f)(x),
        lambda f, x: func.hessian(lambda x: f(x).sum())(x),
        lambda f, x: func.grad(lambda x: func.grad(lambda x: f(x).sum())(x).sum())(x),
        lambda f, x: func.vmap(f)(x),
        lambda f, x: func.vmap(func.grad(f))(x),
        lambda f, x: func.grad(lambda x: func.vmap(f)(x).sum())(x),
    ],
)
def test_transforms_of_it_are_those_of_its_operations(transform):
    y = backstory.tensor(0.7, dtype="float64")
    x = backstory.tensor(X)
    mine = transform(lambda x: Product.apply(x, y * x, 3), x)
    close(mine.numpy(), transform(lambda x: x * (y * x) ** 3, x).numpy(), rtol=1e-10)


def test_every_level_sees_the_functions_own_derivative():
    # d/dx [s(x)·x] = x + s(x) with s'= 1, and so the second derivative is 2.
    f = lambda x: (Straight.apply(x) * x).sum()
    x = backstory.tensor(X)
    close(func.grad(f)(x).numpy(), np.sign(X) + X)
    close(func.jacrev(func.grad(f))(x).numpy(), 2 * np.eye(3))
    close(func.vmap(func.grad(f))(x).numpy(), np.sign(X) + X)
    close(func.grad(lambda x: func.vmap(f)(x).sum())(x).numpy(), np.sign(X) + X)


def test_forward_mode_without_jvp_is_refused():
    with pytest.raises(errors.GraphError, match=r"(?s)Exp.*no jvp.*staticmethod jvp"):
        func.jvp(Exp.apply, (backstory.tensor(X),), (backstory.tensor(X),))


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (lambda g: (g, g), "2 gradients"),
        (lambda g: g[:2], r"shape \(2,\)"),
        (lambda g: 3, "int"),
    ],
)
def test_a_wrong_gradient_is_refused(returned, words):
    class Wrong(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return returned(g)

    with pytest.raises(errors.BackstoryError, match=words):
        Wrong.apply(leaves()[0]).sum().backward()


def test_gradcheck_names_the_argument_the_entry_and_both_values():
    class Lame(Function):
        @staticmethod
        def forward(ctx, x, y):
            ctx.save_for_backward(x, y)
            return x * y

        @staticmethod
        def backward(ctx, g):
            x, y = ctx.saved_tensors
            return g * y, g * x * backstory.tensor([1.0, 2.0, 1.0], dtype="float64")

    x, y = leaves()
    words = r"output 0, entry \(1,\), by argument 1, entry \(1,\): analytic -2\.4, numerical -1\.2"
    with pytest.raises(errors.GradcheckError, match=words):
        gradcheck(Lame.apply, (x, y))
    assert not gradcheck(Lame.apply, (x, y), raise_exception=False)
    with pytest.raises(errors.DtypeError, match="float32"):
        gradcheck(Lame.apply, (x.detach().float().requires_grad_(), y))
    with pytest.raises(errors.ArgumentError, match="none requires grad"):
        gradcheck(Lame.apply, (x.detach(), y.detach()))


def test_gradgradcheck_finds_a_backward_that_is_not_differentiable():
    class Detached(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, g):
            return g * 3 * ctx.saved_tensors[0].detach() ** 2

    assert gradcheck(Detached.apply, leaves()[0])
    with pytest.raises(errors.GradcheckError):
        gradgradcheck(Detached.apply, leaves()[0])
