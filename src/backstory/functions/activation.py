"""The functions that bend: relu and its family, the squashing ones, the normalised exponentials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backstory.core import apply, as_tensor
from backstory.errors import ArgumentError, ShapeError
from backstory.functions.shape import reshape
from backstory.graph import context
from backstory.indexing import one_axis
from backstory.ops import TABLE

if TYPE_CHECKING:
    from backstory.tensor import Tensor

__all__ = [
    "celu",
    "elu",
    "gelu",
    "glu",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "log_softmax",
    "logsigmoid",
    "mish",
    "prelu",
    "relu",
    "relu6",
    "rrelu",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "softshrink",
    "softsign",
    "threshold",
]


def sigmoid(x: Any) -> Tensor:
    """σ(x) = 1/(1 + e⁻ˣ), entry by entry; its local derivative is σ(1 − σ), at most ¼."""
    return apply(TABLE["sigmoid"], x)


def relu(x: Any, at_zero: float | None = None) -> Tensor:
    """max(x, 0), entry by entry; its local derivative is 1 where x > 0 and 0 where x < 0.

    At exactly 0 the derivative is ``at_zero``, a number in [0, 1]; ``None`` takes the value of
    :func:`backstory.relu_derivative_at_zero`, which is 0 as in PyTorch unless set.

    >>> import backstory
    >>> x = backstory.tensor([-2.0, -1.0, 0.0, 1.0, 2.0], requires_grad=True)
    >>> relu(x).sum().backward()
    >>> x.grad
    tensor([0., 0., 0., 1., 1.])
    """
    chosen = context().relu_at_zero if at_zero is None else checked_at_zero(at_zero)
    return apply(TABLE["relu"], x, at_zero=chosen) if chosen else apply(TABLE["relu"], x)


def checked_at_zero(value: float) -> float:
    """``value`` as a float in [0, 1], relu's subdifferential at 0."""
    if not 0.0 <= value <= 1.0:
        raise ArgumentError(
            f"a derivative of relu at 0 of {value}",
            why="the slopes of lines that touch relu from below at 0 lie between 0 and 1",
            instead="0 (PyTorch's choice), 1, or a value between",
        )
    return float(value)


def leaky_relu(x: Any, negative_slope: float = 0.01) -> Tensor:
    """x where x > 0, else ``negative_slope`` · x; its local derivative is 1 or ``negative_slope``.

    >>> leaky_relu([-1.0, 2.0])
    tensor([-0.01,  2.  ])
    """
    return apply(TABLE["leaky_relu"], x, negative_slope=float(negative_slope))


def prelu(x: Any, weight: Any) -> Tensor:
    """x where x > 0, else ``weight`` · x, with one weight or one for each channel (axis 1).

    He et al. 2015 (arXiv:1502.01852). The weight is learned: its gradient is Σ x over what is negative.

    >>> prelu([[-1.0, -2.0]], [0.5, 0.25])
    tensor([[-0.5, -0.5]])
    """
    x, weight = as_tensor(x), as_tensor(weight)
    channels = x.shape[1] if x.ndim > 1 else 1
    if weight.ndim > 1 or weight.numel() not in (1, channels):
        raise ShapeError(
            f"prelu received x of shape {x.shape} and a weight of shape {weight.shape}",
            why=f"x has {channels} channels on its axis 1",
            instead="a weight with one entry, or with one for each channel",
        )
    if weight.numel() != 1:
        weight = reshape(weight, (channels, *(1,) * (x.ndim - 2)))
    elif weight.ndim > x.ndim:
        weight = reshape(weight, ())
    return apply(TABLE["prelu"], x, weight)


