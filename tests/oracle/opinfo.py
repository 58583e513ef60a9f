"""PyTorch's own samples of its operations, and how one of them is tried here.

``op_db`` holds an ``OpInfo`` for every operation of PyTorch: sample inputs, error inputs, and what it
supports. It is imported once, when first asked for: that takes seconds.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import numpy as np
import torch
from oracle.coverage import SOME

import backstory
from backstory.autograd import grad

# Where and how PyTorch stores a tensor: there is one place here.
PLACES = ("device", "layout", "pin_memory", "memory_format")


@functools.cache
def database() -> dict[str, Any]:
    """Every ``OpInfo`` by its name, with its variant after a dot."""
    profile = hypothesis.settings.get_current_profile_name()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.testing._internal.common_methods_invocations import op_db
    hypothesis.settings.load_profile(profile)  # the import loads a profile of its own
    found = {}
    for info in op_db:
        found[f"{info.name}.{info.variant_test_name}" if info.variant_test_name else info.name] = info
    return found


@functools.cache
def samples(name: str, dtype: torch.dtype = torch.float64) -> list[Any]:
    """The sample inputs, always the same."""
    torch.manual_seed(0)
    info = database()[name]
    differentiable = info.supports_autograd and dtype.is_floating_point
    found = list(info.sample_inputs("cpu", dtype, requires_grad=differentiable))
    return found[:: SOME.get(name, 1)]


@functools.cache
def errors(name: str) -> list[Any]:
    """The inputs that PyTorch refuses, but for those that are right here.

    Functions here take Python numbers wherever they take tensors; there is no ``out=``; and a tensor of more
    than 64 axes cannot be made in the first place.
    """
    torch.manual_seed(0)
    info = database()[name]
    found = info.error_inputs("cpu") if info.error_inputs_func is not None else ()
    return [error for error in found if not _right_here(error)]


def _right_here(error: Any) -> bool:
    sample = error.sample_input
    values = [sample.input, *sample.args, *sample.kwargs.values()]
    numbers = error.error_regex == "" and any(isinstance(value, (int, float)) for value in values)
    return numbers or "out" in sample.kwargs or any(x.ndim > 64 for x in tensors(values))


def converted(value: Any) -> Any:
    """A sample's value as it is written here."""
    if isinstance(value, torch.Tensor):
        return backstory.tensor(value.detach().numpy(), requires_grad=value.requires_grad)
    if isinstance(value, torch.dtype):
        return np.dtype(str(value).removeprefix("torch."))
    if isinstance(value, dict):
        return {key: converted(part) for key, part in value.items() if key not in PLACES}
    if isinstance(value, (list, tuple)) and not isinstance(value, torch.Size):
        return type(value)(map(converted, value))
    return tuple(value) if isinstance(value, torch.Size) else value


def tensors(value: Any) -> Iterator[Any]:
    """The tensors in nested lists, tuples and dicts, of PyTorch or of this package."""
    if isinstance(value, (torch.Tensor, backstory.Tensor)):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from tensors(part)
    elif isinstance(value, dict):
        yield from tensors(list(value.values()))


