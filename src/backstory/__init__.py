"""backstory: an autograd engine and neural-network library that can say why a network does what it does.

>>> import backstory
>>> x = backstory.tensor(2.0); w = backstory.tensor(3.0, requires_grad=True)
>>> ((w * x + 1.0 - 5.0) ** 2).backward()
>>> w.grad
tensor(8.)
"""

from __future__ import annotations

from typing import Any

import numpy as _np

from backstory.arrays import Generator, manual_seed
from backstory.autograd.modes import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    relu_derivative_at_zero,
    set_grad_enabled,
)
from backstory.functions import (
    activation,
    arithmetic,
    comparison,
    creation,
    cumulative,
    extrema,
    joining,
    linalg,
    order,
    placement,
    reduction,
    selection,
    shape,
    summation,
    transcendental,
)
from backstory.functions.activation import (
    celu,
    elu,
    gelu,
    glu,
    hardshrink,
    hardsigmoid,
    hardswish,
    hardtanh,
    leaky_relu,
    log_softmax,
    logsigmoid,
    mish,
    prelu,
    relu,
    relu6,
    rrelu,
    selu,
    sigmoid,
    silu,
    softmax,
    softplus,
    softshrink,
    softsign,
    threshold,
)
from backstory.functions.arithmetic import (
    abs,
    absolute,
    add,
    addcdiv,
    addcmul,
    ceil,
    div,
    divide,
    floor,
    floor_divide,
    fmod,
    frac,
    hypot,
    lerp,
    mul,
    multiply,
    neg,
    negative,
    positive,
    pow,
    reciprocal,
    remainder,
    round,
    rsqrt,
    sgn,
    sign,
    square,
    sub,
    subtract,
    true_divide,
    trunc,
)
from backstory.functions.comparison import (
    allclose,
    clamp,
    clamp_max,
    clamp_min,
    clip,
    eq,
    equal,
    fmax,
    fmin,
    ge,
    greater,
    greater_equal,
    gt,
    isclose,
    isfinite,
    isinf,
    isnan,
    isneginf,
    isposinf,
    le,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    lt,
    masked_fill,
    maximum,
    minimum,
    nan_to_num,
    ne,
    not_equal,
    where,
)
from backstory.functions.creation import (
    arange,
    empty,
    empty_like,
    eye,
    from_numpy,
    full,
    full_like,
    linspace,
    logspace,
    meshgrid,
    ones,
    ones_like,
    rand,
    rand_like,
    randint,
    randint_like,
    randn,
    randn_like,
    randperm,
    zeros,
    zeros_like,
)
from backstory.functions.cumulative import cumprod, cumsum
from backstory.functions.extrema import amax, amin, aminmax, argmax, argmin, max, min
from backstory.functions.joining import (
    atleast_1d,
    atleast_2d,
    cat,
    chunk,
    concat,
    concatenate,
    flip,
    fliplr,
    flipud,
    hstack,
    pad,
    roll,
    rot90,
    split,
    stack,
    unbind,
    vstack,
)
from backstory.functions.linalg import (
    addbmm,
    addmm,
    addmv,
    addr,
    baddbmm,
    bmm,
    diag,
    diag_embed,
    diagonal,
    dot,
    inner,
    inv,
    inverse,
    kron,
    matmul,
    mm,
    mv,
    outer,
    solve,
    tensordot,
    trace,
    tril,
    triu,
    vdot,
)
from backstory.functions.order import argsort, kthvalue, median, msort, sort, topk, unique
from backstory.functions.placement import (
    index_add,
    index_copy,
    index_fill,
    scatter,
    scatter_add,
)
from backstory.functions.reduction import (
    all,
    any,
    count_nonzero,
    dist,
    logsumexp,
    mean,
    nanmean,
    nansum,
    norm,
    prod,
    std,
    std_mean,
    sum,
    var,
    var_mean,
    vector_norm,
)
from backstory.functions.selection import (
    argwhere,
    gather,
    index_select,
    masked_select,
    narrow,
    nonzero,
    select,
    take,
    take_along_dim,
)
from backstory.functions.shape import (
    broadcast_tensors,
    broadcast_to,
    clone,
    flatten,
    moveaxis,
    movedim,
    permute,
    ravel,
    reshape,
    squeeze,
    swapaxes,
    swapdims,
    t,
    tile,
    transpose,
    unflatten,
    unsqueeze,
)
from backstory.functions.summation import (
    einsum,
)
from backstory.functions.transcendental import (
    acos,
    acosh,
    asin,
    asinh,
    atan,
    atan2,
    atanh,
    cos,
    cosh,
    erf,
    erfc,
    exp,
    exp2,
    expm1,
    log,
    log1p,
    log2,
    log10,
    logaddexp,
    sin,
    sinh,
    sqrt,
    tan,
    tanh,
)
from backstory.lazy import named as _named
from backstory.promotion import get_default_dtype, set_default_dtype
from backstory.tensor import Tensor, as_tensor, tensor

__version__ = "0.1.0"

half = float16 = _np.dtype("float16")
float = float32 = _np.dtype("float32")
double = float64 = _np.dtype("float64")
uint8, int8 = _np.dtype("uint8"), _np.dtype("int8")
short = int16 = _np.dtype("int16")
int = int32 = _np.dtype("int32")
long = int64 = _np.dtype("int64")
bool = _np.dtype("bool")

# Loaded when first named, so that `import backstory` costs little more than `import numpy`.
_LAZY = {
    "array_api": "",
    "autograd": "",
    "data": "",
    "func": "",
    "insight": "",
    "layers": "",
    "nn": "",
    "optim": "",
    "plots": "",
    "report": "",
    "scalar": "",
    "check": "autograd.check",
    "compile": "compiler",
    "fit": "training",
    "load": "saving",
    "save": "saving",
    "summary": "nn",
    "compare_differentiation": "insight.differentiation",
    "compare_modes": "insight.differentiation",
    "Change": "insight",
    "experiment": "insight",
    "explain": "insight",
    "gradient_factors": "insight",
    "lint": "insight",
    "open_run": "insight",
    "suggest_activation": "insight",
    "vmap": "func",
    "watch": "insight",
    "why": "insight",
}


def __getattr__(name: str) -> Any:
    return _named(__name__, _LAZY, name)


__all__ = [
    "Generator",
    "Tensor",
    "as_tensor",
    "double",
    "enable_grad",
    "float16",
    "float32",
    "float64",
    "get_default_dtype",
    "half",
    "inference_mode",
    "int8",
    "int16",
    "int32",
    "int64",
    "is_grad_enabled",
    "is_inference_mode_enabled",
    "long",
    "manual_seed",
    "no_grad",
    "relu_derivative_at_zero",
    "set_default_dtype",
    "set_grad_enabled",
    "short",
    "tensor",
    "uint8",
]
__all__ += activation.__all__
__all__ += arithmetic.__all__
__all__ += comparison.__all__
__all__ += creation.__all__
__all__ += cumulative.__all__
__all__ += extrema.__all__
__all__ += joining.__all__
__all__ += linalg.__all__
__all__ += order.__all__
__all__ += placement.__all__
__all__ += reduction.__all__
__all__ += selection.__all__
__all__ += shape.__all__
__all__ += summation.__all__
__all__ += transcendental.__all__
