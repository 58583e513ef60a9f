"""The picture of a graph: what it says, by both ways of laying it out, and what cannot be drawn."""

from __future__ import annotations

import shutil
import sys
import xml.etree.ElementTree as ElementTree

import pytest

import backstory
from backstory import nn, plots
from backstory.errors import ArgumentError, GraphError, MissingExtraError
from backstory.plots.layout import Box, Edge, laid_out

WAYS = [
    pytest.param(True, marks=pytest.mark.skipif(not shutil.which("dot"), reason="Graphviz is not installed")),
    False,
]


def unit(weight):
    w = backstory.tensor(weight, requires_grad=True)
    b = backstory.tensor(0.0, requires_grad=True)
    x = backstory.tensor(1.0)
    z = w * x + b
    J = backstory.relu(z)
    return J, {"w": w, "b": b, "x": x, "z": z, "J": J}


def texts(picture):
    root = ElementTree.fromstring(picture.svg)
    return [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("graphviz", WAYS)
def test_boxes_hold_values_and_gradients_and_edges_upstream_times_local(graphviz):
    loss, names = unit(1.0)
    said = texts(plots.graph(loss, names, graphviz))
    for text in ("w", "J = max(z, 0)", "∂J/∂w = 1", "1 × 1", "gate open"):
        assert text in said
    assert "gate closed" not in said


@pytest.mark.parametrize("graphviz", WAYS)
def test_a_closed_gate_is_grey_and_nothing_flows_through_it(graphviz):
    loss, names = unit(-1.0)
    picture = plots.graph(loss, names, graphviz)
    assert "gate closed" in texts(picture)
    assert "1 × 0" in texts(picture)
    assert picture.svg.count("stroke-dasharray") == 5  # the gate and four edges
    assert "url(#backstory-flow)" not in picture.svg


def test_the_method_finds_the_callers_names():
    weight = backstory.tensor([1.0, -1.0], requires_grad=True)
    loss = weight.relu().sum()
    said = texts(loss.graph())
    assert "weight" in said
    assert "open for 1 of 2" in said
    assert any(text.startswith("loss = ") for text in said)


@pytest.mark.parametrize("graphviz", WAYS)
def test_a_network_of_modules_is_drawn(graphviz):
    model = nn.Sequential(nn.Linear(3, 40), nn.ReLU(), nn.Linear(40, 2))
    loss = nn.functional.cross_entropy(model(backstory.ones(5, 3)), backstory.tensor([0, 1, 0, 1, 1]))
    said = texts(plots.graph(loss, graphviz=graphviz))
    assert "0.weight" in said
    assert any(text.startswith("‖∂loss/∂0.weight‖ = ") for text in said)


@pytest.mark.parametrize("graphviz", WAYS)
def test_edges_run_from_left_to_right_and_boxes_do_not_overlap(graphviz):
    boxes = [Box(60, 40), Box(80, 50), Box(50, 40), Box(120, 60), Box(40, 30), Box(60, 40)]
    edges = [Edge(0, 1, 40), Edge(0, 2), Edge(1, 3, 30), Edge(2, 3), Edge(0, 3, 20), Edge(4, 5), Edge(2, 3)]
    layout = laid_out(boxes, edges, graphviz)
    for edge, way in zip(edges, layout.ways, strict=True):
        assert layout.centres[edge.source][0] < layout.centres[edge.target][0]
        assert len(way) % 3 == 1
        assert way[0][0] < way[-1][0]
    for i in range(len(boxes)):
        for j in range(i):
            (x0, y0), (x1, y1) = layout.centres[i], layout.centres[j]
            apart = abs(x0 - x1) >= (boxes[i].width + boxes[j].width) / 2
            assert apart or abs(y0 - y1) >= (boxes[i].height + boxes[j].height) / 2
    for (x, y), box in zip(layout.centres, boxes, strict=True):
        assert box.width / 2 <= x <= layout.width - box.width / 2
        assert box.height / 2 <= y <= layout.height - box.height / 2


def test_the_same_graph_is_drawn_the_same():
    loss, names = unit(1.0)
    assert plots.graph(loss, names, False).svg == plots.graph(loss, names, False).svg


def test_it_is_saved_as_svg_alone(tmp_path):
    loss, names = unit(1.0)
    picture = plots.graph(loss, names, False)
    assert (
        picture.save(tmp_path / "graph.svg").read_text(encoding="utf-8")
        == picture.svg
        == picture._repr_svg_()
    )
    with pytest.raises(ArgumentError, match=r"instead: graph\.svg"):
        picture.save(tmp_path / "graph.png")


def test_what_cannot_be_drawn_is_refused(monkeypatch):
    x = backstory.tensor(1.0, requires_grad=True)
    y = x
    for _ in range(500):
        y = y * 1.0
    with pytest.raises(ArgumentError, match="501 boxes"):
        y.graph()
    with pytest.raises(GraphError, match="without a history"):
        x.graph()
    monkeypatch.setitem(sys.modules, "fast_sugiyama", None)
    with pytest.raises(MissingExtraError, match=r"backstory\[plots\]"):
        plots.graph(x * 2.0, graphviz=False)
