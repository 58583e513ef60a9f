"""The operations of PyTorch's ``op_db`` that are tried here, and by which function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import backstory

__all__ = ["COVERED", "GAPS", "SOME", "UNTRIED"]

b = backstory

# Of the same name and meaning; after the dot is the variant of PyTorch's samples.
SAME = """
abs acos acosh add addbmm addcdiv addcmul addmm addmm.decomposed addmv addr all allclose amax amin aminmax
any arange argmax argmin argsort argwhere asin asinh atan atan2 atanh atleast_1d atleast_2d baddbmm bmm
bmm.triton_optimized broadcast_tensors broadcast_to cat ceil chunk clamp clamp_max clamp_min clone cos cosh
count_nonzero cumprod cumsum diag diag_embed diagonal dist dot eq equal erf erfc exp exp2 expm1 eye flatten
flip fliplr flipud floor floor_divide fmax fmin fmod frac full full_like gather ge gt hstack hypot index_add
index_copy index_fill index_select inner isclose isfinite isinf isnan isneginf isposinf kron kthvalue le
lerp linspace log log10 log1p log2 logaddexp logical_and logical_not logical_or logical_xor logspace
logsumexp lt masked_fill masked_select matmul maximum mean median meshgrid.list_of_tensors
meshgrid.variadic_tensors minimum mm movedim msort mul mv nan_to_num nanmean nansum narrow ne neg nonzero
norm ones ones_like outer permute positive pow prod ravel reciprocal remainder reshape roll rot90 round
rsqrt scatter scatter_add select sgn sigmoid sign sin sinh sort split split.list_args sqrt square squeeze
squeeze.multiple stack std std_mean sub sum t take take_along_dim tan tanh tensordot tile topk trace
transpose tril triu true_divide trunc unbind unflatten unique unsqueeze var var_mean vdot vstack zeros
zeros_like
""".split()  # noqa: SIM905

ACTIVATIONS = """
celu elu gelu glu hardshrink hardsigmoid hardswish hardtanh leaky_relu logsigmoid mish prelu relu relu6 selu
silu silu.complex softplus softshrink softsign threshold
""".split()  # noqa: SIM905

LAYERS = """
adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool1d adaptive_max_pool2d avg_pool1d avg_pool2d
binary_cross_entropy binary_cross_entropy_with_logits conv1d conv2d cosine_embedding_loss cosine_similarity
cross_entropy group_norm hinge_embedding_loss huber_loss instance_norm kl_div l1_loss layer_norm
margin_ranking_loss max_pool1d max_pool2d multi_margin_loss multilabel_margin_loss
multilabel_soft_margin_loss nll_loss normalize pairwise_distance rms_norm smooth_l1_loss soft_margin_loss
triplet_margin_loss
""".split()  # noqa: SIM905

# Of their samples every so manieth: they are all combinations of a few settings.
SOME = {"nn.functional.max_pool1d": 24, "nn.functional.max_pool2d": 40}

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
    "T": lambda x: x.T,
    "mT": lambda x: x.mT,
    "__getitem__": b.Tensor.__getitem__,
    "__radd__": b.Tensor.__radd__,
    "__rdiv__": b.Tensor.__rtruediv__,
    "__rmod__": b.Tensor.__rmod__,
    "__rmul__": b.Tensor.__rmul__,
    "__rpow__": b.Tensor.__rpow__,
    "__rsub__": b.Tensor.__rsub__,
    "__rmatmul__": b.Tensor.__rmatmul__,
    "einsum": lambda operands, equation: b.einsum(equation, *operands),
    "expand": b.Tensor.expand,
    "expand_as": b.Tensor.expand_as,
    "item": b.Tensor.item,
    "repeat": b.Tensor.repeat,
    "view": b.Tensor.view,
    "view_as": b.Tensor.view_as,
    "linalg.diagonal": b.diagonal,
    "linalg.inv": b.inv,
    "linalg.solve": b.solve,
    "nn.functional.pad.circular": b.pad,
    "nn.functional.pad.constant": b.pad,
    "nn.functional.pad.reflect": b.pad,
    "nn.functional.pad.replicate": b.pad,
    "nn.functional.pad.replicate_negative": b.pad,
    "where": lambda x, condition, y: b.where(condition, x, y),
    "linalg.vector_norm": b.vector_norm,
    "linspace.tensor_overload": b.linspace,
    "logspace.tensor_overload": b.logspace,
    "nn.functional.linear": b.nn.functional.linear,
    "nn.functional.mse_loss": b.nn.functional.mse_loss,
}

COVERED: dict[str, Callable[..., Any]] = {
    **{name: getattr(backstory, name.split(".")[0]) for name in SAME},
    **{f"nn.functional.{name}": getattr(backstory, name.split(".")[0]) for name in ACTIVATIONS},
    **{f"nn.functional.{name}": getattr(b.nn.functional, name) for name in LAYERS},
    **VARIANTS,
}

# Functions here of which op_db has an entry that says nothing about them, and why.
UNTRIED = {
    "empty": "what it holds is not defined",
    "empty_like": "what it holds is not defined",
    "double": "the name of a dtype here",
    "half": "the name of a dtype here",
    "long": "the name of a dtype here",
    "short": "the name of a dtype here",
    "linalg.norm": "norms of matrices are not offered, and backstory.norm is torch.norm",
    "rand_like": "random",
    "randint": "random",
    "randint_like": "random",
    "nn.functional.rrelu": "random",
    "randn": "random",
    "randn_like": "random",
}

# Where another dtype than float64 is not as in PyTorch; a gap that is closed must leave this list.
GAPS = {
    ("nn.functional.avg_pool1d", "int64"): "the mean of integers is refused here, as it is by mean()",
    ("nn.functional.avg_pool2d", "int64"): "the mean of integers is refused here, as it is by mean()",
    ("__rpow__", "int64"): "negative powers of integers are refused here; PyTorch makes 0 of them",
    ("__rpow__", "int32"): "negative powers of integers are refused here; PyTorch makes 0 of them",
}
