"""What a product's kernel does behind the product: a row added, and a ReLU, where nobody needs more."""

from __future__ import annotations

import pytest

from backstory.compiler.graph import Value

from .building import Building
from .test_native import agree


def units(b: Building, special: bool = False) -> list[tuple[str, ...]]:
    """What each unit computes, of a graph that agrees with the reference."""
    return [part.computes for part in agree(b.graph, special=special, rtol=1e-4, atol=1e-6).explain().parts]


def start(b: Building, rows: int = 5, columns: int = 7, dtype: str = "f4") -> tuple[Value, Value]:
    """A product, and a row."""
    return b("matmul", b.input((rows, 3), dtype), b.input((3, columns), dtype)), b.input((columns,), dtype)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("shape", [(5, 7), (1, 7), (5, 2), (40, 33)])
def test_a_row_is_added_and_the_sum_is_clipped(shape, dtype):
    for swapped in (False, True):
        b = Building()
        x, row = start(b, *shape, dtype)
        total = b("add", *((row, x) if swapped else (x, row)))
        b.output(b("maximum", *((0.0, total) if swapped else (total, 0.0))))
        assert units(b) == [("matmul", "add", "maximum")]


def test_each_of_both_alone():
    b = Building()
    x, row = start(b)
    b.output(b("add", x, row))
    y, _ = start(b)
    b.output(b("maximum", y, 0))
    assert units(b, special=True) == [("matmul", "add"), ("matmul", "maximum")]


def test_views_of_all_entries_in_their_order_do_not_stand_between():
    b = Building()
    x, row = start(b, 6)
    cut = b("reshape", x, shape=(2, 3, 7))
    b.output(b("maximum", b("reshape", b("add", cut, row), shape=(42,)), 0.0))
    assert units(b) == [("matmul", "add", "maximum")]


def test_a_vector_times_a_matrix_and_a_batch():
    b = Building()
    b.output(b("add", b("matmul", b.input((3,)), b.input((3, 7))), b.input((7,))))
    b.output(b("add", b("matmul", b.input((4, 5, 3)), b.input((4, 3, 7))), b.input((1, 1, 7))))
    assert units(b) == [("matmul", "add"), ("matmul", "add")]


def test_a_row_as_it_lies():
    b = Building()
    x, _ = start(b)
    b.output(b("add", x, b("getitem", b.input((4, 7)), index=2)))
    z, _ = start(b)
    b.output(b("add", z, b("exp", b.input((7,)))))
    assert [computed for computed in units(b) if "matmul" in computed] == [("matmul", "add")] * 2


def kept_product(b: Building) -> None:
    x, row = start(b)
    b.output(x)
    b.output(b("maximum", b("add", x, row), 0.0))


def kept_sum(b: Building) -> None:
    x, row = start(b)
    total = b("add", x, row)
    b.output(total)
    b.output(b("matmul", b("maximum", total, 0.0), b.input((7, 2))))


def twice(b: Building) -> None:
    x, _ = start(b)
    b.output(b("add", x, x))


def a_column(b: Building) -> None:
    x, _ = start(b)
    b.output(b("add", x, b.input((5, 1))))


def every_other(b: Building) -> None:
    x, _ = start(b)
    b.output(b("add", x, b("getitem", b.input((14,)), index=slice(None, None, 2))))


def another_number(b: Building) -> None:
    x, _ = start(b)
    b.output(b("maximum", x, 1.0))


def a_negative_zero(b: Building) -> None:
    x, _ = start(b)
    b.output(b("maximum", x, -0.0))


def one_column(b: Building) -> None:
    x, row = start(b, columns=1)
    b.output(b("add", x, row))


def one_number(b: Building) -> None:
    x, _ = start(b)
    b.output(b("add", x, b("broadcast_to", b.input((1,)), shape=(7,))))


def a_wider_row(b: Building) -> None:
    x, _ = start(b, columns=1)
    b.output(b("add", x, b.input((9,))))


def more_rows(b: Building) -> None:
    x, _ = start(b, rows=1)
    b.output(b("add", x, b.input((4, 7))))


def another_dtype(b: Building) -> None:
    x, _ = start(b)
    b.output(b("add", x, b.input((7,), "f8")))


def another_order(b: Building) -> None:
    x, _ = start(b)
    b.output(b("add", b("permute_dims", x, axes=(1, 0)), b.input((5,))))


@pytest.mark.parametrize(
    "build",
    [
        *(kept_product, twice, a_column, every_other, another_number, a_negative_zero),
        *(one_column, one_number, a_wider_row, more_rows, another_dtype, another_order),
    ],
)
def test_what_the_kernel_cannot_do_is_a_loop(build):
    b = Building()
    build(b)
    assert ("matmul",) in units(b)


def test_a_sum_that_somebody_needs_ends_there():
    b = Building()
    kept_sum(b)
    assert ("matmul", "add") in units(b)


def test_what_a_loop_needs_anyway_stays_in_the_loop():
    b = Building()
    x, row = start(b)
    b.output(b("sum", b("maximum", b("add", x, row), 0.0), axis=(1,)))
    assert units(b) == [("matmul",), ("add", "maximum", "sum")]
