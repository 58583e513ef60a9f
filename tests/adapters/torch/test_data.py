"""The declared data in all its forms, and bad data."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from adapters.torch.slow import inputs, network, never, sgd, states_of
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from backstory.errors import ArgumentError, BackstoryError, RunError
from backstory.insight import watch


class Two(nn.Module):
    """Takes two tensors, by place or by name."""

    def __init__(self):
        super().__init__()
        self.body = network()[:2]

    def forward(self, x, shift=0.0):
        return self.body(x + shift)


class Items(Dataset):
    def __init__(self, make, count=40):
        self.make, self.count = make, count

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        return self.make(i)


class Endless(IterableDataset):
    def __iter__(self):
        yield from inputs()


def states(model, data, path):
    with watch(model, sgd(model), path, data=data, scan_at=never) as run:
        return states_of(run, run.sites[0].name)[0][1]


X = inputs()
S = torch.full((40, 1), -0.5, dtype=torch.float64)
FORMS = {
    "tensor": X,
    "tensor with a graph": X.clone().requires_grad_(),
    "array": X.numpy(),
    "lists": X.tolist(),
    "tuple of one": (X,),
    "dict": {"x": X},
    "dict of arrays": {"x": X.numpy()},
    "data set of tensors": Items(lambda i: X[i]),
    "data set of pairs": Items(lambda i: (X[i], i)),
    "data set of dicts": Items(lambda i: {"x": X[i], "label": i}),
    "TensorDataset": TensorDataset(X, torch.arange(40)),
    "loader": DataLoader(TensorDataset(X, torch.arange(40)), batch_size=7, shuffle=True),
    "loader that collates": DataLoader(
        Items(lambda i: i), collate_fn=lambda batch: {"x": X[list(batch)], "y": None}, batch_size=3
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_data_gives_the_same_states(form, tmp_path):
    torch.manual_seed(0)
    model = Two()
    with torch.no_grad():
        model.body[0].bias[:3] = torch.tensor([-900.0, 900.0, -1.0])
    z = X @ model.body[0].weight.T + model.body[0].bias
    expected = [2 if not (u > 0).any() else 1 if (u > 0).all() else 0 for u in z.unbind(1)]
    assert states(model, FORMS[form], tmp_path / "run") == expected


@pytest.mark.parametrize(
    "data",
    [(X, S), {"x": X, "shift": S}, Items(lambda i: {"x": X[i], "shift": S[i]})],
    ids=["tuple", "dict", "data set"],
)
def test_several_inputs_reach_the_model(data, tmp_path):
    model = Two()
    z = (X - 0.5) @ model.body[0].weight.T + model.body[0].bias
    expected = [2 if not (u > 0).any() else 1 if (u > 0).all() else 0 for u in z.unbind(1)]
    assert states(model, data, tmp_path / "run") == expected


def test_arrays_take_the_precision_of_the_model_and_indices_stay_whole(tmp_path):
    model = nn.Sequential(nn.Embedding(5, 3), nn.ReLU())
    assert len(states(model, np.arange(5)[:, None], tmp_path / "run")) == 3
    assert states(network(dtype=torch.float32), X.numpy(), tmp_path / "other")


def bad(x, at=(17, 30), value=float("nan")):
    x = x.clone()
    x[list(at), 2] = value
    return x


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("form", ["tensor", "array", "tuple", "dict", "data set", "data set of dicts"])
def test_data_that_is_not_finite_is_refused_by_its_sample(form, value, tmp_path):
    x = bad(X, value=value)
    data = {
        "tensor": x, "array": x.numpy(), "tuple": (x,), "dict": {"x": x},
        "data set": Items(lambda i: x[i]), "data set of dicts": Items(lambda i: {"x": x[i]}),
    }[form]  # fmt: skip
    model = Two()
    with pytest.raises(ArgumentError, match="2 samples, first in sample 17"):
        states(model, data, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert model.training


class Asserting(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = network()

    def forward(self, x):
        assert x.shape[1] == 5, "five features"
        return self.body(x)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (torch.zeros(0, 5), "there are none"),
        (torch.tensor(1.0), "there are none"),
        ({}, "there are none"),
        (Items(lambda i: X[i], 0), "there are none"),
        (DataLoader(Items(lambda i: X[i], 0)), "there are none"),
        ((X, X[:3]), "differ in the number of rows"),
        (Endless(), "Endless, which has no length"),
        (DataLoader(Endless()), "Endless, which has no length"),
        (torch.ones(4, 3, dtype=torch.float64), "the model raised AssertionError: five features"),
        (torch.ones(4, 5), "the model raised RuntimeError.*dtype"),
        (torch.ones(4, 5, dtype=torch.int64), "the model raised RuntimeError"),
        ({"z": X}, "unexpected keyword argument 'z'"),
        ((X, X), "the model raised TypeError"),
        ([["a"]], "it is no tensor"),
        (object(), "it is no tensor"),
        (None, "it is no tensor"),
        (Items(lambda i: {}[i]), "the model raised KeyError"),
    ],
    ids=["no rows", "no axes", "nothing", "empty data set", "empty loader", "unequal", "stream",
         "loader of a stream", "too few features", "float32", "integers", "unknown name", "too many",
         "text", "object", "None", "items that raise"],
)  # fmt: skip
def test_data_that_does_not_fit_is_refused_before_anything_is_written(data, said, tmp_path):
    model = Asserting()
    optimizer = sgd(model)
    with pytest.raises(BackstoryError, match=said):
        watch(model, optimizer, tmp_path / "run", data=data)
    assert not (tmp_path / "run").exists()
    assert model.training
    assert not model._forward_hooks
    assert not optimizer._optimizer_step_pre_hooks


def test_a_site_whose_units_differ_from_chunk_to_chunk_is_refused(tmp_path):
    class Positions(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(1, 1)

        def forward(self, x):
            return torch.relu(self.layer(x[:, : len(x)].unsqueeze(-1)).squeeze(-1))

    model = Positions()
    with pytest.raises(RunError, match=r"relu#0, which ran with 16 units and with 24"):
        watch(model, sgd(model), tmp_path / "run", data=torch.rand(40, 30))
