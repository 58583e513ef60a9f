"""The operations of PyTorch's ``op_db`` that are tried here, and by which function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import backstory

__all__ = ["COVERED", "UNTRIED"]

b = backstory

# Of the same name and meaning.
SAME = """
abs acos acosh add addcdiv addcmul all allclose amax amin aminmax any argmax argmin argsort asin asinh atan
atan2 atanh ceil clamp clamp_max clamp_min cos cosh count_nonzero cumprod cumsum dist eq equal erf
erfc exp exp2 expm1 eye floor floor_divide fmax fmin fmod frac full_like ge gt hypot isclose isfinite isinf
isnan isneginf isposinf kthvalue le lerp log log10 log1p log2 logaddexp logical_and logical_not logical_or
logical_xor logsumexp lt masked_fill maximum mean median minimum msort mul nan_to_num nanmean nansum ne neg
norm ones_like positive pow prod reciprocal remainder round rsqrt sgn sigmoid sign sin sinh sort sqrt square
std std_mean sub sum tan tanh topk true_divide trunc unique var var_mean zeros_like
""".split()

VARIANTS = {
    "div.no_rounding_mode": b.div,
    "div.trunc_rounding": b.div,
    "div.floor_rounding": b.div,
    "log_softmax": b.log_softmax,
    "log_softmax.with_dtype": b.log_softmax,
    "max.binary": b.max,
    "max.reduction_no_dim": b.max,
    "max.reduction_with_dim": b.max,
    "min.binary": b.min,
    "min.reduction_no_dim": b.min,
    "min.reduction_with_dim": b.min,
    "norm.fro": b.norm,
    "norm.inf": b.norm,
    "round.decimals_0": b.round,
    "round.decimals_3": b.round,
    "round.decimals_neg_3": b.round,
    "softmax": b.softmax,
    "softmax.with_dtype": b.softmax,
    "std.unbiased": b.std,
    "std_mean.unbiased": b.std_mean,
    "var.unbiased": b.var,
    "var_mean.unbiased": b.var_mean,
    "where": lambda x, condition, y: b.where(condition, x, y),
    "linalg.vector_norm": b.vector_norm,
    "nn.functional.softplus": b.softplus,
    "nn.functional.logsigmoid": b.logsigmoid,
    "nn.functional.relu": b.relu,
    "nn.functional.leaky_relu": b.leaky_relu,
}

COVERED: dict[str, Callable[..., Any]] = {name: getattr(backstory, name) for name in SAME} | VARIANTS

# Functions here of which op_db has an entry that says nothing about them, and why.
UNTRIED = {
    "empty": "what it holds is not defined",
    "empty_like": "what it holds is not defined",
}
