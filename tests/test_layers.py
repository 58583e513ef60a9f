"""The layers of courses against PyTorch, and the two-layer toy network of CS231n."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import backstory
from backstory import layers
from backstory.errors import ArgumentError, GraphError, LabelError, ShapeError
from backstory.layers import Affine, ReLU, Sigmoid, SoftmaxWithLoss


def toy():
    """The weights and data of CS231n's two-layer toy, by NumPy's legacy stream."""
    legacy = np.random.RandomState(0)
    W1, W2 = 1e-1 * legacy.randn(4, 10), 1e-1 * legacy.randn(10, 3)
    X = 10 * np.random.RandomState(1).randn(5, 4)
    return X, np.array([0, 1, 2, 2, 1]), W1, np.zeros(10), W2, np.zeros(3)


def test_the_two_layer_toy_of_cs231n_by_layers():
    X, y, W1, b1, W2, b2 = toy()
    first, gate, second, last = Affine(W1, b1), ReLU(), Affine(W2, b2), SoftmaxWithLoss()
    hidden = gate.forward(first.forward(X))
    scores = second.forward(hidden)
    np.testing.assert_allclose(scores[0], [-0.81233741, -1.27654624, -0.70335995], atol=5e-9)
    loss = last.forward(scores, y) + 0.05 * ((W1**2).sum() + (W2**2).sum())
    assert f"{loss:.11f}" == "1.30378789133"
    assert np.flatnonzero((hidden > 0).sum(axis=0) == 0).tolist() == [1, 5, 6]
    first.backward(gate.backward(second.backward(last.backward())))
    assert np.flatnonzero(~first.dW.any(axis=0)).tolist() == [1, 5, 6]


def test_the_two_layer_toy_of_cs231n_by_tensors():
    X, y, *parameters = toy()
    W1, b1, W2, b2 = (backstory.tensor(p, requires_grad=True) for p in parameters)
    hidden = (backstory.as_tensor(X) @ W1 + b1).relu()
    scores = hidden @ W2 + b2
    loss = backstory.nn.functional.cross_entropy(scores, y) + 0.05 * ((W1**2).sum() + (W2**2).sum())
    assert f"{loss.item():.11f}" == "1.30378789133"
    loss.backward()
    first, gate, second, last = (
        Affine(W1.detach().numpy(), b1.detach().numpy()),
        ReLU(),
        None,
        SoftmaxWithLoss(),
    )
    second = Affine(W2.detach().numpy(), b2.detach().numpy())
    last.forward(second.forward(gate.forward(first.forward(X))), y)
    first.backward(gate.backward(second.backward(last.backward())))
    for layer, W, b in ((first, W1, b1), (second, W2, b2)):
        np.testing.assert_allclose(W.grad.numpy(), layer.dW + 0.1 * layer.W, atol=1e-15)
        np.testing.assert_allclose(b.grad.numpy(), layer.db, atol=1e-15)


@pytest.mark.parametrize("shape", [(5, 6), (5, 2, 3), (1, 6), (0, 6)])
def test_affine_agrees_with_pytorch(rng, shape):
    x, W, b = rng.normal(size=shape), rng.normal(size=(6, 4)), rng.normal(size=4)
    tx, tW, tb = (torch.tensor(a, requires_grad=True) for a in (x, W, b))
    expected = tx.reshape(shape[0], 6) @ tW + tb
    layer = Affine(W, b)
    np.testing.assert_allclose(layer.forward(x), expected.detach().numpy(), atol=1e-14)
    upstream = rng.normal(size=(shape[0], 4))
    expected.backward(torch.tensor(upstream))
    np.testing.assert_allclose(layer.backward(upstream), tx.grad.numpy(), atol=1e-14)
    np.testing.assert_allclose(layer.dW, tW.grad.numpy(), atol=1e-14)
    np.testing.assert_allclose(layer.db, tb.grad.numpy(), atol=1e-14)


@pytest.mark.parametrize(("layer", "function"), [(ReLU(), torch.relu), (Sigmoid(), torch.sigmoid)])
def test_activations_agree_with_pytorch(rng, layer, function):
    x, upstream = rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
    tx = torch.tensor(x, requires_grad=True)
    out = function(tx)
    out.backward(torch.tensor(upstream))
    np.testing.assert_allclose(layer.forward(x), out.detach().numpy(), rtol=1e-14)
    np.testing.assert_allclose(layer.backward(upstream), tx.grad.numpy(), rtol=1e-13)


@pytest.mark.parametrize("choice", [0.0, 0.5, 1.0])
def test_the_derivative_of_relu_at_zero_is_selectable(choice):
    gate = ReLU(at_zero=choice)
    gate.forward(np.array([-1.0, 0.0, 1.0]))
    assert gate.backward(np.array([1.0, 2.0, 1.0])).tolist() == [0.0, 2 * choice, 1.0]
    with pytest.raises(ArgumentError):
        ReLU(at_zero=2.0)


def test_softmax_with_loss_takes_labels_and_one_hot_rows_and_agrees_with_pytorch(rng):
    x, t = rng.normal(size=(5, 3)), np.array([0, 1, 2, 2, 1])
    tx = torch.tensor(x, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(tx, torch.tensor(t))
    expected.backward()
    for classes in (t, np.eye(3)[t]):
        layer = SoftmaxWithLoss()
        assert layer.forward(x, classes) == pytest.approx(expected.item(), rel=1e-14)
        np.testing.assert_allclose(layer.backward(), tx.grad.numpy(), atol=1e-15)
        np.testing.assert_allclose(layer.y.sum(axis=1), 1.0)
    np.testing.assert_allclose(layer.backward(2.0), 2 * tx.grad.numpy(), atol=1e-15)


def test_what_does_not_fit_is_refused_with_the_mend():
    layer = Affine(np.ones((3, 2)), np.zeros(2))
    with pytest.raises(GraphError, match="before forward"):
        layer.backward(np.ones((1, 2)))
    with pytest.raises(ShapeError, match=r"x of shape \(N, 3\)"):
        layer.forward(np.ones((1, 2)))
    with pytest.raises(ShapeError, match=r"x of shape \(\)"):
        layer.forward(1.0)
    layer.forward(np.ones((4, 3)))
    with pytest.raises(ShapeError, match=r"dout of shape \(4, 2\)"):
        layer.backward(np.ones((2, 2)))
    with pytest.raises(ShapeError, match=r"b of shape \(H,\)"):
        Affine(np.ones((3, 2)), np.zeros(3))
    with pytest.raises(LabelError, match="numbered 0 to 1"):
        SoftmaxWithLoss().forward(np.zeros((1, 2)), np.array([2]))
    with pytest.raises(ArgumentError, match="one-hot"):
        SoftmaxWithLoss().forward(np.zeros((1, 2)), np.array([[0.5, 0.5]]))
    with pytest.raises(ShapeError, match="one row of scores"):
        SoftmaxWithLoss().forward(np.zeros((2, 2)), np.array([0]))


def test_the_layers_are_reached_from_the_package():
    assert backstory.layers is layers
