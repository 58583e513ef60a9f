"""Every record of the table, sampled as it says itself."""

from __future__ import annotations

import array_api_strict
import numpy as np
import pytest
import torch
from support import (
    SAMPLES,
    SMOOTH,
    WITHOUT_CASES,
    close,
    draw,
    forward,
    leaf,
    params,
    smooth_arguments,
    strict,
    torch_leaf,
    torch_result,
)

import backstory
from backstory.arrays import eager
from backstory.autograd import grad
from backstory.ops import TABLE, unbroadcast
from backstory.tensor import apply

STEP = 1e-6


def test_every_record_has_cases_or_is_a_listed_exemption():
    assert {op.name for op in TABLE.values() if not op.cases} == WITHOUT_CASES


def test_every_record_says_how_it_reads():
    for op in TABLE.values():
        assert op.formula, op.name
        assert len(op.derivative) == op.arguments, op.name


def test_every_record_is_found_by_its_own_name():
    assert all(name == op.name for name, op in TABLE.items())


@pytest.mark.parametrize(**params(SAMPLES))
def test_forward_equals_pytorch(op, case):
    arrays = draw(case)
    expected = torch_result(op, case, [torch.tensor(x) for x in arrays])
    out = apply(op, *map(backstory.tensor, arrays), **case.params)
    close(out.numpy(), expected.numpy())


@pytest.mark.parametrize(**params(SMOOTH))
def test_gradients_equal_pytorch(op, case):
    arrays = draw(case)
    mine, theirs = [leaf(x) for x in arrays], [torch_leaf(x) for x in arrays]
    out, expected = apply(op, *mine, **case.params), torch_result(op, case, theirs)
    upstream = np.random.default_rng(1).normal(size=out.shape)
    out.backward(upstream)
    expected.backward(torch.tensor(upstream))
    for i in smooth_arguments(arrays):
        expected = torch.zeros_like(theirs[i]) if theirs[i].grad is None else theirs[i].grad
        close(mine[i].grad.numpy(), expected.numpy())


