"""Chains: which units are divided together, and that what they leave behind is the same to the last bit."""

from __future__ import annotations

import numpy as np
import pytest

from backstory.compiler import chain, program
from backstory.compiler.chain import WHOLE, bands, lane
from backstory.compiler.graph import Graph, Value
from backstory.compiler.program import Native

from .building import Building, linear
from .test_native import agree, run, sample


@pytest.fixture
def divided(monkeypatch):
    """Chains of whatever little work, on three threads; returns how to change their number."""

    def on(threads: int) -> None:
        monkeypatch.setattr(program, "threads", lambda: threads)

    monkeypatch.setattr(chain, "LEAST", 0.0)
    on(3)
    return on


def layers(depth: int = 3) -> Graph:
    """max(x Wᵀ + b, 0) again and again."""
    b = Building()
    x = b.input((32, 24))
    for _ in range(depth):
        x = b("maximum", linear(b, x, b.input((24, 24)), b.input((24,))), 0.0)
    b.output(x)
    return b.graph


def normalised(b: Building, x: Value) -> Value:
    """Columns of x with mean 0 and variance 1; the means go out."""
    rows = float(x.shape[0])
    mean = b("divide", b("sum", x, axis=(0,), keepdims=True), rows)
    b.output(mean)
    away = b("subtract", x, mean)
    variance = b("divide", b("sum", b("multiply", away, away), axis=(0,), keepdims=True), rows)
    return b("divide", away, b("sqrt", b("add", variance, 1e-5)))


def normalisation() -> Graph:
    """A product, its normalisation, a step count beside it, and another product."""
    b = Building()
    x, w, v, steps = b.input((32, 24)), b.input((24, 40)), b.input((40, 24)), b.input((), "i8", kind="state")
    y = normalised(b, b("matmul", x, w))
    b.output(b("add", steps, 1), into=steps)
    b.output(b("matmul", b("maximum", y, 0.0), v))
    return b.graph


def biased() -> Graph:
    """A layer with its bias, the normalisation of what it gives, and a new bias."""
    b = Building()
    x, w, bias = b.input((32, 24)), b.input((40, 24)), b.input((40,), kind="state")
    y = b("maximum", linear(b, x, w, bias), 0.0)
    b.output(normalised(b, y))
    b.output(b("subtract", bias, b("max", y, axis=(0,))), into=bias)
    return b.graph


def gradients() -> Graph:
    """A gradient behind a gate, the bias's and the weight's, and the weight's update."""
    b = Building()
    x, h, g, w = b.input((32, 24)), b.input((32, 40)), b.input((32, 40)), b.input((40, 24), kind="state")
    gated = b("where", b("less", 0.0, h), g, 0.0)
    b.output(b("sum", gated, axis=(0,)))
    gradient = b("matmul", b("permute_dims", gated, axes=(1, 0)), x)
    b.output(gradient)
    b.output(b("subtract", w, b("multiply", gradient, 0.5)), into=w)
    return b.graph


def softmax() -> Graph:
    """Rows of scores, their softmax, and its product with values."""
    b = Building()
    q, k, v = (b.input((32, 24)) for _ in range(3))
    scores = b("matmul", q, b("permute_dims", k, axes=(1, 0)))
    raised = b("exp", b("subtract", scores, b("max", scores, axis=(1,), keepdims=True)))
    b.output(b("matmul", b("divide", raised, b("sum", raised, axis=(1,), keepdims=True)), v))
    return b.graph


GRAPHS = {
    "layers": layers,
    "normalisation": normalisation,
    "biased": biased,
    "gradients": gradients,
    "softmax": softmax,
}


def found(native: Native) -> list[list[tuple[str, int]]]:
    """The kinds of the units of each chain, and which loop is cut."""
    return [
        [(unit.kind, cut.loop) for unit, cut in zip(c.units, c.cuts, strict=True)]
        for c in native.design.chains
    ]


@pytest.mark.parametrize("graph", list(GRAPHS.values()), ids=list(GRAPHS))
def test_chains_leave_behind_the_same_bits_on_any_number_of_threads(graph, divided):
    graph = graph()
    inputs = [sample(x.value.shape, x.value.dtype, i) for i, x in enumerate(graph.inputs)]
    divided(1)
    native = Native(graph)
    assert not native.design.chains
    alone = run(native, inputs, [])
    for threads in (2, 3, 5):
        divided(threads)
        native = agree(graph, rtol=1e-4, atol=1e-5)
        assert native.design.chains
        for _ in range(20):
            for got, wanted in zip(run(native, inputs, []), alone, strict=True):
                np.testing.assert_array_equal(got, wanted)


def test_rows_of_a_batch_go_through_all_layers_without_waiting(divided):
    native = Native(layers())
    assert found(native) == [[("product", 0)] * 3]
    assert "divided among the threads, which meet behind units 1–3" in str(native.explain())


def test_columns_go_through_a_normalisation_and_its_statistics_and_what_is_small_is_done_once(divided):
    (first,) = found(Native(normalisation()))
    assert first[0] == ("product", 1)
    assert ("loops", WHOLE) in first
    # The last product needs whole rows.
    assert len(first) == len(Native(normalisation()).design.units) - 1


def test_a_bias_belongs_to_its_column(divided):
    (only,) = found(Native(biased()))
    assert only[0] == ("product", 1)
    assert ("product", 0) not in only


def test_rows_of_a_weight_are_columns_of_the_gradient_that_makes_its_own(divided):
    (only,) = found(Native(gradients()))
    assert [kind for kind, _ in only] == ["loops", "product", "loops"]
    assert only[1:] == [("product", 0), ("loops", 0)]


def test_attention_goes_row_by_row(divided):
    (only,) = found(Native(softmax()))
    assert {loop for _, loop in only} == {0}


def test_little_work_is_not_divided(divided, monkeypatch):
    monkeypatch.setattr(chain, "LEAST", 1e6)
    assert not Native(layers()).design.chains


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
@pytest.mark.parametrize("lanes", [7, 32, 100, 256, 1000])
def test_bands_cover_all_lanes_once(lanes, parts):
    starts, lengths = zip(*bands(lanes, parts), strict=True)
    assert starts == tuple(np.cumsum([0, *lengths])[:-1])
    assert sum(lengths) == lanes
    assert min(lengths) > 0


def test_lanes_that_overlap_are_none():
    assert lane(0, 16, 8, [(4, 4)]) == (16, 8)
    assert lane(4, 16, 8, [(3, 4)]) == (16, 8)
    assert lane(4, 16, 8, [(5, 4)]) is None, "the last lane would reach into the first of the next place"
    assert lane(0, -16, 8, []) is None
    assert lane(0, 0, 8, [(4, 4)]) is None
