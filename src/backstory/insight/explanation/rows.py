"""A derivation as rows: what stands in each line of the text, the Markdown and the page."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from backstory.insight.explanation.derivation import Derivation, Flow, Quantity
from backstory.insight.explanation.formula import latex_number, plain
from backstory.insight.explanation.notation import Notation
from backstory.insight.explanation.words import WORDS

__all__ = ["Backward", "Forward", "Rows", "Short", "number_text", "rows", "value_text"]

SMALL, LONGEST = 12, 60  # entries of an array whose numbers are shown, and letters that they may take


@dataclass(frozen=True)
class Forward:
    """One step forwards; formulas are LaTeX, numbers and remarks text."""

    symbol: str
    formula: str
    numbers: str
    value: str
    shape: str
    remark: str


@dataclass(frozen=True)
class Backward:
    """One gradient that flows along an edge, or (``total``) the sum of several."""

    gradient: str
    formula: str
    upstream: str
    local_formula: str
    local: str
    product: str
    shape: str
    role: str
    total: bool = False
    blocked: bool = False


@dataclass(frozen=True)
class Short:
    """The gradient of something that has a name, in closed form."""

    gradient: str
    formula: str
    value: str
    shape: str


@dataclass(frozen=True)
class Rows:
    """All lines of an explanation, and how the gradient of the loss itself is written, which is 1."""

    root: str
    notes: tuple[str, ...]
    forward: tuple[Forward, ...]
    backward: tuple[Backward, ...]
    short: tuple[Short, ...]


def rows(derivation: Derivation) -> Rows:
    """The lines, in the order in which they are read."""
    notation = Notation(derivation)
    forward = tuple(_forward(step, notation) for step in derivation.steps if not step.quiet)
    backward: list[Backward] = []
    for step in reversed(derivation.steps):
        if not step.quiet:
            backward += _totals([step.result], notation)
            backward += [_backward(flow, notation) for flow in step.flows]
    backward += _totals(list(derivation.leaves), notation)
    short = tuple(
        Short(notation.gradient(q), latex, value_text(q.gradient), shape_text(q.shape))
        for q, latex in notation.short()
    )
    root = notation.gradient(derivation.root)
    return Rows(root, tuple(_notes(derivation, notation)), forward, tuple(backward), short)


def _notes(derivation: Derivation, notation: Notation) -> list[str]:
    notes = []
    if not notation.scalar:
        loss = plain(derivation.root.symbol)
        notes.append(WORDS["notation"].format(loss=loss))
        for quantity, delta in notation.deltas.items():
            notes.append(WORDS["delta"].format(delta=plain(delta), symbol=plain(quantity.symbol)))
    return notes


def _forward(step, notation: Notation) -> Forward:
    remarks = list(notation.remarks(step))
    if step.result.aliases:
        same = WORDS["same"].format(symbol=plain(step.result.symbol), others=", ".join(step.result.aliases))
        remarks.append(same)
    return Forward(
        step.result.symbol,
        notation.formula(step),
        notation.numbers(step) or "",
        value_text(step.result.value),
        shape_text(step.result.shape),
        "; ".join(remarks),
    )


def _backward(flow: Flow, notation: Notation) -> Backward:
    local = flow.local
    one_for_all = local is not None and local.size == 1
    return Backward(
        notation.gradient(flow.target),
        notation.flow(flow),
        value_text(flow.step.upstream),
        notation.local(flow),
        number_text(local.reshape(-1)[0]) if one_for_all else value_text(local),  # type: ignore[union-attr]
        value_text(flow.product),
        shape_text(flow.product.shape),
        notation.role(flow),
        blocked=local is not None and local.size > 0 and not np.any(local),
    )


def _totals(quantities: list[Quantity], notation: Notation) -> list[Backward]:
    """The sums of quantities that several steps use."""
    found = []
    for q in quantities:
        if len(q.flows) < 2 or q.gradient is None:
            continue
        places = [plain(flow.step.result.symbol) for flow in q.flows]
        parts = " + ".join(value_text(flow.product) for flow in q.flows) if q.gradient.size == 1 else ""
        role = WORDS["total"].format(places=", ".join(dict.fromkeys(places)))
        symbol, value = notation.gradient(q), value_text(q.gradient)
        found.append(Backward(symbol, parts, "", "", "", value, shape_text(q.shape), role, total=True))
    return found


def number_text(value: float) -> str:
    """A number as text.

    >>> number_text(-0.5), number_text(1e-7), number_text(True)
    ('−0.5', '1 × 10⁻⁷', '1')
    """
    return plain(latex_number(float(value)))


def value_text(value: np.ndarray | None) -> str:
    """The numbers of a small array, nothing for a large one.

    >>> value_text(np.array([[1.0, -2.0], [0.5, 0.0]])), value_text(np.array(3.0)), value_text(np.ones(99))
    ('[[1, −2], [0.5, 0]]', '3', '')
    """
    if value is None or value.size > SMALL:
        return ""
    if value.shape == ():
        return number_text(value.item())
    written = "[" + ", ".join(value_text(np.asarray(part)) for part in value) + "]"
    return written if len(written) <= LONGEST else ""


def shape_text(shape: tuple[int, ...]) -> str:
    """``(3, 2)``; nothing for a single number without axes.

    >>> shape_text((3,)), shape_text(())
    ('(3,)', '')
    """
    return str(shape) if shape else ""
