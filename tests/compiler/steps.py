"""What tests of compiled steps share: builders of programs, and a step compared with itself run eagerly."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import pytest

import backstory
from backstory.arrays import default_generator
from backstory.compiler.program import build as native
from backstory.compiler.replay import Replay
from backstory.errors import BackstoryError, TraceError
from backstory.func import tree
from backstory.tensor import Tensor

BUILDERS: dict[str, Any] = {"replay": Replay, "native": native}


def tensor(*entries: float) -> Tensor:
    """A vector of float64."""
    return backstory.tensor(list(entries), dtype=backstory.float64)


def values(x: Any) -> Any:
    """Nested tensors and arrays as nested copies of arrays, anything else as it is."""
    leaves, shape = tree.flatten(x)
    return tree.build(shape, [x.detach().numpy().copy() if isinstance(x, Tensor) else x for x in leaves])


def same(found: Any, expected: Any, exact: bool = False) -> None:
    """Assert that nested values are equal, to float rounding, in shape and in dtype."""
    (found, shape), (expected, wanted) = tree.flatten(found), tree.flatten(expected)
    assert shape == wanted
    for x, y in zip(found, expected, strict=True):
        assert type(x) is type(y), (x, y)
        if not isinstance(x, (np.ndarray, Tensor)):
            assert x == y or (x != x and y != y)
            continue
        x, y = (np.asarray(v.detach().numpy() if isinstance(v, Tensor) else v) for v in (x, y))
        assert (x.shape, x.dtype) == (y.shape, y.dtype)
        if exact or x.dtype.kind != "f":
            np.testing.assert_array_equal(x, y)
        else:
            single = x.dtype.itemsize < 8
            rtol, atol = (2e-5, 2e-6) if single else (1e-11, 1e-13)
            np.testing.assert_allclose(x, y, rtol=rtol, atol=atol)


def trained(
    make: Callable[[], tuple[Callable[..., Any], Any]],
    calls: list[tuple[Any, ...]],
    build: Any = None,
    between: Callable[[int, Any], None] = lambda number, state: None,
    failing: Collection[int] = (),
) -> tuple[list[Any], Any, Any]:
    """The results of ``calls`` of a step that ``make`` makes anew, its state at the end, and the step.

    ``make()`` gives a function and a nested state of modules, optimizers and tensors. With ``build`` the
    function is compiled. This thread's random stream starts from one seed, and its place at the end is state.
    Of calls that are ``failing`` the result is the error, and the state that it leaves.
    """
    backstory.manual_seed(11)
    function, state = make()
    step = function if build is None else backstory.compile(function, build=build)
    backstory.manual_seed(12)
    results = []
    for number, arguments in enumerate(calls):
        between(number, state)
        own = copy.deepcopy(arguments)
        if number in failing:
            with pytest.raises(BackstoryError) as caught:
                step(*own)
            assert not isinstance(caught.value, TraceError)
            results.append([type(caught.value), str(caught.value), snapshot(state), values(own)])
        else:
            results.append([values(step(*own)), values(own)])
    stream = default_generator().get_state()
    return results, [snapshot(state), stream], step


def snapshot(state: Any) -> Any:
    """Parameters, buffers, gradients and optimizer states as nested lists of arrays and numbers."""
    if isinstance(state, dict):
        return {key: snapshot(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return [snapshot(part) for part in state]
    if isinstance(state, backstory.nn.Module):
        return {
            "state": snapshot(list(state.state_dict().values())),
            "gradients": [None if p.grad is None else values(p.grad) for p in state.parameters()],
            "versions": [p._version for p in state.parameters()],
        }
    if isinstance(state, backstory.optim.Optimizer):
        saved = state.state_dict()
        return snapshot([list(saved["state"].values()), [dict(g) for g in saved["param_groups"]]])
    if isinstance(state, Tensor):
        gradient = state.grad if state.is_leaf else None
        return [values(state), None if gradient is None else values(gradient), state._version]
    return state if isinstance(state, (int, float, str, type(None))) else None


def alike(
    make: Callable[[], tuple[Callable[..., Any], Any]],
    calls: list[tuple[Any, ...]],
    build: Any = None,
    misses: int | None = 1,
    between: Callable[[int, Any], None] = lambda number, state: None,
    failing: Collection[int] = (),
) -> Any:
    """Assert that a step does the same compiled as eagerly: results, state, draws; the step is returned."""
    expected, state, _ = trained(make, calls, None, between, failing)
    found, own, step = trained(make, calls, build or Replay, between, failing)
    same(found, expected)
    same(own, state)
    if misses is not None:
        assert step.cache_info().misses == misses, step.cache_info()
    return step
