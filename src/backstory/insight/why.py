"""Why did this weight move, or not: its gradient as upstream × gate × input, and its update apart.

For z = x Wᵀ + b followed by an activation, ∂L/∂W[i, j] = Σₙ upstream[n, i] · gate[n, i] · x[n, j].
The gate is the activation's local derivative; a layer without activation behind it has gate 1. For a
convolution the sum is over samples and positions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from backstory.arrays import eager
from backstory.autograd import cotangents
from backstory.errors import ArgumentError
from backstory.graph import Node
from backstory.insight.own import rule_of
from backstory.insight.source import torch_adapter
from backstory.insight.updates import update_terms
from backstory.insight.uses import Gate, Graph, Use
from backstory.optim import Optimizer
from backstory.tensor import Tensor

__all__ = [
    "MOVEMENTS",
    "SENTENCES",
    "Factors",
    "Why",
    "asks_behind",
    "behind",
    "checked_index",
    "judged",
    "moved",
    "why",
]

SENTENCES = {
    "upstream zero": "the loss does not ask this unit for any change: upstream is 0 for every sample",
    "gate closed": "the gate is closed for every sample",
    "input zero": "its input is 0 for every sample",
    "a zero in every sample": "in every sample one of the factors is 0",
    "cancels": "the samples pull both ways and cancel exactly",
    "moves": "it moves",
    "frozen": "it does not require a gradient",
    "not in the graph": "the loss was not computed from it",
}

#: What the optimizer makes of it, where that is not what the gradient says.
MOVEMENTS = {
    "momentum or decay": "momentum or weight decay alone moves it",
    "not in the optimizer": "the optimizer does not hold it, so nothing moves it",
    "no gradient": "without a gradient the optimizer passes over it: nothing moves it",
}


@dataclass(frozen=True)
class Why:
    """The answer: which factor is zero, in how many samples, and what the optimizer makes of it.

    ``gradient`` is Σ upstream × gate × input over ``samples`` samples; ``example`` holds the factors of
    the sample that contributes most. ``update`` holds the terms of the next step, where known;
    ``movement``, a key of ``MOVEMENTS``, says where the update does not follow the gradient.
    """

    parameter: str
    index: tuple[int, ...]
    verdict: str
    gradient: float = 0.0
    samples: int = 0
    upstream_zero: int = 0
    gate_closed: int = 0
    input_zero: int = 0
    at_zero: int = 0
    choice: float = 0.0
    example: dict[str, float] = field(default_factory=dict)
    update: dict[str, float] | None = None
    note: str = ""
    movement: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Why:
        """The answer that :meth:`as_dict` took apart; JSON has made a list of the index."""
        return cls(**{**stored, "index": tuple(stored["index"])})

    @property
    def name(self) -> str:
        """Such as ``0.weight[37, 12]``."""
        return f"{self.parameter}[{', '.join(map(str, self.index))}]"

    @property
    def formula(self) -> str:
        """upstream × gate × input of the sample that contributes most, with its number."""
        if not self.example:
            return ""
        e = self.example
        factors = f"{_number(e['upstream'])} × {_number(e['gate'])} × {_number(e['input'])}"
        return f"{factors} = {_number(e['product'])} on sample #{int(e['sample'])}"

    def lines(self) -> list[str]:
        """The answer in a few short lines; all but the first are indented."""
        lines = [f"{self.name}: gradient {_number(self.gradient)}, {SENTENCES[self.verdict]}"]
        if self.samples:
            zeros = f"{self.upstream_zero}, {self.gate_closed} and {self.input_zero} of {self.samples}"
            lines.append(f"  {self.formula}; the factors are 0 in {zeros} samples")
        if self.at_zero:
            taken = f"where the derivative is taken as {self.choice:g}"
            lines.append(f"  pre-activation exactly 0 in {self.at_zero} samples, {taken}")
        if self.update is not None:
            lines.append(f"  next update {_sum_of(self.update)}")
        more = [MOVEMENTS.get(self.movement, ""), self.note]
        return lines + [f"  {text}" for text in more if text]

    def __str__(self) -> str:
        return "\n".join(self.lines())


def _number(value: float) -> str:
    return f"{value:.3g}".replace("-", "−") if value else "0"


def _sum_of(terms: Mapping[str, float]) -> str:
    """A total and what it is made of: ``−0.2 = −0.3 gradient + 0.1 momentum``."""
    parts = " + ".join(f"{_number(value)} {name}" for name, value in terms.items() if value)
    total = _number(sum(terms.values()))
    return f"{total} = {parts}".replace("+ −", "− ") if parts else total


def why(
    loss: Tensor,
    parameter: Tensor,
    index: int | tuple[int, ...],
    optimizer: Optimizer | None = None,
    name: str | None = None,
) -> Why:
    """Why the gradient of ``loss`` with respect to ``parameter[index]`` is what it is.

    Ask before ``backward()`` frees the graph. With ``optimizer`` the terms of its next update are
    shown too: momentum or weight decay can move a weight whose gradient is 0.

    >>> import backstory
    >>> from backstory import nn
    >>> layer = nn.Linear(1, 1)
    >>> _ = layer.load_state_dict({"weight": [[-1.0]], "bias": [0.0]})
    >>> loss = backstory.relu(layer(backstory.tensor([[1.0]]))).sum()
    >>> why(loss, layer.weight, (0, 0), name="w").verdict
    'gate closed'
    """
    adapter = torch_adapter()
    if adapter is not None and adapter.owns(loss):
        return adapter.why(loss, parameter, index, optimizer, name)
    index = checked_index(parameter.shape, index)
    label = name or parameter.name or ("weight" if len(index) > 1 else "bias")
    if not parameter.requires_grad:
        return Why(label, index, "frozen")
    walked = cotangents(loss)
    graph = Graph(walked)
    uses = list(graph.uses(parameter))
    if not uses:
        return _with_update(Why(label, index, "not in the graph"), optimizer, parameter)
    with np.errstate(all="ignore"):
        gates = [graph.gate_behind(use.node) for use in uses]
        parts = [_factors(graph, *pair, index, walked) for pair in zip(uses, gates, strict=True)]
        answer = judged(label, index, Factors.together(parts))
        if asks_behind(answer):
            answer = behind(answer, list(_hidden(uses, gates, index)))
        return _with_update(answer, optimizer, parameter)


class Factors(NamedTuple):
    """Per row upstream, gate, input and the sample it belongs to.

    Also how often z is exactly 0, and the derivative taken there.
    """

    upstream: np.ndarray
    gate: np.ndarray
    x: np.ndarray
    sample: np.ndarray
    at_zero: int = 0
    choice: float = 0.0

    @classmethod
    def together(cls, parts: Sequence[Factors]) -> Factors:
        """Those of several uses of one parameter."""
        upstream, gate, x, sample = (np.concatenate([part[k] for part in parts]) for k in range(4))
        return cls(upstream, gate, x, sample, sum(part.at_zero for part in parts), parts[0].choice)


def checked_index(shape: tuple[int, ...], index: int | tuple[int, ...]) -> tuple[int, ...]:
    """The index of one entry, counted from the front, or an error that says what it should be."""
    full = index if isinstance(index, tuple) else (index,)
    if len(full) != len(shape) or any(not -n <= i < n for i, n in zip(full, shape, strict=True)):
        raise ArgumentError(
            f"why() about index {full} of a parameter of shape {shape}",
            why="an answer is about one entry",
            instead=f"one index per axis, each below {shape}",
        )
    return tuple(int(i) % n for i, n in zip(full, shape, strict=True))


def _factors(
    graph: Graph, use: Use, gate: Gate | None, index: tuple[int, ...], walked: Mapping[Node, Any]
) -> Factors:
    """The factors of one use of the parameter."""
    unit = index[0]
    if gate is None or not gate.direct:
        upstream = use.rows(walked[use.node], unit)
        opened = np.ones_like(upstream)
    else:
        upstream = use.rows(walked[gate.node], unit)
        opened = use.rows(gate.derivative(), unit).astype(upstream.dtype)
    x = use.inputs(index)
    x = np.ones_like(upstream) if x is None else x
    sample = np.arange(len(upstream)) * use.samples // max(len(upstream), 1)
    if gate is None or not gate.direct or not gate.node.op.gates:
        return Factors(upstream, opened, x, sample)
    params = gate.node.params
    choice = params.get("at_zero", params.get("negative_slope", 0.0))
    return Factors(upstream, opened, x, sample, graph.exactly_zero(use, unit), choice)


def _hidden(
    uses: Sequence[Use], gates: Sequence[Gate | None], index: tuple[int, ...]
) -> Iterator[np.ndarray]:
    """The unit's entries of every gate that is not right behind the layer."""
    for use, gate in zip(uses, gates, strict=True):
        if gate is not None and not gate.direct:
            derivative = gate.derivative()
            if derivative.size == math.prod(use.node.shape):
                yield use.rows(derivative, index[0])


