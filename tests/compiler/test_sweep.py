"""Nests that run side by side: which they are, how they are divided, and what they leave behind."""

import numpy as np
import pytest

from backstory.compiler import program
from backstory.compiler.design import Design
from backstory.compiler.program import Native
from backstory.compiler.sweep import divided, sweeps

from .building import Building, classifier_step, regression_step
from .test_native import agree, run, sample

SIZES = ((300, 400), (128,), (256, 256), (7,), (250, 100))


def update(sizes=SIZES, dependent=False):
    """p ← p − 0.5·g for parameters of different sizes, and the sum of all squares of each g."""
    b = Building()
    factor = -0.5
    for shape in sizes:
        p, g = b.input(shape, kind="state"), b.input(shape)
        change = b("multiply", g, factor)
        b.output(b("add", p, change), into=p)
        squares = b("astype", g, dtype="f8")
        whole = b("sum", b("multiply", squares, squares))
        b.output(whole)
        factor = b("astype", whole, dtype="f4") if dependent else factor
    return b.graph


def units_and_plan(graph):
    design = Design(graph, 1)
    return design.units, design.nests, design.plan


@pytest.mark.parametrize("dependent", [False, True], ids=["apart", "one after the other"])
@pytest.mark.parametrize("threads", ["1", "2", "3"])
def test_updates_with_their_norms_are_the_same_on_any_number_of_threads(monkeypatch, threads, dependent):
    monkeypatch.setenv("BACKSTORY_NUM_THREADS", threads)
    agree(update(dependent=dependent), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "graph",
    [
        update(),
        update(dependent=True),
        classifier_step([20, 30, 10], 2000),
        regression_step([8, 30, 1], 20_000),
    ],
    ids=["updates", "one after the other", "classifier", "regression"],
)
def test_totals_are_the_same_to_the_last_bit_on_any_number_of_threads(monkeypatch, graph):
    inputs = [sample(x.value.shape, x.value.dtype, i) for i, x in enumerate(graph.inputs)]
    numbers = [0.1 for _ in graph.numbers]
    left = []
    for threads in (1, 2, 3, 8):
        monkeypatch.setattr(program, "threads", lambda n=threads: n)
        left.append(run(Native(graph), inputs, numbers))
    for other in left[1:]:
        for got, wanted in zip(other, left[0], strict=True):
            assert np.array_equal(got, wanted, equal_nan=True)


def test_updates_of_all_parameters_are_one_entry_whose_parts_cover_each_nest_once():
    order, nests, plan = units_and_plan(update())
    assert sweeps(order, nests, plan) == [order]
    (parts,) = divided(order, nests, plan, 4)
    for unit in order:
        own = sorted((p for p in parts if p.unit is unit), key=lambda p: p.place)
        ends = [p.start + p.length for p in own]
        assert [p.start for p in own] == [0, *ends[:-1]]
        assert ends[-1] == nests[unit].size(nests[unit].loops[0])
        assert [(p.place, p.among) for p in own] == [(i, len(own)) for i in range(len(own))]
    totals = [p for p in parts if nests[p.unit].totals and p.among > 1]
    assert totals, "no nest that adds up was divided"


def test_small_updates_and_one_thread_take_the_nests_one_by_one():
    order, nests, plan = units_and_plan(update())
    entries = divided(order, nests, plan, 1)
    assert [{part.unit for part in entry} for entry in entries] == [{unit} for unit in order]
    assert {len(entry) for entry in entries if not nests[entry[0].unit].totals} == {1}
    order, nests, plan = units_and_plan(update(((8,), (3, 4))))
    assert [len(entry) for entry in divided(order, nests, plan, 2)] == [1] * len(order)


@pytest.mark.parametrize(("function", "among"), [("erf", 2), ("abs", 1)])
def test_functions_that_take_long_are_divided_sooner(function, among):
    b = Building()
    b.output(b(function, b.input((10_000,))))
    order, nests, plan = units_and_plan(b.graph)
    (parts,) = divided(order, nests, plan, 2)
    assert len(parts) == among


def test_nests_that_need_each_other_run_one_after_the_other():
    order, nests, plan = units_and_plan(update(dependent=True))
    # Each update needs the total that the one before it is beside.
    assert len(sweeps(order, nests, plan)) == len(SIZES)


def test_memory_that_is_used_again_is_not_shared_by_nests_side_by_side():
    b = Building()
    x, w = b.input((64, 64)), b.input((64, 64))
    for _ in range(3):
        x = b("matmul", b("exp", x), w)
    b.output(b("sum", x, axis=(0,)))
    order, nests, plan = units_and_plan(b.graph)
    for group in sweeps(order, nests, plan):
        assert len(group) == 1
