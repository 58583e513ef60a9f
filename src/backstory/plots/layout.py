"""Where the boxes of a graph stand: by Graphviz where it is installed, else by fast-sugiyama.

Coordinates are points from the left and from the top; the graph runs from left to right.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from backstory.errors import MissingExtraError

__all__ = ["Box", "Edge", "Layout", "laid_out"]

APART, BESIDE, MARGIN = 26.0, 46.0, 18.0
INCH = 72.0

Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """The size of a node, in points."""

    width: float
    height: float


@dataclass(frozen=True)
class Edge:
    """An edge from box to box, and how wide its label is."""

    source: int
    target: int
    label: float = 0.0


@dataclass(frozen=True)
class Layout:
    """The centre of each box, the way of each edge as Bézier points, the place of its label; the size."""

    centres: tuple[Point, ...]
    ways: tuple[tuple[Point, ...], ...]
    labels: tuple[Point, ...]
    width: float
    height: float


def laid_out(boxes: Sequence[Box], edges: Sequence[Edge], graphviz: bool | None = None) -> Layout:
    """The layout of a graph without cycles. ``graphviz`` chooses; by default what is installed does."""
    if graphviz is None:
        graphviz = shutil.which("dot") is not None
    return _by_graphviz(boxes, edges) if graphviz else _by_sugiyama(boxes, edges)


def _by_graphviz(boxes: Sequence[Box], edges: Sequence[Edge]) -> Layout:
    """What ``dot`` says in its plain format; labels are stood in for by an HTML table of their size."""
    lines = [
        "digraph {rankdir=LR; ranksep=0.4; nodesep=0.3; edge [arrowhead=none];",
        'node [shape=box, fixedsize=true, label=""];',
        *(f"{i} [width={b.width / INCH:.4f}, height={b.height / INCH:.4f}];" for i, b in enumerate(boxes)),
    ]
    for k, edge in enumerate(edges):
        size = f'width="{edge.label:.0f}" height="14" fixedsize="true"'
        label = (
            f'<<table border="0" cellpadding="0"><tr><td {size}></td></tr></table>>' if edge.label else '""'
        )
        lines.append(f'{edge.source} -> {edge.target} [label={label}, comment="{k}"];')
    source = "\n".join([*lines, "}"])
    done = subprocess.run(["dot", "-Tplain"], input=source, capture_output=True, text=True, check=True)
    return _read_plain(done.stdout, edges)


def _read_plain(plain: str, edges: Sequence[Edge]) -> Layout:
    """The layout that Graphviz's plain format describes, whose origin is below."""
    width = height = 0.0
    centres: dict[int, Point] = {}
    found: dict[tuple[int, int], list[tuple[tuple[Point, ...], Point]]] = {}

    def point(x: str, y: str) -> Point:
        return float(x) * INCH + MARGIN, (height - float(y)) * INCH + MARGIN

    for line in plain.splitlines():
        words = line.split()
        if words[0] == "graph":
            width, height = float(words[2]), float(words[3])
        elif words[0] == "node":
            centres[int(words[1])] = point(words[2], words[3])
        elif words[0] == "edge":
            count = int(words[3])
            way = tuple(point(words[4 + 2 * i], words[5 + 2 * i]) for i in range(count))
            rest = words[4 + 2 * count :]
            label = point(rest[-4], rest[-3]) if len(rest) >= 4 else way[len(way) // 2]
            found.setdefault((int(words[1]), int(words[2])), []).append((way, label))
    ways = [found[edge.source, edge.target].pop(0) for edge in edges]
    return Layout(
        tuple(centres[i] for i in range(len(centres))),
        tuple(way for way, _ in ways),
        tuple(label for _, label in ways),
        width * INCH + 2 * MARGIN,
        height * INCH + 2 * MARGIN,
    )


def _by_sugiyama(boxes: Sequence[Box], edges: Sequence[Edge]) -> Layout:
    """Ranks and order by Sugiyama's method; columns as wide as their widest box and label."""
    places, paths = _ranks(len(boxes), edges)
    ranks = sorted({rank for rank, _ in places.values()})
    widths = {
        r: max([boxes[i].width for i in range(len(boxes)) if places[i][0] == r], default=0.0) for r in ranks
    }
    gaps = {
        r: max([e.label + 14 for e in edges if places[e.source][0] == r and e.label], default=BESIDE)
        for r in ranks
    }
    starts, x = {}, MARGIN
    for r in ranks:
        starts[r] = x
        x += widths[r] + max(gaps[r], BESIDE)
    tallest = max((b.height for b in boxes), default=0.0) + APART
    top = min((order for _, order in places.values()), default=0.0)

    def centre(i: int) -> Point:
        rank, order = places[i]
        return starts[rank] + widths[rank] / 2, MARGIN + tallest / 2 + (order - top) * tallest

    ways, labels = [], []
    pairs = [(edge.source, edge.target) for edge in edges]
    for k, edge in enumerate(edges):
        a, b = centre(edge.source), centre(edge.target)
        # Several edges between the same boxes run beside each other.
        lift = 18.0 * (pairs[:k].count(pairs[k]) - (pairs.count(pairs[k]) - 1) / 2)
        start = a[0] + boxes[edge.source].width / 2, a[1] + lift
        end = b[0] - boxes[edge.target].width / 2, b[1] + lift
        way, label = _way(start, [centre(i) for i in paths[k]], end)
        ways.append(way)
        labels.append(label)
    bottom = max((order for _, order in places.values()), default=0.0) - top
    right = starts[ranks[-1]] + widths[ranks[-1]] + MARGIN if ranks else 2 * MARGIN
    centres = tuple(centre(i) for i in range(len(boxes)))
    return Layout(centres, tuple(ways), tuple(labels), right, 2 * MARGIN + (bottom + 1) * tallest)


def _ranks(count: int, edges: Sequence[Edge]) -> tuple[dict[int, tuple[int, float]], list[list[int]]]:
    """(rank, order) of each box and of the points that long edges pass, and which those are for each edge."""
    if not edges:
        return {i: (0, float(i)) for i in range(count)}, []
    try:
        from fast_sugiyama import from_edges
    except ImportError as error:
        raise MissingExtraError.of(
            "fast-sugiyama (or Graphviz)", "plots", "a picture of the graph"
        ) from error
    pairs = sorted({(edge.source, edge.target) for edge in edges})
    layouts = from_edges(pairs, vertex_spacing=1, dummy_vertices=True, dummy_size=0.6, check_layout=False)
    places: dict[int, tuple[int, float]] = {}
    follows: dict[int, list[int]] = {}
    shift = 0.0
    for positions, _, _, links in layouts:
        levels = sorted({place[1] for _, place in positions})
        lowest = min(place[0] for _, place in positions)
        for i, place in positions:
            places[int(i)] = (levels.index(place[1]), place[0] - lowest + shift)
        shift += max(place[0] for _, place in positions) - lowest + 1
        for a, b in links or ():
            follows.setdefault(int(a), []).append(int(b))
    return _left_to_right(places, pairs), [_path(edge, follows, count) for edge in edges]


def _left_to_right(
    places: dict[int, tuple[int, float]], pairs: Sequence[tuple[int, int]]
) -> dict[int, tuple[int, float]]:
    """The ranks so numbered that edges go to higher ones."""
    source, target = pairs[0]
    if places[source][0] < places[target][0]:
        return places
    last = max(rank for rank, _ in places.values())
    return {i: (last - rank, order) for i, (rank, order) in places.items()}


def _path(edge: Edge, follows: dict[int, list[int]], count: int) -> list[int]:
    """The points between the ends of an edge: those numbers that are no boxes."""
    for first in follows.get(edge.source, []):
        passed, at = [], first
        while at >= count:
            passed.append(at)
            at = follows[at][0]
        if at == edge.target:
            return passed
    return []


def _way(start: Point, passed: Sequence[Point], end: Point) -> tuple[tuple[Point, ...], Point]:
    """A smooth way through the points as cubic Bézier points, and where its label stands."""
    stops = [start, *passed, end]
    way = [start]
    for (x0, y0), (x1, y1) in pairwise(stops):
        bend = 0.5 * (x1 - x0)
        way += [(x0 + bend, y0), (x1 - bend, y1), (x1, y1)]
    (x0, y0), (x1, y1) = stops[0], stops[1]
    return tuple(way), ((x0 + x1) / 2, (y0 + y1) / 2)
