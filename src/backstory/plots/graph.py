"""The graph as a picture: values and gradients in the boxes, upstream × local along the edges."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from backstory.errors import ArgumentError
from backstory.insight.explanation import Derivation, Flow, Names, Notation, Quantity, derivation
from backstory.insight.explanation.formula import plain
from backstory.insight.explanation.rows import number_text, value_text
from backstory.plots.canvas import shortened, text_width
from backstory.plots.layout import Box, Edge, Layout, laid_out
from backstory.plots.palette import INK, MUTED, OPEN, PAPER
from backstory.plots.words import WORDS
from backstory.tensor import Tensor

__all__ = ["Picture", "graph"]

FONT, SMALL, LINE, PAD = 13.0, 11.0, 17.0, 9.0
WIDEST, LONGEST = 210.0, 30  # points of a line, letters of an array
MOST = 400  # boxes
STILL, CLOSED, LEAF, CONSTANT, RESULT = "#a9b0b8", "#e9ebed", "#eef5fb", "#f3f4f5", "#ffffff"
FAMILY = "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif"


@dataclass(frozen=True)
class Picture:
    """An SVG that a notebook shows and that can be saved."""

    svg: str

    def _repr_svg_(self) -> str:
        return self.svg

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the SVG to ``path``, which should end in .svg; returns the path."""
        place = Path(path)
        if place.suffix != ".svg":
            raise ArgumentError(
                f"save() of a graph to {place.name}",
                why="the picture is drawn as SVG, which every browser shows",
                instead=f"{place.with_suffix('.svg').name}",
            )
        place.write_text(self.svg, encoding="utf-8")
        return place

    def __repr__(self) -> str:
        return f"<Picture: {len(self.svg):,} letters of SVG; .save('graph.svg')>"


def graph(
    tensor: Tensor, names: Mapping[str, Any] | None = None, graphviz: bool | None = None, _depth: int = 0
) -> Picture:
    """The graph that computed ``tensor``, from its inputs at the left to itself at the right.

    Each box says what it is, its value and (in blue) its gradient; each edge says upstream × local, which
    flows back along it. What a closed gate blocks is grey and dashed. Names are found as by ``explain``.
    Graphviz lays the picture out where its program ``dot`` is installed, else fast-sugiyama does;
    ``graphviz`` chooses.

    >>> import backstory
    >>> w = backstory.tensor(3.0, requires_grad=True)
    >>> "w" in graph(w * 2.0).svg
    True
    """
    found = derivation(tensor, Names.around(sys._getframe(1 + _depth), names))
    notation = Notation(found)
    drawn = _shown(found)
    if len(drawn) > MOST:
        raise ArgumentError(
            f"a picture of a graph of {len(drawn)} boxes",
            why=f"more than {MOST} cannot be read",
            instead="backstory.explain(tensor), or the graph of a part of it",
        )
    cards = [_card(q, notation) for q in drawn]
    numbers = {_shown_as(q): i for i, q in enumerate(drawn)}
    arrows = _arrows(found, numbers, notation)
    boxes = [Box(card.width, card.height) for card in cards]
    layout = laid_out(boxes, [Edge(a.source, a.target, text_width(a.label, SMALL)) for a in arrows], graphviz)
    return Picture(_svg(cards, arrows, layout))


@dataclass(frozen=True)
class _Card:
    """A box: its lines (text and colour), and how it is drawn."""

    lines: tuple[tuple[str, str, bool], ...]
    kind: str
    closed: bool

    @property
    def width(self) -> float:
        """As wide as its widest line."""
        return (
            max(text_width(text, FONT if bold else SMALL + 0.5) for text, _, bold in self.lines) + 2 * PAD + 4
        )

    @property
    def height(self) -> float:
        """As high as its lines."""
        return LINE * len(self.lines) + 1.4 * PAD


@dataclass(frozen=True)
class _Arrow:
    """An edge between two boxes."""

    source: int
    target: int
    label: str
    blocked: bool
    constant: bool


def _shown_as(quantity: Quantity) -> Quantity:
    """A quiet view is drawn as what it shows."""
    while quantity.step is not None and quantity.step.quiet:
        quantity = quantity.step.inputs[0]
    return quantity


def _shown(found: Derivation) -> list[Quantity]:
    """Every box: inputs, named constants and results; plain numbers stand in the formulas."""
    drawn: dict[Quantity, None] = {}
    for step in found.steps:
        for q in (*step.inputs, step.result):
            if q.kind != "number":
                drawn[_shown_as(q)] = None
    return list(drawn)


def _card(quantity: Quantity, notation: Notation) -> _Card:
    step = quantity.step
    head = plain(quantity.symbol)
    if step is not None:
        head = f"{head} = {plain(notation.formula(step))}"
    closed = _closed(quantity)
    tint = MUTED if closed else INK
    lines = [
        (shortened(head, WIDEST, FONT), tint, True),
        (_said(quantity.value, quantity.shape), tint, False),
    ]
    if quantity.gradient is not None:
        blue = MUTED if closed or not np.any(quantity.gradient) else OPEN
        lines.append((_gradient_said(quantity.gradient, plain(notation.gradient(quantity))), blue, False))
    gate = _gate(quantity)
    if gate is not None and (gate.dtype.kind == "b" or closed):
        lines.append((_gate_words(quantity), MUTED, False))
    return _Card(tuple(lines), quantity.kind, closed)


def _gate(quantity: Quantity) -> np.ndarray | None:
    """The local derivative of the gating activation that made it, if one did."""
    step = quantity.step
    if step is None or not step.op.gates or not step.flows:
        return None
    return step.flows[0].local