def asks_behind(answer: Why) -> bool:
    """Whether a gate that stands behind a normalisation or a sum could be what blocks the gradient."""
    return answer.gradient == 0 and answer.verdict in ("upstream zero", "a zero in every sample")


def behind(answer: Why, gates: Sequence[np.ndarray]) -> Why:
    """The answer, if such gates, the unit's entries of each, are closed everywhere."""
    if not sum(map(len, gates)) or any(map(np.any, gates)):
        return answer
    note = "the gate stands behind a normalisation or a sum, through which the gradient comes"
    example = {**answer.example, "gate": 0.0}
    return replace(answer, verdict="gate closed", gate_closed=answer.samples, example=example, note=note)


def judged(label: str, index: tuple[int, ...], factors: Factors) -> Why:
    """The verdict: the first factor that is 0 for every sample, if there is one."""
    upstream, gate, x, sample, at_zero, choice = factors
    product = np.where(gate == 0, 0.0, upstream * gate) * x
    gradient = math.fsum(product) if np.isfinite(product).all() else float(product.sum())
    verdict = "moves"
    if not np.any(product):
        first = {"upstream zero": upstream, "gate closed": gate, "input zero": x}
        verdict = next(
            (name for name, factor in first.items() if not np.any(factor)), "a zero in every sample"
        )
    elif gradient == 0:
        verdict = "cancels"
    if len(product) == 0:
        return Why(label, index, verdict)
    most = int(np.argmax(np.abs(product))) if np.any(product) else int(np.argmax(np.abs(upstream)))
    example = {
        "sample": int(sample[most]),
        "upstream": float(upstream[most]),
        "gate": float(gate[most]),
        "input": float(x[most]),
        "product": float(product[most]),
    }
    return Why(
        label,
        index,
        verdict,
        gradient,
        samples=len(product),
        upstream_zero=int((upstream == 0).sum()),
        gate_closed=int((gate == 0).sum()),
        input_zero=int((x == 0).sum()),
        at_zero=at_zero,
        choice=choice,
        example=example,
    )


