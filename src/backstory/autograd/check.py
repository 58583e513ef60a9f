"""check: backward code that people write by hand, against differences, with the likely mistake."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backstory.autograd.diagnosis import SENTENCES, Evidence, diagnose
from backstory.autograd.numerical import Disagreement, disagreement, numerical_vjp, one_sided_slopes
from backstory.errors import ArgumentError, DtypeError, ShapeError

__all__ = ["Check", "Finding", "check"]

STEP, RTOL, ATOL = 1e-6, 1e-4, 1e-6
WORDS = {
    "right": "{name}: right in all {entries} entries, shape {shape}",
    "wrong": "{name}: wrong at {place}",
    "shape": "{name}: shape {shape}, but the argument has {wanted}",
    "missing": "{name}: no gradient was returned",
    "likely": "  likely: {mistake}",
    "unknown": "  none of the usual mistakes explains it",
}


@dataclass(frozen=True)
class Finding:
    """One gradient: right, or where and by how much it is wrong, and the likely mistake."""

    name: str
    shape: tuple[int, ...]
    wrong: Disagreement | str | None = None
    mistake: str = ""

    @property
    def ok(self) -> bool:
        """Whether it agrees with the numerical one."""
        return self.wrong is None

    def __str__(self) -> str:
        if self.wrong is None:
            entries = int(np.prod(self.shape, dtype=int))
            return WORDS["right"].format(name=self.name, entries=entries, shape=self.shape)
        if isinstance(self.wrong, str):
            first = self.wrong
        else:
            first = WORDS["wrong"].format(name=self.name, place=self.wrong)
        mistake = WORDS["likely"].format(mistake=self.mistake) if self.mistake else WORDS["unknown"]
        return f"{first}\n{mistake}"


@dataclass(frozen=True)
class Check:
    """The findings of :func:`check`, one per differentiable argument; true if all are right."""

    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether every gradient is right."""
        return all(finding.ok for finding in self.findings)

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        return "\n".join(map(str, self.findings))

    __repr__ = __str__


def check(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    *inputs: Any,
    names: Sequence[str] | None = None,
) -> Check:
    """Check a backward pass written by hand against central differences, in float64.

    ``forward(*inputs)`` returns the output, or a pair (output, cache). ``backward`` is then called as
    ``backward(dout, cache)`` if there is a cache, as ``backward(dout)`` if it takes nothing else (a
    layer's method), else as ``backward(dout, *inputs)``. It returns the gradient of the first input, or
    of several in their order. Inputs are NumPy arrays, PyTorch tensors or numbers; integers are passed on
    and have no gradient. ``dout`` is random, so that no mistake hides behind ones.

    The answer prints which gradient is wrong at which entry, and the likely mistake: a factor of the batch
    size, a missing sum over a broadcast axis, a transposed operand, a sign, a missing factor or mask, an
    array changed in place, a kink near the point.

    >>> def forward(X, W, b):
    ...     return X @ W + b
    >>> def backward(dout, X, W, b):
    ...     return dout @ W.T, X.T @ dout, dout
    >>> rng = np.random.default_rng(0)
    >>> print(check(forward, backward, rng.normal(size=(4, 3)), rng.normal(size=(3, 2)), np.zeros(2)))
    dX: right in all 12 entries, shape (4, 3)
    dW: right in all 6 entries, shape (3, 2)
    db: shape (4, 2), but the argument has (2,)
      likely: db lacks sum(axis=0): what broadcasting copied over that axis, the gradient sums
    """
    code = _Code(forward, backward, inputs)
    labels = _names(forward, len(inputs), names)
    out, gradients, mutated, pristine = code.run()
    wanted = [i for i, x in enumerate(code.arrays) if x.dtype.kind == "f"]
    if not wanted:
        raise DtypeError(
            "check() received no float among the inputs",
            why="only floats have gradients",
            instead="x.astype(float)",
        )
    returned = gradients if isinstance(gradients, (tuple, list)) else (gradients,)
    if len(returned) > len(code.arrays):
        raise ArgumentError(
            f"check(): backward returned {len(returned)} gradients for {len(code.arrays)} inputs",
            why="each input has one gradient",
            instead="as many gradients as inputs, in their order, None where there is none",
        )
    findings = []
    for i in wanted:
        given = returned[i] if i < len(returned) else None
        if given is None and len(returned) > 1:
            findings.append(
                Finding(f"d{labels[i]}", code.arrays[i].shape, WORDS["missing"].format(name=f"d{labels[i]}"))
            )
        elif given is not None:
            right = pristine[i] if pristine is not None and i < len(pristine) else None
            findings.append(_judged(code, i, labels, out, given, mutated, right))
    return Check(tuple(findings))


