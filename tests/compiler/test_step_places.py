"""Entries written at places that a step is told: what was there has no gradient, what is written has."""

from __future__ import annotations

import numpy as np
import pytest
from compiler.steps import same, values

import backstory

ROWS = [[0, 2], [1, 1], [-1, 0]]


def a_number(y, x, rows):
    y[rows] = 1.5


def entries(y, x, rows):
    y[rows] = x[rows] * 3


def single_entries(y, x, rows):
    y[rows, 1] = x[rows, 0]


def columns(y, x, rows):
    y[:, rows] = x[:, :2]


def rows_of_numpy(y, x, rows):
    y[np.array([0, 2])] = x[:2]


def rows_of_a_list(y, x, rows):
    y[[0, 2]] = x[[1, 0]]


def a_row_of_numpy(y, x, rows):
    y[np.int64(1), None, ::2] = x[0, ::2]


def an_entry_of_a_view(y, x, rows):
    y[1][np.int64(-1)] = x[0, 0]


@pytest.mark.parametrize(
    "write",
    [
        a_number,
        entries,
        single_entries,
        columns,
        rows_of_numpy,
        rows_of_a_list,
        a_row_of_numpy,
        an_entry_of_a_view,
    ],
)
def test_what_is_written_at_places_is_walked_back_as_eagerly(compiled, write):
    def step(x, rows):
        y = x * 2
        write(y, x, rows)
        return backstory.autograd.grad((y * y * x).sum(), [x])[0], y.detach()

    run = compiled(step)
    for rows in ROWS:
        x = backstory.tensor(np.linspace(0.1, 1.2, 12).reshape(3, 4)).requires_grad_()
        rows = backstory.tensor(rows)
        same(values(run(x, rows)), values(step(x, rows)))
    assert run.cache_info().misses == 1