def _closed(quantity: Quantity) -> bool:
    gate = _gate(quantity)
    return gate is not None and gate.size > 0 and not np.any(gate)


def _gate_words(quantity: Quantity) -> str:
    gate = _gate(quantity)
    if gate is None or gate.size == 1:
        return WORDS["gate closed"] if _closed(quantity) else WORDS["gate open"]
    return WORDS["gates open"].format(open=int(np.count_nonzero(gate)), count=gate.size)


def _said(value: np.ndarray | None, shape: tuple[int, ...]) -> str:
    """The numbers of a small array, else its shape."""
    text = value_text(value)
    return text if text and len(text) <= LONGEST else str(shape)


def _gradient_said(value: np.ndarray, symbol: str) -> str:
    """The numbers of a small gradient, else its norm."""
    text = value_text(value)
    if text and len(text) <= LONGEST:
        return f"{symbol} = {text}"
    return f"‖{symbol}‖ = {number_text(math.sqrt(float(np.vdot(value, value))))}"


def _arrows(found: Derivation, numbers: Mapping[Quantity, int], notation: Notation) -> list[_Arrow]:
    arrows = []
    for step in found.steps:
        if step.quiet:
            continue
        target = numbers[step.result]
        flows = {flow.argument: flow for flow in step.flows}
        for place, q in enumerate(step.inputs):
            if q.kind == "number":
                continue
            flow = flows.get(place)
            label = "" if flow is None else _label(flow, notation)
            blocked = flow is not None and not np.any(flow.product)
            arrows.append(_Arrow(numbers[_shown_as(q)], target, label, blocked, flow is None))
    return arrows


def _label(flow: Flow, notation: Notation) -> str:
    local = flow.local
    if local is not None and local.shape == () and flow.step.upstream.shape == ():
        return f"{number_text(flow.step.upstream.item())} × {number_text(local.item())}"
    text = plain(notation.flow(flow))
    return shortened(text, 150.0, SMALL)


# Drawing


def _svg(cards: list[_Card], arrows: list[_Arrow], layout: Layout) -> str:
    key = WORDS["graph key"]
    width, height = max(layout.width, text_width(key, SMALL) + 36), layout.height + 24
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} style="max-width:100%;height:auto" role="img" '
        f'font-family="{FAMILY}" aria-label="{escape(WORDS["graph picture"])}">',
        f'<rect width="100%" height="100%" rx="8" fill="{PAPER}"/>',
        *(_marker(name, tint) for name, tint in (("flow", OPEN), ("still", STILL))),
    ]
    parts += [_edge(arrow, way) for arrow, way in zip(arrows, layout.ways, strict=True)]
    parts += [_node(card, centre) for card, centre in zip(cards, layout.centres, strict=True)]
    parts += [
        _edge_label(arrow, place) for arrow, place in zip(arrows, layout.labels, strict=True) if arrow.label
    ]
    at = f'x="18" y="{height - 12:.0f}"'
    parts.append(f'<text {at} font-size="{SMALL}" fill="{MUTED}">{escape(key)}</text>')
    return "\n".join([*parts, "</svg>"])


def _marker(name: str, tint: str) -> str:
    size = 'viewBox="0 0 8 8" refX="7.4" refY="4" markerWidth="7" markerHeight="7" orient="auto"'
    return f'<marker id="backstory-{name}" {size}><path d="M0 .8 8 4 0 7.2z" fill="{tint}"/></marker>'


def _edge(arrow: _Arrow, way: tuple[tuple[float, float], ...]) -> str:
    still = arrow.blocked or arrow.constant
    (x, y), *rest = way
    path = f"M{x:.1f} {y:.1f}C" + " ".join(f"{a:.1f} {b:.1f}" for a, b in rest)
    dash = ' stroke-dasharray="4 3"' if arrow.blocked else ""
    tint, name = (STILL, "still") if still else (OPEN, "flow")
    return (
        f'<path d="{path}" fill="none" stroke="{tint}" stroke-width="1.4"{dash} '
        f'marker-end="url(#backstory-{name})"/>'
    )


def _edge_label(arrow: _Arrow, place: tuple[float, float]) -> str:
    tint = MUTED if arrow.blocked else OPEN
    at = f'x="{place[0]:.1f}" y="{place[1] - 5:.1f}" text-anchor="middle"'
    halo = f'stroke="{PAPER}" stroke-width="3" paint-order="stroke"'
    return f'<text {at} font-size="{SMALL}" fill="{tint}" {halo}>{escape(arrow.label)}</text>'


def _node(card: _Card, centre: tuple[float, float]) -> str:
    left, top = centre[0] - card.width / 2, centre[1] - card.height / 2
    fill = {"leaf": LEAF, "constant": CONSTANT}.get(card.kind, RESULT)
    stroke, dash = (INK, "") if not card.closed else (STILL, ' stroke-dasharray="4 3"')
    if card.closed:
        fill = CLOSED
    body = (
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{card.width:.1f}" height="{card.height:.1f}" rx="6" '
        f'fill="{fill}" stroke="{stroke}" stroke-width="1"{dash}/>'
    )
    for i, (text, tint, bold) in enumerate(card.lines):
        size, weight = (FONT, ' font-weight="600"') if bold else (SMALL + 0.5, "")
        y = top + 0.7 * PAD + LINE * (i + 0.75)
        body += (
            f'<text x="{left + PAD:.1f}" y="{y:.1f}" font-size="{size}"{weight} fill="{tint}">'
            f"{escape(text)}</text>"
        )
    return f"<g>{body}</g>"