def moved(answer: Why, terms: Mapping[str, Any] | None, held: bool) -> Why:
    """The answer with the terms of the next update, of a parameter that the optimizer holds or not."""
    if not held:
        return replace(answer, movement="not in the optimizer")
    if terms is None:
        return replace(answer, movement="no gradient") if answer.samples == 0 else answer
    update = {name: float(term) for name, term in terms.items()}
    alone = answer.gradient == 0 and sum(update.values()) != 0
    return replace(answer, update=update, movement="momentum or decay" if alone else "")


def _with_update(answer: Why, optimizer: Optimizer | None, parameter: Tensor) -> Why:
    """The answer with the terms of the next update of the entry, if an optimizer is given."""
    if optimizer is None:
        return answer
    held = next((g for g in optimizer.param_groups if any(p is parameter for p in g["params"])), None)
    if held is None:
        return moved(answer, None, held=False)
    if answer.verdict == "not in the graph" and parameter.grad is None:
        return moved(answer, None, held=True)
    state = {
        key: value[answer.index] if isinstance(value, np.ndarray) else value
        for key, value in optimizer.state[parameter].items()
    }
    value, gradient = parameter.array[answer.index], np.float64(answer.gradient)
    terms = update_terms(rule_of(optimizer), value, gradient, state, held)
    if terms is None:
        change, _ = optimizer.update(eager, value, gradient, state, held)
        terms = {type(optimizer).__name__: change}
    return moved(answer, terms, held=True)
