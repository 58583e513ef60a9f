"""Buffers, states, containers and the layers that only shape. Oracle: PyTorch."""

from __future__ import annotations

import copy
from collections import OrderedDict

import numpy as np
import pytest
import torch
from support import close

import backstory
from backstory import nn
from backstory.errors import ArgumentError, BoundsError, LabelError, ShapeError


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.register_buffer("count", backstory.tensor(0))
        self.register_buffer("scratch", backstory.zeros(2), persistent=False)
        self.register_buffer("none", None)


def test_buffers_are_state_and_no_parameters():
    net = nn.Sequential(Counting())
    assert [name for name, _ in net.named_buffers()] == ["0.count", "0.scratch"]
    assert list(net.state_dict()) == ["0.count", "0.layer.weight", "0.layer.bias"]
    assert len(list(net.parameters())) == 2
    net[0].count = backstory.tensor(5)
    assert net.state_dict()["0.count"].item() == 5
    assert copy.deepcopy(net).state_dict()["0.count"].item() == 5


def test_states_name_the_same_things_in_the_same_order_as_pytorch():
    mine = nn.Sequential(nn.Linear(2, 3), nn.PReLU(), nn.Sequential(nn.Linear(3, 1, bias=False)))
    theirs = torch.nn.Sequential(
        torch.nn.Linear(2, 3), torch.nn.PReLU(), torch.nn.Sequential(torch.nn.Linear(3, 1, bias=False))
    )
    assert list(mine.state_dict()) == list(theirs.state_dict())
    shared, twin = nn.Linear(2, 2), torch.nn.Linear(2, 2)
    assert list(nn.Sequential(shared, shared).state_dict()) == list(
        torch.nn.Sequential(twin, twin).state_dict()
    )


def test_loading_lists_everything_that_is_missing_unexpected_or_of_another_size():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    before = {name: x.numpy().copy() for name, x in net.state_dict().items()}
    state = {"0.weight": np.ones((3, 2)), "0.bias": np.ones(2), "extra": np.ones(1), "more": np.ones(1)}
    with pytest.raises(
        ShapeError,
        match=r"missing: 1.weight, 1.bias; unexpected: extra, more; sizes: 0.weight of shape \(3, 2\)",
    ):
        net.load_state_dict(state)
    for name, x in net.state_dict().items():
        np.testing.assert_array_equal(x.numpy(), before[name])
    del state["0.weight"]
    unmatched = net.load_state_dict(state, strict=False)
    assert unmatched.missing_keys == ["0.weight", "1.weight", "1.bias"]
    assert unmatched.unexpected_keys == ["extra", "more"]
    assert net[0].bias.tolist() == [1.0, 1.0]


def test_a_dtype_is_for_floats_alone():
    net = Counting().to(backstory.float64)
    assert net.layer.weight.dtype == net.scratch.dtype == backstory.float64
    assert net.count.dtype == backstory.int64
    assert net.float().layer.bias.dtype == backstory.float32
    assert net.half().layer.bias.dtype == backstory.float16
    with pytest.raises(ArgumentError, match="only floats"):
        net.to(backstory.int64)


def test_apply_visits_inner_modules_first_as_in_pytorch():
    seen, expected = [], []
    nn.Sequential(nn.Sequential(nn.ReLU()), nn.Tanh()).apply(lambda m: seen.append(type(m).__name__))
    torch.nn.Sequential(torch.nn.Sequential(torch.nn.ReLU()), torch.nn.Tanh()).apply(
        lambda m: expected.append(type(m).__name__)
    )
    assert seen == expected


def test_names_that_cannot_be_registered_are_refused():
    net = nn.Module()
    with pytest.raises(ArgumentError, match="without a point"):
        net.register_buffer("a.b", backstory.ones(1))
    with pytest.raises(ArgumentError, match="an attribute has that name"):
        net.add_module("forward", nn.ReLU())
    with pytest.raises(ArgumentError, match="an instance of a subclass"):
        net.add_module("layer", nn.ReLU)
    with pytest.raises(ArgumentError, match="no optimizer moves"):
        net.register_buffer("p", nn.Parameter(backstory.ones(1)))
    with pytest.raises(ArgumentError, match="no submodule 'b'"):
        nn.Sequential({"a": nn.ReLU()}).get_submodule("b")


def containers(lib):
    tensor = backstory.ones if lib is nn else torch.ones
    return lib.ModuleDict(
        {
            "list": lib.ModuleList([lib.Linear(2, 2), lib.ReLU()]),
            "named": lib.Sequential(OrderedDict(a=lib.Linear(2, 3))),
            "free": lib.ParameterList([tensor(2), tensor(3, 1)]),
        }
    )


