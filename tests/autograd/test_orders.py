"""Derivatives of derivatives to the fifth order, of every record. Oracle: PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from support import SMOOTH, draw, leaf, params, smooth_arguments, torch_leaf, torch_result

import backstory
from backstory.autograd import grad
from backstory.tensor import apply

ORDER = 5


def derivatives(library: Any, take: Any, leaves: list[Any], out: Any, weights: list[list[np.ndarray]]) -> Any:
    """All gradients, order by order: of a weighted sum of the output, of one of those, and so on."""
    total = (out * library.tensor(weights[0][0])).sum()
    for order in range(1, ORDER + 1):
        found = [None] * len(leaves)
        if total.requires_grad:  # else it is constant
            found = take(total, leaves, create_graph=True, allow_unused=True)
        yield [np.zeros(tuple(x.shape)) if g is None else g for x, g in zip(leaves, found, strict=True)]
        total = library.tensor(0.0, dtype=library.float64)
        for g, weight in zip(found, weights[order], strict=True):
            if g is not None:
                total = total + (g * library.tensor(weight)).sum()


@pytest.mark.parametrize(**params(SMOOTH))
def test_gradients_of_gradients_equal_pytorch_to_the_fifth_order(op, case):
    arrays, rng = draw(case), np.random.default_rng(8)
    smooth = smooth_arguments(arrays)
    mine, theirs = [leaf(x) for x in arrays], [torch_leaf(x) for x in arrays]
    out, expected = apply(op, *mine, **case.params), torch_result(op, case, theirs)
    each = [[rng.normal(size=arrays[i].shape) for i in smooth] for _ in range(ORDER)]
    weights = [[rng.normal(size=out.shape)], *each]
    found = derivatives(backstory, grad, [mine[i] for i in smooth], out, weights)
    wanted = derivatives(torch, torch.autograd.grad, [theirs[i] for i in smooth], expected, weights)
    for own, others in zip(found, wanted, strict=True):
        for x, y in zip(own, others, strict=True):
            x = x.detach().numpy() if isinstance(x, backstory.Tensor) else x
            y = y.numpy(force=True) if isinstance(y, torch.Tensor) else y
            np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-10 * max(1.0, np.abs(y).max(initial=0.0)))
