"""Functions as methods: ``x.exp()`` is ``backstory.exp(x)``, the very same function.

A function whose first parameter is the tensor is a method once its name stands in an import below;
``exp_ = in_place(exp)`` makes the one that changes the tensor itself. Signatures and docstrings are the
function's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from backstory.core import apply
from backstory.indexing import index_level, raw_index
from backstory.inplace import in_place
from backstory.ops import TABLE
from backstory.places import take_at

if TYPE_CHECKING:
    from backstory.tensor import Tensor

__all__ = ["Methods"]


class Methods:
    """Functions, reductions and shapes."""

    __slots__ = ()

    if TYPE_CHECKING:

        @property
        def shape(self) -> tuple[int, ...]: ...
        @property
        def ndim(self) -> int: ...

    from backstory.functions.activation import log_softmax, relu, sigmoid, softmax
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
    )
    from backstory.functions.cumulative import cumprod, cumsum
    from backstory.functions.extrema import amax, amin, aminmax, argmax, argmin, max, min
    from backstory.functions.order import argsort, kthvalue, median, msort, sort, topk, unique
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

    abs_ = in_place(abs)
    absolute_ = in_place(absolute)
    acos_ = in_place(acos)
    acosh_ = in_place(acosh)
    addcdiv_ = in_place(addcdiv)
    addcmul_ = in_place(addcmul)
    asin_ = in_place(asin)
    asinh_ = in_place(asinh)
    atan_ = in_place(atan)
    atan2_ = in_place(atan2)
    atanh_ = in_place(atanh)
    ceil_ = in_place(ceil)
    clamp_ = in_place(clamp)
    clamp_max_ = in_place(clamp_max)
    clamp_min_ = in_place(clamp_min)
    clip_ = in_place(clip)
    cos_ = in_place(cos)
    cosh_ = in_place(cosh)
    cumprod_ = in_place(cumprod)
    cumsum_ = in_place(cumsum)
    divide_ = in_place(divide)
    eq_ = in_place(eq)
    erf_ = in_place(erf)
    erfc_ = in_place(erfc)
    exp_ = in_place(exp)
    exp2_ = in_place(exp2)
    expm1_ = in_place(expm1)
    floor_ = in_place(floor)
    floor_divide_ = in_place(floor_divide)
    fmod_ = in_place(fmod)
    frac_ = in_place(frac)
    ge_ = in_place(ge)
    gt_ = in_place(gt)
    hypot_ = in_place(hypot)
    le_ = in_place(le)
    lerp_ = in_place(lerp)
    log_ = in_place(log)
    log10_ = in_place(log10)
    log1p_ = in_place(log1p)
    log2_ = in_place(log2)
    logical_and_ = in_place(logical_and)
    logical_not_ = in_place(logical_not)
    logical_or_ = in_place(logical_or)
    logical_xor_ = in_place(logical_xor)
    lt_ = in_place(lt)
    masked_fill_ = in_place(masked_fill)
    multiply_ = in_place(multiply)
    nan_to_num_ = in_place(nan_to_num)
    ne_ = in_place(ne)
    neg_ = in_place(neg)
    negative_ = in_place(negative)
    reciprocal_ = in_place(reciprocal)
    relu_ = in_place(relu)
    remainder_ = in_place(remainder)
    round_ = in_place(round)
    rsqrt_ = in_place(rsqrt)
    sgn_ = in_place(sgn)
    sigmoid_ = in_place(sigmoid)
    sign_ = in_place(sign)
    sin_ = in_place(sin)
    sinh_ = in_place(sinh)
    sqrt_ = in_place(sqrt)
    square_ = in_place(square)
    subtract_ = in_place(subtract)
    tan_ = in_place(tan)
    tanh_ = in_place(tanh)
    true_divide_ = in_place(true_divide)
    trunc_ = in_place(trunc)

    def __getitem__(self, index: Any) -> Tensor:
        if index_level(index):
            return take_at(self, index)
        return apply(TABLE["getitem"], self, index=raw_index(index))

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("len() of a 0-d tensor")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))
