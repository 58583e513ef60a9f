"""Which activation where: the usage guide as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from backstory.errors import ArgumentError

__all__ = ["Choice", "Suggestion", "suggest_activation"]


@dataclass(frozen=True)
class Choice:
    """An activation, where it applies (``when``), and why."""

    activation: str
    when: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """What to use, why, with which initialisation, and what else is to be used when.

    ``activation`` is the name of a class of ``backstory.nn``, or ``"none"``; ``loss`` the loss that goes
    with an output, ``init`` the call of ``backstory.nn.init`` for the layer in front.
    """

    task: str
    position: str
    activation: str
    why: str
    init: str = ""
    loss: str = ""
    otherwise: tuple[Choice, ...] = ()
    reference: str = ""

    def __str__(self) -> str:
        head = f"{self.task}, {self.position}: {self.activation}"
        lines = [head, f"  why   {self.why}"]
        lines += [f"  init  nn.init.{self.init}"] if self.init else []
        lines += [f"  loss  nn.{self.loss}"] if self.loss else []
        lines += [f"  {one.activation} {one.when}: {one.why}" for one in self.otherwise]
        return "\n".join([*lines, f"  see   {self.reference}"] if self.reference else lines)


_DEFAULT: dict[str, Any] = {
    "activation": "ReLU",
    "why": "cheap, its derivative is 1 wherever it is open, and half of the units are closed for each input",
    "init": "kaiming_normal_(weight, nonlinearity='relu')",
    "otherwise": (
        Choice("LeakyReLU", "when units die", "a closed unit keeps a slope of 0.01 and can come back"),
        Choice("PReLU", "when units die and there is data enough", "the slope below 0 is learned, from 0.25"),
        Choice("ELU", "when centred outputs matter more than speed", "its mean output is nearer to 0"),
        Choice("Tanh", "when outputs must be symmetric about 0", "odd and bounded; from Xavier, few layers"),
    ),
    "reference": "He et al. 2015, arXiv:1502.01852; Clevert et al. 2016, arXiv:1511.07289 (ELU)",
}

_GATE: dict[str, Any] = {
    "activation": "Sigmoid",
    "why": "a gate is a share between 0 (shut) and 1 (open), by which something else is multiplied",
    "init": "xavier_uniform_(weight)",
    "reference": "Hochreiter & Schmidhuber 1997, Long short-term memory",
}

_RECURRENT: dict[str, Any] = {
    "activation": "Tanh",
    "why": "the state is fed back, and a bounded one cannot grow from step to step",
    "init": "orthogonal_(weight)",
    "otherwise": (
        Choice("ReLU", "with recurrent weights from the identity", "gradients neither shrink nor grow"),
    ),
    "reference": "Le, Jaitly & Hinton 2015, arXiv:1504.00941 (ReLU from the identity)",
}

_TRANSFORMER: dict[str, Any] = {
    "activation": "GELU",
    "why": "what Transformers are trained with: ReLU rounded off, with a gradient also just below 0",
    "init": "trunc_normal_(weight, std=0.02)",
    "otherwise": (
        Choice("ReLU", "when speed or sparse outputs matter", "the original Transformer's"),
        Choice("SiLU", "in gated feed-forward layers", "as in SwiGLU"),
    ),
    "reference": "Hendrycks & Gimpel 2016, arXiv:1606.08415; Shazeer 2020, arXiv:2002.05202",
}

_NORMALISING: dict[str, Any] = {
    "activation": "SELU",
    "why": "its fixed point is mean 0 and variance 1, so that deep networks need no normalisation layers",
    "init": "lecun_normal_(weight)",
    "otherwise": (Choice("ReLU", "together with batch norm", "normalisation by layers of its own"),),
    "reference": "Klambauer et al. 2017, arXiv:1706.02515",
}

_OUTPUTS = {
    "classification": (
        "none",
        "CrossEntropyLoss",
        "cross-entropy has the softmax inside and is computed from logits without overflow",
        (Choice("Softmax", "when probabilities are shown", "behind the loss, never in front of it"),),
    ),
    "binary classification": (
        "none",
        "BCEWithLogitsLoss",
        "the loss has the sigmoid inside and is computed from logits without overflow",
        (Choice("Sigmoid", "when the probability is shown, or with BCELoss", "a number from 0 to 1"),),
    ),
    "multi-label classification": (
        "none",
        "BCEWithLogitsLoss",
        "each label is a question of its own: a sigmoid each, which the loss has inside",
        (Choice("Sigmoid", "when probabilities are shown", "softmax would make the labels compete"),),
    ),
    "regression": (
        "none",
        "MSELoss",
        "a target may be any number, and an activation would cut some off",
        (
            Choice("Softplus", "when targets are positive", "positive, with a gradient everywhere"),
            Choice("Tanh", "when targets lie between −1 and 1", "bounded and symmetric about 0"),
            Choice("Sigmoid", "when targets lie between 0 and 1", "bounded on both sides"),
        ),
    ),
}
_SPECIAL = {"recurrent": _RECURRENT, "transformer": _TRANSFORMER, "self-normalising": _NORMALISING}
TASKS = (*_OUTPUTS, *_SPECIAL)
POSITIONS = ("hidden", "output", "gate")


def suggest_activation(task: str = "classification", position: str = "hidden") -> Suggestion:
    """Which activation to use for a task at a position, with reasons, and what to use instead when.

    ``task`` is one of ``classification``, ``binary classification``, ``multi-label classification``,
    ``regression``, ``recurrent``, ``transformer`` and ``self-normalising``; ``position`` is ``hidden``,
    ``output`` or ``gate`` (what multiplies something else, as in an LSTM). For the output of the last three
    ask by what is predicted. Raises ArgumentError for another word.

    >>> suggestion = suggest_activation("classification", "hidden")
    >>> suggestion.activation, [choice.activation for choice in suggestion.otherwise]
    ('ReLU', ['LeakyReLU', 'PReLU', 'ELU', 'Tanh'])
    >>> suggest_activation("binary classification", "output").loss
    'BCEWithLogitsLoss'
    """
    for name, word, words in (("task", task, TASKS), ("position", position, POSITIONS)):
        if word not in words:
            raise ArgumentError(
                f"suggest_activation({name}={word!r})",
                why="the guide has no such entry",
                instead="one of " + ", ".join(map(repr, words)),
            )
    if position == "gate":
        return Suggestion(task=task, position=position, **_GATE)
    if position == "hidden":
        return Suggestion(task=task, position=position, **_SPECIAL.get(task, _DEFAULT))
    if task not in _OUTPUTS:
        raise ArgumentError(
            f"suggest_activation({task!r}, 'output')",
            why="what an output needs depends on what it predicts, not on the network",
            instead="suggest_activation(…, 'output') with one of " + ", ".join(map(repr, _OUTPUTS)),
        )
    activation, loss, why, otherwise = _OUTPUTS[task]
    reference = "Goodfellow, Bengio & Courville 2016, Deep Learning, section 6.2.2"
    return Suggestion(
        task=task,
        position=position,
        activation=activation,
        why=why,
        loss=loss,
        otherwise=otherwise,
        reference=reference,
    )
