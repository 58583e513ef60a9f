"""What dead, linear and born dead mean, and what sites are called."""

from __future__ import annotations

import numpy as np
import pytest
from insight.trainings import network, step_once

import backstory
from backstory import nn, optim
from backstory.insight import watch
from backstory.insight.lifetable import events_between
from backstory.insight.scan import CHUNK, DEAD, LINEAR, local_derivative, scan


def hidden(weights, biases, act):
    """A hidden layer of given weights (units, 1) behind ``act``, and a sum."""
    layer = nn.Linear(1, len(biases), dtype=backstory.float64)
    layer.load_state_dict({"weight": np.reshape(weights, (-1, 1)), "bias": biases})
    return nn.Sequential(layer, act, nn.Linear(len(biases), 1, dtype=backstory.float64))


def column(*values):
    return np.array(values, np.float64).reshape(-1, 1)


def life(model, data, path):
    """The one site's life, without any training."""
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, path, data=data) as run:
        return run.life_table().sites[0]


def test_a_unit_is_dead_when_it_is_closed_for_every_sample_and_for_no_fewer(tmp_path):
    model = hidden([1.0, 1.0, 1.0], [-2.0, -3.0, 0.0], nn.ReLU())
    found = life(model, column(1.0, 2.5, 0.5), tmp_path / "run")
    assert (found.dead, found.linear, found.born_dead) == ((1,), (2,), 1)


def test_the_one_sample_that_keeps_a_unit_alive_is_found_in_whatever_chunk(tmp_path):
    for place in (0, CHUNK - 1, CHUNK, 3 * CHUNK):
        data = -np.ones((3 * CHUNK + 1, 1))
        model = hidden([1.0], [0.0], nn.ReLU())
        assert life(model, data, tmp_path / f"dead{place}").dead == (0,)
        data[place] = 1e-12
        assert life(model, data, tmp_path / f"alive{place}").dead == ()
        assert scan(model, backstory.as_tensor(data), peaks=True)["1/relu#0"].sample == [place]


def test_a_leaky_unit_that_is_negative_everywhere_is_linear_and_not_dead(tmp_path):
    model = hidden([1.0, 1.0, 1.0], [-9.0, 9.0, 0.0], nn.LeakyReLU())
    found = life(model, column(-1.0, 1.0), tmp_path / "run")
    assert (found.dead, found.linear) == ((), (0, 1))
    dead = life(hidden([1.0], [-9.0], nn.LeakyReLU(0.0)), column(-1.0, 1.0), tmp_path / "slope 0")
    assert dead.dead == (0,)


@pytest.mark.parametrize(("at_zero", "dead", "linear"), [(0.0, (0,), ()), (0.5, (), (0,)), (1.0, (), (0,))])
def test_a_pre_activation_of_exactly_zero_follows_the_choice(at_zero, dead, linear, tmp_path):
    model = hidden([0.0, 1.0], [0.0, 0.0], nn.ReLU(at_zero=at_zero))
    found = life(model, column(-1.0, 1.0), tmp_path / "run")
    assert (found.dead, found.linear) == (dead, linear)


def test_the_choice_made_around_the_forward_pass_alone_counts_in_scans_too(tmp_path):
    model = hidden([0.0], [0.0], nn.ReLU())
    model[2].weight.detach().zero_()  # so that the hidden layer never moves
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, tmp_path / "run", data=column(1.0), scan_at=lambda step: True) as run:
        assert run.life_table().dead == 1
        with backstory.relu_derivative_at_zero(1.0):
            loss = model(backstory.as_tensor(column(1.0))).sum()
        loss.backward()
        optimizer.step()
        assert run.life_table().dead == 0


def test_born_dead_is_before_the_first_update_and_nothing_later():
    closed = np.array([DEAD, LINEAR], np.uint8)
    assert list(events_between(None, closed, 0)) == [(0, "born dead")]
    assert list(events_between(None, closed, 5)) == [(0, "died")]
    assert list(events_between(closed, closed[::-1], 6)) == [(0, "revived"), (1, "died")]


def test_death_is_never_decided_on_a_batch(tmp_path):
    """Every batch closes the unit; only a sample that no batch holds opens it."""
    model = hidden([1.0], [0.0], nn.ReLU())
    optimizer = optim.SGD(model.parameters(), lr=0.0)
    with watch(model, optimizer, tmp_path / "run", data=column(-1.0, 1.0), scan_at=lambda step: True) as run:
        for _ in range(3):
            step_once(model, optimizer, column(-1.0, -2.0))
        assert run.gates("1/relu#0")[1].tolist() == [[0.0]] * 3
        table = run.life_table()
    assert (table.dead, table.events) == (0, ())


