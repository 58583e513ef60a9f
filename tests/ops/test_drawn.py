"""Every record on drawn shapes, dtypes and entries. Oracle: PyTorch, and the rules' own algebra."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from drawn import EVERY, FLOATS, SEEDS, WHOLE, cases_of, drawn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import close, forward, leaf, smooth_arguments, torch_leaf, torch_result

import backstory
from backstory.arrays import eager
from backstory.errors import ArgumentError, BackstoryError, BoundsError
from backstory.ops import Case, Op, unbroadcast
from backstory.tensor import apply

REFUSED = (RuntimeError, IndexError, TypeError, ValueError, NotImplementedError)
# What PyTorch takes and we refuse, loudly, in a record; where a function takes it, it does so itself.
STRICTER = {
    "pow": "an integer to a negative power is no integer",
    "median": "of no integers",
    "flip": "a scalar has no axis",
    "solve": "of no equations in half precision, which PyTorch has no others of",
    "roll": "an axis must be there, also of an empty tensor",
    "index_add": "an index must be in bounds, also where nothing is there",
    "cross_entropy": "labels of no class",
    "conv": "two dtypes, also of an empty batch",
    "matmul": "two dtypes, also of an empty batch",
}
# What PyTorch refuses and a record takes, whatever the dtypes.
LAXER = {
    "bce": "the function checks that predictions are between 0 and 1",
    "tril": "a vector is a row",
    "triu": "a vector is a row",
    "solve": "a singular matrix, where there is no right side",
}
# The records whose gradient differs from PyTorch's where an entry is special, and why.
OTHER_GRADIENT = {
    "softsign": "at infinity 0, the limit, where PyTorch has NaN",
    "bce": "of the labels: the bounded logarithm's, where PyTorch's is infinite; its 1e-12 is a float32",
}
# The records whose gradient at NaN PyTorch lets the place decide: in vector registers it is another than in
# the rest after the last whole one (relu6 of 1 NaN and of 64, for example). Ours is the rest's.
IN_REGISTERS = {"relu6", "hardtanh", "hardswish", "softshrink", "hardshrink", "elu", "selu", "celu"}
# And where one NaN alone has no spread: PyTorch has infinity without an axis, and NaN with one.
UNDECIDED_AT_NAN = IN_REGISTERS | {"var"}
# The records whose dtype differs from PyTorch's for whole numbers, and why.
OTHER_DTYPE = {
    "any": "bool, where PyTorch has uint8 for uint8",
    "all": "bool, where PyTorch has uint8 for uint8",
    "softmax": "a float, where PyTorch has the dtype of an empty tensor of integers",
    "log_softmax": "a float, where PyTorch has the dtype of an empty tensor of integers",
}
EPS = {np.dtype("float16"): 5e-3, np.dtype("float32"): 1e-5, np.dtype("float64"): 1e-11}

STEP = 1e-6

records = pytest.mark.parametrize("op", EVERY, ids=lambda op: op.name)
differentiable = pytest.mark.parametrize(
    "op", [op for op in EVERY if op.differentiable], ids=lambda op: op.name
)
quick = settings(suppress_health_check=list(HealthCheck), max_examples=settings.default.max_examples * 5 // 8)


def test_every_record_is_drawn():
    assert all(cases_of(op) for op in EVERY)


@pytest.mark.parametrize("rule", [backstory.floor_divide, backstory.remainder, backstory.fmod])
def test_integers_by_zero_are_refused_and_floats_are_not(rule):
    with pytest.raises(ArgumentError, match="divisor of 0"):
        rule(backstory.tensor([1, 2]), backstory.tensor([0, 1]))
    assert rule(backstory.tensor(np.zeros(0, np.int64)), 0).shape == (0,)
    assert not np.isfinite(rule(backstory.tensor([1.0]), 0.0).numpy()).any()


def test_an_axis_that_is_not_there_is_refused_also_of_scalars_and_empty_tensors():
    for rule in (backstory.cumsum, backstory.cumprod):
        with pytest.raises(BoundsError):
            rule(backstory.tensor(1.0), 1)
    for rule in (backstory.softmax, backstory.log_softmax):
        with pytest.raises(BoundsError):
            rule(backstory.tensor(np.zeros(0)), 1)


def _theirs(op: Op, case: Case, arrays: list[Any]) -> tuple[list[torch.Tensor], torch.Tensor | None]:
    """PyTorch's arguments and result; ``None`` for what it refuses."""
    leaves = [torch_leaf(x) for x in arrays]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's, of too few degrees of freedom
        try:
            return leaves, torch_result(op, case, leaves)
        except REFUSED:
            return leaves, None


def _agree(actual: np.ndarray, expected: np.ndarray, dtype: Any, same_dtype: bool = True) -> None:
    expected = expected if same_dtype else expected.astype(actual.dtype)
    eps = EPS.get(np.dtype(dtype), 0.0)
    close(actual, expected, rtol=eps, atol=eps)


