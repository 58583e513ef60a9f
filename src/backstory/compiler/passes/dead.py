"""Dead code: what no output and no check is computed from."""

from __future__ import annotations

from backstory.compiler.graph import Graph
from backstory.compiler.passes.rewriting import reached

__all__ = ["alive"]


def alive(graph: Graph) -> Graph:
    """The graph without the values that nothing needs."""
    needed = reached(graph)
    if all(value in needed for value in graph.values):
        return graph
    return Graph(graph.inputs, graph.numbers, [v for v in graph.values if v in needed], graph.outputs)