class Trial:
    """One sample, run here and in PyTorch."""

    def __init__(self, info: Any, function: Callable[..., Any], sample: Any) -> None:
        self.info, self.function, self.sample = info, function, sample
        self.theirs = [sample.input, list(sample.args), dict(sample.kwargs)]
        self.mine = converted(self.theirs)
        self.their_leaves = [x for x in tensors(self.theirs) if x.requires_grad]
        self.leaves = [x for x in tensors(self.mine) if x.requires_grad]

    def _here(self, values: Any) -> Any:
        return self.function(values[0], *values[1], **values[2])

    def _there(self, values: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what PyTorch means to change does not concern us
            return self.info(values[0], *values[1], **values[2])

    def _smooth(self, result: Any) -> list[Any]:
        """What of a result has a derivative that does not depend on how the operation is computed."""
        return [x for x in tensors(self.sample.output_process_fn_grad(result)) if x.requires_grad]

    def check_forward(self, only: int | None = None) -> None:
        """Values, shapes and dtypes of all results, or of the first few."""
        mine, theirs = self._here(self.mine), self._there(self.theirs)
        if not list(tensors(theirs)):
            assert mine == theirs
        pairs = list(zip(tensors(mine), tensors(theirs), strict=True))
        for result, expected in pairs[:only]:
            close(result, expected)

    def check_gradients(self, second: bool) -> None:
        """First derivatives, computed on arrays and on tensors; and second ones."""
        results, expected = self._smooth(self._here(self.mine)), self._smooth(self._there(self.theirs))
        assert len(results) == len(expected)
        if not expected:
            return
        rng = np.random.default_rng(0)
        upstream = [np.asarray(rng.normal(size=tuple(x.shape))) for x in expected]
        mine = [backstory.tensor(g, requires_grad=True) for g in upstream]
        theirs = [torch.tensor(g, requires_grad=True) for g in upstream]
        plain = grad(results, self.leaves, mine, retain_graph=True, allow_unused=True)
        first = grad(results, self.leaves, mine, create_graph=True, allow_unused=True)
        their_first = torch.autograd.grad(
            expected, self.their_leaves, theirs, create_graph=True, allow_unused=True
        )
        for leaf, a, b, g in zip(self.leaves, plain, first, their_first, strict=True):
            close(filled(a, leaf), filled(g, leaf))
            close(filled(b, leaf), filled(g, leaf))
        if second:
            weights = [np.asarray(rng.normal(size=x.shape)) for x in self.leaves]
            wanted = [*self.leaves, *mine]
            found = grad_of_weighted(first, map(backstory.tensor, weights), wanted, grad)
            their_wanted = [*self.their_leaves, *theirs]
            their_found = grad_of_weighted(
                their_first, map(torch.tensor, weights), their_wanted, torch.autograd.grad
            )
            for leaf, a, g in zip(wanted, found, their_found, strict=True):
                close(filled(a, leaf), filled(g, leaf))

    def check_forward_mode(self) -> None:
        """The derivative along a random direction."""
        rng = np.random.default_rng(1)
        directions = [np.asarray(rng.normal(size=x.shape)) for x in self.leaves]
        forward_ad = torch.autograd.forward_ad
        with warnings.catch_warnings(), forward_ad.dual_level():
            warnings.simplefilter("ignore")  # PyTorch's own, when its rules for duals load
            duals = {
                id(x): forward_ad.make_dual(x.detach(), torch.tensor(t))
                for x, t in zip(self.their_leaves, directions, strict=True)
            }
            outs = tensors(self._there(replaced(self.theirs, duals)))
            expected = [forward_ad.unpack_dual(x).tangent for x in outs]
            expected = [None if t is None else t.clone() for t in expected]

        def function(*primals: Any) -> tuple[Any, ...]:
            put = {id(x): p for x, p in zip(self.leaves, primals, strict=True)}
            return tuple(tensors(self._here(replaced(self.mine, put))))

        primals = tuple(x.detach() for x in self.leaves)
        results, found = backstory.func.jvp(function, primals, tuple(map(backstory.tensor, directions)))
        for result, tangent, their_tangent in zip(results, found, expected, strict=True):
            if result.dtype.kind == "f":
                close(filled(tangent, result), filled(their_tangent, result))


def replaced(value: Any, by: dict[int, Any]) -> Any:
    """Nested lists and dicts with some of their objects replaced."""
    if isinstance(value, dict):
        return {key: replaced(part, by) for key, part in value.items()}
    if isinstance(value, (list, tuple)) and not isinstance(value, torch.Size):
        return type(value)(replaced(part, by) for part in value)
    return by.get(id(value), value)


def grad_of_weighted(first: Any, weights: Any, wanted: Any, grad: Callable[..., Any]) -> Any:
    """The gradients of Σ w · g, with ``None`` where nothing depends on an input."""
    parts = [(g * w).sum() for g, w in zip(first, weights, strict=True) if g is not None and g.requires_grad]
    return grad(sum(parts[1:], parts[0]), wanted, allow_unused=True) if parts else [None] * len(wanted)


def filled(found: Any, like: Any) -> Any:
    """A derivative, and zeros for one that is not there."""
    return np.zeros(tuple(like.shape)) if found is None else found


def close(mine: Any, theirs: Any) -> None:
    """Equal shapes and dtypes, and values within PyTorch's default tolerances for the dtype."""
    first, second = (
        x.detach().numpy(force=True) if isinstance(x, torch.Tensor) else np.asarray(getattr(x, "array", x))
        for x in (mine, theirs)
    )
    torch.testing.assert_close(
        torch.from_numpy(first.copy()), torch.from_numpy(second.copy()), equal_nan=True
    )
