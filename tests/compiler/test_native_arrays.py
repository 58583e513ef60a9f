"""What works on whole arrays: indices with arrays, places of extremes, running sums, windows, joins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import backstory
from backstory.arrays.windows import Windows
from backstory.compiler.graph import Graph, Value
from backstory.compiler.hosted import HOSTED
from backstory.compiler.primitives import BINARY, ELEMENTWISE, HOST, REDUCTIONS, VIEWS, Slot
from backstory.compiler.program import Native
from backstory.compiler.replay import Failed, Replay
from backstory.errors import BackstoryError

from .building import Building
from .test_native import agree, close, has, one, run, sample

DTYPES = ("f4", "f8", "i8", "i4", "u1", "?")
ROWS, COLUMNS, DEPTH = 4, 3, 5


def hosts(native: Native) -> list[str]:
    """What a program leaves to the host."""
    return [part.computes[0] for part in native.explain().host]


def native_graph(graph: Graph, places: list[Value], highest: int = ROWS, **tolerance: Any) -> Native:
    """Check a graph whose inputs ``places`` are indices, from −highest on; nothing stays on the host."""
    inputs = [sample(x.value.shape, x.value.dtype, i, special=True) for i, x in enumerate(graph.inputs)]
    for i, x in enumerate(graph.inputs):
        if x.value in places:
            inputs[i] = np.random.default_rng(i).integers(-highest, highest, x.value.shape)
            inputs[i] = inputs[i].astype(x.value.dtype).reshape(x.value.shape)
    native = Native(graph)
    expected = run(Replay(graph), inputs, [])
    for _ in range(2):
        for got, wanted in zip(run(native, inputs, []), expected, strict=True):
            close(got, wanted, **({"rtol": 0.0} | tolerance))
    assert hosts(native) == []
    return native


# Every form an index with arrays has: (shape of x, shapes of the arrays, the index).
ALL = slice(None)
A, B = Slot(1), Slot(2)
INDICES = [
    ((ROWS, COLUMNS), [(6,)], (A,)),
    ((ROWS, COLUMNS), [(6,)], (A, ...)),
    ((ROWS, COLUMNS), [(2, 3)], (A,)),
    ((ROWS, COLUMNS), [()], (A,)),
    ((COLUMNS, ROWS), [(6,)], (ALL, A)),
    ((COLUMNS, ROWS), [(6,)], (..., A)),
    ((COLUMNS, ROWS), [(6,)], (slice(None, None, -2), A)),
    ((ROWS, COLUMNS), [(6,)], (A, slice(1, None))),
    ((ROWS, COLUMNS), [(6,)], (A, -1)),
    ((ROWS, ROWS), [(6,), (6,)], (A, B)),
    ((ROWS, ROWS), [(5, 1), (6,)], (A, B)),
    ((ROWS, COLUMNS, ROWS), [(6,), (6,)], (A, ALL, B)),
    ((ROWS, COLUMNS, ROWS), [(6,)], (1, ALL, A)),
    ((ROWS, COLUMNS, ROWS), [(6,)], (0, ..., A)),
    ((COLUMNS, ROWS, ROWS), [(6,), (6,)], (ALL, A, B)),
    ((COLUMNS, ROWS, ROWS, DEPTH), [(2, 3), (3,)], (ALL, A, B, slice(0, 4, 2))),
    ((ROWS, ROWS), [(6,), (6,)], (A, None, B)),
    ((ROWS, ROWS), [(6,), (6,)], (A, ..., B)),
    ((ROWS, ROWS), [(6,), (6,)], (A, B, None)),
    ((COLUMNS, ROWS), [(6,)], (None, ALL, A)),
    ((1, ROWS, 1), [(6,)], (ALL, A)),
    ((ROWS,), [(6,)], (A,)),
    ((1, COLUMNS), [(0,)], (A,)),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "arrays", "index"), INDICES)
def test_an_index_with_arrays_reads_what_numpys_reads(shape, arrays, index, dtype):
    b = Building()
    x = b.input(shape, dtype)
    places = [b.input(a, "i8") for a in arrays]
    if shape[0] == 1:
        b.output(b("getitem", x, *places, index=index))
        native_graph(b.graph, places, 1)
        return
    b.output(b("getitem", x, *places, index=index))
    native_graph(b.graph, places)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "arrays", "index"), INDICES)
def test_what_an_index_with_arrays_names_is_added_as_numpys(shape, arrays, index, dtype):
    b = Building()
    places = [b.input(a, "i8") for a in arrays]
    blank = np.zeros(shape)
    part = blank[tuple(np.zeros(arrays[p.number - 1], int) if isinstance(p, Slot) else p for p in index)]
    values = b.input(part.shape, dtype)
    b.output(b("scatter", values, *places, index=index, shape=shape))
    native_graph(b.graph, places, 1 if shape[0] == 1 else ROWS)


@pytest.mark.parametrize("dtype", ["i8", "i4", "i2", "i1", "u1"])
def test_indices_of_every_integer_are_places(dtype):
    b = Building()
    x, index = b.input((300, 2)), b.input((5,), dtype)
    b.output(b("take", x, index, axis=0))
    agree(b.graph)
    assert hosts(Native(b.graph)) == []


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "arrays", "index"), INDICES)
def test_what_an_index_with_arrays_names_is_written_as_numpys(shape, arrays, index, dtype):
    b = Building()
    x, places = b.input(shape, dtype), [b.input(a, "i8") for a in arrays]
    blank, chosen = np.zeros(shape), [np.zeros(a, int) for a in arrays]
    part = blank[tuple(chosen[p.number - 1] if isinstance(p, Slot) else p for p in index)].shape
    values, single = b.input(part, dtype), b.input((1, *(1 for _ in part)), dtype)
    shifted = tuple(Slot(p.number + 1) if isinstance(p, Slot) else p for p in index)
    b.output(b("setitem", x, values, *places, index=shifted))
    b.output(b("setitem", x, single, *places, index=shifted))
    native_graph(b.graph, places, 1 if shape[0] == 1 else ROWS)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_slices_are_taken_and_added_along_any_axis(axis):
    b = Building()
    x, index = b.input((ROWS, ROWS, ROWS), "f8"), b.input((7,), "i8")
    taken = b("take", b("permute_dims", x, axes=(2, 0, 1)), index, axis=axis)
    b.output(taken)
    b.output(b("add_slices", b("multiply", taken, 2.0), index, length=ROWS, axis=axis))
    native_graph(b.graph, [index])


def test_a_constant_index_is_known_before_the_run():
    b = Building()
    x = b.input((5, 4))
    b.output(b("getitem", x, b.constant([0, -1, 3]), index=(Slot(1),)))
    b.output(
        b(
            "scatter",
            b("getitem", x, index=(slice(0, 3),)),
            b.constant([4, 4, -5]),
            index=(Slot(1),),
            shape=(5, 4),
        )
    )
    native = native_graph(b.graph, [])
    assert "check" not in [unit.kind for unit in native.design.units]


def test_a_gather_is_part_of_the_loops_that_read_it():
    b = Building()
    x, index, y = b.input((9, 4)), b.input((6,), "i8"), b.input((6, 4))
    b.output(b("exp", b("multiply", b("take", x, index, axis=0), y)))
    native = native_graph(b.graph, [index], 9, rtol=1e-6)
    assert [unit.kind for unit in native.design.units] == ["loops", "check", "loops"]


def test_an_array_may_be_read_at_places_that_itself_says():
    b = Building()
    x = b.input((4,), "i8", kind="state")
    place = b("remainder", x, 4)
    taken = b("take", x, place, axis=0)
    b.output(b("add", taken, x), into=x)
    b.output(b("max", x))
    agree(b.graph)


@pytest.mark.parametrize("low", [0, -4])
def test_an_index_that_was_checked_is_not_checked_again(low):
    b = Building()
    x, index = b.input((4, 2)), b.input((6,), "i8")
    checked = b("check", index, low=low, high=3, test=_refuse)
    b.output(b("take", x, checked, axis=0))
    b.output(b("take", x, index, axis=0))
    native = Native(b.graph)
    assert [unit.kind for unit in native.design.units].count("check") == 1


def _refuse(x: Any) -> None:
    raise Failed


def test_a_check_that_may_let_things_pass_assures_nothing():
    b = Building()
    x, index = b.input((4, 2)), b.input((6,), "i8")
    b("check", index, low=0, high=3, test=lambda x: None, sure=False)
    b.output(b("take", x, index, axis=0))
    native = Native(b.graph)
    native.set_input(0, np.zeros((4, 2), np.float32))
    native.set_output(0, np.empty((6, 2), np.float32))
    native.set_input(1, np.array([0, -4, 3, 1, 2, 0]))
    native.run()
    native.set_input(1, np.array([0, -100, 3, 1, 2, 0]))
    with pytest.raises(Failed):
        native.run()


@pytest.mark.parametrize("wrong", [4, -5, 2**40])
def test_an_index_out_of_range_is_refused_and_nothing_changed(wrong):
    b = Building()
    x, index = b.input((4, 2), kind="state"), b.input((3,), "i8")
    b.output(b("add", x, 1.0), into=x)
    b.output(b("take", x, index, axis=0))
    native, state = Native(b.graph), np.zeros((4, 2), np.float32)
    native.set_input(0, state)
    native.set_input(1, np.array([0, wrong, 1]))
    native.set_output(1, np.empty((3, 2), np.float32))
    with pytest.raises(Failed):
        native.run()
    np.testing.assert_array_equal(state, 0)


def test_an_index_of_few_bits_is_checked_as_far_as_it_can_be_wrong():
    for dtype, count, kinds in (
        ("u1", 300, 0),
        ("u1", 256, 0),
        ("u1", 255, 1),
        ("i1", 128, 0),
        ("i1", 100, 1),
    ):
        b = Building()
        x, index = b.input((count,)), b.input((2,), dtype)
        b.output(b("take", x, index, axis=0))
        native = native_graph(b.graph, [index], min(count, 100))
        assert [unit.kind for unit in native.design.units].count("check") == kinds, (dtype, count)


def _written(x: Any, index: Any) -> Any:
    y = x.clone()
    y[index] = 5.0
    return y


# What a step does with a matrix and an index, or another matrix; what it takes, and what it refuses.
REFUSED = {
    "read": (lambda x, i: x[i] * 2, [0, -1, 2], [0, 4, 2]),
    "read from the end": (lambda x, i: x[:, i], [0, -1, 2], [0, -5, 2]),
    "read by two": (lambda x, i: x[i, i % 3], [0, 1, 3], [0, 1, 4]),
    "write": (_written, [0, -1, 2], [0, 4, 2]),
    "select": (lambda x, i: backstory.index_select(x, 0, i), [0, 1], [0, -1]),
    "inverse": (lambda x, a: backstory.linalg.inv(a) + x, np.eye(4), np.zeros((4, 4))),
    "solution": (lambda x, a: backstory.linalg.solve(a, x), np.eye(4), np.zeros((4, 4))),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_step_refuses_what_eager_mode_does_and_as_it_does(name):
    function, right, wrong = REFUSED[name]
    x, state = backstory.tensor(np.arange(16.0).reshape(4, 4)), backstory.zeros(4)

    @backstory.compile
    def step(x, other):
        state.add_(1.0)
        result = function(x, other)
        state.mul_(2.0)
        return result

    given = backstory.tensor(right)
    np.testing.assert_array_equal(step(x, given).numpy(), function(x, given).numpy())
    with pytest.raises(BackstoryError) as eager:
        function(x, backstory.tensor(wrong))
    state.zero_()  # the call that fails is run eagerly, and stops where that does
    with pytest.raises(type(eager.value)) as compiled:
        step(x, backstory.tensor(wrong))
    assert str(compiled.value) == str(eager.value)
    np.testing.assert_array_equal(state.numpy(), 1.0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("primitive", ["argmax", "argmin"])
def test_places_of_extremes_are_numpys(primitive, dtype):
    for shape, axis in (
        ((5, 7), 1),
        ((5, 7), 0),
        ((5, 7), -1),
        ((2, 3, 4), 1),
        ((5, 7), None),
        ((), None),
        ((1, 4), 0),
    ):
        for keepdims in (False, True):
            b = Building()
            x = b.input(shape, dtype)
            b.output(b(primitive, x, axis=axis, keepdims=keepdims))
            if len(shape) > 1:
                turned = b("permute_dims", x, axes=tuple(reversed(range(len(shape)))))
                b.output(b(primitive, turned, axis=axis, keepdims=keepdims))
            native_graph(b.graph, [])


@pytest.mark.parametrize("primitive", ["argmax", "argmin"])
def test_the_first_nan_is_the_extreme(primitive):
    b = Building()
    b.output(b(primitive, b.input((4, 5)), axis=1, keepdims=False))
    native, out = Native(b.graph), np.empty(4, np.int64)
    x = np.array(
        [[1, 2, 2, 0, 0], [0, np.nan, np.nan, 9, -9], [np.inf] * 5, [-np.inf, np.nan, 1, 1, 1]], "f4"
    )
    native.set_input(0, x)
    native.set_output(0, out)
    native.run()
    np.testing.assert_array_equal(out, getattr(np, primitive)(x, axis=1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("primitive", ["cumulative_sum", "cumulative_prod"])
def test_running_sums_and_products_are_numpys(primitive, dtype):
    for shape, axis in (
        ((6,), 0),
        ((1,), 0),
        ((3, 4), 0),
        ((3, 4), -1),
        ((2, 3, 4), 1),
        ((2, 1, 4), 1),
        ((0, 3), 0),
    ):
        b = Building()
        x = b.input(shape, dtype)
        b.output(b(primitive, x, axis=axis))
        if len(shape) > 1:
            b.output(b(primitive, b("permute_dims", x, axes=tuple(reversed(range(len(shape))))), axis=axis))
        # NumPy adds bytes up in uint64, for which there are no kernels.
        agree(b.graph, special=True, rtol=0.0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "windows", [Windows((2, 3)), Windows((2, 2), (2, 2)), Windows((2, 3), (2, 1), (1, 2)), Windows((1, 1))]
)
def test_windows_are_views_and_what_overlaps_adds_up(windows, dtype):
    b = Building()
    x = b.input((2, 3, 5, 6), dtype)
    turned = b("permute_dims", x, axes=(1, 0, 3, 2))
    for image in (x, turned):
        cut = b("unfold", image, windows=windows)
        b.output(cut)
        b.output(b("max", cut, axis=(2, 3)))
        if dtype != "?":
            b.output(b("fold", cut, size=image.shape[2:], windows=windows))
    native_graph(b.graph, [])


@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_are_joined_along_any_axis(dtype):
    for axis in (0, 1, -1):
        b = Building()
        x = b.input((3, 3), dtype)
        turned = b("permute_dims", x, axes=(1, 0))
        nothing = b.input((0, 3) if axis == 0 else (3, 0), dtype)
        part = b("getitem", x, index=(slice(None, None, -1), slice(None)))
        b.output(b("concat", x, turned, nothing, part, axis=axis))
        native_graph(b.graph, [])


INDEX = [
    1,
    (ALL, slice(0, 3, 2)),
    (..., -1),
    (slice(None, None, -1), ALL),
    (slice(1, 1), ALL),
    ...,
    (None, 1),
    (1, 2),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("index", INDEX)
def test_parts_are_written_and_put_into_zeros(index, dtype):
    shape = (ROWS, COLUMNS)
    part = np.empty(shape)[index].shape
    b = Building()
    x, y, single = b.input(shape, dtype), b.input(part, dtype), b.input((), dtype)
    b.output(b("setitem", x, y, index=index))
    b.output(
        b("setitem", b("permute_dims", b.input((COLUMNS, ROWS), dtype), axes=(1, 0)), single, index=index)
    )
    b.output(b("scatter", y, index=index, shape=shape))
    native_graph(b.graph, [])


def test_a_part_of_an_input_is_overwritten_by_another_part_of_it():
    b = Building()
    x = b.input((4, 3), kind="state")
    first = b("getitem", x, index=0)
    b.output(b("setitem", x, first, index=2), into=x)
    b.output(b("add", x, 1.0))
    native_graph(b.graph, [])


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_moved_stays_itself(dtype):
    b = Building()
    x, cube = b.input((3, 4), dtype), b.input((2, 3, 4), dtype)
    for axis in (None, 0, -1, (0, 1)):
        b.output(b("flip", x, axis=axis))
    for shift, axis in ((1, None), (-2, 0), (5, 1), ((1, 2), (0, 1)), (0, 0)):
        b.output(b("roll", x, shift=shift, axis=axis))
    for offset in (0, 1, -1, 2, -2, 9):
        b.output(b("diagonal", x, offset=offset))
        b.output(b("diagonal", cube, offset=offset))
        b.output(b("tril", x, k=offset))
        b.output(b("triu", cube, k=offset))
    native_graph(b.graph, [])


@pytest.mark.parametrize("primitive", ["add", "multiply", "maximum", "minimum"])
def test_arithmetic_of_booleans_is_logic(primitive):
    b = Building()
    x, y = b.input((9,), "?"), b.input((9,), "?")
    b.output(b(primitive, x, y))
    b.output(b(primitive, x, True))
    b.output(b("abs", x))
    native_graph(b.graph, [])


@pytest.mark.parametrize("dtype", ["i8", "i4", "i1", "u1"])
def test_powers_and_quotients_of_integers_wrap_around_as_numpys(dtype):
    b = Building()
    limits = np.iinfo(dtype)
    x = b.constant(np.array([limits.min, limits.max, 0, 1, 3, 7, 11], dtype))
    y = b.input((7,), dtype)
    z = b("subtract", b("add", x, y), y)
    for n in (0, 1, 2, 3, 5, 31):
        b.output(b("pow", z, n))
    for name in ("floor_divide", "remainder", "fmod"):
        b.output(b(name, z, y))
        b.output(b(name, y, z))
        b.output(b(name, z, 0))
        if limits.min:
            b.output(b(name, z, -1))
    native_graph(b.graph, [])


@pytest.mark.parametrize(
    "primitive", ["less", "less_equal", "greater", "greater_equal", "equal", "not_equal"]
)
def test_integers_are_compared_with_numbers_that_they_never_are(primitive):
    b = Building()
    x = b.input((5,), "u1")
    for number in (-1, 256, 2**70, 255):
        b.output(b(primitive, x, number))
        b.output(b(primitive, number, x))
    native_graph(b.graph, [])


def test_what_has_no_entries_takes_no_host():
    b = Building()
    x, y = b.input((0, 3)), b.input((3, 0))
    b.output(b("exp", b("add", x, 1.0)))
    b.output(b("matmul", y, x))
    for name in ("sum", "prod", "any", "all"):
        b.output(b(name, x, axis=(0,)))
    b.output(b("add", b("sum", x, axis=(0,), keepdims=True), 1.0))
    native_graph(b.graph, [])


def whole() -> dict[str, Graph]:
    """A graph of each primitive of whole arrays in a form that may stay on the host."""
    found: dict[str, Graph] = {}

    def add(name: str, *shapes: tuple[int, ...], dtypes: Any = None, **params: Any) -> None:
        found[name] = one(name, *shapes, dtypes=dtypes or ["f4"] * len(shapes), **params)

    places = ["f4", "i8"]
    add("add_slices", (4, 3), (4,), dtypes=places, length=5, axis=0)
    add("argmax", (3, 4), axis=1, keepdims=False)
    add("argmin", (3, 4), axis=1, keepdims=False)
    add("argsort", (3, 4), axis=1, descending=False)
    add("concat", (3, 4), (2, 4), axis=0)
    add("cumulative_prod", (3, 4), axis=0)
    add("cumulative_sum", (3, 4), axis=0)
    add("flip", (3, 4), axis=0)
    add("fold", (1, 1, 2, 2, 2, 2), size=(3, 3), windows=Windows((2, 2)))
    add("full", shape=(3,), value=1.5, dtype=np.dtype("f4"))
    add("gather", (3, 4), (5,), dtypes=places)
    add("inv", (1, 1))
    add("matmul", (3, 4), (4, 5), dtypes=["i8", "i8"])
    add("roll", (3, 4), shift=1, axis=0)
    add("scatter", (3, 4), (3,), dtypes=places, index=(Slot(1),), shape=(6, 4))
    add("scatter_add", (3, 4), (3,), dtypes=places, count=5)
    add("scatter_set", (3, 4), (2, 4), (2,), dtypes=["f4", "f4", "i8"])
    add("setitem", (3, 4), (2, 4), (2,), dtypes=["f4", "f4", "i8"], index=(Slot(2),))
    add("solve", (1, 1), (1, 2))
    add("take", (3, 4), (2,), dtypes=places, axis=0)
    add("tril", (3, 4), k=0)
    add("triu", (3, 4), k=0)
    return found


def test_of_whole_arrays_only_sorting_and_equations_stay_on_the_host():
    graphs = whole()
    assert set(graphs) == set(HOST)
    left = {name for name, graph in graphs.items() if hosts(Native(graph))}
    assert left == {"argsort", "inv", "matmul", "solve"}  # the product is one of integers


MATRIX, WHOLE = backstory.tensor(np.eye(3) + 1), backstory.tensor(np.arange(9).reshape(3, 3))
# What shows each entry of the list of what stays on the host.
SHOWN = {
    "`argsort`": lambda: backstory.sort(MATRIX, 1).values,
    "`linalg.inv`": lambda: backstory.linalg.inv(MATRIX),
    "what reads or gives `float16`": lambda: MATRIX.half(),
    "products of matrices of integers": lambda: WHOLE @ WHOLE,
    "`x ** y` of integers": lambda: WHOLE**WHOLE,
    "floats as integers": lambda: MATRIX.long(),
    "`True` or `False` within an index": lambda: MATRIX[True],
}


@pytest.mark.parametrize("entry", HOSTED, ids=[x.what for x in HOSTED])
def test_the_list_of_what_stays_on_the_host_is_told(entry):
    (function,) = (f for start, f in SHOWN.items() if entry.what.startswith(start))
    step = backstory.compile(function)
    np.testing.assert_array_equal(step().numpy(), function().numpy())
    assert f": {entry.why}" in step.explain()
    page = Path(__file__).parents[2] / "docs" / "compile.md"
    assert f"| {entry.what} | {entry.why} |" in page.read_text(encoding="utf-8")


def test_no_entry_and_no_reduction_of_floats_stays_on_the_host():
    for name in (*ELEMENTWISE, *REDUCTIONS):
        count = 1 if name in REDUCTIONS else _arity(name)
        params = {"dtype": "f8"} if name == "astype" else {}
        dtypes = ["?" if name == "where" else "f4", "f4", "f4"][:count]
        if name.startswith("bitwise"):
            dtypes = ["i8"] * count
        assert hosts(Native(one(name, *[(3, 4)] * count, dtypes=dtypes, **params))) == [], name


def _arity(name: str) -> int:
    return 3 if name == "where" else 2 if name in BINARY else 1


def test_integers_leave_only_powers_of_arrays_to_the_host():
    left = {}
    for name in (*ELEMENTWISE, *REDUCTIONS):
        if name in ("where", "astype") or not (name in REDUCTIONS or has(name, "i8")):
            continue
        count = 1 if name in REDUCTIONS else _arity(name)
        for part in Native(one(name, *[(3, 4)] * count, dtypes=["i8"] * count)).explain().host:
            left[name] = part.why
    assert list(left) == ["pow"]


def test_no_view_stays_on_the_host():
    cases: dict[str, dict[str, Any]] = {
        "reshape": {"shape": (2, 6, 1, 1)},
        "permute_dims": {"axes": (1, 0, 3, 2)},
        "broadcast_to": {"shape": (2, 1, 2, 3, 2)},
        "getitem": {"index": (0, ..., slice(None, None, -1))},
        "diagonal": {"offset": 1},
        "unfold": {"windows": Windows((2, 2))},
    }
    assert set(cases) == set(VIEWS)
    for name, params in cases.items():
        b = Building()
        b.output(b(name, b.input((1, 2, 3, 2)), **params))
        native_graph(b.graph, [])
