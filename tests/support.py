"""Samples of the operations and the oracles that they are compared with."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import array_api_strict
import numpy as np
import torch

import backstory
from backstory.arrays import eager
from backstory.ops import TABLE, Case, Op

# The records that no case can sample: a dtype is not a float to differentiate by.
WITHOUT_CASES = {"cast"}
# The records without a function of that name in PyTorch; their oracle is in TORCH below.
TORCH: dict[str, Callable[..., Any]] = {
    "cast": lambda x, dtype: x.to(getattr(torch, dtype.name)),
    "put": lambda x, index, shape: _torch_scatter(x, index, shape),
    "take": lambda x, index, axis, length: torch.index_select(x, axis, index),
    "index_add": lambda x, index, axis, length: _torch_index_add(x, index, axis, length),
    "overwrite": lambda x, part, view, of: _torch_overwrite(x, part, of["index"]),
    "concat": lambda *parts, axis, sizes: torch.cat(parts, axis),
    "flip": lambda x, axes: torch.flip(x, axes),
    "roll": lambda x, shifts, axes: torch.roll(x, shifts, axes),
    "diagonal": lambda x, offset: torch.diagonal(x, offset, -2, -1),
    "diag_embed": lambda x, offset, shape: torch.diag_embed(x, offset),
    "tril": lambda x, k=0: torch.tril(x, k),
    "triu": lambda x, k=0: torch.triu(x, k),
    "max": lambda x, axis=None, keepdims=False, first=False: _torch_extreme("max", x, axis, keepdims, first),
    "min": lambda x, axis=None, keepdims=False, first=False: _torch_extreme("min", x, axis, keepdims, first),
    "any": lambda x, axis=None, keepdims=False: torch.any(x, axis, keepdims),
    "all": lambda x, axis=None, keepdims=False: torch.all(x, axis, keepdims),
    "vector_norm": lambda x, order=2.0, axis=None, keepdims=False: torch.linalg.vector_norm(
        x, order, axis, keepdims
    ),
    "floor_divide": lambda x, y: torch.div(x, y, rounding_mode="floor"),
    "where": torch.where,
    "getitem": lambda x, index: operator.getitem(x, index),
    "relu": lambda x, at_zero=0.0: torch.relu(x),
    "permute": lambda x, axes: x.permute(axes),
    "broadcast_to": lambda x, shape: torch.broadcast_to(x, shape),
    "mse": torch.nn.functional.mse_loss,
    "bce": lambda x, y: torch.nn.functional.binary_cross_entropy(x, y, reduction="none"),
    "conv": lambda x, weight, windows, groups, size: torch.nn.functional.conv2d(
        x, weight, None, windows.stride, 0, windows.dilation, groups
    ),
    "unfold": lambda x, windows, size: _torch_unfold(x, windows),
    "fold": lambda x, windows, size: torch.nn.functional.fold(
        x.flatten(4).flatten(1, 3), size, windows.kernel, windows.dilation, 0, windows.stride
    ),
    "prelu": lambda x, slope: _torch_prelu(x, slope),
    "rrelu": lambda x, slope: _torch_prelu(x, slope),
    "atan2": lambda y, x: torch.atan2(*_promoted(y, x)),
    "lerp": lambda x, y, weight: _torch_lerp(x, y, weight),
    "solve": lambda a, b: _torch_solve(a, b),
    "threshold": lambda x, threshold=0.0, value=0.0: torch.nn.functional.threshold(x, threshold, value),
    "hardsigmoid": lambda x: _torch_hardsigmoid(x),
}

SAMPLES = [(op, case, f"{op.name}-{number}") for op in TABLE.values() for number, case in enumerate(op.cases)]
SMOOTH = [sample for sample in SAMPLES if sample[0].differentiable]


def params(samples: list[tuple[Op, Case, str]]) -> dict[str, Any]:
    """The keyword arguments of ``pytest.mark.parametrize`` for these samples."""
    return {
        "argnames": ("op", "case"),
        "argvalues": [(op, case) for op, case, _ in samples],
        "ids": [name for _, _, name in samples],
    }


def draw(case: Case, seed: int = 0) -> list[np.ndarray]:
    """The float64 arguments (or masks, or labels) that ``case`` describes, kept off kinks and ties."""
    rng = np.random.default_rng(seed)
    made = []
    for shape in case.shapes:
        if isinstance(shape, tuple) and shape[:1] == ("index",):
            made.append(rng.integers(0, shape[2], shape[1]))
        elif shape == "mask":
            made.append(np.asarray(rng.random(case.shapes[1]) < 0.5))
        elif shape == "labels":
            made.append(rng.integers(0, case.shapes[0][1], case.shapes[0][0]))
        else:
            x = rng.uniform(case.low, case.high, shape)
            made.append(np.asarray(np.where(np.abs(x) < 1e-3, 0.5, x)))
    return made


def smooth_arguments(arrays: list[np.ndarray]) -> list[int]:
    """Which arguments have a derivative."""
    return [i for i, x in enumerate(arrays) if x.dtype.kind == "f"]


def forward(op: Op, arrays: list[Any], case: Case, xp: Any = eager) -> Any:
    """The output of the forward rule, without residuals."""
    out = op.forward(xp, *arrays, **case.params)
    return out[0] if op.residuals else out


def strict(x: np.ndarray) -> Any:
    """``x`` in the namespace that has nothing but the standard."""
    return array_api_strict.asarray(x)


def torch_result(op: Op, case: Case, inputs: list[Any]) -> Any:
    """What PyTorch computes for the same operation."""
    function = TORCH.get(op.name) or _named(op.torch)
    renamed = {"axis": "dim", "keepdims": "keepdim"} if op.name not in TORCH else {}
    keywords = {renamed.get(key, key): value for key, value in case.params.items()}
    if op.name == "logsumexp" and "dim" not in keywords:
        keywords["dim"] = tuple(range(inputs[0].ndim))
    return function(*inputs, **keywords)


def _named(path: str) -> Callable[..., Any]:
    found: Any = torch
    for part in path.split(".")[1:]:
        found = getattr(found, part)
    return found


def _torch_extreme(name: str, x: Any, axis: Any, keepdims: bool, first: bool) -> Any:
    if first:
        return getattr(torch, name)(x, axis, keepdims).values
    return getattr(torch, name)(x) if axis is None else getattr(torch, f"a{name}")(x, axis, keepdims)


def _torch_scatter(x: Any, index: Any, shape: tuple[int, ...]) -> Any:
    result = torch.zeros(shape, dtype=x.dtype)
    result[index] = x
    return result


def _torch_index_add(x: Any, index: Any, axis: int, length: int) -> Any:
    shape = list(x.shape)
    shape[axis] = length
    return torch.zeros(shape, dtype=x.dtype).index_add(axis, index, x)


def _torch_overwrite(x: Any, part: Any, index: Any) -> Any:
    result = x.clone()
    result[torch.tensor(index) if isinstance(index, np.ndarray) else index] = part
    return result


def _torch_unfold(x: Any, windows: Any) -> Any:
    cut = torch.nn.functional.unfold(x, windows.kernel, windows.dilation, 0, windows.stride)
    return cut.reshape(*x.shape[:2], *windows.kernel, *windows.counts(x.shape[2:]))


def _promoted(x: Any, y: Any) -> tuple[Any, Any]:
    # PyTorch's own gradient of atan2 negates an unsigned y before it becomes a float.
    dtype = torch.result_type(x, y)
    return x.to(dtype), y.to(dtype)


def _torch_lerp(x: Any, y: Any, weight: Any) -> Any:
    # And that of lerp subtracts an unsigned weight, which may be a scalar alone, from 1.
    lone = not weight.ndim and not weight.is_floating_point() and x.is_floating_point()
    return torch.lerp(x, y, weight.to(x.dtype) if lone else weight)


def _torch_prelu(x: Any, slope: Any) -> Any:
    return torch._prelu_kernel(*torch.broadcast_tensors(*_promoted(x, slope)))


def _torch_solve(a: Any, b: Any) -> Any:
    # Right sides of the shape of A's columns are vectors to PyTorch; the record has matrices alone.
    batch = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    return torch.linalg.solve(a, b.expand(*batch, *b.shape[-2:]))


def _torch_hardsigmoid(x: Any) -> Any:
    # PyTorch's own gradient has float32's sixth also in float64, and no second derivative.
    flat = torch.nn.functional.hardsigmoid(x.detach())
    return torch.where((x > -3) & (x < 3), x / 6 + 0.5, flat)


def leaf(x: np.ndarray) -> backstory.Tensor:
    """A tensor of ``x``, with gradient if it is of floats."""
    return backstory.tensor(x, requires_grad=x.dtype.kind == "f")


def torch_leaf(x: np.ndarray) -> torch.Tensor:
    """PyTorch's tensor of ``x``, with gradient if it is of floats."""
    return torch.tensor(x, requires_grad=x.dtype.kind == "f")


def close(actual: Any, expected: Any, rtol: float = 1e-12, atol: float = 1e-13) -> None:
    """Assert that shapes, dtypes and values agree; NaN equals NaN."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol)