def _judged(
    code: _Code, i: int, labels: list[str], out: np.ndarray, given: Any, mutated: list[int], pristine: Any
) -> Finding:
    """One gradient against differences."""
    name, shape = f"d{labels[i]}", code.arrays[i].shape
    analytic = _numpy(given)
    numerical = numerical_vjp(code.output, code.arrays, i, code.dout(out), STEP)
    if analytic.shape == shape:
        wrong: Any = disagreement(analytic, numerical, RTOL, ATOL)
        if wrong is None:
            return Finding(name, shape)
    else:
        wrong = WORDS["shape"].format(name=name, shape=analytic.shape, wanted=shape)
    values = dict(zip(labels, code.arrays, strict=True)) | {"dout": code.dout(out), "out": out}
    floats = [label for label, x in zip(labels, code.arrays, strict=True) if x.dtype.kind == "f"]
    evidence = Evidence(name, analytic, numerical, values, floats, RTOL, ATOL)
    if mutated and pristine is not None and evidence.mended(_numpy(pristine)):
        changed = ", ".join(labels[k] for k in mutated)
        mistake = SENTENCES["mutated"].format(forward="the forward", names=changed)
    else:
        mistake = diagnose(evidence, lambda place: _kink(code, i, place, out))
    return Finding(name, shape, wrong, mistake)


def _kink(code: _Code, i: int, place: tuple[int, ...], out: np.ndarray) -> bool:
    """Whether the slopes to the left and to the right differ at the place."""
    left, right = one_sided_slopes(code.output, code.arrays, i, place, code.dout(out), STEP)
    return abs(left - right) > 1e-3 * max(abs(left), abs(right), 1e-3)


class _Code:
    """The user's two functions, called with fresh copies of the inputs each time."""

    def __init__(
        self, forward: Callable[..., Any], backward: Callable[..., Any], inputs: Sequence[Any]
    ) -> None:
        self.forward, self.backward = forward, backward
        self.torch = any(type(x).__module__.partition(".")[0] == "torch" for x in inputs)
        arrays = [_numpy(x) for x in inputs]
        self.arrays = [x.astype(np.float64) if x.dtype.kind == "f" else x for x in arrays]

    def fresh(self, arrays: Sequence[np.ndarray]) -> list[Any]:
        """Copies of the arrays, as the user's code takes them."""
        copies = [np.array(x) for x in arrays]
        return [sys.modules["torch"].from_numpy(x) for x in copies] if self.torch else copies

    def output(self, *arrays: np.ndarray) -> np.ndarray:
        """The forward's output alone."""
        result = self.forward(*self.fresh(arrays))
        return _numpy(result[0] if _is_pair(result) else result)

    def dout(self, out: np.ndarray) -> np.ndarray:
        """The same random upstream gradient for each output of this shape."""
        return np.random.default_rng(20).uniform(0.5, 1.5, out.shape) * np.random.default_rng(21).choice(
            [-1.0, 1.0], out.shape
        )

    def run(self) -> tuple[np.ndarray, Any, list[int], Any]:
        """Output, gradients, which inputs the forward changed, and the gradients from inputs left alone."""
        inputs = self.fresh(self.arrays)
        result = self.forward(*inputs)
        out = np.array(_numpy(result[0] if _is_pair(result) else result), dtype=np.float64)
        mutated = [
            k for k, (x, before) in enumerate(zip(inputs, self.arrays, strict=True))
            if not np.array_equal(_numpy(x), before, equal_nan=before.dtype.kind == "f")
        ]  # fmt: skip
        gradients = self._back(result, out, inputs)
        pristine = None
        if mutated and not _is_pair(result):
            pristine = self._back(result, out, self.fresh(self.arrays))
            pristine = pristine if isinstance(pristine, (tuple, list)) else (pristine,)
        return out, gradients, mutated, pristine

    def _back(self, result: Any, out: np.ndarray, inputs: list[Any]) -> Any:
        (dout,) = self.fresh([self.dout(out)])
        if _is_pair(result):
            return self.backward(dout, result[1])
        return self.backward(dout) if _takes_one(self.backward) else self.backward(dout, *inputs)


def _is_pair(result: Any) -> bool:
    return isinstance(result, tuple) and len(result) == 2


def _takes_one(function: Callable[..., Any]) -> bool:
    try:
        kinds = [p.kind for p in inspect.signature(function).parameters.values()]
    except (TypeError, ValueError):
        return False
    return len(kinds) == 1 and kinds[0] in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    )


def _numpy(x: Any) -> np.ndarray:
    """A NumPy array of what the user's code takes or returns."""
    if hasattr(x, "detach"):
        x = x.detach().numpy()
    array = np.asarray(x)
    if array.dtype.kind not in "fiub":
        raise DtypeError(
            f"check() received {type(x).__name__} of {array.dtype}",
            why="differences are taken of real numbers",
            instead="NumPy arrays, PyTorch tensors or numbers",
        )
    return array


def _names(forward: Callable[..., Any], count: int, names: Sequence[str] | None) -> list[str]:
    """What the inputs are called: as given, else by the forward's parameters."""
    if names is not None:
        if len(names) != count:
            raise ShapeError(
                f"check() received {count} inputs and {len(names)} names",
                why="each input has one name",
                instead="as many names as inputs",
            )
        return list(names)
    try:
        found = [
            p.name for p in inspect.signature(forward).parameters.values()
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]  # fmt: skip
    except (TypeError, ValueError):
        found = []
    return [found[k] if k < len(found) else f"input{k}" for k in range(count)]
