"""What a program depends on is asked at once: every change is found, in whichever call it comes."""

from __future__ import annotations

import copy
import weakref
from types import CellType

import numpy as np
import pytest
from compiler.steps import BUILDERS, alike

import backstory
from backstory import nn, optim
from backstory.compiler import sentinel as places
from backstory.compiler.sentinel import Sentinel

SCALE = backstory.tensor(2.0, dtype=backstory.float64)
PLACES = {
    "array": lambda x, names, items, cell: setattr(x, "array", np.ones(2)),
    "gradient": lambda x, names, items, cell: setattr(x, "_grad", backstory.ones(2)),
    "another entry": lambda x, names, items, cell: names.update(b=3),
    "entry": lambda x, names, items, cell: names.update(a=3),
    "entry that was not there": lambda x, names, items, cell: names.update(c=3),
    "entry that is gone": lambda x, names, items, cell: names.pop("a"),
    "item": lambda x, names, items, cell: items.insert(0, None),
    "item that was not there": lambda x, names, items, cell: items.append(None),
    "items that are gone": lambda x, names, items, cell: items.clear(),
    "enclosing variable": lambda x, names, items, cell: setattr(cell, "cell_contents", 2),
    "holder": lambda x, names, items, cell: cell.cell_contents.append(x),
    "holder of its array": lambda x, names, items, cell: cell.cell_contents.append(x.array),
}


@pytest.mark.parametrize("change", PLACES)
def test_it_holds_until_another_object_is_in_a_place(change):
    x, names, items, cell = backstory.ones(2), {"a": 1, "b": 2}, [object(), object()], CellType([])
    sentinel = Sentinel()
    sentinel.slot(x, "array")
    sentinel.slot(x, "_grad")
    sentinel.cell(cell)
    for key in ("a", "c"):
        sentinel.entry(names, key)
    for i in range(3):
        sentinel.item(items, i)
    row = sentinel.held()
    sentinel.seal()
    sentinel.hold(row, x)
    assert not sentinel.holds()
    sentinel.note()
    sentinel.confirm()
    assert sentinel.holds()
    PLACES[change](x, names, items, cell)
    assert sentinel.holds() is (change == "another entry")
    sentinel.hold(row, x)
    sentinel.note()
    assert sentinel.holds()
    sentinel.doubt()
    assert not sentinel.holds()


def with_other_array(model, optimizer, held):
    model[0].weight.array = np.ones((4, 3))


def with_one_written_to(model, optimizer, held):
    model[0].weight.data.mul_(0.5)


def with_other_parameter(model, optimizer, held):
    model[2].bias = nn.Parameter(backstory.ones(1, dtype=np.float64))


def with_other_buffer(model, optimizer, held):
    optimizer.state[model[0].bias]["momentum_buffer"] = np.full(4, 0.25)


def with_other_state(model, optimizer, held):
    optimizer.state[model[0].bias] = copy.deepcopy(optimizer.state[model[0].bias])
    optimizer.state[model[0].bias]["momentum_buffer"] += 1


def with_other_states(model, optimizer, held):
    optimizer.state = copy.copy(optimizer.state)
    with_other_state(model, optimizer, held)


def with_other_counts(model, optimizer, held):
    for state in optimizer.state.values():
        state["step"] = 100


def with_loaded_state(model, optimizer, held):
    optimizer.load_state_dict(optimizer.state_dict())
    with_other_buffer(model, optimizer, held)


def with_other_groups(model, optimizer, held):
    optimizer.param_groups = [{**group, "lr": 0.5} for group in optimizer.param_groups]


def with_other_group(model, optimizer, held):
    optimizer.param_groups[0] = {**optimizer.param_groups[0], "lr": 0.5}


def with_other_member(model, optimizer, held):
    group, spare = optimizer.param_groups[0]["params"], nn.Parameter(backstory.ones(4, dtype=np.float64))
    optimizer.state[spare] = optimizer.state[group[1]]
    group[1] = spare


def with_equal_member(model, optimizer, held):
    group = optimizer.param_groups[0]["params"]
    spare = nn.Parameter(group[3].detach().clone())
    optimizer.state[spare] = optimizer.state[group[3]]
    group[3] = spare


def with_fewer_members(model, optimizer, held):
    optimizer.param_groups[0]["params"].pop(0)


def with_other_rate(model, optimizer, held):
    optimizer.param_groups[0]["lr"] = 0.5


def with_other_scale(model, optimizer, held):
    globals()["SCALE"] = SCALE * 2


def with_evaluation(model, optimizer, held):
    model.eval()


def with_a_hook(model, optimizer, held):
    model[0].register_forward_hook(lambda module, given, result: result * 2)


def with_frozen_parameter(model, optimizer, held):
    model[0].bias.requires_grad_(False)


def without_gradients(model, optimizer, held):
    optimizer.zero_grad()


def with_other_gradient(model, optimizer, held):
    model[0].weight.grad = backstory.ones(4, 3, dtype=np.float64)


def with_other_memory_of_a_gradient(model, optimizer, held):
    model[0].weight.grad.array = np.ones((4, 3))


def with_held_gradient(model, optimizer, held):
    held.append(model[0].weight.grad)


def with_held_memory(model, optimizer, held):
    held.append(model[0].weight.grad.detach())


def with_traded_gradient(model, optimizer, held):
    held.append(model[0].weight.grad)
    model[0].weight.grad = None


CHANGES = [x for name, x in list(globals().items()) if name.startswith("with")]


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize("how", ["once", "in every call"])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_what_changes_after_some_calls_is_found(change, how, builder, monkeypatch):
    monkeypatch.setitem(globals(), "SCALE", SCALE)
    check(change, how, builder, monkeypatch)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_it_is_found_also_where_memory_cannot_be_read(change, monkeypatch):
    monkeypatch.setattr(places, "readable", lambda: False)
    check(change, "once", "replay", monkeypatch)


def check(change, how, builder, monkeypatch):
    before = SCALE

    def make():
        monkeypatch.setitem(globals(), "SCALE", before)
        model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1)).double()
        optimizer, held = optim.SGD(model.parameters(), lr=0.1, momentum=0.9), []

        def step(x):
            optimizer.zero_grad()
            loss = (model(x) ** 2).mean() * SCALE
            loss.backward()
            optimizer.step()
            return loss

        return step, [model, optimizer, held]

    def between(number, state):
        if number == 4 or (number > 4 and how == "in every call" and change is not with_fewer_members):
            change(*state)

    x = backstory.randn(5, 3, dtype=np.float64)
    alike(make, [(x,)] * 8, BUILDERS[builder], misses=None, between=between)


def test_what_was_replaced_is_not_kept_alive():
    w = nn.Parameter(backstory.ones(3))
    optimizer = optim.SGD([w], lr=0.1, momentum=0.9)

    def step(x):
        optimizer.zero_grad()
        (w * x).sum().backward()
        optimizer.step()

    run, x = backstory.compile(step), backstory.ones(3)
    for _ in range(4):
        run(x)
    old = weakref.ref(optimizer.state[w]["momentum_buffer"])
    step(x)
    run(x)
    assert old() is None
