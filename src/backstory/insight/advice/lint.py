"""lint: what a model would train better without, told before training."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from backstory.errors import ArgumentError
from backstory.insight.advice import order, signal, start, weights
from backstory.insight.advice.finding import Advice, Finding
from backstory.insight.advice.trial import Trial, trial
from backstory.insight.scan import checked_data
from backstory.nn import Module
from backstory.optim import Optimizer
from backstory.tensor import Tensor, as_tensor

__all__ = ["lint"]


def lint(model: Module, sample: Any, optimizer: Optimizer | None = None) -> Advice:
    """Advice before training: what is likely to go wrong, where, why, and what to write instead.

    The model is run once on ``sample``, forwards and backwards, in training mode, and what runs is what is
    judged, so functional calls are seen like modules. ``sample`` is a batch of inputs or a pair (inputs,
    targets), and inputs may be a tuple where the model takes several; 32 samples or more tell something,
    and at most 256 are run. Give it real ones: what is said of inputs, rates and closed units is of them.

    With ``optimizer`` the first update is computed and compared with the weights. It takes the gradient of
    the usual loss for the targets: cross-entropy for labels, binary cross-entropy for zeros and ones, else
    the squared error. Without targets they are random, and an output of several columns counts as scores.

    Parameters, gradients, buffers, flags, the optimizer and random streams are left as they are. What a
    forward pass of your own does beyond that (prints, counts calls) it does here too.

    Returns :class:`Advice`: findings, gravest first, which iterates, prints itself and is false if it is
    empty. Raises ArgumentError for what is no model, no sample, or an optimizer of something else.

    >>> import backstory
    >>> from backstory import nn
    >>> net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4), nn.Softmax(-1))
    >>> _ = nn.init.zeros_(net[0].weight), nn.init.zeros_(net[0].bias)
    >>> x, y = backstory.randn(64, 8), backstory.randint(0, 4, (64,))
    >>> for finding in backstory.lint(net, (x, y)):
    ...     print(finding.severity, finding.code, finding.layer)
    error symmetric-weights 0
    error softmax-before-cross-entropy (model)
    error born-dead 0
    """
    _check_model(model)
    x, y = _parts(sample)
    if optimizer is not None:
        _check_optimizer(model, optimizer)
    with np.errstate(all="ignore"):
        return Advice.of(_found(trial(model, x, y), optimizer))


def _found(run: Trial, optimizer: Optimizer | None) -> Iterator[Finding]:
    yield from weights.copies(run)
    yield from order.ending(run)
    dead = list(signal.born_dead(run))
    yield from dead
    yield from weights.depth(run)
    yield from start.inputs(run)
    yield from order.dropouts(run)
    yield from order.norms(run)
    yield from weights.scales(run)
    yield from signal.saturated(run)
    if any(one.severity == "error" for one in dead):
        return  # nothing flows that could be measured
    flow = list(signal.flow(run))
    yield from flow
    if any(one.severity == "error" for one in flow):
        return
    yield from signal.derivatives(run)
    yield from order.biases(run)
    if optimizer is not None:
        yield from start.rates(run, optimizer)


def _check_model(model: Any) -> None:
    if isinstance(model, Module):
        return
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(model, torch.nn.Module):
        raise ArgumentError(
            f"lint() of {type(model).__name__}, a model of PyTorch",
            why="lint reads the records of backstory's own operations, and PyTorch's functions have none",
            instead="the same layers from backstory.nn, whose load_state_dict takes the weights; "
            "backstory.watch() and backstory.why() take PyTorch's models as they are",
        )
    raise ArgumentError(
        f"lint() received {type(model).__name__}",
        why="it runs a model and looks at what runs inside",
        instead="lint(model, sample) with a backstory.nn.Module",
    )


def _parts(sample: Any) -> tuple[tuple[Tensor, ...], Tensor | None]:
    """The inputs and the targets of a sample, or of a pair."""
    y = None
    if isinstance(sample, tuple) or (isinstance(sample, list) and all(hasattr(x, "dtype") for x in sample)):
        if len(sample) != 2:
            raise ArgumentError(
                f"lint() received a {type(sample).__name__} of {len(sample)}",
                why="a sample is a batch of inputs, or a pair (inputs, targets)",
                instead="((inputs, more inputs), targets) for a model of several inputs; None for no targets",
            )
        sample, y = sample
    inputs = tuple(sample) if isinstance(sample, tuple) else (sample,)
    x = tuple(checked_data(one, "lint()") for one in inputs)
    if y is not None:
        y = as_tensor(y).detach()
        if y.ndim == 0 or len(y) != len(x[0]):
            raise ArgumentError(
                f"lint() received targets of shape {y.shape} for inputs of shape {x[0].shape}",
                why="a pair is (inputs, targets), a target for each input",
                instead="as many targets; or ((inputs, more inputs), None) for a model of two inputs",
            )
    return x, y


def _check_optimizer(model: Module, optimizer: Any) -> None:
    if not isinstance(optimizer, Optimizer):
        raise ArgumentError(
            f"lint(optimizer={type(optimizer).__name__})",
            why="its first update is computed by its rule",
            instead="an optimizer of backstory.optim over model.parameters(), or none",
        )
    if not any(p in optimizer.state for p in model.parameters()):
        raise ArgumentError(
            f"lint(optimizer={type(optimizer).__name__}) that moves no parameter of {type(model).__name__}",
            why="its updates would be those of another model",
            instead=f"{type(optimizer).__name__}(model.parameters(), …)",
        )