def test_the_largest_pre_activation_belongs_to_its_sample_also_behind_more_axes():
    class Model(nn.Module):
        def forward(self, x):
            return backstory.relu(x).sum()

    data = -np.ones((5, 4, 2))
    data[3, 1, 0] = data[1, 3, 1] = 7.0
    found = scan(Model(), backstory.as_tensor(data), peaks=True)["relu#0"]
    assert found.sample.tolist() == [3, 1]
    assert found.peak.tolist() == [7.0, 7.0]


def test_a_local_derivative_is_that_of_the_operation():
    x = backstory.tensor([[-1.0, 2.0]])
    for op, params in [("relu", {}), ("leaky_relu", {"negative_slope": 0.25})]:
        record = backstory.ops.TABLE[op]
        result = getattr(backstory, op)(x, **params)
        expected = [[0.0 if op == "relu" else 0.25, 1.0]]
        assert local_derivative(record, (x,), result, params).astype(float).tolist() == expected


# Sites


class Block(nn.Module):
    """Functional and method calls, a reused module, and a module inside a module."""

    def __init__(self):
        super().__init__()
        self.act = nn.ReLU()
        self.inner = nn.Sequential(nn.Linear(4, 4), nn.ReLU())

    def forward(self, x):
        x = self.act(backstory.relu(x) + 1.0)
        x = self.inner(x).relu()
        return self.act(nn.functional.leaky_relu(x))


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), Block())
        self.head = nn.Linear(4, 1)

    def forward(self, x):
        return self.head(backstory.relu(self.encoder(x)))


def test_sites_are_named_by_where_the_call_runs_and_its_number_there():
    x = backstory.rand(6, 3)
    assert list(scan(Nested(), x)) == [
        "encoder.1/relu#0",
        "encoder.2/relu#0",
        "encoder.2.act/relu#0",
        "encoder.2.inner.1/relu#0",
        "encoder.2/relu#1",
        "encoder.2/leaky_relu#0",
        "encoder.2.act/relu#1",
        "relu#0",
    ]


def test_every_forward_pass_counts_calls_anew(tmp_path):
    model = Nested()
    optimizer = optim.SGD(model.parameters(), lr=0.01)
    x = np.random.default_rng(0).random((6, 3)).astype(np.float32)
    with watch(model, optimizer, tmp_path / "run", data=x) as run:
        names = [site.name for site in run.sites]
        for _ in range(3):
            step_once(model, optimizer, x)
        assert [site.name for site in run.sites] == names
        for name in names:
            steps, shares = run.gates(name)
            assert steps.tolist() == [1, 2, 3]
            assert shares.shape == (3, 4)


def test_one_module_under_two_names_is_one_place():
    shared = nn.ReLU()
    model = nn.Sequential(nn.Linear(3, 3), shared, nn.Linear(3, 3), shared)
    assert list(scan(model, backstory.rand(2, 3))) == ["1/relu#0", "1/relu#1"]


def test_a_module_that_is_no_submodule_counts_where_it_is_called():
    foreign = nn.Sequential(nn.ReLU())

    class Model(nn.Module):
        def forward(self, x):
            return [foreign][0](x)

    assert list(scan(Model(), backstory.rand(2, 3))) == ["relu#0"]


def test_a_site_that_runs_only_later_did_not_die_before(tmp_path):
    class Late(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.late = nn.Linear(2, 2), False

        def forward(self, x):
            out = backstory.relu(self.layer(x))
            return backstory.relu(out - 100.0) + out if self.late else out

    model = Late()
    optimizer = optim.SGD(model.parameters(), lr=0.0)
    x = np.ones((3, 2), np.float32)
    with watch(model, optimizer, tmp_path / "run", data=x, scan_at=lambda step: True) as run:
        step_once(model, optimizer, x)
        model.late = True
        step_once(model, optimizer, x)
        late = [event for event in run.life_table().events if event.site == "relu#1"]
    assert {(event.kind, event.step, event.after) for event in late} == {("died", 2, 0)}


def test_a_network_of_one_value_is_one_unit(tmp_path):
    class Scalar(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 1)

        def forward(self, x):
            return backstory.relu(self.layer(x).sum())

    model = Scalar()
    optimizer = optim.SGD(model.parameters(), lr=0.01)
    with watch(model, optimizer, tmp_path / "run", data=np.ones((3, 2), np.float32)) as run:
        model(backstory.ones(3, 2)).backward()
        optimizer.step()
        assert [site.units for site in run.sites] == [1]
        assert run.gates("relu#0")[1].shape == (1, 1)


def test_the_life_table_of_a_small_network_reads_as_told(tmp_path):
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=0.01)
    with watch(model, optimizer, tmp_path / "run", data=np.ones((3, 5))) as run:
        table = run.life_table()
    text = str(table)
    assert text.count("\n") == 2
    assert "run.audit() makes them exact" in text
    assert table.units == 16
    assert table.fatal_step is None
