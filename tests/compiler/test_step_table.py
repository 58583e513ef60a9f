"""Every record of the table, traced: its values, and its gradients in a step that calls backward()."""

from __future__ import annotations

import numpy as np
import pytest
from compiler.steps import BUILDERS, same, values
from support import SAMPLES, SMOOTH, draw, params, smooth_arguments

import backstory
from backstory.autograd import grad
from backstory.tensor import apply


@pytest.fixture(params=BUILDERS)
def build(request):
    return BUILDERS[request.param]


@pytest.mark.parametrize(**params(SAMPLES))
def test_values_equal_eager_in_every_call(op, case, build):
    step = backstory.compile(lambda *xs: apply(op, *xs, **case.params), build=build)
    with backstory.no_grad():
        for seed in (0, 1):
            arguments = [backstory.tensor(x) for x in draw(case, seed)]
            same(values(step(*arguments)), values(apply(op, *arguments, **case.params)))
    assert step.cache_info()[:2] == (1, 1)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(**params(SAMPLES))
def test_dtypes_equal_eager(op, case, dtype, build):
    arrays = [x.astype(dtype) if x.dtype.kind == "f" else x for x in draw(case)]
    arguments = [backstory.tensor(x) for x in arrays]
    try:
        expected = values(apply(op, *arguments, **case.params))
    except backstory.errors.BackstoryError:
        pytest.skip(f"{op.name} is not defined for {dtype}")
    with backstory.no_grad():
        found = backstory.compile(lambda *xs: apply(op, *xs, **case.params), build=build)(*arguments)
    same(values(found), expected)


@pytest.mark.parametrize(**params(SMOOTH))
def test_gradients_equal_eager_in_every_call(op, case, build):
    def gradients(*xs):
        leaves = [x.detach().requires_grad_() if x.dtype.kind == "f" else x for x in xs[:-1]]
        out = apply(op, *leaves, **case.params)
        out.backward(xs[-1])
        return out.detach(), [x.grad for x in leaves if x.dtype.kind == "f"]

    step = backstory.compile(gradients, build=build)
    for seed in (0, 1):
        arguments = [backstory.tensor(x) for x in draw(case, seed)]
        with backstory.no_grad():
            shape = apply(op, *arguments, **case.params).shape
        upstream = backstory.tensor(np.random.default_rng(seed + 5).normal(size=shape))
        same(values(step(*arguments, upstream)), values(gradients(*arguments, upstream)))
    assert step.cache_info()[:2] == (1, 1)


@pytest.mark.parametrize(**params(SMOOTH))
def test_second_derivatives_equal_eager(op, case, build):
    smooth = smooth_arguments(draw(case))

    def second(*xs):
        leaves = [x.detach().requires_grad_() if i in smooth else x for i, x in enumerate(xs)]
        out = apply(op, *leaves, **case.params)
        first = grad((out * out).sum(), [leaves[i] for i in smooth], create_graph=True)
        total = sum((g * g * 0.5).sum() for g in first)
        if not total.requires_grad:
            return [g.detach() for g in first]
        return list(grad(total, [leaves[i] for i in smooth], materialize_grads=True))

    arguments = [backstory.tensor(x) for x in draw(case)]
    same(values(backstory.compile(second, build=build)(*arguments)), values(second(*arguments)))
