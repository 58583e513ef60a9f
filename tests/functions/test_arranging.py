"""Functions that arrange, choose and put entries: which are views, every index, values against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from support import close

import backstory
from backstory.autograd import grad, new_level
from backstory.errors import ArgumentError, BackstoryError, BoundsError, DtypeError, ShapeError
from backstory.tensor import wrap

VIEWS = {
    "view": lambda x: x.view(3, 2, 4),
    "reshape": lambda x: x.reshape(-1),
    "ravel": lambda x: x.ravel(),
    "flatten": lambda x: x.flatten(1),
    "unflatten": lambda x: x.unflatten(-1, (2, 2)),
    "squeeze": lambda x: x.unsqueeze(0).squeeze(),
    "unsqueeze": lambda x: x.unsqueeze(-1),
    "permute": lambda x: x.permute(2, 0, 1),
    "transpose": lambda x: x.transpose(0, 2),
    "swapaxes": lambda x: x.swapaxes(0, 1),
    "movedim": lambda x: x.movedim(0, -1),
    "mT": lambda x: x.mT,
    "T": lambda x: x[0].T,
    "t": lambda x: x[0].t(),
    "select": lambda x: x.select(1, 2),
    "narrow": lambda x: x.narrow(1, 1, 2),
    "split": lambda x: x.split(2, 1)[1],
    "chunk": lambda x: x.chunk(2, -1)[0],
    "unbind": lambda x: x.unbind(1)[2],
    "diagonal": lambda x: x.diagonal(1, 1, 2),
    "expand": lambda x: x[:1].expand(4, 3, 4),
    "getitem": lambda x: x[:, ::2, 1:],
    "detach": lambda x: x.detach(),
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_share_memory_and_version_as_in_pytorch(name):
    mine, theirs = backstory.zeros(2, 3, 4), torch.zeros(2, 3, 4)
    view, expected = VIEWS[name](mine), VIEWS[name](theirs)
    assert np.shares_memory(view.numpy(), mine.numpy())
    mine.add_(1.0)
    theirs.add_(1.0)
    assert view._version == mine._version == 1
    close(view.numpy(), expected.numpy())
    if name != "expand":
        view.mul_(backstory.arange(view.numel()).reshape(view.shape))
        expected.mul_(torch.arange(expected.numel()).reshape(expected.shape))
        close(mine.numpy(), theirs.numpy())


@pytest.mark.parametrize("name", sorted(VIEWS.keys() - {"detach", "expand"}))
def test_a_change_of_any_view_has_the_gradient_of_pytorch(name):
    data = np.arange(24.0).reshape(2, 3, 4) - 11.5
    leaf, theirs = backstory.tensor(data, requires_grad=True), torch.tensor(data, requires_grad=True)
    x, u = leaf * 2.0, theirs * 2.0
    for base, view in ((x, VIEWS[name](x)), (u, VIEWS[name](u))):
        if name not in ("split", "chunk", "unbind") or base is x:
            view.mul_(view.detach() + 0.5)
    if name in ("split", "chunk", "unbind"):  # PyTorch refuses to change what several came with
        same = {"split": u[:, 2:], "chunk": u[..., :2], "unbind": u[:, 2]}[name]
        same.mul_(same.detach() + 0.5)
    weights = np.arange(24.0).reshape(2, 3, 4)
    (x * x * weights).sum().backward()
    (u * u * torch.tensor(weights)).sum().backward()
    close(leaf.grad.numpy(), theirs.grad.numpy())


COPIES = {
    "clone": lambda x: x.clone(),
    "flip": lambda x: x.flip(0),
    "roll": lambda x: x.roll(1, 0),
    "rot90": lambda x: x.rot90(0),
    "repeat": lambda x: x.repeat(1, 1, 1),
    "repeat more": lambda x: x.repeat(2, 1, 1, 1),
    "tile": lambda x: x.tile(1),
    "tril": lambda x: x.tril(),
    "index_select": lambda x: x.index_select(0, backstory.tensor([0, 1])),
    "list": lambda x: x[[0, 1]],
    "mask": lambda x: x[x == 0],
    "cat": lambda x: backstory.cat([x]),
    "stack": lambda x: backstory.stack([x]),
    "pad": lambda x: backstory.pad(x, (0, 0)),
    "diag": lambda x: x[0].diag(),
    "gather": lambda x: x.gather(0, backstory.zeros(2, 3, 4).long()),
    "contiguous": lambda x: x.mT.contiguous(),
}


@pytest.mark.parametrize("name", COPIES)
def test_copies_have_memory_of_their_own(name):
    x = backstory.zeros(2, 3, 4)
    copy = COPIES[name](x)
    copy.add_(1.0)
    assert x._version == 0
    assert x.sum().item() == 0.0


def test_view_refuses_to_copy():
    x = backstory.zeros(2, 3).T
    with pytest.raises(ShapeError, match=r"\(3, 2\).*\n.*do not lie in memory.*\n.*reshape"):
        x.view(6)
    assert x.reshape(6).shape == (6,)


# Every NumPy index


def same_as_numpy(data, index):
    """Value and gradient of x[index], or an error where NumPy has one."""
    x = backstory.tensor(data, requires_grad=True)
    try:
        expected = np.asarray(data[index])
    except IndexError:
        with pytest.raises(BoundsError):
            x[index]
        return
    out = x[index]
    close(out.detach().numpy(), expected)
    upstream = np.arange(1.0, 1.0 + expected.size).reshape(expected.shape)
    out.backward(upstream)
    gradient = np.zeros_like(data)
    np.add.at(gradient, index, upstream)
    close(x.grad.numpy(), gradient)


@given(npst.basic_indices((3, 4, 2), allow_newaxis=True))
def test_every_basic_index(index):
    same_as_numpy(np.arange(24.0).reshape(3, 4, 2), index)


@given(npst.integer_array_indices((3, 4, 2)))
def test_every_index_of_integers(index):
    same_as_numpy(np.arange(24.0).reshape(3, 4, 2), index)


PART = st.one_of(
    st.integers(-2, 1),
    st.just(slice(None)),
    st.just(slice(None, None, -1)),
    st.just(None),
    st.just(...),
    st.lists(st.integers(-2, 1), min_size=1, max_size=1),
    st.lists(st.integers(-2, 1), min_size=3, max_size=3),
    st.just([[0, 1, 0], [1, 1, 0]]),
    st.just(np.array([True, False])),
    st.just(np.array([[True, False], [True, True]])),
)


@given(st.lists(PART, min_size=1, max_size=4).filter(lambda parts: sum(p is ... for p in parts) < 2))
def test_every_mixed_index(parts):
    same_as_numpy(np.arange(16.0).reshape(2, 2, 2, 2), tuple(parts))


@given(st.lists(PART, min_size=1, max_size=4).filter(lambda parts: sum(p is ... for p in parts) < 2))
def test_writing_to_every_mixed_index(parts):
    index, data = tuple(parts), np.arange(16.0).reshape(2, 2, 2, 2)
    expected = data.copy()
    x, value = backstory.tensor(data), backstory.tensor(-1.0, dtype="float64", requires_grad=True)
    try:
        expected[index] = -1.0
    except IndexError:
        with pytest.raises(BoundsError):
            x[index] = value
        assert x._version == 0
        return
    x[index] = value
    close(x.detach().numpy(), expected)
    x.sum().backward()
    assert value.grad.item() == (expected == -1.0).sum()


def test_an_index_that_is_changed_afterwards_does_not_change_the_gradient():
    x, index = backstory.tensor([1.0, 2.0], requires_grad=True), backstory.tensor([0, 0])
    out = x[index].sum()
    index.fill_(1)
    out.backward()
    assert x.grad.tolist() == [2.0, 0.0]


def test_a_tensor_that_is_an_integer_is_an_index_and_gives_a_view():
    x = backstory.zeros(3)
    x[backstory.tensor(1)].fill_(5.0)
    assert x.tolist() == [0.0, 5.0, 0.0]


# Choosing and putting


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_gather_and_scatter_add_are_transposes(dim, rng):
    x, v = rng.normal(size=(3, 4)), rng.normal(size=(2, 3))
    index = rng.integers(0, 3, size=(2, 3))
    taken = backstory.gather(x, dim, index)
    put = backstory.scatter_add(np.zeros((3, 4)), dim, index, v)
    np.testing.assert_allclose((taken * v).sum().item(), (put * x).sum().item(), rtol=1e-13)


def test_of_several_values_for_one_place_the_last_is_seen_and_has_the_gradient():
    x = backstory.zeros(3, dtype="float64", requires_grad=True)
    src = backstory.tensor([1.0, 2.0, 3.0], dtype="float64", requires_grad=True)
    out = x.scatter(0, [1, 1, 0], src)
    assert out.tolist() == [3.0, 2.0, 0.0]
    (out * backstory.tensor([1.0, 10.0, 100.0])).sum().backward()
    assert x.grad.tolist() == [0.0, 0.0, 100.0]
    assert src.grad.tolist() == [0.0, 10.0, 1.0]


@pytest.mark.filterwarnings("ignore:The reduce argument of torch.scatter:UserWarning")
@pytest.mark.parametrize("reduce", ["add", "multiply"])
def test_scatter_with_a_reduction_has_pytorchs_value_and_the_gradient_of_differences(reduce, rng):
    x, src = rng.normal(size=4), rng.normal(size=5)
    index = np.array([0, 2, 2, 0, 2])
    expected = torch.tensor(x).scatter(0, torch.tensor(index), torch.tensor(src), reduce=reduce)
    a, b = backstory.tensor(x, requires_grad=True), backstory.tensor(src, requires_grad=True)
    out = a.scatter(0, index, b, reduce=reduce)
    close(out.detach().numpy(), expected.numpy())
    weights = rng.normal(size=4)
    (out * weights).sum().backward()

    def value(x, src):
        return float((backstory.scatter(x, 0, index, src, reduce=reduce).numpy() * weights).sum())

    for leaf, data, at in ((a, x, 0), (b, src, 1)):
        for k in range(len(data)):
            step = np.zeros_like(data)
            step[k] = 1e-6
            ahead, behind = [x, src], [x, src]
            ahead[at], behind[at] = data + step, data - step
            numerical = (value(*ahead) - value(*behind)) / 2e-6
            np.testing.assert_allclose(leaf.grad.numpy()[k], numerical, rtol=1e-6, atol=1e-8)


def test_integers_and_bools_are_arranged_too():
    x = backstory.arange(6).reshape(2, 3)
    assert backstory.cat([x, x], 1).dtype == backstory.int64
    assert x.roll(1, 1).tolist() == [[2, 0, 1], [5, 3, 4]]
    assert x.scatter_add(1, [[0, 0, 0]], [[1, 2, 3]]).tolist() == [[6, 1, 2], [3, 4, 5]]
    assert (x > 2).tril().tolist() == [[False, False, False], [True, True, False]]
    assert (x > 2).index_select(1, [0]).tolist() == [[False], [True]]
    assert backstory.cat([x, x * 0.5]).dtype == backstory.float32


# Linear algebra


EQUATIONS = [
    ("ij,jk->ik", [(2, 3), (3, 4)]),
    ("ij,jk", [(2, 3), (3, 4)]),
    ("bij,bjk->bik", [(5, 2, 3), (5, 3, 4)]),
    ("...ij,...jk->...ik", [(5, 1, 2, 3), (6, 3, 4)]),
    ("i,i->", [(3,), (3,)]),
    ("i,j->ji", [(3,), (4,)]),
    ("ii->i", [(3, 3)]),
    ("ii", [(3, 3)]),
    ("ijij->ij", [(2, 3, 2, 3)]),
    ("ij->ji", [(2, 3)]),
    ("ij->", [(2, 3)]),
    ("i...->...", [(2, 3, 4)]),
    ("ab,bc,cd->ad", [(2, 3), (3, 4), (4, 5)]),
    ("ab,cb,cd,ad->bd", [(2, 3), (4, 3), (4, 5), (2, 5)]),
    ("abc,cd,def,ae->bf", [(2, 3, 4), (4, 5), (5, 2, 3), (2, 2)]),
    ("ij,kj->ik", [(2, 1), (3, 4)]),
    ("i,ij,j->", [(2,), (2, 3), (3,)]),
    ("i,ij->j", [(0,), (0, 3)]),
]


@pytest.mark.parametrize(("equation", "shapes"), EQUATIONS, ids=[e for e, _ in EQUATIONS])
def test_einsum_and_its_derivatives_equal_pytorchs(equation, shapes, rng):
    arrays = [rng.normal(size=shape) for shape in shapes]
    mine = [backstory.tensor(x, requires_grad=True) for x in arrays]
    theirs = [torch.tensor(x, requires_grad=True) for x in arrays]
    out, expected = backstory.einsum(equation, *mine), torch.einsum(equation, *theirs)
    close(out.detach().numpy(), expected.detach().numpy())
    upstream = rng.normal(size=out.shape)
    first = grad(out, mine, upstream, create_graph=True)
    expected_first = torch.autograd.grad(expected, theirs, torch.tensor(upstream), create_graph=True)
    for a, b in zip(first, expected_first, strict=True):
        close(a.detach().numpy(), b.detach().numpy())
    if len(mine) > 1:
        second = grad(sum((g * g).sum() for g in first), mine)
        expected_second = torch.autograd.grad(sum((g * g).sum() for g in expected_first), theirs)
        for a, b in zip(second, expected_second, strict=True):
            close(a.numpy(), b.numpy(), rtol=1e-11)


def test_einsum_takes_lists_of_axes_too(rng):
    a, b = rng.normal(size=(2, 3)), rng.normal(size=(3, 4))
    expected = torch.einsum(torch.tensor(a), [0, 1], torch.tensor(b), [1, 2], [2, 0])
    close(backstory.einsum(a, [0, 1], b, [1, 2], [2, 0]).numpy(), expected.numpy())


def test_a_beta_of_zero_ignores_the_first_argument_also_its_nan():
    x = backstory.tensor([float("nan")] * 2)
    out = backstory.addmv(x, backstory.eye(2), backstory.ones(2), beta=0)
    assert out.tolist() == [1.0, 1.0]


# Levels


@pytest.mark.parametrize(
    "function",
    [
        lambda x: backstory.gather(x, 1, [[0, 0], [2, 1]]),
        lambda x: backstory.cat([x, x * x], 1).roll(1, 0).flip(1),
        lambda x: x.index_select(1, [2, 0, 2]) ** 3,
        lambda x: x.diagonal(1) * x.tril().sum(),
        lambda x: backstory.einsum("ij,kj->ik", x, x * x),
        lambda x: backstory.solve(x @ x.T + 3.0 * backstory.eye(2, dtype="float64"), x),
        lambda x: backstory.kron(x, x) * backstory.diag_embed(x, 1).sum(),
        lambda x: x.sort(1).values.cumsum(1),
        lambda x: backstory.scatter_add(x * x, 0, [[0, 1, 0]], x[:1]),
        lambda x: backstory.pad(x, (1, 1), mode="reflect") ** 2,
    ],
)
def test_derivatives_of_a_level_equal_those_of_a_graph(function):
    data = np.array([[0.5, -1.0, 2.0], [1.5, -0.5, 3.0]])
    x = backstory.tensor(data, requires_grad=True)
    (direct,) = grad((function(x) ** 2).sum(), x)
    with new_level() as level:
        inner = wrap(backstory.tensor(data), level.number).requires_grad_()
        (g,) = grad((function(inner) ** 2).sum(), inner)
    close(g.array.numpy(), direct.numpy())


# Refused


m, v = backstory.zeros(2, 3), backstory.zeros(3)
REFUSED = {
    "cat shapes": (lambda: backstory.cat([m, m.T]), ShapeError, "(2, 3), (3, 2)", "another axis"),
    "cat numbers": (lambda: backstory.cat([v.sum()]), ShapeError, "()", "no axis"),
    "cat nothing": (lambda: backstory.cat([]), ArgumentError, "no tensors", "nothing to join"),
    "cat one": (lambda: backstory.cat(m), ArgumentError, "Tensor", "list or tuple"),
    "stack": (lambda: backstory.stack([m, v]), ShapeError, "(2, 3), (3,)", "equal shapes"),
    "split": (lambda: m.split([1, 1], 1), ShapeError, "[1, 1]", "3 entries"),
    "split 0": (lambda: m.split(0), ArgumentError, "0 entries", "some entries"),
    "chunk": (lambda: m.chunk(0), ArgumentError, "0 parts", "at least one"),
    "unbind": (lambda: v.sum().unbind(), ShapeError, "unbind", "no axis"),
    "axis": (lambda: m.unsqueeze(4), BoundsError, "axis 4", "3 axes"),
    "axis twice": (lambda: m.flip(0, 0), ShapeError, "(0, 0)", "twice"),
    "unflatten": (lambda: m.unflatten(1, (2, 2)), ShapeError, "(2, 2)", "3 entries"),
    "flatten": (lambda: m.flatten(1, 0), ShapeError, "flatten(1, 0)", "after the last"),
    "expand": (lambda: v.expand(-1, 3), ShapeError, "(-1, 3)", "new axis"),
    "repeat": (lambda: m.repeat(2), ShapeError, "(2,)", "every axis"),
    "roll": (lambda: m.roll((1, 2), 0), ShapeError, "(1, 2)", "2 shifts for 1"),
    "rot90": (lambda: v.rot90(), ShapeError, "(3,)", "two axes"),
    "pad": (lambda: backstory.pad(v, (1, 1, 1, 1)), ShapeError, "(1, 1, 1, 1)", "each axis"),
    "pad reflect": (lambda: backstory.pad(v, (3, 0), "reflect"), BoundsError, "(3, 0)", "mirror"),
    "pad mode": (lambda: backstory.pad(v, (1, 0), "edge"), ArgumentError, "'edge'", "modes"),
    "select": (lambda: m.select(0, 2), BoundsError, "(2, 3)", "out of bounds"),
    "narrow": (lambda: m.narrow(1, 2, 2), BoundsError, "length=2", "3 entries"),
    "index dtype": (lambda: m.index_select(0, [0.0]), DtypeError, "float32", "integer"),
    "index range": (lambda: m.index_select(0, [2]), BoundsError, "index 2", "2 entries"),
    "index negative": (lambda: m.gather(0, [[-1]]), BoundsError, "index -1", "2 entries"),
    "gather": (lambda: m.gather(0, [0]), ShapeError, "(1,)", "names one entry"),
    "scatter": (lambda: m.scatter(0, [[0, 1]], [[1.0]]), ShapeError, "(1, 2)", "same place"),
    "scatter nothing": (lambda: m.scatter(0, [[0]]), ArgumentError, "None", "puts values"),
    "scatter dtype": (lambda: m.scatter_add(0, [[0]], [[1]]), DtypeError, "int64", "dtype"),
    "index_add": (lambda: m.index_add(0, [0, 1], v), ShapeError, "(3,)", "each slice"),
    "mask": (lambda: m.masked_select(m), DtypeError, "float32", "true or false"),
    "mm": (lambda: m.mm(v), ShapeError, "(2, 3), (3,)", "2, 2 axes"),
    "mm shapes": (lambda: m.mm(m), ShapeError, "(2, 3), (2, 3)", ""),
    "bmm": (lambda: m[None].bmm(m.T.expand(2, 3, 2)), ShapeError, "(1, 2, 3)", "do not pair"),
    "dot": (lambda: v.dot(m), ShapeError, "(3,), (2, 3)", "1, 1 axes"),
    "tensordot": (lambda: backstory.tensordot(m, m, 1), ShapeError, "dims=1", "lengths"),
    "einsum": (lambda: backstory.einsum("ij,jk", m, m), ShapeError, "ij,jk", "lengths 3 and 2"),
    "einsum terms": (lambda: backstory.einsum("ij", m, m), ArgumentError, "2 tensors", "names 1"),
    "einsum result": (lambda: backstory.einsum("ij->k", m), ArgumentError, "->k", "'k'"),
    "einsum axes": (lambda: backstory.einsum("i", m), ShapeError, "(2, 3)", "2 axes"),
    "inv": (lambda: m.inverse(), ShapeError, "(2, 3)", "square"),
    "inv singular": (lambda: backstory.inv(backstory.zeros(2, 2)), ArgumentError, "(2, 2)", "ingular"),
    "inv integers": (lambda: backstory.inv([[1]]), DtypeError, "int64", "not integers"),
    "solve": (lambda: backstory.solve(backstory.eye(2), backstory.ones(3, 1)), ShapeError, "(3, 1)", ""),
    "trace": (lambda: v.trace(), ShapeError, "(3,)", "2 axes"),
    "tril": (lambda: v.tril(), ShapeError, "(3,)", "two axes"),
    "diagonal": (lambda: m.diagonal(0, 1, 1), ShapeError, "(1, 1)", "twice"),
    "meshgrid": (lambda: backstory.meshgrid(m), ArgumentError, "(2, 3)", "vectors"),
    "from_numpy": (lambda: backstory.from_numpy([1]), ArgumentError, "list", "memory"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_refused_with_what_and_why(name):
    call, kind, what, why = REFUSED[name]
    with pytest.raises(BackstoryError) as caught:
        call()
    assert type(caught.value) is kind
    assert what in caught.value.what
    assert why in caught.value.why
    assert caught.value.instead


@pytest.mark.parametrize(
    "name", ["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"]
)
def test_every_dtype_has_its_name_and_creation_functions_make_it(name):
    dtype = getattr(backstory, name)
    assert str(dtype) == name
    for made in (
        backstory.zeros(2, dtype=dtype),
        backstory.ones_like(backstory.zeros(2), dtype=dtype),
        backstory.full((2,), 1, dtype=dtype),
        backstory.arange(2, dtype=dtype),
        backstory.eye(2, dtype=dtype),
        backstory.zeros(2).to(dtype),
        backstory.zeros(2).type_as(backstory.zeros(1, dtype=dtype)),
        backstory.zeros(1, dtype=dtype).new_ones(3),
        backstory.zeros(1, dtype=dtype).new_tensor([1]),
    ):
        assert made.dtype == dtype
