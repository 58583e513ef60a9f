"""What the transforms take, refuse and keep apart, against torch.func 2.13 where it has the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.func
from support import close

import backstory
from backstory import errors, func, nn
from backstory.func.level import VmapLevel

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")

X = np.array([0.5, -1.2, 2.0])
ROWS = np.random.default_rng(0).normal(size=(5, 3))


def t(x) -> backstory.Tensor:
    return backstory.tensor(x)


# Arguments and results


def test_arguments_may_be_nested_and_so_are_gradients():
    tree = {"a": [t(X), (t(2.0 * X),)], "b": t(1.5)}
    slopes = func.grad(lambda p: (p["a"][0] * p["a"][1][0]).sum() * p["b"] ** 2)(tree)
    close(slopes["a"][0].numpy(), 2 * X * 2.25)
    close(slopes["a"][1][0].numpy(), X * 2.25)
    assert isinstance(slopes["a"][1], tuple)
    close(slopes["b"].numpy(), np.asarray(2 * 1.5 * (2 * X * X).sum(), dtype=np.float32), rtol=1e-6)


def test_argnums_has_aux_and_keywords():
    f = lambda x, y, scale=1.0: ((x * y * scale).sum(), {"product": x * y})
    (gx, gy), aux = func.grad(f, (0, -1), has_aux=True)(t(X), t(ROWS[0]), scale=3.0)
    close(gx.numpy(), 3 * ROWS[0])
    close(gy.numpy(), 3 * X)
    close(aux["product"].numpy(), X * ROWS[0])
    (value, aux), slope = func.value_and_grad(f, 1, has_aux=True)(t(X), t(ROWS[0]))
    close(value.numpy(), np.asarray((X * ROWS[0]).sum()))
    close(slope.numpy(), X)
    slope, (value, aux) = func.grad_and_value(f, has_aux=True)(t(X), t(ROWS[0]))
    close(slope.numpy(), ROWS[0])


def test_vjp_and_jvp_of_nested_results_and_a_pullback_used_twice():
    f = lambda p: {"double": 2 * p["x"], "pair": (p["x"] * p["y"], p["y"])}
    primal = {"x": t(X), "y": t(ROWS[0])}
    out, pullback = func.vjp(f, primal)
    close(out["pair"][0].numpy(), X * ROWS[0])
    for _ in range(2):
        (g,) = pullback({"double": t(X), "pair": (t(X), t(0 * X))})
        close(g["x"].numpy(), 2 * X + X * ROWS[0])
        close(g["y"].numpy(), X * X)
    _, moves = func.jvp(f, (primal,), ({"x": t(X), "y": t(0 * X)},))
    close(moves["pair"][0].numpy(), X * ROWS[0])
    close(moves["pair"][1].numpy(), 0 * X)
    _, pushforward = func.linearize(f, primal)
    close(pushforward({"x": t(X), "y": t(0 * X)})["double"].numpy(), 2 * X)


@pytest.mark.parametrize("transform", ["jacrev", "jacfwd"])
def test_jacobians_of_several_results_by_several_arguments_equal_pytorch(transform):
    def f(lib, a, b):
        return {"sum": (a * b[0]).sum(), "outer": a[:, None] * b["y"] if isinstance(b, dict) else a * b[1]}

    y = ROWS[:2, :2]
    mine = getattr(func, transform)(lambda a, b: f(backstory, a, b), (0, 1))(t(X), (t(X), t(2 * X)))
    theirs = getattr(torch.func, transform)(lambda a, b: f(torch, a, b), (0, 1))(
        torch.tensor(X), (torch.tensor(X), torch.tensor(2 * X))
    )
    for key in ("sum", "outer"):
        close(mine[key][0].numpy(), theirs[key][0].numpy())
        for i in range(2):
            close(mine[key][1][i].numpy(), theirs[key][1][i].numpy())
    assert y.shape == (2, 2)


@pytest.mark.parametrize("transform", [func.jacrev, func.jacfwd])
def test_jacobians_in_chunks_of_scalars_and_of_nothing(transform):
    f = lambda x: (x[:, None] * x).exp()
    close(transform(f, chunk_size=2)(t(X)).numpy(), transform(f)(t(X)).numpy())
    close(transform(lambda x: x**3)(t(np.array(2.0))).numpy(), np.array(12.0))
    assert transform(lambda x: x * 2)(t(np.zeros(0))).shape == (0, 0)
    value, aux = transform(lambda x: (x * x, x + 1), has_aux=True)(t(X))
    close(value.numpy(), np.diag(2 * X))
    close(aux.numpy(), X + 1)


def test_jacobian_chooses_the_cheaper_mode_and_says_which_and_why():
    wide, tall = ROWS, ROWS.T
    value, choice = func.jacobian(lambda x: t(wide) @ x, explain=True)(t(X))
    close(value.numpy(), wide)
    assert (choice.mode, choice.inputs, choice.outputs) == ("forward", 3, 5)
    assert "one run per entry of the arguments (3)" in str(choice)
    value, choice = func.jacobian(lambda x: t(tall) @ x, explain=True)(t(np.ones(5)))
    close(value.numpy(), tall)
    assert choice.mode == "reverse"
    close(func.jacobian(lambda x: t(tall) @ x, mode="forward")(t(np.ones(5))).numpy(), tall)
    with pytest.raises(errors.ArgumentError, match="'sideways'"):
        func.jacobian(lambda x: x, mode="sideways")


def test_hessian_and_hvp_of_several_arguments():
    f = lambda a, b: (a * a * b).sum()
    blocks = func.hessian(f, (0, 1))(t(X), t(ROWS[0]))
    close(blocks[0][0].numpy(), np.diag(2 * ROWS[0]))
    close(blocks[0][1].numpy(), np.diag(2 * X))
    close(blocks[1][1].numpy(), np.zeros((3, 3)))
    products = func.hvp(f, (t(X), t(ROWS[0])), (t(X), t(0 * X)))
    close(products[0].numpy(), 2 * ROWS[0] * X)
    close(products[1].numpy(), 2 * X * X)


# vmap


def test_vmap_over_any_axis_of_nested_arguments_and_results():
    f = lambda p, y, s: {"z": p["x"] * y, "pair": [p["x"].sum() * s, y]}
    out = func.vmap(f, in_dims=({"x": 1}, 0, None), out_dims={"z": -1, "pair": [0, 1]})(
        {"x": t(ROWS.T)}, t(ROWS), t(3.0)
    )
    close(out["z"].numpy(), (ROWS * ROWS).T)
    close(out["pair"][0].numpy(), ROWS.sum(1) * 3)
    close(out["pair"][1].numpy(), ROWS.T)


def test_vmap_nested_shared_results_and_chunks():
    close(func.vmap(func.vmap(lambda a, b: a * b, (None, 0)), (0, None))(t(X), t(X)).numpy(), np.outer(X, X))
    close(func.vmap(lambda x: t(X))(t(ROWS)).numpy(), np.tile(X, (5, 1)))
    close(func.vmap(lambda x: (x, t(X)), out_dims=(0, None))(t(ROWS))[1].numpy(), X)
    for size in (1, 2, 7):
        close(func.vmap(lambda x: x.cumsum(0), chunk_size=size)(t(ROWS)).numpy(), ROWS.cumsum(1))


def test_per_sample_gradients_equal_pytorch():
    rng = np.random.default_rng(3)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    theirs = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)).double()
    theirs.load_state_dict({k: torch.tensor(v.numpy()) for k, v in model.state_dict().items()})
    labels = rng.integers(0, 2, 5)

    def loss(parameters, x, y):
        return nn.functional.cross_entropy(func.functional_call(model, parameters, x[None]), y[None])

    def torch_loss(parameters, x, y):
        out = torch.func.functional_call(theirs, parameters, x[None])
        return torch.nn.functional.cross_entropy(out, y[None])

    mine = func.vmap(func.grad(loss), (None, 0, 0))(
        {k: p.detach() for k, p in model.named_parameters()}, t(ROWS), t(labels)
    )
    expected = torch.func.vmap(torch.func.grad(torch_loss), (None, 0, 0))(
        {k: p.detach() for k, p in theirs.named_parameters()}, torch.tensor(ROWS), torch.tensor(labels)
    )
    assert list(mine) == list(expected)
    for name in mine:
        close(mine[name].numpy(), expected[name].numpy())
    # The module's own parameters are in their places again, without gradients.
    assert all(p.grad is None and p.level == 0 for p in model.parameters())


def test_each_sample_may_choose_its_own_entries():
    table = np.arange(24.0).reshape(2, 3, 4)
    index = np.array([2, 0, -1, 1, 1])
    other = np.array([[0, 3], [1, 1], [2, 0], [3, 3], [0, 1]])
    for f in (
        lambda x, i, j: x[0, i],
        lambda x, i, j: x[..., i],
        lambda x, i, j: x[:, i, j],
        lambda x, i, j: x[i - i, :, j],
        lambda x, i, j: x[1:, None, i],
    ):
        for dim in (None, 0):
            data = table if dim is None else np.stack([table * k for k in range(5)])
            mine = func.vmap(f, (dim, 0, 0))(t(data), t(index), t(other))
            expected = np.stack([f(data if dim is None else data[k], index[k], other[k]) for k in range(5)])
            close(mine.numpy(), expected)
    slopes = func.vmap(func.grad(lambda x, i: (x[i] ** 2).sum()), (None, 0))(t(X), t(np.array([2, 0])))
    close(slopes.numpy(), np.array([[0, 0, 4.0], [1.0, 0, 0]]))
    slope = func.grad(lambda x: func.vmap(lambda i: x[i] ** 2)(t(np.array([2, 0, 2]))).sum())(t(X))
    close(slope.numpy(), np.array([1.0, 0, 8.0]))


def test_random_draws_in_vmap_raise_differ_or_are_shared():
    f = lambda x: x + backstory.rand(3, dtype="float64")
    with pytest.raises(errors.GraphError, match=r"(?s)rand inside vmap.*randomness='different'"):
        func.vmap(f)(t(ROWS))
    different = func.vmap(f, randomness="different")(t(ROWS)).numpy() - ROWS
    assert len(np.unique(different.round(12))) == 15
    same = func.vmap(f, randomness="same")(t(ROWS)).numpy() - ROWS
    assert len(np.unique(same.round(12))) == 3
    nested = func.vmap(func.vmap(f, randomness="different"), randomness="different")(t(np.zeros((2, 4, 3))))
    assert len(np.unique(nested.numpy())) == 24
    orders = func.vmap(lambda x: backstory.randperm(6), randomness="different")(t(ROWS)).numpy()
    assert orders.shape == (5, 6)
    assert (np.sort(orders) == np.arange(6)).all()


# Levels kept apart


def test_perturbations_are_not_confused():
    # Siskind & Pearlmutter 2005: d/dx (x · d/dy (x + y)) is 1; confusing the levels gives 2.
    one = t(np.array(1.0))
    assert func.grad(lambda x: x * func.grad(lambda y: x + y)(one))(one).item() == 1.0
    push = lambda f, x: func.jvp(f, (x,), (one,))[1]
    assert push(lambda x: x * push(lambda y: x + y, one), one).item() == 1.0
    assert push(lambda x: x * func.grad(lambda y: x + y)(one), one).item() == 1.0
    assert func.grad(lambda x: x * push(lambda y: x + y, one))(one).item() == 1.0
    # d/dx (x · d/dy (x·y) at y = x) = 2x: the inner variable of equal value is another one.
    assert func.grad(lambda x: x * push(lambda y: x * y, x))(t(np.array(3.0))).item() == 6.0
    assert push(lambda x: x * func.grad(lambda y: x * y)(x), t(np.array(3.0))).item() == 6.0


def test_no_grad_inside_grad_stops_it_and_outside_does_not():
    def f(x):
        with backstory.no_grad():
            c = x * x
        return x - c

    def g(x):
        with torch.no_grad():
            c = x * x
        return x - c

    x, y = t(np.array(3.0)), torch.tensor(3.0)
    assert func.grad(f)(x).item() == torch.func.grad(g)(y).item()
    assert func.jvp(f, (x,), (x,))[1].item() == torch.func.jvp(g, (y,), (y,))[1].item()
    assert func.grad(lambda x: func.vmap(f)(x[None]).sum())(x).item() == 1.0
    with backstory.no_grad():
        assert func.grad(lambda x: x * x)(x).item() == 6.0


def test_detach_stops_derivatives_of_every_level():
    x, y = t(np.array(3.0)), torch.tensor(3.0)
    f = lambda x: x.detach() * x * x
    for mine, theirs in (
        (func.grad(func.grad(f))(x), torch.func.grad(torch.func.grad(f))(y)),
        (func.jvp(f, (x,), (x,))[1], torch.func.jvp(f, (y,), (y,))[1]),
        (func.jvp(func.grad(f), (x,), (x,))[1], torch.func.jvp(torch.func.grad(f), (y,), (y,))[1]),
    ):
        assert mine.item() == theirs.item()


@pytest.mark.parametrize(
    "transform",
    [
        lambda f: func.grad(f)(t(np.array(2.0))),
        lambda f: func.jvp(f, (t(np.array(2.0)),), (t(np.array(1.0)),)),
        lambda f: func.vmap(f)(t(X)),
        lambda f: func.linearize(f, t(np.array(2.0))),
    ],
    ids=["grad", "jvp", "vmap", "linearize"],
)
def test_a_tensor_that_escaped_is_refused_also_by_the_next_transform(transform):
    kept = []

    def f(x):
        kept.append(x * 2)
        return x * x

    transform(f)
    with pytest.raises(errors.GraphError, match=r"(?s)has ended.*outlive"):
        kept[0] + 1
    with pytest.raises(errors.GraphError, match="has ended"):
        transform(lambda x: x * kept[0])


def test_levels_end_also_after_an_error_inside():
    def broken(x):
        raise KeyError("inside")

    for transform in (func.grad, func.vmap, func.jacrev, func.jacfwd):
        with pytest.raises(KeyError):
            transform(broken)(t(X))
    assert func.grad(lambda x: x * x)(t(np.array(2.0))).item() == 4.0


def test_memory_outside_of_a_transform_is_not_changed_by_values_inside():
    outside = t(X.copy())
    for transform in (func.grad, func.vmap):
        with pytest.raises(errors.GraphError):
            transform(lambda x: outside.add_(x).sum())(t(X))
    close(outside.numpy(), X)


def test_a_change_of_memory_that_a_gradient_needs_is_refused():
    x = t(X.copy())

    def f(a):
        out = (a * a).sum()
        x.add_(1.0)
        return out

    with pytest.raises(errors.VersionError, match="changed in place"):
        func.grad(f)(x)
    y = t(X.copy())
    _, pushforward = func.linearize(lambda a: a * a, y)
    y.add_(1.0)
    with pytest.raises(errors.VersionError, match="after linearize"):
        pushforward(y)


def test_tensors_inside_are_no_numbers_for_all_samples_but_for_grad_they_are():
    assert func.grad(lambda x: x * x if x > 0 else x)(t(np.array(2.0))).item() == 4.0
    with pytest.raises(errors.GraphError, match=r"(?s)inside vmap.*where"):
        func.vmap(lambda x: x * x if x > 0 else x)(t(X))
    with pytest.raises(errors.GraphError, match="inside a transform"):
        func.vmap(lambda x: x.numpy())(t(X))
    with pytest.raises(errors.GraphError, match=r"requires_grad_\(\)"):
        func.vmap(lambda x: x.requires_grad_())(t(X))


def test_autograd_grad_inside_transforms():
    def f(x):
        inner = (x * 1.0).requires_grad_() if not x.requires_grad else x * 1.0
        (g,) = backstory.autograd.grad((inner**3).sum(), inner, create_graph=True)
        return g

    close(func.grad(lambda x: f(x).sum())(t(X)).numpy(), 6 * X)
    x = backstory.tensor(X, requires_grad=True)
    y = x**2
    rows = func.vmap(lambda v: backstory.autograd.grad(y, x, v, retain_graph=True)[0])(t(np.eye(3)))
    close(rows.numpy(), np.diag(2 * X))


def test_a_long_chain_is_linearized_pushed_and_pulled_without_recursion():
    def f(x):
        for _ in range(5000):
            x = x + 0.001 * x
        return x

    x = t(np.array(1.0))
    slope = func.grad(f)(x).item()
    assert func.jvp(f, (x,), (x,))[1].item() == pytest.approx(slope)
    assert func.linearize(f, x)[1](x).item() == pytest.approx(slope)


# Errors


BAD = {
    "grad of a vector": (lambda: func.grad(lambda x: x)(t(X)), errors.ShapeError, r"\(3,\).*jacrev"),
    "grad of a tuple": (lambda: func.grad(lambda x: (x, x))(t(X)), errors.ArgumentError, "tuple.*has_aux"),
    "grad by integers": (lambda: func.grad(lambda x: x.sum())(t([1, 2])), errors.DtypeError, "int64.*float"),
    "grad by a word": (lambda: func.grad(lambda x: x)("x"), errors.ArgumentError, "str.*argnums"),
    "argnums": (lambda: func.grad(lambda x: x, 1)(t(X)), errors.ArgumentError, "argnums=1.*from 0"),
    "argnums twice": (lambda: func.grad(lambda x: x, (0, 0))(t(X)), errors.ArgumentError, "named once"),
    "no aux": (lambda: func.grad(lambda x: x.sum(), has_aux=True)(t(X)), errors.ArgumentError, "has_aux"),
    "no primals": (lambda: func.vjp(lambda: 1), errors.ArgumentError, "without primals"),
    "cotangent": (
        lambda: func.vjp(lambda x: x, t(X))[1](t(ROWS)),
        errors.ShapeError,
        r"\(5, 3\).*\(3,\)",
    ),
    "cotangents": (
        lambda: func.vjp(lambda x: (x, x), t(X))[1](t(X)),
        errors.ArgumentError,
        "nested",
    ),
    "tangent": (lambda: func.jvp(lambda x: x, (t(X),), (t(ROWS),)), errors.ShapeError, r"\(5, 3\).*\(3,\)"),
    "no tuples": (lambda: func.jvp(lambda x: x, t(X), t(X)), errors.ArgumentError, r"\(x,\), \(t,\)"),
    "in_dims": (lambda: func.vmap(lambda x: x, (0, 0))(t(X)), errors.ArgumentError, "1 arguments"),
    "in_dims nested": (lambda: func.vmap(lambda x: x, ([0],))(t(X)), errors.ArgumentError, "in_dims"),
    "in_dims None": (lambda: func.vmap(lambda x: x, None)(t(X)), errors.ArgumentError, "every in_dims"),
    "axis": (lambda: func.vmap(lambda x: x, 1)(t(X)), errors.BoundsError, r"axis 1.*\(3,\)"),
    "sizes": (lambda: func.vmap(lambda x, y: x)(t(X), t(ROWS)), errors.ShapeError, "3, 5"),
    "out_dims": (lambda: func.vmap(lambda x: x, 0, 1)(t(X)), errors.BoundsError, "out_dims=1"),
    "out_dims None": (lambda: func.vmap(lambda x: x, 0, None)(t(X)), errors.ArgumentError, "differs"),
    "no tensor": (lambda: func.vmap(lambda x: 3)(t(X)), errors.ArgumentError, "int"),
    "randomness": (lambda: func.vmap(lambda x: x, randomness="no"), errors.ArgumentError, "'no'"),
    "chunk": (lambda: func.vmap(lambda x: x, chunk_size=0), errors.ArgumentError, "chunk_size=0"),
    "shapes of one sample": (
        lambda: func.vmap(lambda x: x @ t(np.ones((4, 2))))(t(ROWS)),
        errors.ShapeError,
        r"\(1, 3\), \(4, 2\)",
    ),
    "mask": (lambda: func.vmap(lambda x: x[x > 0])(t(ROWS)), errors.DtypeError, "bool.*where"),
    "functional_call": (
        lambda: func.functional_call(nn.Linear(3, 2), {"weigth": t(X)}, t(X)),
        errors.ArgumentError,
        "weigth.*named_parameters",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_with_what_why_and_instead(name):
    call, kind, words = BAD[name]
    with pytest.raises(kind, match=f"(?s){words}"):
        call()


@pytest.mark.parametrize(
    "layers",
    [
        [("Conv2d", 2, 4, 3, 1, 1, 1, 2), ("ReLU",), ("MaxPool2d", 2), ("Flatten",), ("Linear", 36, 3)],
        [("Conv2d", 2, 3, (3, 2), 2), ("GELU",), ("AdaptiveAvgPool2d", 2), ("Flatten",), ("Linear", 12, 3)],
        [("Flatten", 2), ("Conv1d", 2, 4, 5, 3, 2, 2), ("AvgPool1d", 3), ("Flatten",), ("Linear", 12, 3)],
    ],
    ids=str,
)
def test_gradients_of_each_sample_of_a_convolutional_network_run_at_once(layers, rng, monkeypatch):
    """Against PyTorch's, and no operation falls back to a loop over the samples."""
    mine = nn.Sequential(*(getattr(nn, name)(*arguments) for name, *arguments in layers)).double()
    theirs = torch.nn.Sequential(
        *(getattr(torch.nn, name)(*arguments) for name, *arguments in layers)
    ).double()
    theirs.load_state_dict({key: torch.tensor(value.numpy()) for key, value in mine.state_dict().items()})
    data, labels = rng.normal(size=(5, 2, 6, 6)), rng.integers(0, 3, 5)
    looped = []
    one_by_one = VmapLevel.one_by_one

    def counted(self, op, *rest):
        looped.append(op.name)
        return one_by_one(self, op, *rest)

    def loss(weights, x, label):
        out = func.functional_call(mine, weights, x.reshape(1, *x.shape))
        return nn.functional.cross_entropy(out, label.reshape(1))

    monkeypatch.setattr(VmapLevel, "one_by_one", counted)
    weights = {name: p.detach() for name, p in mine.named_parameters()}
    found = func.vmap(func.grad(loss), (None, 0, 0))(
        weights, backstory.tensor(data), backstory.tensor(labels)
    )
    assert looped == []
    for i in range(5):
        theirs.zero_grad()
        out = theirs(torch.tensor(data[i : i + 1]))
        torch.nn.functional.cross_entropy(out, torch.tensor(labels[i : i + 1])).backward()
        for name, p in theirs.named_parameters():
            close(found[name][i].numpy(), p.grad.numpy(), rtol=1e-10)