def test_containers_name_their_parameters_as_pytorch():
    mine, theirs = containers(nn), containers(torch.nn)
    assert [n for n, _ in mine.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    assert [n for n, _ in mine.named_modules()] == [n for n, _ in theirs.named_modules()]
    assert "list" in mine
    assert list(mine) == list(mine.keys()) == ["list", "named", "free"]


def test_containers_behave_as_lists_and_dicts():
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Tanh())
    assert [type(m) for m in net[1:]] == [nn.ReLU, nn.Tanh]
    assert [type(m) for m in net] == [nn.Linear, nn.ReLU, nn.Tanh]
    net[1] = nn.Sigmoid()
    assert type(net[-2]) is nn.Sigmoid
    assert len(net.append(nn.ReLU())) == 4
    with pytest.raises(BoundsError, match="from -4 to 3"):
        net[4]
    names = nn.ModuleDict({"a": nn.ReLU()})
    names.update({"b": nn.Linear(1, 1)})
    del names["a"]
    assert dict(names.items()).keys() == {"b"}
    assert len(names) == 1
    with pytest.raises(NotImplementedError, match="defines no forward"):
        names(backstory.ones(1))


def test_a_residual_adds_its_input(rng):
    layer = nn.Linear(3, 3).double()
    x = backstory.tensor(rng.normal(size=(4, 3)), requires_grad=True)
    net = nn.Residual(layer, nn.ReLU())
    close(net(x).detach().numpy(), x.detach().numpy() + layer(x).relu().detach().numpy())
    wide = nn.Residual(nn.Linear(3, 5).double(), shortcut=nn.Linear(3, 5).double())
    assert wide(x).shape == (4, 5)
    with pytest.raises(ShapeError, match="shortcut"):
        nn.Residual(nn.Linear(3, 5).double())(x)


@pytest.mark.parametrize("padding", [None, 1, -1])
def test_an_embedding_equals_pytorch_in_values_gradient_and_padding(padding, rng):
    mine, theirs = nn.Embedding(4, 3, padding).double(), torch.nn.Embedding(4, 3, padding).double()
    assert repr(mine) == repr(theirs)
    if padding is not None:
        assert mine.weight.detach().numpy()[padding].tolist() == [0.0] * 3
    theirs.load_state_dict({"weight": torch.tensor(mine.weight.detach().numpy().copy())})
    index = rng.integers(0, 4, (5, 2))
    out, expected = mine(index), theirs(torch.tensor(index))
    close(out.detach().numpy(), expected.detach().numpy())
    upstream = rng.normal(size=out.shape)
    out.backward(upstream)
    expected.backward(torch.tensor(upstream))
    close(mine.weight.grad.numpy(), theirs.weight.grad.numpy())
    with pytest.raises(LabelError, match="numbered 0 to 3"):
        mine([4])


@pytest.mark.parametrize(
    ("name", "arguments", "shape"),
    [
        ("Identity", (3,), (2, 3)),
        ("Flatten", (), (2, 3, 4)),
        ("Flatten", (0, 1), (2, 3, 4)),
        ("Unflatten", (1, (2, 3)), (4, 6)),
    ],
)
def test_shaping_layers_equal_pytorch(name, arguments, shape):
    mine, theirs = getattr(nn, name)(*arguments), getattr(torch.nn, name)(*arguments)
    assert mine(backstory.ones(*shape)).shape == tuple(theirs(torch.ones(shape)).shape)
    assert repr(mine) == repr(theirs)


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_similarity_distance_and_normalising_equal_pytorch(dim, rng):
    data = [rng.normal(size=(4, 3)) for _ in range(2)]
    for name, keywords, count in (
        ("cosine_similarity", {"dim": dim}, 2),
        ("normalize", {"dim": dim, "p": 1.5}, 1),
        ("pairwise_distance", {"p": 3.0, "keepdim": True}, 2),
    ):
        mine = [backstory.tensor(x, requires_grad=True) for x in data[:count]]
        theirs = [torch.tensor(x, requires_grad=True) for x in data[:count]]
        out = getattr(nn.functional, name)(*mine, **keywords)
        expected = getattr(torch.nn.functional, name)(*theirs, **keywords)
        close(out.detach().numpy(), expected.detach().numpy())
        out.sum().backward()
        expected.sum().backward()
        for x, y in zip(mine, theirs, strict=True):
            close(x.grad.numpy(), y.grad.numpy(), atol=1e-12)


def test_one_hot_equals_pytorch():
    index = [[0, 2], [1, 2]]
    for classes in (-1, 5):
        expected = torch.nn.functional.one_hot(torch.tensor(index), classes).numpy()
        close(nn.functional.one_hot(index, classes).numpy(), expected)
    with pytest.raises(LabelError, match="larger num_classes"):
        nn.functional.one_hot([3], 2)
