"""check: right code passes, and every planted mistake is found and named."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import backstory
from backstory.errors import ArgumentError, DtypeError, ShapeError
from backstory.layers import Affine, ReLU, Sigmoid, SoftmaxWithLoss

N, D, H = 5, 3, 3  # square weights: a transposed operand has a fitting shape


def data(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(N, D)), rng.normal(size=(D, H)), rng.normal(size=H)


def affine(X, W, b):
    return X @ W + b


def square_mean(x):
    return (x**2).sum() / len(x)


# Right code passes


@pytest.mark.parametrize(
    ("forward", "backward", "inputs"),
    [
        (affine, lambda dout, X, W, b: (dout @ W.T, X.T @ dout, dout.sum(axis=0)), data()),
        (lambda x: np.maximum(x, 0), lambda dout, x: dout * (x > 0), data()[:1]),
        (lambda x: (np.tanh(x), x), lambda dout, cache: dout * (1 - np.tanh(cache) ** 2), data()[:1]),
        (lambda x, y: x * y, lambda dout, x, y: (dout * y, dout * x), (2.0, 3.0)),
        (lambda x: x.sum(), lambda dout, x: dout * np.ones_like(x), (np.ones((0, 3)),)),
        (lambda x, i: x[i], lambda dout, x, i: np.eye(len(x))[i] * dout, (np.ones(3), 1)),
    ],
    ids=["affine", "relu", "cache", "numbers", "empty", "an index"],
)
def test_right_code_passes(forward, backward, inputs):
    found = backstory.check(forward, backward, *inputs)
    assert found
    assert "right in all" in str(found)


def test_the_layers_of_this_package_pass():
    X, W, b = data()
    for layer in (Affine(W, b), ReLU(), Sigmoid()):
        assert backstory.check(layer.forward, layer.backward, X)
    last, labels = SoftmaxWithLoss(), np.array([0, 1, 2, 2, 1])
    assert backstory.check(lambda x: last.forward(x, labels), lambda dout: last.backward(dout), X)


def test_pytorch_code_is_checked_too():
    X, W, b = (torch.tensor(a) for a in data())
    right = lambda dout, X, W, b: (dout @ W.T, X.T @ dout, dout.sum(0))
    wrong = lambda dout, X, W, b: (dout @ W.T, X.T @ dout, dout)
    assert backstory.check(affine, right, X, W, b)
    assert "db lacks sum(axis=0)" in str(backstory.check(affine, wrong, X, W, b))


# Planted mistakes

MISTAKES = {
    "a division by N is missing": (
        square_mean, lambda dout, x: 2 * x * dout, "5 times too large, the size of the batch"),
    "a division by N too many": (
        lambda x: (x**2).sum(), lambda dout, x: 2 * x * dout / len(x), "5 times too small, the size of"),
    "a factor of two": (lambda x: x**2, lambda dout, x: dout * x, "multiply by 2"),
    "sign": (lambda x: -x, lambda dout, x: dout, "the sign is wrong"),
    "no mask": (lambda x: np.maximum(x, 0), lambda dout, x: dout, "must be 0 where x ≤ 0"),
    "the mask of the upstream": (
        lambda x: np.maximum(x, 0), lambda dout, x: dout * (x > 0) * (dout > 0), "closed where it must"),
    "sigmoid's factor": (
        lambda x: 1 / (1 + np.exp(-x)), lambda dout, x: dout / (1 + np.exp(-x)), "multiply by (1 − out)"),
    "tanh's factor": (np.tanh, lambda dout, x: dout, "multiply by (1 − out²)"),
    "exp's factor": (np.exp, lambda dout, x: dout, "multiply by out"),
    "a square's factor": (lambda x: x**2, lambda dout, x: 2 * dout, "multiply by x"),
    "dout forgotten": (lambda x: x**2, lambda dout, x: 2 * x, "multiply by dout"),
    "applied twice": (lambda x: x**2, lambda dout, x: 2 * x * x * dout, "divide by x"),
}  # fmt: skip


@pytest.mark.parametrize(("forward", "backward", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_planted_mistake_is_named(forward, backward, said):
    found = backstory.check(forward, backward, data()[0])
    assert not found
    assert said in str(found)


MATRIX_MISTAKES = {
    "a missing sum": (lambda dout, X, W, b: (dout @ W.T, X.T @ dout, dout), "db lacks sum(axis=0)"),
    "a sum over the wrong axis": (
        lambda dout, X, W, b: (dout @ W.T, X.T @ dout, dout[0]), "only one sample was counted"),
    "W not transposed": (
        lambda dout, X, W, b: (dout @ W, X.T @ dout, dout.sum(0)), "it is dout @ W and should be dout @ W.T"),
    "dW transposed": (
        lambda dout, X, W, b: (dout @ W.T, dout.T @ X, dout.sum(0)), "the transpose of the right gradient"),
    "a mean for a sum": (
        lambda dout, X, W, b: (dout @ W.T, X.T @ dout, dout.mean(0)), "5 times too small, the size of"),
    "a gradient left out": (
        lambda dout, X, W, b: (dout @ W.T, None, dout.sum(0)), "dW: no gradient was returned"),
}  # fmt: skip


@pytest.mark.parametrize(("backward", "said"), MATRIX_MISTAKES.values(), ids=MATRIX_MISTAKES)
def test_a_planted_mistake_of_an_affine_layer_is_named_and_the_others_are_right(backward, said):
    found = backstory.check(affine, backward, *data())
    assert [finding.ok for finding in found.findings].count(False) == 1
    assert said in str(found)


def test_an_array_changed_in_place_is_named():
    def forward(x):
        np.maximum(x, 0, out=x)
        return x

    def backward(dout, x):
        return dout * (x >= 0)  # all of the changed array is

    found = backstory.check(forward, backward, data()[0])
    assert not found
    assert "the forward changes x in place" in str(found)


def test_a_mask_taken_from_an_output_that_was_changed_is_named():
    def forward(x):
        out = np.maximum(x, 0)
        out += 1.0
        return out, out

    def backward(dout, out):
        return dout * (out > 0)

    assert "a mask may have been taken from an array that was changed" in str(
        backstory.check(forward, backward, data()[0])
    )


def test_a_kink_near_the_point_is_told_apart_from_a_mistake():
    x = np.array([[1.0, 0.0, -1.0]])
    found = backstory.check(lambda x: np.maximum(x, 0), lambda dout, x: dout * (x > 0), x)
    assert not found
    assert "there is a kink at or near the point" in str(found)
    assert "entry (0, 1)" in str(found)


def test_the_worst_entry_is_named_with_both_values():
    x = np.array([1.0, 2.0, 3.0])

    def backward(dout, x):
        g = 2 * x * dout
        g[1] = 0.123
        return g

    text = str(backstory.check(lambda x: x**2, backward, x))
    assert "dx: wrong at entry (1,): analytic 0.123, numerical " in text
    assert "(1 of 3 entries differ)" in text
    assert "none of the usual mistakes explains it" in text


def test_what_cannot_be_checked_is_refused():
    with pytest.raises(DtypeError, match="no float"):
        backstory.check(lambda i: i, lambda dout, i: dout, 1)
    with pytest.raises(ArgumentError, match="2 gradients for 1 inputs"):
        backstory.check(lambda x: x, lambda dout, x: (dout, dout), 1.0)
    with pytest.raises(ShapeError, match="1 inputs and 2 names"):
        backstory.check(lambda x: x, lambda dout, x: dout, 1.0, names=["a", "b"])
    with pytest.raises(DtypeError, match="real numbers"):
        backstory.check(lambda x: x, lambda dout, x: dout, "text")


def test_the_inputs_are_left_as_they_are():
    x = np.array([1.0, -1.0])

    def forward(x):
        x *= 2
        return x

    backstory.check(forward, lambda dout, x: 2 * dout, x)
    assert x.tolist() == [1.0, -1.0]
