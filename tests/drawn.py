"""Draws for the records of the table: their cases, with other lengths, ranks, dtypes and entries."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st

from backstory.ops import TABLE, Case, Elementwise, Op

# Cases of the records that say none themselves: what they need is no number.
EXTRA: dict[str, tuple[Case, ...]] = {
    "cast": tuple(Case(((3, 4),), {"dtype": np.dtype(name)}) for name in ("float32", "float64"))
}
# The parameters that hold lengths of axes: they follow the shapes.
LENGTHS = {"shape", "sizes", "length"}
# Exact in every dtype, apart from each other, and with everything that is not a number.
ENTRIES = (0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.0, math.inf, -math.inf, math.nan)
# The records whose functions have brought the arguments to one dtype before.
ONE_DTYPE = {"overwrite"}
# The records whose functions refuse whole numbers.
OF_FLOATS = {"cross_entropy"}
# The records that LAPACK computes: what it makes of infinity and NaN differs from library to library.
FINITE = {"inv", "solve"}
# And those that BLAS computes: whether a zero times infinity or NaN counts differs likewise.
WITHOUT_ZEROS = {"matmul", "linear", "conv"}
FLOATS = ("float16", "float32", "float64")
WHOLE = ("bool", "uint8", "int8", "int16", "int32", "int64")

# Seeds, and what is drawn as a function of one. Into numbers of 100 and more, and into all floats, Hypothesis
# mixes the literals of the modules that happen to be loaded, also when derandomized: a test that draws such
# numbers draws others when a literal anywhere changes, or the order of the tests.
SEEDS = st.lists(st.integers(0, 99), min_size=3, max_size=3)


def _diag_shape(shapes: tuple[Any, ...], params: Mapping[str, Any]) -> dict[str, Any]:
    length = shapes[0][-1] + abs(params["offset"])
    return {**params, "shape": (*shapes[0][:-1], length, length)}


def _overwritten(shapes: tuple[Any, ...], params: Mapping[str, Any]) -> tuple[Any, ...]:
    whole = np.empty(shapes[0])
    try:
        return (shapes[0], params["view"].forward(np, whole, **params["of"]).shape)
    except IndexError:
        return shapes


def cases_of(op: Op) -> tuple[Case, ...]:
    """What is drawn from; every record has something, or the tests fail."""
    cases = op.cases or EXTRA.get(op.name, ())
    assert cases, f"nothing says how to draw {op.name}: give it cases, or EXTRA an entry"
    return cases


@st.composite
def resized(draw: Callable[..., Any], op: Op) -> Case:
    """A case of ``op`` whose lengths, and now and then ranks, are others: 0, 1, 2 or 3."""
    case = draw(st.sampled_from(cases_of(op)))
    if "windows" in case.params:  # which the function fitted to all lengths but the batch's
        batch = draw(st.integers(0, 3))
        first, *others = case.shapes
        return case._replace(shapes=((batch, *first[1:]), *others))
    any_shape = st.lists(st.integers(0, 3), max_size=3).map(tuple)
    if isinstance(op, Elementwise) and op.arguments > 1:
        return case._replace(shapes=tuple(_broadcasting(draw, case.shapes)))
    free = len(case.shapes) == 1 and not LENGTHS & case.params.keys()
    if free and (isinstance(op, Elementwise) or draw(st.integers(0, 2)) == 0):
        return case._replace(shapes=(draw(any_shape),))
    lengths = {0: 0, 1: 1, -1: -1}

    def other(shape: Any) -> Any:
        if isinstance(shape, str):
            return shape
        if isinstance(shape, int):
            if shape not in lengths:
                lengths[shape] = draw(st.integers(0, 3))
            return lengths[shape]
        if shape[:1] == ("index",):
            return ("index", other(shape[1]), other(shape[2]))
        return tuple(map(other, shape))

    shapes = tuple(map(other, case.shapes))
    params = {key: other(value) if key in LENGTHS else value for key, value in case.params.items()}
    if op.name == "diag_embed":
        params = _diag_shape(shapes, params)
    if op.name == "overwrite":
        shapes = _overwritten(shapes, params)
    return case._replace(shapes=shapes, params=params)


def _broadcasting(draw: Callable[..., Any], kinds: tuple[Any, ...]) -> list[Any]:
    """Shapes that broadcast with each other; a mask has the shape of the argument after it."""
    whole = draw(st.lists(st.integers(0, 3), max_size=3).map(tuple))
    shapes: list[Any] = []
    for kind in kinds:
        start = draw(st.integers(0, len(whole)))
        part = tuple(1 if draw(st.integers(0, 3)) == 0 else n for n in whole[start:])
        shapes.append(kind if isinstance(kind, str) else part)
    return shapes


def entries(
    case: Case, dtypes: list[str], rng: np.random.Generator, special: tuple[float, ...]
) -> list[np.ndarray]:
    """Arguments of the case: of ``special`` values, or ordinary ones off kinks and ties."""
    made = []
    for shape, dtype in zip(case.shapes, dtypes, strict=True):
        if isinstance(shape, tuple) and shape[:1] == ("index",):
            made.append(rng.integers(0, shape[2], shape[1]) if shape[2] else np.zeros(shape[1], np.int64))
        elif shape == "mask":
            made.append(np.asarray(rng.random(case.shapes[1]) < 0.5))
        elif shape == "labels":
            count, classes = case.shapes[0][:2]
            made.append(rng.integers(0, max(classes, 1), count))
        elif dtype in WHOLE:
            low = 0 if dtype in ("bool", "uint8") else -3
            made.append(np.asarray(rng.integers(low, 2 if dtype == "bool" else 4, shape)).astype(dtype))
        elif special:
            # Rows without anything special are wanted too, or every sum is NaN.
            known = len(special) - rng.choice([0, 1, 3])
            made.append(np.asarray(rng.choice(special[:known], shape)).astype(dtype))
        else:
            x = np.asarray(rng.uniform(case.low, case.high, shape))
            made.append(np.where(np.abs(x) < 1e-2, 0.4, x).astype(dtype))
    return made


@st.composite
def drawn(draw: Callable[..., Any], op: Op, dtypes: tuple[str, ...], special: bool) -> Any:
    """A case of ``op`` and its arguments; mostly of one dtype, at times of a dtype for each argument."""
    case = draw(resized(op))
    dtypes = tuple(d for d in dtypes if op.name not in OF_FLOATS or d in FLOATS)
    one = draw(st.sampled_from(dtypes))
    mixed = len(case.shapes) > 1 and op.name not in ONE_DTYPE and draw(st.integers(0, 3)) == 0
    chosen = [draw(st.sampled_from(dtypes)) if mixed else one for _ in case.shapes]
    entered = ENTRIES if special and op.name not in FINITE else ()
    if op.name in WITHOUT_ZEROS:
        entered = tuple(x for x in entered if x != 0)
    arrays = entries(case, chosen, np.random.default_rng(draw(SEEDS)), entered)
    if op.name == "pow" and arrays[1].dtype.kind == "f":
        # Where a lone exponent is ½ NumPy takes the root, NaN of -inf; PyTorch does of a Python number alone.
        arrays[1] = np.where(arrays[1] == 0.5, arrays[1] / 2, arrays[1])
    return case, arrays


EVERY = tuple(TABLE.values())
