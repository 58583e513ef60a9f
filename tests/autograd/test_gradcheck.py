"""gradcheck tells where a gradient is wrong, and what mistake is likely."""

from __future__ import annotations

import numpy as np
import pytest

import backstory
from backstory.autograd import Function, gradcheck
from backstory.errors import GradcheckError


def product(backward):
    """x·w with a backward written by hand."""

    class Product(Function):
        @staticmethod
        def forward(ctx, x, w):
            ctx.save_for_backward(x, w)
            return x * w

    Product.backward = staticmethod(lambda ctx, g: backward(g, *ctx.saved_tensors))
    return Product.apply


MISTAKES = {
    "the sign is wrong": lambda g, x, w: (-g * w, (g * x).sum(0)),
    "a factor is missing: multiply by argument1": lambda g, x, w: (g * 1.0, (g * x).sum(0)),
    "a division by N is missing": lambda g, x, w: (2 * g * w, (g * x).sum(0)),
}


@pytest.mark.parametrize("said", MISTAKES)
def test_the_error_names_the_entry_both_values_and_the_likely_mistake(said):
    x = backstory.tensor(np.array([[0.5, -1.0, 2.0], [1.0, 3.0, 0.7]]), requires_grad=True)
    w = backstory.tensor(np.array([1.0, 2.0, 3.0]), requires_grad=True)
    with pytest.raises(GradcheckError, match=said) as refused:
        gradcheck(product(MISTAKES[said]), (x, w))
    assert "by argument 0, entry (" in str(refused.value)
    assert "analytic" in str(refused.value)
    assert gradcheck(product(lambda g, x, w: (g * w, (g * x).sum(0))), (x, w))


def test_a_point_on_a_kink_is_called_one():
    x = backstory.tensor(np.array([0.0, 1.0]), requires_grad=True)
    with pytest.raises(GradcheckError, match="there is a kink at or near the point"):
        gradcheck(backstory.relu, x)