@pytest.mark.parametrize(**params(SMOOTH))
def test_jvp_equals_central_differences(op, case):
    arrays = draw(case)
    ans = forward(op, arrays, case)
    for i in smooth_arguments(arrays):
        t = np.random.default_rng(2).normal(size=arrays[i].shape)
        tangents = [t if j == i else None for j in range(len(arrays))]
        ahead, behind = list(arrays), list(arrays)
        ahead[i], behind[i] = arrays[i] + STEP * t, arrays[i] - STEP * t
        expected = (forward(op, ahead, case) - forward(op, behind, case)) / (2 * STEP)
        close(op.jvp(eager, tangents, ans, arrays, case.params), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(**params(SMOOTH))
def test_jvp_in_all_arguments_is_the_sum_of_the_single_ones(op, case):
    arrays = draw(case)
    ans = forward(op, arrays, case)
    rng = np.random.default_rng(3)
    smooth = smooth_arguments(arrays)
    tangents = [rng.normal(size=x.shape) if i in smooth else None for i, x in enumerate(arrays)]
    singles = [[t if j == i else None for j, t in enumerate(tangents)] for i in smooth]
    together = op.jvp(eager, tangents, ans, arrays, case.params)
    close(together, sum(op.jvp(eager, single, ans, arrays, case.params) for single in singles))


@pytest.mark.parametrize(**params(SMOOTH))
def test_vjp_is_the_transpose_of_jvp(op, case):
    arrays = draw(case)
    ans = forward(op, arrays, case)
    rng = np.random.default_rng(4)
    g = np.asarray(rng.normal(size=ans.shape))
    for i in smooth_arguments(arrays):
        t = np.asarray(rng.normal(size=arrays[i].shape))
        tangents = [t if j == i else None for j in range(len(arrays))]
        pulled = op.vjp(eager, i, g, ans, arrays, arrays[i].shape, case.params)
        pulled = unbroadcast(eager, np.asarray(pulled), arrays[i].shape)
        close((g * op.jvp(eager, tangents, ans, arrays, case.params)).sum(), (pulled * t).sum(), 1e-11)


@pytest.mark.parametrize(**params(SMOOTH))
def test_vjp_reads_only_what_the_record_says_it_keeps(op, case):
    arrays = draw(case)
    ans = forward(op, arrays, case)
    g = np.ones_like(ans)
    keeps = op.keeps(case.params) if callable(op.keeps) else op.keeps
    for i in smooth_arguments(arrays):
        kept = [x if j in keeps[i] else None for j, x in enumerate(arrays)]
        shape = arrays[i].shape
        full = op.vjp(eager, i, g, ans, arrays, shape, case.params)
        close(op.vjp(eager, i, g, ans if op.keeps_ans else None, kept, shape, case.params), full)


@pytest.mark.parametrize(**params(SMOOTH))
def test_second_derivatives_equal_pytorch(op, case):
    arrays = draw(case)
    mine, theirs = [leaf(x) for x in arrays], [torch_leaf(x) for x in arrays]
    smooth = smooth_arguments(arrays)
    rng = np.random.default_rng(5)
    out, expected = apply(op, *mine, **case.params), torch_result(op, case, theirs)
    upstream = rng.normal(size=out.shape)
    weights = {i: rng.normal(size=arrays[i].shape) for i in smooth}
    v, torch_v = leaf(upstream), torch.tensor(upstream, requires_grad=True)
    first = grad(out, [mine[i] for i in smooth], v, create_graph=True)
    torch_first = torch.autograd.grad(
        expected, [theirs[i] for i in smooth], torch_v, create_graph=True, materialize_grads=True
    )
    total = sum((x * backstory.tensor(weights[i])).sum() for i, x in zip(smooth, first, strict=True))
    torch_total = sum((x * torch.tensor(weights[i])).sum() for i, x in zip(smooth, torch_first, strict=True))
    wanted = [*(mine[i] for i in smooth), v]
    none = [None] * len(wanted)  # of a derivative that is constant
    second = grad(total, wanted, allow_unused=True) if total.requires_grad else none
    torch_wanted = [*(theirs[i] for i in smooth), torch_v]
    torch_second = (
        torch.autograd.grad(torch_total, torch_wanted, allow_unused=True)
        if torch_total.requires_grad
        else none
    )
    for x, mine_, theirs_ in zip(wanted, second, torch_second, strict=True):
        zero = np.zeros(x.shape)
        close(
            zero if mine_ is None else mine_.numpy(),
            zero if theirs_ is None else theirs_.numpy(force=True),
            rtol=1e-10,
        )


@pytest.mark.parametrize(**params(SMOOTH))
def test_second_derivatives_equal_differences_of_the_gradient(op, case):
    arrays = draw(case)
    smooth = smooth_arguments(arrays)
    rng = np.random.default_rng(6)
    upstream = rng.normal(size=forward(op, arrays, case).shape)
    directions = [rng.normal(size=x.shape) if i in smooth else None for i, x in enumerate(arrays)]

    def gradients(step: float) -> list[np.ndarray]:
        moved = [x if d is None else x + step * d for x, d in zip(arrays, directions, strict=True)]
        leaves = [leaf(x) for x in moved]
        out = apply(op, *leaves, **case.params)
        return [x.numpy() for x in grad(out, [leaves[i] for i in smooth], upstream)]

    leaves = [leaf(x) for x in arrays]
    first = grad(apply(op, *leaves, **case.params), [leaves[i] for i in smooth], upstream, create_graph=True)
    along = zip(gradients(STEP), gradients(-STEP), strict=True)
    for g, (ahead, behind) in zip(first, along, strict=True):
        weights = rng.normal(size=g.shape)
        expected = ((ahead - behind) / (2 * STEP) * weights).sum()
        total = (g * backstory.tensor(weights)).sum()
        parts = (
            grad(total, [leaves[i] for i in smooth], retain_graph=True, allow_unused=True)
            if total.requires_grad
            else [None] * len(smooth)
        )
        actual = sum(
            (0.0 if h is None else (h.numpy() * directions[i]).sum())
            for i, h in zip(smooth, parts, strict=True)
        )
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(**params(SAMPLES))
def test_no_rule_changes_its_arguments(op, case):
    arrays = draw(case)
    before = [x.copy() for x in arrays]
    for x in arrays:
        x.flags.writeable = False
    ans = np.asarray(forward(op, arrays, case))
    ans.flags.writeable = False
    if op.differentiable:
        g = np.ones_like(ans)
        g.flags.writeable = False
        for i in smooth_arguments(arrays):
            op.vjp(eager, i, g, ans, arrays, arrays[i].shape, case.params)
            t = np.ones_like(arrays[i])
            t.flags.writeable = False
            op.jvp(eager, [t if j == i else None for j in range(len(arrays))], ans, arrays, case.params)
    for x, saved in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(x, saved)


@pytest.mark.parametrize(**params(SAMPLES))
def test_rules_use_nothing_outside_the_array_api_standard(op, case):
    arrays = draw(case)
    xp = array_api_strict
    ans = forward(op, arrays, case)
    strict_arrays = [strict(x) for x in arrays]
    strict_ans = forward(op, strict_arrays, case, xp)
    close(strict_ans, ans, rtol=1e-15)
    if not op.differentiable:
        return
    rng = np.random.default_rng(7)
    g = np.asarray(rng.normal(size=np.shape(ans)))
    for i in smooth_arguments(arrays):
        shape = arrays[i].shape
        pulled = unbroadcast(eager, np.asarray(op.vjp(eager, i, g, ans, arrays, shape, case.params)), shape)
        strict_pulled = op.vjp(xp, i, strict(g), strict_ans, strict_arrays, shape, case.params)
        close(unbroadcast(xp, strict_pulled, shape), pulled, rtol=1e-15)
        t = np.asarray(rng.normal(size=shape))
        places = range(len(arrays))
        pushed = op.jvp(eager, [t if j == i else None for j in places], ans, arrays, case.params)
        strict_tangents = [strict(t) if j == i else None for j in places]
        close(op.jvp(xp, strict_tangents, strict_ans, strict_arrays, case.params), pushed, rtol=1e-15)


@pytest.mark.parametrize(**params(SMOOTH))
def test_float32_stays_float32(op, case):
    arrays = [x.astype(np.float32) if x.dtype.kind == "f" else x for x in draw(case)]
    ans = np.asarray(forward(op, arrays, case))
    assert ans.dtype == np.float32
    for i in smooth_arguments(arrays):
        g, t = np.ones_like(ans), np.ones_like(arrays[i])
        assert op.vjp(eager, i, g, ans, arrays, arrays[i].shape, case.params).dtype == np.float32
        tangents = [t if j == i else None for j in range(len(arrays))]
        assert op.jvp(eager, tangents, ans, arrays, case.params).dtype == np.float32


TWO = [name for name in TABLE if name in {"add", "sub", "mul", "div", "pow", "maximum"}]


@pytest.mark.parametrize("scalar", [2, 0.5])
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("name", TWO)
@pytest.mark.parametrize("kind", ["numpy", "strict"])
def test_python_scalars_are_weak_in_every_rule(name, place, scalar, kind):
    op = TABLE[name]
    x = np.array([0.25, 3.0], np.float32)
    xp, x = (eager, x) if kind == "numpy" else (array_api_strict, strict(x))
    arrays = [x, scalar] if place == 0 else [scalar, x]
    ans = op.forward(xp, *arrays)
    tangents = [x, None] if place == 0 else [None, x]
    rules = (ans, op.vjp(xp, place, x, ans, arrays, (2,), {}), op.jvp(xp, tangents, ans, arrays, {}))
    assert [r.dtype for r in rules] == [x.dtype] * 3
    full = [op.forward(xp, *(xp.asarray(a, dtype=x.dtype) for a in arrays))]
    close(ans, full[0], rtol=1e-6)


@pytest.mark.parametrize(**params(SAMPLES))
def test_rules_run_on_tensors_give_the_arrays_results(op, case):
    arrays = draw(case)
    out = apply(op, *map(backstory.tensor, arrays), **case.params)
    close(out.numpy(), forward(op, arrays, case))
    assert not out.requires_grad