def _as_floats(op: Op, case: Case, arrays: list[Any], out: np.ndarray) -> None:
    """What only PyTorch refuses, for its dtypes, has the value that the numbers have as floats."""
    numbers = [isinstance(shape, tuple) and shape[:1] != ("index",) for shape in case.shapes]
    chosen = [x.astype(np.float64) if number else x for x, number in zip(arrays, numbers, strict=True)]
    _, expected = _theirs(op, case, chosen)
    assert expected is not None or op.name in LAXER
    if expected is not None:
        wanted = expected.detach().numpy()
        if out.dtype.kind in "biu":  # in which unsigned numbers go round
            wanted = (wanted if out.dtype == bool else wanted.astype(np.int64)).astype(out.dtype)
        eps = max(EPS.get(out.dtype, 0.0), 1e-6)
        np.testing.assert_allclose(out, wanted, rtol=eps, atol=eps)


@records
@quick
@given(data=st.data())
def test_any_draw_has_pytorchs_value_and_gradient_or_is_refused_unchanged(op, data):
    dtypes = (*FLOATS, *FLOATS, *WHOLE)
    case, arrays = data.draw(drawn(op, dtypes, special=True))
    before = [x.copy() for x in arrays]
    leaves, expected = _theirs(op, case, arrays)
    mine = [leaf(x) for x in arrays]
    try:
        out = apply(op, *mine, **case.params)
    except BackstoryError:
        assert expected is None or op.name in STRICTER
        assert all(x.grad_fn is None and x._version == 0 for x in mine)
    else:
        value = out.detach().numpy()
        if expected is None:
            _as_floats(op, case, arrays, value)
        else:
            _agree(value, expected.detach().numpy(), out.dtype, op.name not in OTHER_DTYPE)
        if out.requires_grad:
            _compare_gradients(op, mine, leaves, out, expected)
    for x, tensor, saved in zip(arrays, mine, before, strict=True):
        np.testing.assert_array_equal(x, saved)
        np.testing.assert_array_equal(tensor.detach().numpy(), saved)


def _compare_gradients(op: Op, mine: Any, theirs: Any, out: Any, expected: torch.Tensor | None) -> None:
    out.backward(np.ones(out.shape, out.dtype))
    for x in mine:
        assert not x.requires_grad or (x.grad.shape == x.shape and x.grad.dtype == x.dtype)
    if expected is None or op.name in OTHER_GRADIENT:
        return
    try:
        expected.backward(torch.ones_like(expected))
    except RuntimeError:  # PyTorch's own derivative of a clamp whose bounds broadcast, and of bools
        return
    for x, y in zip(mine, theirs, strict=True):
        if x.requires_grad:
            g = torch.zeros_like(y) if y.grad is None else y.grad
            decided = ~np.isnan(x.detach().numpy()) | (op.name not in UNDECIDED_AT_NAN)
            eps_of = min((x.dtype, out.dtype), key=lambda d: d.itemsize)
            _agree(x.grad.numpy()[decided], g.numpy()[decided], eps_of)


def _rules(op: Op, case: Case, arrays: list[Any], i: int, g: np.ndarray, t: np.ndarray) -> tuple[Any, Any]:
    """The cotangent of argument ``i``, and the tangent of the output along it."""
    ans = np.asarray(forward(op, arrays, case))
    with np.errstate(all="ignore"):
        pulled = op.vjp(eager, i, g, ans, arrays, arrays[i].shape, case.params)
        pulled = unbroadcast(eager, np.broadcast_to(pulled, np.shape(pulled)), arrays[i].shape)
        tangents = [t if j == i else None for j in range(len(arrays))]
        return pulled, op.jvp(eager, tangents, ans, arrays, case.params)


@differentiable
@quick
@given(data=st.data())
def test_on_any_draw_vjp_is_the_transpose_of_jvp_and_jvp_the_limit_of_differences(op, data):
    case, arrays = data.draw(drawn(op, ("float64",), special=False))
    if op.name == "cast":
        case = Case(case.shapes, {"dtype": np.dtype("float64")})
    try:
        ans = apply(op, *map(backstory.tensor, arrays), **case.params).numpy()
    except BackstoryError:  # what it refuses is compared above
        return
    if not np.isfinite(ans).all():  # of no entries, and of too few
        return
    rng = np.random.default_rng(data.draw(SEEDS))
    g = np.asarray(rng.normal(size=ans.shape))
    for i in smooth_arguments(arrays):
        t = np.asarray(rng.normal(size=arrays[i].shape))
        pulled, pushed = _rules(op, case, arrays, i, g, t)
        scale = 1.0 + np.abs(g * pushed).sum() + np.abs(pulled * t).sum()
        assert abs((g * pushed).sum() - (pulled * t).sum()) <= 1e-11 * scale
        ahead, behind = list(arrays), list(arrays)
        ahead[i], behind[i] = arrays[i] + STEP * t, arrays[i] - STEP * t
        expected = (forward(op, ahead, case) - forward(op, behind, case)) / (2 * STEP)
        close(pushed, expected, rtol=1e-5, atol=1e-7 * (1.0 + np.abs(expected).max(initial=0.0) ** 2))