def rrelu(x: Any, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False) -> Tensor:
    """x where x > 0, else r · x: in training r ~ U[lower, upper) for each entry, else their mean.

    Xu et al. 2015 (arXiv:1505.00853).

    >>> rrelu([-1.0, 2.0], 0.25, 0.75)
    tensor([-0.5,  2. ])
    """
    if not lower <= upper:
        raise ArgumentError(
            f"rrelu(lower={lower}, upper={upper})",
            why="slopes are drawn between the two",
            instead="lower ≤ upper, such as 1/8 and 1/3",
        )
    x = as_tensor(x)
    if not training:
        return apply(TABLE["rrelu"], x, 0.5 * (lower + upper))
    shape = x.shape
    slopes = context().xp.draw(None, lambda stream: stream.uniform(lower, upper, shape))
    return apply(TABLE["rrelu"], x, slopes.astype(x.dtype))


def relu6(x: Any) -> Tensor:
    """min(max(x, 0), 6); its local derivative is 1 between 0 and 6, else 0.

    >>> relu6([-1.0, 3.0, 9.0])
    tensor([0., 3., 6.])
    """
    return apply(TABLE["relu6"], x)


def hardtanh(x: Any, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """min(max(x, min_val), max_val); its local derivative is 1 between the two, else 0.

    >>> hardtanh([-2.0, 0.5, 2.0])
    tensor([-1. ,  0.5,  1. ])
    """
    if not min_val <= max_val:
        raise ArgumentError(
            f"hardtanh(min_val={min_val}, max_val={max_val})",
            why="it is straight from the smaller to the larger",
            instead="min_val ≤ max_val, such as -1 and 1",
        )
    return apply(TABLE["hardtanh"], x, min_val=min_val, max_val=max_val)


def hardsigmoid(x: Any) -> Tensor:
    """min(max(x + 3, 0), 6) / 6: a sigmoid of three straight pieces; its local derivative is ⅙ or 0.

    >>> hardsigmoid([-4.0, 0.0, 4.0])
    tensor([0. , 0.5, 1. ])
    """
    return apply(TABLE["hardsigmoid"], x)


def hardswish(x: Any) -> Tensor:
    """x · hardsigmoid(x), Howard et al. 2019 (arXiv:1905.02244).

    >>> hardswish([-4.0, 1.0, 4.0])
    tensor([-0.    ,  0.6667,  4.    ])
    """
    return apply(TABLE["hardswish"], x)


def threshold(x: Any, threshold: float, value: float) -> Tensor:
    """x where x > ``threshold``, else ``value``.

    >>> threshold([0.0, 2.0], 1.0, -3.0)
    tensor([-3.,  2.])
    """
    return apply(TABLE["threshold"], x, threshold=threshold, value=value)


def softshrink(x: Any, lambd: float = 0.5) -> Tensor:
    """x drawn to 0 by ``lambd``, and 0 where |x| ≤ ``lambd``.

    >>> softshrink([-2.0, 0.25, 2.0])
    tensor([-1.5,  0. ,  1.5])
    """
    if lambd < 0:
        raise ArgumentError(
            f"softshrink(lambd={lambd})", why="a distance is not negative", instead="lambd ≥ 0"
        )
    return apply(TABLE["softshrink"], x, lambd=float(lambd))


def hardshrink(x: Any, lambd: float = 0.5) -> Tensor:
    """x where |x| > ``lambd``, else 0.

    >>> hardshrink([-2.0, 0.25, 2.0])
    tensor([-2.,  0.,  2.])
    """
    return apply(TABLE["hardshrink"], x, lambd=float(lambd))


def elu(x: Any, alpha: float = 1.0) -> Tensor:
    """x where x > 0, else ``alpha`` (eˣ − 1), Clevert et al. 2015 (arXiv:1511.07289).

    >>> elu([-1.0, 2.0])
    tensor([-0.6321,  2.    ])
    """
    return apply(TABLE["elu"], x, alpha=float(alpha))


def selu(x: Any) -> Tensor:
    """λ · elu(x, α) with the constants that keep mean 0 and variance 1, Klambauer et al. 2017.

    >>> selu([-1.0, 1.0])
    tensor([-1.1113,  1.0507])
    """
    return apply(TABLE["selu"], x)


def celu(x: Any, alpha: float = 1.0) -> Tensor:
    """x where x > 0, else ``alpha`` (e^(x/alpha) − 1): an elu whose slope is 1 at 0 for every ``alpha``.

    >>> celu([-1.0, 2.0], 2.0)
    tensor([-0.7869,  2.    ])
    """
    if alpha == 0:
        raise ArgumentError("celu(alpha=0)", why="x is divided by it", instead="another alpha, such as 1.0")
    return apply(TABLE["celu"], x, alpha=float(alpha))


def gelu(x: Any, approximate: str = "none") -> Tensor:
    """x Φ(x), where Φ is the normal distribution's; with ``approximate="tanh"`` its approximation.

    Hendrycks & Gimpel 2016 (arXiv:1606.08415).

    >>> gelu([-1.0, 1.0])
    tensor([-0.1587,  0.8413])
    """
    if approximate not in ("none", "tanh"):
        raise ArgumentError(
            f"gelu(approximate={approximate!r})",
            why="it is exact, or approximated by tanh",
            instead="approximate='none' or 'tanh'",
        )
    return apply(TABLE["gelu"], x, approximate=approximate)


def silu(x: Any) -> Tensor:
    """x σ(x), also called swish.

    >>> silu([-1.0, 1.0])
    tensor([-0.2689,  0.7311])
    """
    return apply(TABLE["silu"], x)


def mish(x: Any) -> Tensor:
    """x tanh(softplus(x)), Misra 2019 (arXiv:1908.08681).

    >>> mish([-1.0, 1.0])
    tensor([-0.3034,  0.8651])
    """
    return apply(TABLE["mish"], x)


def softsign(x: Any) -> Tensor:
    """x / (1 + |x|); its local derivative is 1 / (1 + |x|)².

    >>> softsign([-1.0, 3.0])
    tensor([-0.5 ,  0.75])
    """
    return apply(TABLE["softsign"], x)


def glu(x: Any, dim: int = -1) -> Tensor:
    """a σ(b) for the halves a and b of ``x`` along ``dim``: b is a gate that is learned.

    Dauphin et al. 2016 (arXiv:1612.08083).

    >>> glu([4.0, 0.0])
    tensor([2.])
    """
    x = as_tensor(x)
    axis = one_axis("glu", x, dim)
    if x.ndim == 0 or x.shape[axis] % 2:
        raise ShapeError(
            f"glu of a tensor of shape {x.shape} along axis {dim}",
            why="one half of the axis is gated by the other",
            instead="an axis with an even number of entries",
        )
    half, before = x.shape[axis] // 2, (slice(None),) * axis
    return x[(*before, slice(half))] * sigmoid(x[(*before, slice(half, None))])


def softplus(x: Any, beta: float = 1, threshold: float = 20) -> Tensor:
    """ln(1 + e^(βx)) / β, a relu without the corner; its local derivative is σ(βx).

    Where βx > ``threshold`` it is x itself.

    >>> softplus([-1.0, 0.0, 30.0])
    tensor([ 0.3133,  0.6931, 30.    ])
    """
    return apply(TABLE["softplus"], x, beta=float(beta), threshold=float(threshold))


def logsigmoid(x: Any) -> Tensor:
    """ln σ(x), without overflow; its local derivative is σ(−x).

    >>> logsigmoid([0.0, -10.0])
    tensor([ -0.6931, -10.    ])
    """
    return apply(TABLE["logsigmoid"], x)


def softmax(x: Any, dim: int, *, dtype: Any = None) -> Tensor:
    """eˣ / Σ eˣ over ``dim``: positive numbers that sum to 1.

    >>> softmax([0.0, 0.0], 0)
    tensor([0.5, 0.5])
    """
    return apply(TABLE["softmax"], x if dtype is None else as_tensor(x).to(dtype), axis=dim)


def log_softmax(x: Any, dim: int, *, dtype: Any = None) -> Tensor:
    """x − ln Σ eˣ over ``dim``, without overflow."""
    return apply(TABLE["log_softmax"], x if dtype is None else as_tensor(x).to(dtype), axis=dim)
