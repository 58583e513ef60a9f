"""Value: micrograd's published numbers, its interface, and what its teaching version gets wrong."""

from __future__ import annotations

import inspect
import math

import pytest

import backstory.scalar
from backstory.scalar import Value


def test_the_example_that_micrograd_publishes():
    a = Value(-4.0)
    b = Value(2.0)
    c = a + b
    d = a * b + b**3
    c += c + 1
    c += 1 + c + (-a)
    d += d * 2 + (b + a).relu()
    d += 3 * d + (b - a).relu()
    e = c - d
    f = e**2
    g = f / 2.0
    g += 10.0 / f
    assert f"{g.data:.4f}" == "24.7041"
    g.backward()
    assert f"{a.grad:.4f}" == "138.8338"
    assert f"{b.grad:.4f}" == "645.5773"


@pytest.mark.parametrize(
    ("function", "derivative"),
    [
        (lambda v: v.exp(), math.exp(0.5)),
        (lambda v: v.log(), 2.0),
        (lambda v: v.tanh(), 1 - math.tanh(0.5) ** 2),
        (lambda v: v.relu(), 1.0),
        (lambda v: v.sigmoid(), math.exp(-0.5) / (1 + math.exp(-0.5)) ** 2),
        (lambda v: -v, -1.0),
        (lambda v: 3 - v, -1.0),
        (lambda v: v - 3, 1.0),
        (lambda v: 3 / v, -12.0),
        (lambda v: v / 4, 0.25),
        (lambda v: 2**v, math.sqrt(2) * math.log(2)),
        (lambda v: v**v, math.sqrt(0.5) * (math.log(0.5) + 1)),
        (lambda v: sum([v, v]), 2.0),
    ],
)
def test_every_operation(function, derivative):
    v = Value(0.5)
    function(v).backward()
    assert v.grad == pytest.approx(derivative, rel=1e-14)


def test_a_second_backward_adds_the_right_gradients_once_more():
    x = Value(3.0)
    y = x * x
    z = y * y
    z.backward()
    first = x.grad, y.grad
    z.backward()
    assert (x.grad, y.grad) == (2 * first[0], 2 * first[1])


def test_values_between_receive_their_gradients_too():
    x = Value(2.0)
    y = x * 3
    z = y**2
    z.backward()
    assert (z.grad, y.grad, x.grad) == (1.0, 12.0, 36.0)


def test_a_deep_graph_does_not_recurse():
    x = v = Value(1.0)
    for _ in range(5000):
        v = v + 1
    v.backward()
    assert x.grad == 1.0


def test_a_step_of_gradient_descent_sets_data():
    x = Value(2.0)
    (x * x).backward()
    x.data -= 0.25 * x.grad
    assert x.data == 1.0
    assert repr(x) == "Value(data=1.0, grad=4.0)"


def test_the_graph_can_be_drawn_as_micrograds_is():
    a, b = Value(1.0), Value(2.0)
    assert (a * b)._prev == {a, b}
    assert [(a + b)._op, (a * b)._op, a.relu()._op, (a**2)._op] == ["+", "*", "ReLU", "**"]


def test_other_types_are_left_to_python():
    with pytest.raises(TypeError):
        Value(1.0) + "a"


def test_it_fits_on_a_page():
    assert len(inspect.getsource(backstory.scalar).splitlines()) <= 100
