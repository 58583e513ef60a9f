"""Derivatives of products, exact also where factors are zero, one implementation per namespace.

Dividing the product by a factor fails at zero. On arrays running products and counts of zeros take linear
time; what must be differentiated again writes every product of the others out, which takes the square of the
axis.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from backstory.arrays import eager

__all__ = ["product_of_others", "running_products_pullback", "running_products_tangent"]


def product_of_others(xp: Any, x: Any, quickly_zero: bool = False) -> Any:
    """Π_{j ≠ i} x_j for every i along the last axis.

    What infinity and NaN give depends on the way it is computed, and PyTorch's way is taken: where nothing is
    zero the whole product divided by the factor, else what is before times what is after it. ``quickly_zero``
    (for a product of all entries): two zeros make every product 0, whatever the others are.

    >>> import numpy as np
    >>> product_of_others(eager, np.array([0.0, 2.0, 3.0]))
    array([6., 0., 0.])
    """
    if xp is not eager:
        return xp.prod(_without_itself(xp, x), axis=-1)
    zeros = np.count_nonzero(x == 0)
    if not zeros:
        return x.prod(-1, keepdims=True) / x
    if quickly_zero and zeros > 1:
        return np.zeros_like(x)
    one = np.ones_like(x[..., :1])
    before = np.concatenate((one, x[..., :-1]), -1).cumprod(-1)
    after = np.flip(np.concatenate((one, np.flip(x[..., 1:], -1)), -1).cumprod(-1), -1)
    return before * after


def running_products_pullback(xp: Any, g: Any, ans: Any, x: Any) -> Any:
    """Σ_{k ≥ i} g_k Π_{j ≤ k, j ≠ i} x_j for every i along the last axis.

    >>> import numpy as np
    >>> x = np.array([2.0, 0.0, 3.0])
    >>> running_products_pullback(eager, np.ones(3), x.cumprod(), x)
    array([1., 8., 0.])
    """
    if xp is not eager:
        return xp.sum(xp.reshape(g, (*g.shape[:-1], 1, g.shape[-1])) * _running(xp, x), axis=-1)
    if x.shape[-1] == 1:
        return g
    zeros = (x == 0).cumsum(-1)
    before, after = zeros == 0, zeros == 1
    first = after & (x == 0)
    sums = np.flip(np.flip(np.where(before, g * ans, 0), -1).cumsum(-1), -1)
    # What the first zero holds back: all before it, times the products from it to the second zero.
    products = np.where(after & ~first, x, 1).cumprod(-1) * np.where(after, g, 0)
    freed = products.sum(-1, keepdims=True) * np.where(before, x, 1).prod(-1, keepdims=True)
    return np.where(before, sums / np.where(before, x, 1), np.where(first, freed, 0)).astype(g.dtype)


def running_products_tangent(xp: Any, t: Any, ans: Any, x: Any) -> Any:
    """Σ_{i ≤ k} t_i Π_{j ≤ k, j ≠ i} x_j for every k along the last axis.

    >>> import numpy as np
    >>> x = np.array([2.0, 0.0, 3.0])
    >>> running_products_tangent(eager, np.ones(3), x.cumprod(), x)
    array([1., 2., 6.])
    """
    if xp is not eager:
        return xp.sum(xp.reshape(t, (*t.shape, 1)) * _running(xp, x), axis=-2)
    zeros = (x == 0).cumsum(-1)
    before, first = zeros == 0, (zeros == 1) & (x == 0)
    smooth = ans * np.where(before, t / np.where(before, x, 1), 0).cumsum(-1)
    freed = np.where(first, 1, x).cumprod(-1) * np.where(first, t, 0).sum(-1, keepdims=True)
    return np.where(before, smooth, freed).astype(t.dtype)


def _without_itself(xp: Any, x: Any) -> Any:
    """W[…, i, j] = x_j, and 1 where j = i."""
    count = x.shape[-1]
    wide = xp.broadcast_to(xp.reshape(x, (*x.shape[:-1], 1, count)), (*x.shape[:-1], count, count))
    return xp.where(_compared(xp, count)[0], xp.ones_like(wide), wide)


def _running(xp: Any, x: Any) -> Any:
    """C[…, i, k] = Π_{j ≤ k, j ≠ i} x_j for k ≥ i, else 0."""
    products = xp.cumulative_prod(_without_itself(xp, x), axis=-1)
    return xp.where(_compared(xp, x.shape[-1])[1], products, xp.zeros_like(products))


def _compared(xp: Any, count: int) -> tuple[Any, Any]:
    """Where j = i and where j ≥ i, for rows i and columns j."""
    places = xp.arange(count)
    rows, columns = xp.reshape(places, (count, 1)), xp.reshape(places, (1, count))
    return columns == rows, columns >= rows
