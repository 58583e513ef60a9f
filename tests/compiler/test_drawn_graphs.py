"""Graphs drawn at random: native code must leave behind exactly what the reference does.

Entries are small integers in float64, and every product is clipped, so that sums are exact in any order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from backstory.compiler import chain, program, table
from backstory.compiler.graph import Graph, Value, verify
from backstory.compiler.passes import RULES
from backstory.compiler.passes.rewriting import rewritten
from backstory.compiler.program import Native
from backstory.compiler.replay import Replay
from backstory.compiler.table import Table
from backstory.compiler.workers import Pool

from .building import Building
from .test_native import run

N, M = 3, 4
SHAPES = [(), (N,), (M,), (N, M), (M, N), (N, N), (N, 1), (1, M), (2, N, M)]
BINARY = ["add", "subtract", "maximum", "minimum", "multiply", "less", "equal"]
UNARY = ["negative", "abs", "sign", "copy"]


def numeric(b: Building, x: Value) -> Value:
    """Truth as a number."""
    return b("astype", x, dtype="f8") if x.dtype == bool else x


class Drawing:
    """Draws one value after the other, of those drawn before."""

    def __init__(self, draw: Any) -> None:
        self.draw, self.b = draw, Building()
        shapes = draw(st.lists(st.sampled_from(SHAPES), min_size=2, max_size=4))
        kinds = [draw(st.sampled_from(["argument", "state"])) for _ in shapes]
        self.pool = [self.b.input(shape, "f8", kind) for shape, kind in zip(shapes, kinds, strict=True)]
        self.pool.append(self.b.constant(np.arange(float(M))))

    def pick(self) -> Value:
        return self.draw(st.sampled_from(self.pool))

    def step(self) -> None:
        made = self.draw(st.sampled_from(self.STEPS))(self)
        if made.size <= 200 and len(made.shape) <= 4:
            self.pool.append(made)

    def binary(self) -> Value:
        x, y = numeric(self.b, self.pick()), numeric(self.b, self.pick())
        try:
            np.broadcast_shapes(x.shape, y.shape)
        except ValueError:
            y = self.b("sum", y)
        z = self.b(self.draw(st.sampled_from(BINARY)), x, y)
        return self.clipped(z)

    def clipped(self, x: Value) -> Value:
        if x.dtype == bool:
            return x
        return self.b("maximum", self.b("minimum", x, 8.0), -8.0)

    def with_number(self) -> Value:
        x = numeric(self.b, self.pick())
        number = self.draw(st.sampled_from([0, 1.0, -0.0, -1, 2.0, 3.0]))
        pair = (x, number) if self.draw(st.booleans()) else (number, x)
        return self.clipped(self.b(self.draw(st.sampled_from(BINARY)), *pair))

    def unary(self) -> Value:
        return self.b(self.draw(st.sampled_from(UNARY)), numeric(self.b, self.pick()))

    def dear(self) -> Value:
        """What is not computed twice lightly."""
        return self.b("floor", self.b("divide", numeric(self.b, self.pick()), 2.0))

    def whole(self) -> Value:
        """What a sum of everything gives back to the entries."""
        x = numeric(self.b, self.pick())
        y = self.b("sum", self.b("max", x, axis=tuple(range(1, len(x.shape)))))
        return self.clipped(self.b("multiply", x, y))

    def choice(self) -> Value:
        x, y = numeric(self.b, self.pick()), numeric(self.b, self.pick())
        condition = self.b("less", x, 1.0)
        try:
            np.broadcast_shapes(x.shape, y.shape)
        except ValueError:
            return self.b("where", condition, x, 0.0)
        return self.b("where", condition, x, y)

    def reduction(self) -> Value:
        x = numeric(self.b, self.pick())
        axes = tuple(i for i in range(len(x.shape)) if self.draw(st.booleans()))
        name = self.draw(st.sampled_from(["sum", "max", "min"]))
        return self.clipped(self.b(name, x, axis=axes, keepdims=self.draw(st.booleans())))

    def centred(self) -> Value:
        """What a row or column has beyond its largest entry: the pattern of normalisations."""
        x = numeric(self.b, self.pick())
        if not x.shape:
            return x
        axis = self.draw(st.integers(0, len(x.shape) - 1))
        return self.clipped(self.b("subtract", x, self.b("max", x, axis=(axis,), keepdims=True)))

    def reshape(self) -> Value:
        x = self.pick()
        count = x.size
        shapes = [(count,), (1, count), (*x.shape, 1), (1, *x.shape)]
        shapes += [(n, count // n) for n in (2, N, M) if count % n == 0]
        return self.b("reshape", x, shape=self.draw(st.sampled_from(shapes)))

    def permute(self) -> Value:
        x = self.pick()
        axes = tuple(self.draw(st.permutations(range(len(x.shape)))))
        return self.b("permute_dims", x, axes=axes) if axes else x

    def broadcast(self) -> Value:
        x = self.pick()
        return self.b("broadcast_to", x, shape=(self.draw(st.sampled_from([1, 2])), *x.shape))

    def part(self) -> Value:
        x = self.pick()
        index = [
            self.draw(st.sampled_from([slice(None), slice(None, None, -1), slice(0, 2), 0, -1]))
            for _ in x.shape
        ]
        return self.b("getitem", x, index=tuple(index)) if index else x

    def product(self) -> Value:
        matrices = [x for x in self.pool if len(x.shape) == 2]
        if not matrices:
            return self.unary()
        x = numeric(self.b, self.draw(st.sampled_from(matrices)))
        y = numeric(self.b, self.draw(st.sampled_from(matrices)))
        if x.shape[1] != y.shape[0]:
            y = self.b("permute_dims", x, axes=(1, 0))
        return self.clipped(self.b("matmul", x, y))

    def host(self) -> Value:
        x = numeric(self.b, self.pick())
        return self.b("cumulative_sum", x, axis=0) if len(x.shape) == 1 else x

    STEPS = (binary, binary, binary, with_number, unary, choice, reduction, reduction, centred, reshape)
    STEPS = (*STEPS, permute, broadcast, part, product, host, dear, dear, whole)

    def finish(self) -> Graph:
        """Some values go out, some of them into inputs that they fit."""
        free = list(self.b.inputs)
        late = self.pool[len(self.pool) // 2 :]
        for value in self.draw(st.lists(st.sampled_from(late), min_size=2, max_size=6)):
            fits = [x for x in free if x.value.shape == value.shape and x.value.dtype == value.dtype]
            target = self.draw(st.sampled_from([None, *fits]))
            if target is not None:
                free.remove(target)
            self.b.output(value, None if target is None else target.value)
        return self.b.graph


@st.composite
def graphs(draw: Any, least: int = 4, most: int = 24) -> Graph:
    """Whole graphs of so many steps."""
    drawing = Drawing(draw)
    for _ in range(draw(st.integers(least, most))):
        drawing.step()
    return drawing.finish()


def entries(graph: Graph, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [
        rng.integers(-4, 5, x.value.shape).astype(x.value.dtype).reshape(x.value.shape) for x in graph.inputs
    ]


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(graphs(), st.integers(0, 9))
def test_a_drawn_graph_gives_exactly_what_the_reference_gives(graph, seed):
    inputs = entries(graph, seed)
    native = Native(graph)
    for got, wanted in zip(run(native, inputs, []), run(Replay(graph), inputs, []), strict=True):
        np.testing.assert_array_equal(got, wanted)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(graphs(), st.integers(0, 9), st.sampled_from([1, -1]))
def test_bands_of_chains_give_it_in_any_order(graph, seed, order):
    inputs = entries(graph, seed)
    add, tables = Table.add_tables, []

    def add_in_order(self: Table, parts: list[Table]) -> None:
        tables.extend(parts)
        add(self, parts[::order])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "threads", lambda: 2)
        patch.setattr(chain, "LEAST", 0.0)
        patch.setattr(chain, "FEWEST", 1)
        patch.setattr(table, "pool", lambda: Pool(0))
        patch.setattr(Table, "add_tables", add_in_order)
        native = Native(graph)
    event(f"{len(tables) // 2} chains")
    for got, wanted in zip(run(native, inputs, []), run(Replay(graph), inputs, []), strict=True):
        np.testing.assert_array_equal(got, wanted)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(graphs(), st.integers(0, 9))
def test_every_pass_keeps_what_a_drawn_graph_gives(graph, seed):
    inputs = entries(graph, seed)
    wanted = run(Replay(graph), inputs, [])
    for change in (lambda graph, rules=rules: rewritten(graph, rules()) for rules in RULES):
        graph = change(graph)
        verify(graph, infer=True)
        for got, expected in zip(run(Replay(graph), inputs, []), wanted, strict=True):
            np.testing.assert_array_equal(got, expected)
            np.testing.assert_array_equal(np.signbit(got), np.signbit(expected))
