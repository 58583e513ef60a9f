"""The native program against the reference, primitive by primitive and on whole graphs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backstory.compiler.graph import Graph, Output, verify
from backstory.compiler.passes import RULES, alive, simplified
from backstory.compiler.passes.rewriting import rewritten
from backstory.compiler.primitives import BINARY, ELEMENTWISE, REDUCTIONS, UNARY
from backstory.compiler.program import Native
from backstory.compiler.replay import Program, Replay

from .building import Building, classifier_step, cross_entropy, regression_step

FLOATS, WHOLE = ("f4", "f8"), ("i8", "i4", "u1")
# What floats have no meaning for, and what integers have none for or compute as floats.
BITWISE = ("bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_invert")
SPECIAL = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 0.5, 1e-40, 3e38]


def sample(shape: tuple[int, ...], dtype: Any, seed: int = 0, special: bool = False) -> np.ndarray:
    """Entries of a dtype: small numbers, and on demand what floats have besides."""
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return np.ascontiguousarray(rng.random(shape) < 0.5).reshape(shape)
    if dtype.kind in "iu":
        return rng.integers(0 if dtype.kind == "u" else -5, 6, shape).astype(dtype).reshape(shape)
    entries = np.asarray(rng.uniform(-2, 2, shape), dtype).reshape(shape)
    if special and entries.size:
        with np.errstate(over="ignore"):
            chosen = rng.choice(np.array(SPECIAL), shape).astype(dtype)
        entries = np.where(rng.random(shape) < 0.5, entries, chosen).reshape(shape)
    return np.array(entries, dtype)


def run(program: Program, inputs: list[np.ndarray], numbers: list[Any]) -> list[np.ndarray]:
    """Own copies of the inputs after a run, and the outputs."""
    inputs = [x.copy() for x in inputs]
    for i, array in enumerate(inputs):
        program.set_input(i, array)
    outputs = []
    for i, output in enumerate(program.graph.outputs):
        if output.into is None:
            outputs.append(np.empty(output.value.shape, output.value.dtype))
            program.set_output(i, outputs[-1])
    program.set_numbers(*numbers)
    program.run()
    return inputs + outputs


def agree(
    graph: Graph, seed: int = 0, special: bool = False, numbers: Any = (), **tolerance: float
) -> Native:
    """Check that native code and the reference leave the same behind, twice; returns the program."""
    verify(graph, infer=True)
    inputs = [sample(x.value.shape, x.value.dtype, seed + i, special) for i, x in enumerate(graph.inputs)]
    native = Native(graph)
    expected = run(Replay(graph), inputs, list(numbers))
    for _ in range(2):
        for got, wanted in zip(run(native, inputs, list(numbers)), expected, strict=True):
            close(got, wanted, **tolerance)
    return native


def close(got: np.ndarray, wanted: np.ndarray, **tolerance: float) -> None:
    """Equal to some units in the last place, with the same signs of zero."""
    assert got.dtype == wanted.dtype
    assert got.shape == wanted.shape
    if wanted.dtype.kind != "f":
        np.testing.assert_array_equal(got, wanted)
        return
    eps = float(np.finfo(wanted.dtype).eps)
    np.testing.assert_allclose(got, wanted, **({"rtol": 16 * eps, "atol": 0.0} | tolerance))
    zeros = (wanted == 0) & (got == 0)
    np.testing.assert_array_equal(np.signbit(got)[zeros], np.signbit(wanted)[zeros])


def one(primitive: str, *shapes: tuple[int, ...], dtypes: Any, **params: Any) -> Graph:
    """A graph of one primitive of inputs."""
    b = Building()
    inputs = [b.input(shape, dtype) for shape, dtype in zip(shapes, dtypes, strict=True)]
    b.output(b(primitive, *inputs, **params))
    return b.graph


def has(primitive: str, dtype: str) -> bool:
    """Whether NumPy has the primitive for a dtype."""
    with np.errstate(all="ignore"):
        try:
            x = np.ones(2, dtype)
            ELEMENTWISE[primitive](*[x] * (2 if primitive in BINARY else 1))
        except TypeError:
            return False
    return True


@pytest.mark.parametrize("dtype", [*FLOATS, *WHOLE, "?"])
@pytest.mark.parametrize("primitive", sorted(UNARY))
def test_every_function_of_one_array_is_numpys(primitive, dtype):
    if not has(primitive, dtype) or (dtype == "?" and primitive == "negative"):
        pytest.skip("NumPy has none")
    # NumPy computes functions of small integers in half precision.
    for shape in ((7,), (), (0, 3)):
        agree(one(primitive, shape, dtypes=[dtype]), special=True)


@pytest.mark.parametrize("dtype", [*FLOATS, *WHOLE, "?"])
@pytest.mark.parametrize("primitive", sorted(BINARY))
def test_every_function_of_two_arrays_is_numpys(primitive, dtype):
    if not has(primitive, dtype):
        pytest.skip("NumPy has none")
    shapes = (((3, 5), (3, 5)), ((3, 5), (5,)), ((3, 1), (1, 5)), ((), (4,)), ((0, 3), (3,)))
    for x, y in shapes:
        b = Building()
        first, second = b.input(x, dtype), b.input(y, dtype)
        if primitive == "pow" and np.dtype(dtype).kind == "i":
            second = b("abs", second)
        b.output(b(primitive, first, second))
        agree(b.graph, special=True)


@pytest.mark.parametrize("primitive", ["add", "multiply", "less", "equal", "divide", "maximum"])
@pytest.mark.parametrize("dtypes", [("f4", "f8"), ("i4", "f4"), ("?", "f4"), ("u1", "i8"), ("i8", "f4")])
def test_dtypes_meet_as_in_numpy(primitive, dtypes):
    agree(one(primitive, (3, 4), (4,), dtypes=dtypes))


@pytest.mark.parametrize("number", [2, 0.1, -1.5, True, float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "?"])
@pytest.mark.parametrize("primitive", ["add", "multiply", "subtract", "less_equal", "equal", "maximum"])
def test_python_scalars_are_weak(primitive, number, dtype):
    if dtype == "?" and primitive == "subtract":
        pytest.skip("NumPy has none")
    for swapped in (False, True):
        b = Building()
        x = b.input((5,), dtype)
        b.output(b(primitive, *((number, x) if swapped else (x, number))))
        agree(b.graph, special=True)


@pytest.mark.parametrize("kind", [float, int])
@pytest.mark.parametrize("dtype", ["f4", "i8"])
def test_numbers_of_the_host_are_weak_and_read_anew(kind, dtype):
    b = Building()
    x, number = b.input((5,), dtype), b.number(kind)
    b.output(b("multiply", x, number))
    b.output(b("less", x, number))
    native = agree(b.graph, numbers=[kind(3)])
    reference = Replay(b.graph)
    inputs = [sample((5,), dtype)]
    for value in (kind(2), kind(-1)):
        for got, wanted in zip(run(native, inputs, [value]), run(reference, inputs, [value]), strict=True):
            np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("source", ["f4", "f8", "i8", "u1", "?"])
@pytest.mark.parametrize("target", ["f4", "f8", "i8", "i4", "?"])
def test_conversions_are_numpys(source, target):
    agree(one("astype", (3, 4), dtypes=[source], dtype=target))


@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "?"])
def test_where_selects_and_broadcasts_in_all_directions(dtype):
    for condition, x, y in (((3, 1), (4,), (3, 4)), ((4,), (3, 1), ()), ((), (2, 3), (3,))):
        agree(one("where", condition, x, y, dtypes=["?", dtype, dtype]), special=True)


def test_a_closed_gate_blocks_infinity_and_nan():
    b = Building()
    gate, x = b.input((6,), "?"), b.input((6,))
    b.output(b("where", gate, x, 0))
    agree(b.graph, special=True)


@pytest.mark.parametrize("dtype", [*FLOATS, "i8", "i4", "?"])
@pytest.mark.parametrize("primitive", sorted(REDUCTIONS))
def test_every_reduction_over_any_axes_is_numpys(primitive, dtype):
    for shape, axes in (((6,), (0,)), ((3, 5), (0,)), ((3, 5), (1,)), ((3, 5), (0, 1)), ((2, 3, 4), (0, 2))):
        for keepdims in (False, True):
            graph = one(primitive, shape, dtypes=[dtype], axis=axes, keepdims=keepdims)
            agree(graph, rtol=1e-5 if dtype == "f4" else 1e-13)
    agree(one(primitive, (2, 3, 4), dtypes=[dtype], axis=(1,)), rtol=1e-5 if dtype == "f4" else 1e-13)
    agree(one(primitive, (1, 4), dtypes=[dtype], axis=(0,)))
    agree(one(primitive, (3, 2), dtypes=[dtype], axis=()))


@pytest.mark.parametrize("primitive", ["sum", "prod", "any", "all"])
def test_reductions_of_nothing_are_what_they_start_from(primitive):
    for shape, axes in (((0,), (0,)), ((0, 3), (0,)), ((3, 0), (0,)), ((0, 3), (1,))):
        agree(one(primitive, shape, dtypes=["f4"], axis=axes))


@pytest.mark.parametrize("primitive", ["max", "min", "sum", "prod"])
def test_reductions_keep_nan_and_infinity(primitive):
    for seed in range(5):
        agree(one(primitive, (4, 9), dtypes=["f4"], axis=(1,)), seed, special=True, rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-38, 1e-25, 1.0, 1e25, 1e38])
@pytest.mark.parametrize("shape", [(), (1,), (5,), (513,), (1300,), (7, 200), (40, 300)])
def test_squares_of_short_floats_keep_the_range_of_long_ones(shape, scale):
    b = Building()
    x, factor = b.input(shape, kind="state"), b.number()
    z = b("multiply", x, factor)
    b.output(b("squares", x))
    b.output(b("squares", z))
    if len(shape) == 2:
        turned = b("add", z, b("permute_dims", b.input(shape[::-1]), axes=(1, 0)))
        shares = b("divide", turned, b("max", turned, axis=(1,), keepdims=True))
        b.output(b("squares", turned))
        b.output(b("squares", b("multiply", shares, factor)))
    b.output(z, into=x)  # over the old entries, unless these are needed once more
    for size in (1.0, scale):
        inputs = [
            np.asarray(sample(x.value.shape, "f4", i) * np.float32(size))
            for i, x in enumerate(b.graph.inputs)
        ]
        wanted = run(Replay(b.graph), inputs, [scale])
        for got, right in zip(run(Native(b.graph), inputs, [scale]), wanted, strict=True):
            close(got, right, rtol=2e-6)


@pytest.mark.parametrize("x", [(4, 3), (3, 4)])
@pytest.mark.parametrize("y", [(3, 5), (5, 3)])
@pytest.mark.parametrize("dtype", FLOATS)
def test_products_read_transposed_matrices_as_they_lie(x, y, dtype):
    b = Building()
    first, second = b.input(x, dtype), b.input(y, dtype)
    first = first if x == (4, 3) else b("permute_dims", first, axes=(1, 0))
    second = second if y == (3, 5) else b("permute_dims", second, axes=(1, 0))
    b.output(b("matmul", first, second))
    agree(b.graph, rtol=1e-5)


@pytest.mark.parametrize("shapes", [((1, 3), (3, 1)), ((3, 1), (1, 4)), ((1, 1), (1, 1)), ((2, 0), (0, 3))])
def test_products_of_thin_matrices(shapes):
    agree(one("matmul", *shapes, dtypes=["f4", "f4"]), rtol=1e-5)
    b = Building()
    x, y = (b.input(shape) for shape in shapes)
    b.output(b("matmul", b("permute_dims", y, axes=(1, 0)), b("permute_dims", x, axes=(1, 0))))
    agree(b.graph, rtol=1e-5)


def test_products_of_many_rows_and_of_many_matrices():
    agree(one("matmul", (2, 3, 4), (4, 5), dtypes=["f4", "f4"]), rtol=1e-5)
    agree(one("matmul", (2, 3, 4), (2, 4, 5), dtypes=["f4", "f4"]), rtol=1e-5)
    agree(one("matmul", (3, 4), (4, 2), dtypes=["i8", "i8"]))


def test_products_of_repeated_and_of_sliced_rows():
    b = Building()
    x, y = b.input((1, 3)), b.input((3, 8))
    rows = b("broadcast_to", x, shape=(4, 3))
    b.output(b("matmul", rows, b("getitem", y, index=(slice(None), slice(None, None, 2)))))
    b.output(b("matmul", rows, b("getitem", y, index=(slice(None), slice(2, 5)))))
    agree(b.graph, rtol=1e-5)


def test_views_of_views_of_computed_values():
    b = Building()
    x = b.input((4, 6))
    y = b("exp", x)
    turned = b("permute_dims", b("reshape", y, shape=(2, 2, 6)), axes=(2, 0, 1))
    flat = b("reshape", turned, shape=(24,))
    part = b("getitem", turned, index=(slice(4, None, -2), 1, None))
    b.output(b("add", flat, 1.0))
    b.output(b("add", part, b("getitem", x, index=(0, 0))))
    b.output(part)
    b.output(b("getitem", flat, index=(Ellipsis, slice(3, 20, 5))))
    b.output(b("add", turned, b("reshape", x, shape=(6, 2, 2))))
    agree(b.graph)


def test_a_matrix_and_its_transpose_in_one_expression():
    b = Building()
    x = b.input((4, 4))
    y = b("multiply", x, 2.0)
    b.output(b("add", y, b("permute_dims", y, axes=(1, 0))))
    agree(b.graph)


def test_the_same_value_twice():
    b = Building()
    x = b.input((3, 3))
    b.output(b("multiply", x, x))
    b.output(b("matmul", x, x))
    b.output(x)
    b.output(x)
    agree(b.graph, rtol=1e-5)


def test_inputs_constants_and_views_go_out_as_copies():
    b = Building()
    x = b.input((2, 3))
    c = b.constant(np.arange(6.0))
    b.output(x)
    b.output(b("reshape", x, shape=(3, 2)))
    b.output(b("permute_dims", x, axes=(1, 0)))
    b.output(c)
    b.output(b("full", shape=(2,), value=3.0, dtype="f4"))
    b.output(b("broadcast_to", x, shape=(2, 2, 3)))
    agree(b.graph)


def test_inputs_are_overwritten_only_when_their_old_values_were_read():
    b = Building()
    x, y = b.input((4,), kind="state"), b.input((4,), kind="state")
    b.output(b("add", y, 1.0), into=x)  # exchanged
    b.output(b("multiply", x, 2.0), into=y)
    agree(b.graph)

    b = Building()
    x = b.input((4, 4), kind="state")
    b.output(b("permute_dims", x, axes=(1, 0)), into=x)
    agree(b.graph)

    b = Building()
    x = b.input((3, 3), kind="state")
    new = b("subtract", x, b("sum", x, axis=(1,), keepdims=True))
    b.output(new, into=x)
    b.output(b("matmul", x, new))
    agree(b.graph, rtol=1e-5)


def test_an_input_that_is_written_whole_and_an_input_that_takes_another():
    b = Building()
    x, y = b.input((3,), kind="state"), b.input((3,))
    b.output(y, into=x)
    agree(b.graph)


def softmax(b: Building, x: Any, axis: int) -> Any:
    e = b("exp", b("subtract", x, b("max", x, axis=(axis,), keepdims=True)))
    return b("divide", e, b("sum", e, axis=(axis,), keepdims=True))


@pytest.mark.parametrize("shape", [(5, 7), (1, 7), (5, 1), (2, 3, 4), (6,)])
def test_softmax_is_one_nest_of_loops(shape):
    b = Building()
    b.output(softmax(b, b.input(shape), len(shape) - 1))
    native = agree(b.graph, rtol=1e-6, atol=1e-7)
    assert len(native.design.units) == 1


def test_softmax_over_the_first_axis():
    b = Building()
    b.output(softmax(b, b.input((5, 7)), 0))
    agree(b.graph, rtol=1e-6)


def test_layer_norm_is_one_nest_of_loops():
    b = Building()
    x, scale, shift = b.input((6, 10)), b.input((10,)), b.input((10,))
    centred = b("subtract", x, b("divide", b("sum", x, axis=(1,), keepdims=True), 10))
    variance = b("divide", b("sum", b("multiply", centred, centred), axis=(1,), keepdims=True), 10)
    normal = b("divide", centred, b("sqrt", b("add", variance, 1e-5)))
    b.output(b("add", b("multiply", normal, scale), shift))
    native = agree(b.graph, rtol=1e-5, atol=1e-6)
    assert len(native.design.units) == 1


@pytest.mark.parametrize("shape", [(8, 5), (3, 4, 5)])
def test_batch_norm(shape):
    b = Building()
    axes = tuple(axis for axis in range(len(shape)) if axis != 1)
    x, running = b.input(shape), b.input((1, *shape[1:2], *(1,) * (len(shape) - 2)), kind="state")
    count = np.prod([shape[axis] for axis in axes]).item()
    mean = b("divide", b("sum", x, axis=axes, keepdims=True), count)
    centred = b("subtract", x, mean)
    variance = b("divide", b("sum", b("multiply", centred, centred), axis=axes, keepdims=True), count)
    b.output(b("divide", centred, b("sqrt", b("add", variance, 1e-5))))
    b.output(b("add", b("multiply", running, 0.9), b("multiply", mean, 0.1)), into=running)
    agree(b.graph, rtol=1e-4, atol=1e-5)


def test_a_check_that_fails_leaves_all_inputs_as_they_were():
    b = Building()
    x = b.input((3,), kind="state")
    new = b("add", x, 1.0)
    b.output(new, into=x)
    checked = b("check", b("sum", new), test=_refuse_large, low=-10, high=10)
    b.output(b("multiply", checked, 2.0))
    native = Native(b.graph)
    state, out = np.zeros(3, np.float32), np.empty((), np.float32)
    native.set_input(0, state)
    native.set_output(1, out)
    native.run()
    assert out == 6
    np.testing.assert_array_equal(state, 1)
    state[:] = 100
    with pytest.raises(ValueError, match="large"):
        native.run()
    np.testing.assert_array_equal(state, 100)


def _refuse_large(x: Any) -> None:
    raise ValueError("large")


def test_what_has_no_kernel_runs_on_the_host_between_the_tables():
    b = Building()
    x = b.input((3, 4))
    y = b("exp", x)
    b.output(b("multiply", b("argsort", y, axis=1, descending=False), 2))
    b.output(b("argsort", b("multiply", x, 3.0), axis=0, descending=True))
    agree(b.graph)


@pytest.mark.parametrize("batch", [1, 7, 32])
def test_a_step_of_regression_with_momentum(batch):
    agree(regression_step([2, 16, 16, 1], batch), numbers=[-0.01, 0.9], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("widths", [[6, 16, 5], [4, 8, 8, 3]])
def test_a_step_of_classification_with_adam(widths):
    b = classifier_step(widths, 9)
    labels = next(i for i, x in enumerate(b.inputs) if x.label == "labels")
    inputs = [np.abs(sample(x.value.shape, x.value.dtype, i)) for i, x in enumerate(b.inputs)]
    inputs[labels] %= widths[-1]
    numbers = [0.001, 1e-8, 0.1, 0.001, 0.999]
    got, wanted = run(Native(b), inputs, numbers), run(Replay(b), inputs, numbers)
    for mine, theirs in zip(got, wanted, strict=True):
        close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_a_gradient_that_reads_the_loss_of_all_rows():
    b = Building()
    logits, labels = b.input((5, 4)), b.input((5,), "u1")
    loss, g = cross_entropy(b, logits, b("astype", b("less", labels, 3), dtype="i8"))
    b.output(loss)
    b.output(b("multiply", g, b("add", loss, loss)))
    agree(b.graph, rtol=1e-5, atol=1e-6)


def test_a_copy_in_other_order_is_made_for_a_product_and_reduced():
    b = Building()
    x, w = b.input((2, 3, 4)), b.input((4, 6))
    rows = b("reshape", b("permute_dims", x, axes=(0, 2, 1)), shape=(8, 3))
    b.output(b("matmul", b("reshape", rows, shape=(4, 6)), b("permute_dims", w, axes=(1, 0))))
    b.output(b("sum", rows, axis=(0,)))
    agree(b.graph, rtol=1e-5, atol=1e-6)


def test_large_products_and_loops_run_in_parts(monkeypatch):
    monkeypatch.setenv("BACKSTORY_NUM_THREADS", "2")
    b = Building()
    x, w, p = b.input((250, 300)), b.input((500, 300)), b.input((250, 500), kind="state")
    y = b("matmul", x, b("permute_dims", w, axes=(1, 0)))
    b.output(b("add", p, b("multiply", b("maximum", y, 0), -0.5)), into=p)
    b.output(softmax(b, y, 1))
    b.output(b("sum", b("multiply", y, y), axis=(0,)))
    b.output(b("sum", y))
    agree(b.graph, rtol=1e-4, atol=1e-4)


def test_layers_of_different_sizes_share_their_kernels():
    small = Native(classifier_step([6, 16, 12, 5], 9))
    large = Native(classifier_step([20, 30, 40, 10], 64))
    assert small.design.sources == large.design.sources
    assert len(small.design.sources) < len(small.design.units)


def test_a_hidden_layer_takes_few_units():
    native = Native(classifier_step([64, 128, 10], 64))
    # Five products, one nest behind each of two, and four updates.
    assert len(native.design.units) == 11


def test_passes_leave_a_whole_graph_that_gives_the_same():
    graph = regression_step([2, 8, 1], 4)
    inputs = [sample(x.value.shape, x.value.dtype, i) for i, x in enumerate(graph.inputs)]
    wanted = run(Replay(graph), inputs, [-0.1, 0.9])
    passes = [lambda graph, rules=rules: rewritten(graph, rules()) for rules in RULES]
    for change in (*passes, alive, simplified):
        graph = change(graph)
        verify(graph, infer=True)
        for got, expected in zip(run(Replay(graph), inputs, [-0.1, 0.9]), wanted, strict=True):
            np.testing.assert_array_equal(got, expected)


def test_the_verifier_refuses_an_output_that_does_not_fit():
    graph = regression_step([2, 8, 1], 4)
    bad = Graph(graph.inputs, graph.numbers, graph.values, [Output(graph.values[0], graph.inputs[0])])
    with pytest.raises(AssertionError, match="does not fit"):
        verify(bad)
