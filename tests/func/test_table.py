"""Every record of the table under every transform: against its own runs sample by sample, and PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
from support import SAMPLES, SMOOTH, close, draw, params, smooth_arguments

import backstory
from backstory import func
from backstory.tensor import apply

SIZE = 3


def batch(case) -> tuple[list[list[np.ndarray]], list[np.ndarray]]:
    """The arguments of each of SIZE samples, and the same stacked along a new first axis."""
    samples = [draw(case, seed) for seed in range(SIZE)]
    return samples, [np.stack(column) for column in zip(*samples, strict=True)]


def tensors(arrays: list[np.ndarray]) -> list[backstory.Tensor]:
    return [backstory.tensor(x) for x in arrays]


@pytest.mark.parametrize(**params(SAMPLES))
def test_vmap_equals_a_loop_over_the_samples(op, case):
    samples, stacked = batch(case)
    expected = [apply(op, *tensors(one), **case.params).numpy() for one in samples]
    result = func.vmap(lambda *args: apply(op, *args, **case.params))(*tensors(stacked))
    close(result.numpy(), np.stack(expected), rtol=1e-13)


@pytest.mark.parametrize(**params(SAMPLES))
def test_vmap_over_one_argument_shares_the_others(op, case):
    samples, stacked = batch(case)
    for i in range(len(stacked)):
        if op.name == "overwrite" and i == 1:
            continue
        shared = [stacked[j] if j == i else samples[0][j] for j in range(len(stacked))]
        alone = [[one[j] if j == i else samples[0][j] for j in range(len(stacked))] for one in samples]
        expected = [apply(op, *tensors(one), **case.params) for one in alone]
        dims = tuple(0 if j == i else None for j in range(len(stacked)))
        result = func.vmap(lambda *args: apply(op, *args, **case.params), dims)(*tensors(shared))
        close(result.numpy(), np.stack([x.numpy() for x in expected]), rtol=1e-13)


@pytest.mark.parametrize(**params(SMOOTH))
def test_gradients_of_each_sample_equal_those_of_the_sample_alone(op, case):
    samples, stacked = batch(case)
    smooth = tuple(smooth_arguments(samples[0]))
    shape = apply(op, *tensors(samples[0]), **case.params).shape
    weights = backstory.tensor(np.random.default_rng(7).normal(size=shape))

    def total(*args):
        return (apply(op, *args, **case.params) * weights).sum()

    alone = [func.grad(total, smooth)(*tensors(one)) for one in samples]
    together = func.vmap(func.grad(total, smooth))(*tensors(stacked))
    outside = func.grad(lambda *args: func.vmap(total)(*args).sum(), smooth)(*tensors(stacked))
    for place in range(len(smooth)):
        expected = np.stack([one[place].numpy() for one in alone])
        close(together[place].numpy(), expected, rtol=1e-12, atol=1e-12)
        close(outside[place].numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(**params(SMOOTH))
def test_forward_and_reverse_jacobians_are_equal(op, case):
    arrays = draw(case)
    smooth = tuple(smooth_arguments(arrays))
    function = lambda *args: apply(op, *args, **case.params)
    ahead = func.jacfwd(function, smooth)(*tensors(arrays))
    back = func.jacrev(function, smooth)(*tensors(arrays))
    for one, other in zip(ahead, back, strict=True):
        close(one.numpy(), other.numpy(), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(**params(SMOOTH))
def test_the_linear_function_of_linearize_is_jvp(op, case):
    arrays = draw(case)
    smooth = smooth_arguments(arrays)
    rng = np.random.default_rng(8)
    primals = tuple(backstory.tensor(arrays[i]) for i in smooth)
    tangents = tuple(backstory.tensor(rng.normal(size=arrays[i].shape)) for i in smooth)

    def function(*moving):
        args = tensors(arrays)
        for i, x in zip(smooth, moving, strict=True):
            args[i] = x
        return apply(op, *args, **case.params)

    value, pushforward = func.linearize(function, *primals)
    expected_value, expected = func.jvp(function, primals, tangents)
    close(value.numpy(), expected_value.numpy())
    close(pushforward(*tangents).numpy(), expected.numpy())
